"""Trio-flavoured. Volumes: made, listed, mounted while containers use them, removed.

A volume is referred to by every container whose mount points name it, running or not, and by a container that
is being created right now (a *hold*). It is *used* by runs, each under its container's id. A volume with
options of the local driver is a file system of its own: mounted for the first use, unmounted after the last.

A directory without a record (a restored backup) becomes that of the next volume of its name. Removal moves
the directory to ``tmp`` before the record goes, so a name never finds what its predecessor left.
"""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from proad.config import Config
from proad.engine.locks import Locks
from proad.host import mounts
from proad.host.diskusage import measure_tree
from proad.host.trees import remove_tree
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.volume import (
    ANONYMOUS_LABEL,
    LOCAL_DRIVER,
    Volume,
    check_driver,
    check_name,
    check_options,
    select,
    select_prunable,
)
from proad.store.db import Store

LIVE = frozenset({Status.STARTING, Status.RUNNING, Status.PAUSED})
_TRASH_PREFIX = "volume-"
RESIDUE = "volume"
"""An anonymous volume that goes if the daemon dies now: its container is not stored yet, or about to go."""
_STAGING = "_copy"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class VolumeUsage:
    """What a volume takes: bytes of its files, and how many containers refer to it."""

    volume: Volume
    size_bytes: int
    references: int


@dataclass(frozen=True)
class VolumePruneReport:
    """The names of the volumes that went, and the bytes that came free."""

    deleted: list[str]
    space_bytes: int


class Volumes:
    """All volumes of the local driver."""

    def __init__(self, config: Config, store: Store) -> None:
        self._store = store
        self._root = config.data_root / "volumes"
        self._trash = config.data_root / "tmp"
        self._locks = Locks()
        self._holds: dict[str, set[str]] = {}
        self._uses: dict[str, set[str]] = {}
        self._is_pruning = False

    # --- what there is --------------------------------------------------------------------------------------

    def find(self, name: str) -> Volume:
        """Raises errors.NotFound: there is no volume of that name."""
        volume = self._store.volumes.get(name)
        if volume is None:
            raise errors.NotFound(f"get {name}: no such volume")
        return volume

    def list(self, filters: Mapping[str, Sequence[str]]) -> Sequence[Volume]:
        """Return the volumes that ``filters`` select, by name; see :func:`proad.model.volume.select`."""
        return select(list(self._store.volumes.values()), filters, self._names_in_use())

    def mountpoint(self, volume: Volume) -> Path:
        """Where the volume's files are on the host."""
        return self._root / volume.name / "_data"

    def staging(self, volume: Volume) -> Path:
        """Where initial content is put together before it becomes the volume's."""
        return self._root / volume.name / _STAGING

    def references(self, name: str) -> Sequence[str]:
        """Return the ids of the containers that refer to a volume, also of those being created with it."""
        found = {c.id for c in self._store.containers.values() if any(m.name == name for m in c.mounts)}
        return sorted(found | self._holds.get(name, set()))

    def users(self, name: str) -> int:
        """How many runs, or copies of initial content, use the volume now."""
        return len(self._uses.get(name, ()))

    async def usage(self) -> Sequence[VolumeUsage]:
        """Measure all volumes but those with options, whose files are elsewhere; for ``system df``."""
        found = []
        for volume in sorted(self._store.volumes.values(), key=lambda volume: volume.name):
            if not volume.options:
                size_bytes = (await measure_tree(self.mountpoint(volume))).apparent_bytes
                found.append(VolumeUsage(volume, size_bytes, len(self.references(volume.name))))
        return found

    # --- making and removing --------------------------------------------------------------------------------

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        holder: str = "",
    ) -> Volume:
        """Make a volume, or return the one that bears the name already, as Docker does; event ``create``.

        Without a name it is anonymous and gets one of 64 hex digits. ``holder`` is the id of a container that
        is being created with it: nobody can remove the volume until :meth:`let_go`.

        Raises:
            errors.InvalidParameter: a bad name, or options that do not go together.
            errors.NotFound: another driver than ``local``.
            errors.System: the directory cannot be made; there is no volume then.
        """
        is_anonymous = not name
        name = name or secrets.token_hex(32)
        check_driver(name, driver)
        check_name(name)
        async with self._locks.of(name):
            volume = self._store.volumes.get(name)
            if volume is None:
                check_options(name, options or {})
                volume = Volume(
                    name=name,
                    created_ns=time.time_ns(),
                    labels={**(labels or {}), **({ANONYMOUS_LABEL: ""} if is_anonymous else {})},
                    options=dict(options or {}),
                    anonymous=is_anonymous,
                )
                self._make_directory(volume)
                with self._store.transaction(growing=True) as tx:
                    tx.put_volume(volume)
                    if is_anonymous and holder:
                        tx.add_residue(RESIDUE, name)
                    tx.emit("volume", "create", name, {"driver": LOCAL_DRIVER})
            if holder:
                self._holds.setdefault(name, set()).add(holder)
            return volume

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and its files; event ``destroy``. ``force`` makes a missing one no error.

        Raises:
            errors.NotFound: there is none.
            errors.Conflict: containers refer to it.
            errors.System: its files cannot be moved out of the way; it stays.
        """
        async with self._locks.of(name):
            volume = self._store.volumes.get(name)
            if volume is None:
                if force:
                    return
                raise errors.NotFound(f"get {name}: no such volume")
            if references := self.references(name):
                raise errors.Conflict(f"remove {name}: volume is in use - [{', '.join(references)}]")
            trash = await self._discard(volume)
        await self._empty(trash)

    async def remove_anonymous(self, container: Container) -> None:
        """Remove the volumes that the engine named for a container, once its record is gone.

        Those that other containers refer to stay; what cannot be removed is logged and stays.
        """
        for point in container.mounts:
            if point.type == "volume" and point.anonymous:
                try:
                    await self.remove(point.name, force=True)
                except errors.Conflict:
                    log.debug("anonymous volume is still referred to", volume=point.name)
                    with self._store.transaction(durable=False) as tx:
                        tx.clear_residue(RESIDUE, point.name)
                except errors.System as error:
                    log.error("anonymous volume not removed", volume=point.name, error=error.message)

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> VolumePruneReport:
        """Remove unused volumes; see :func:`proad.model.volume.select_prunable`. Event ``prune``.

        Raises:
            errors.InvalidParameter: an unknown filter.
            errors.Conflict: another prune is going on.
        """
        if self._is_pruning:
            raise errors.Conflict("a prune operation is already running")
        self._is_pruning = True
        deleted: list[str] = []
        space_bytes = 0
        try:
            candidates = list(self._store.volumes.values())
            for volume in select_prunable(candidates, filters, self._names_in_use()):
                size_bytes = (await measure_tree(self.mountpoint(volume))).apparent_bytes
                try:
                    await self.remove(volume.name)
                except (errors.Conflict, errors.NotFound, errors.System) as error:
                    log.warning("volume not pruned", volume=volume.name, error=error.message)
                    continue
                deleted.append(volume.name)
                space_bytes += size_bytes
        finally:
            self._is_pruning = False
        with self._store.transaction(durable=False) as tx:
            tx.emit("volume", "prune", "", {"reclaimed": str(space_bytes)})
        return VolumePruneReport(deleted, space_bytes)

    def hold(self, name: str, holder: str) -> None:
        """Keep a volume for a container that is being created, as ``holder`` of :meth:`create` does.

        Raises:
            errors.NotFound: there is no such volume.
        """
        self._holds.setdefault(self.find(name).name, set()).add(holder)

    def let_go(self, holder: str) -> None:
        """End the holds of a container: its record is stored, or will never be."""
        for name in [name for name, holders in self._holds.items() if holder in holders]:
            self._holds[name].discard(holder)
            if not self._holds[name]:
                del self._holds[name]

    # --- mounting -------------------------------------------------------------------------------------------

    async def mount(self, name: str, user: str) -> Path:
        """Make a volume's files available to ``user`` until :meth:`unmount`, and return where; can be
        repeated.

        Raises:
            errors.NotFound: there is no such volume.
            errors.System: its file system cannot be mounted.
        """
        async with self._locks.of(name):
            volume = self.find(name)
            self._make_directory(volume)
            path = self.mountpoint(volume)
            if volume.is_mounted_on_use and not mounts.is_mounted(path):
                await _mount_local(volume, path)
            self._uses.setdefault(name, set()).add(user)
            return path

    async def unmount(self, name: str, user: str) -> bool:
        """Take back a :meth:`mount`; returns whether there was one.

        Raises:
            errors.System: the kernel refused to unmount.
        """
        users = self._uses.get(name, set())
        if user not in users:
            return False
        async with self._locks.of(name):
            volume = self._store.volumes.get(name)
            if volume is not None and volume.is_mounted_on_use and users == {user}:
                await mounts.unmount(self.mountpoint(volume))
            users.discard(user)
            if not users:
                self._uses.pop(name, None)
        return True

    def used_by(self, user: str) -> Sequence[str]:
        """Return the names of the volumes that ``user`` has mounted."""
        return [name for name, users in self._uses.items() if user in users]

    async def recover(self) -> None:
        """After a restart: know again which live containers use what, unmount the rest, empty the trash."""
        for container in self._store.containers.values():
            if container.status in LIVE:
                for point in container.mounts:
                    if point.type == "volume" and point.name in self._store.volumes:
                        self._uses.setdefault(point.name, set()).add(container.id)
        for entry in mounts.mounts_below(self._root):
            name = Path(entry.mountpoint).relative_to(self._root).parts[0]
            if not self.users(name):
                log.warning("unmounting a volume that nobody uses", volume=name)
                await mounts.unmount(entry.mountpoint)
        await self._remove_residue()
        self._remove_unborn()
        for volume in self._store.volumes.values():
            await self._empty(self.staging(volume))
        for entry_name in os.listdir(self._trash) if self._trash.is_dir() else ():
            if entry_name.startswith(_TRASH_PREFIX):
                await self._empty(self._trash / entry_name)

    async def _remove_residue(self) -> None:
        """Remove the anonymous volumes of containers whose creation or removal was cut in half."""
        for item in self._store.residue():
            if item.kind == RESIDUE:
                try:
                    await self.remove(item.detail, force=True)
                except errors.ProaError as error:
                    log.warning("anonymous volume kept", volume=item.detail, reason=error.message)
                with self._store.transaction() as tx:
                    tx.remove_residue(item)

    def _remove_unborn(self) -> None:
        """Remove empty directories of volumes that were about to be made; one with files is a backup."""
        for entry in self._root.iterdir() if self._root.is_dir() else ():
            if entry.name not in self._store.volumes:
                with contextlib.suppress(OSError):
                    (entry / "_data").rmdir()
                    entry.rmdir()

    # --- inside ---------------------------------------------------------------------------------------------

    def _names_in_use(self) -> frozenset[str]:
        named = {m.name for c in self._store.containers.values() for m in c.mounts if m.name}
        return frozenset(named | set(self._holds))

    def _make_directory(self, volume: Volume) -> None:
        path = self.mountpoint(volume)
        if path.is_dir():
            return
        try:
            path.parent.mkdir(mode=0o701, parents=True, exist_ok=True)
            path.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise errors.System(f"create {volume.name}: {path}: {error.strerror}") from error

    async def _discard(self, volume: Volume) -> Path:
        """Take the volume out of the way and out of the records; returns what is left to delete."""
        home = self._root / volume.name
        trash = self._trash / f"{_TRASH_PREFIX}{secrets.token_hex(8)}"
        await mounts.unmount_tree(home)
        try:
            self._trash.mkdir(mode=0o700, exist_ok=True)
            home.rename(trash)
        except FileNotFoundError:
            log.warning("the files of a removed volume were gone already", volume=volume.name)
        except OSError as error:
            raise errors.System(f"remove {volume.name}: {error.strerror}") from error
        with self._store.transaction() as tx:
            tx.delete_volume(volume.name)
            tx.clear_residue(RESIDUE, volume.name)
            tx.emit("volume", "destroy", volume.name, {"driver": volume.driver})
        self._holds.pop(volume.name, None)
        return trash

    async def _empty(self, trash: Path) -> None:
        """Delete files nobody can name any more; what resists is tried again at boot."""
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(remove_tree, trash)
            except errors.System as error:
                log.error("cannot delete the files of a removed volume", path=str(trash), error=error.message)


async def _mount_local(volume: Volume, path: Path) -> None:
    """Mount what the local driver's options say, in a worker thread: a server may take its time.

    Raises:
        errors.System: in Docker's words, with a password in the options made unreadable.
    """
    fstype, source = volume.options.get("type", ""), volume.options.get("device", "")
    options = volume.options.get("o", "")
    try:
        if fstype in ("nfs", "nfs4", "cifs"):
            options = await _resolve_address(options)
        await trio.to_thread.run_sync(mounts.mount_with_options, source, path, fstype, options)
    except errors.System as error:
        message = error.message
        for option in options.split(","):
            key, _, value = option.partition("=")
            if key in ("password", "pass") and value:
                message = message.replace(option, f"{key}=********")
        raise errors.System(
            f"error while mounting volume '{path}': failed to mount local volume: {message}"
        ) from error


async def _resolve_address(options: str) -> str:
    """Replace a host name in ``addr=`` by its address, which is all that the kernel takes."""
    resolved = []
    for option in options.split(","):
        key, _, value = option.partition("=")
        if key == "addr" and value:
            try:
                found = await trio.socket.getaddrinfo(value, None, type=socket.SOCK_STREAM)
            except OSError as error:
                raise errors.System(f"error resolving passed in network volume address: {error}") from error
            option = f"addr={found[0][4][0]}"
        resolved.append(option)
    return ",".join(resolved)
