"""Trio-flavoured. Root filesystems of containers: overlayfs over the layers of an image.

    <data root>/layers/<chain hex>/diff         one directory per layer, read-only, shared by all containers
    <data root>/containers/<id>/upper           what the container wrote
    <data root>/containers/<id>/work            overlayfs's own
    <data root>/containers/<id>/rootfs          where they are mounted together

Mounting and unmounting are a tenth of a millisecond of kernel work and stay on the loop's thread. What the
last user of an overlay has to pay, writing all dirty data of the upper file system to disk, and the removal
of trees are left to worker threads.
"""

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from proad.host import mounts
from proad.host.diskusage import measure_tree
from proad.host.quota import ProjectQuotas
from proad.host.trees import remove_tree
from proad.model import errors

MAX_LAYERS = 127
"""As in Docker. The kernel's own limit is 500 (``OVL_MAX_STACK``)."""

_OPTION_BYTES = 4095  # mount(2) takes one page of data, the last byte of which is its end
_PARAMETERS = Path("/sys/module/overlay/parameters")
_KEPT_OFF = ("index", "redirect_dir", "metacopy")
"""What a kernel may have as its default and an upper directory would not be whole with: it could not become
a layer."""
_SPECIAL = frozenset(",:\\\"' ")


@dataclass
class _Holders:
    """Blocks for which one root filesystem is kept mounted."""

    scopes: set[trio.CancelScope] = field(default_factory=set)
    gone: trio.Event = field(default_factory=trio.Event)
    is_needless: bool = False
    """It is mounted for them alone: no run needs it, or none any more."""


class Overlay:
    """Mounts, measures and removes the root filesystems below one data root."""

    def __init__(self, data_root: Path) -> None:
        self._layers = data_root / "layers"
        self._containers = data_root / "containers"
        self._holders: dict[str, _Holders] = {}
        self._quotas = ProjectQuotas(self._containers)
        self.limits_sizes = self._quotas.are_enforced()
        """Whether the file system can limit what a container writes."""
        self.fixed_options = "".join(f",{name}=off" for name in _KEPT_OFF if (_PARAMETERS / name).exists())
        """What every overlay is mounted with that something is written to."""

    def layer_path(self, chain_id: str) -> Path:
        """Return the directory that holds a layer's files. ``chain_id`` may bear its ``sha256:``."""
        return self._layers / chain_id.removeprefix("sha256:") / "diff"

    def container_path(self, container_id: str) -> Path:
        return self._containers / container_id

    def rootfs_path(self, container_id: str) -> Path:
        return self._containers / container_id / "rootfs"

    def upper_path(self, container_id: str) -> Path:
        return self._containers / container_id / "upper"

    def is_mounted(self, container_id: str) -> bool:
        """Return whether the root filesystem is mounted, without reading the list of mounts."""
        try:
            rootfs = os.stat(self.rootfs_path(container_id))
        except FileNotFoundError:
            return False
        return rootfs.st_dev != os.stat(self.container_path(container_id)).st_dev

    def mount(self, container_id: str, layers: Sequence[str], *, size_bytes: int = 0) -> Path:
        """Mount the root filesystem of a container and return where; one that is mounted stays as it is.

        ``layers`` are chain IDs, lowest first. Of what the container writes, the file system takes
        ``size_bytes``, all that is free if 0.

        Raises:
            errors.System: a layer is missing, there are too many, or the kernel refused.
        """
        lower = self.layer_paths(layers)
        rootfs = self.rootfs_path(container_id)
        if (holders := self._holders.get(container_id)) is not None:
            holders.is_needless = False
        if self.is_mounted(container_id):
            return rootfs
        home = self.container_path(container_id)
        home.mkdir(mode=0o710, parents=True, exist_ok=True)
        for name in ("upper", "rootfs"):
            (home / name).mkdir(mode=0o755, exist_ok=True)
        (home / "work").mkdir(mode=0o700, exist_ok=True)
        if size_bytes:
            self._quotas.limit([home / "upper", home / "work"], size_bytes)
        if not lower:
            lower = [_empty(home)]  # an image without layers (FROM scratch) still needs a lower directory
        self._mount(rootfs, lower, {"upperdir": home / "upper", "workdir": home / "work"})
        return rootfs

    def mount_read_only(self, place: Path, layers: Sequence[str]) -> None:
        """Mount layers (chain IDs, lowest first) together on an empty directory; no layers leave it so.

        Raises:
            errors.System: a layer is missing, there are too many, or the kernel refused.
        """
        lower = self.layer_paths(layers)
        if len(lower) == 1:  # the kernel wants two where there is no upper one
            lower.append(_empty(self._layers.parent))
        if lower:
            self._mount(place, lower, {})

    def layer_paths(self, layers: Sequence[str]) -> list[Path]:
        """The directories of layers (chain IDs, lowest first), uppermost first, as overlayfs wants them."""
        if len(layers) > MAX_LAYERS:
            raise errors.System(
                f"max depth exceeded: {len(layers)} layers, at most {MAX_LAYERS} can be mounted"
            )
        return [self.layer_path(chain_id) for chain_id in reversed(layers)]

    def _mount(self, place: Path, lower: list[Path], own: Mapping[str, Path]) -> None:
        with ExitStack() as stack:
            data = self._options(map(str, lower), {name: str(path) for name, path in own.items()})
            if len(os.fsencode(data)) > _OPTION_BYTES or _SPECIAL & set(str(self._layers)):
                data = self._options(
                    [self._path_by_descriptor(stack, path) for path in lower],
                    {name: self._path_by_descriptor(stack, path) for name, path in own.items()},
                )
            try:
                mounts.mount("overlay", place, "overlay", 0, data)
            except mounts.MountFailed as error:
                raise mounts.MountFailed(_explain(error, lower), error.errno) from error

    def _options(self, lower: Iterable[str], own: Mapping[str, str]) -> str:
        others = "".join(f",{name}={path}" for name, path in own.items())
        return f"lowerdir={':'.join(lower)}{others}{self.fixed_options}"

    @staticmethod
    def _path_by_descriptor(stack: ExitStack, path: Path) -> str:
        """Return a short name without special characters; the kernel follows it while it mounts."""
        try:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise errors.System(f"error creating overlay mount: {path}: {error.strerror}") from error
        stack.callback(os.close, descriptor)
        return f"/proc/self/fd/{descriptor}"

    @asynccontextmanager
    async def held(
        self, container_id: str, layers: Sequence[str], *, size_bytes: int = 0
    ) -> AsyncIterator[Path]:
        """Keep a root filesystem mounted for a block, while runs end and begin: were it mounted a second
        time, the two would not see each other's writes. A removal cancels the block, and waits for it.

        Raises:
            errors.Conflict: the container was removed.
            errors.System: as :meth:`mount`.
        """
        was_mounted = self.is_mounted(container_id)
        before = self._holders.get(container_id)
        is_needless = before.is_needless if before is not None else not was_mounted
        rootfs = self.mount(container_id, layers, size_bytes=size_bytes)
        holders = self._holders.setdefault(container_id, _Holders())
        holders.is_needless = is_needless
        scope = trio.CancelScope()
        holders.scopes.add(scope)
        try:
            with scope:
                yield rootfs
        finally:
            holders.scopes.discard(scope)
            if not holders.scopes:
                del self._holders[container_id]
                try:
                    if holders.is_needless:
                        await self.unmount(container_id)
                finally:
                    holders.gone.set()
        if scope.cancelled_caught:
            raise errors.Conflict(f"container {container_id} is being removed")

    async def unmount(self, container_id: str) -> None:
        """Unmount the root filesystem of a container, however often it is mounted; not mounted is no error.

        One that is :meth:`held` is unmounted when the last holder lets go.

        Raises:
            errors.System: the kernel refused.
        """
        if (holders := self._holders.get(container_id)) is not None:
            holders.is_needless = True
            return
        while self.is_mounted(container_id):
            rootfs = self.rootfs_path(container_id)
            last_user = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mounts.unmount_now(rootfs)
            finally:
                # Closing it ends the overlay, which syncs the file system below: 1 to 100 ms that nobody
                # waits for.
                trio.lowlevel.start_thread_soon(partial(os.close, last_user), _ignore)

    async def remove(self, container_id: str) -> None:
        """Unmount and delete everything of a container on disk. Can be repeated; nothing there is no error.

        Raises:
            errors.System: something cannot be deleted; the text names it. The rest is gone.
        """
        while (holders := self._holders.get(container_id)) is not None:
            for scope in holders.scopes:
                scope.cancel()
            await holders.gone.wait()
        await self.unmount(container_id)
        if self.limits_sizes:
            self._quotas.lift(self.upper_path(container_id))
        await trio.to_thread.run_sync(remove_tree, self.container_path(container_id))

    def mounted(self) -> set[str]:
        """Return the ids of all containers whose root filesystem is mounted, from the kernel's list.

        Those are left out where it is :meth:`held` and nothing else.
        """
        found = set()
        for entry in mounts.mounts_below(self._containers):
            container_id, _, name = entry.mountpoint[len(str(self._containers)) + 1 :].partition("/")
            if name == "rootfs":
                found.add(container_id)
        return found - {id_ for id_, holders in self._holders.items() if holders.is_needless}

    def present(self) -> set[str]:
        """Return the ids of all containers that have a directory on disk."""
        try:
            return set(os.listdir(self._containers))
        except FileNotFoundError:
            return set()

    async def size_rw(self, container_id: str) -> int:
        """Return the bytes of the files that a container wrote (Docker's ``SizeRw``)."""
        return (await measure_tree(self.upper_path(container_id))).apparent_bytes


def _empty(parent: Path) -> Path:
    """A directory with nothing in it."""
    directory = parent / "empty"
    directory.mkdir(mode=0o755, exist_ok=True)
    return directory


def _ignore(outcome: object) -> None:
    """Closing a descriptor that was only opened to hold a mount has no outcome to look at."""


def _explain(error: mounts.MountFailed, lower: list[Path]) -> str:
    missing = next((path for path in lower if not path.is_dir()), None)
    if missing is not None:
        return f"error creating overlay mount: layer directory {missing} does not exist"
    return f"error creating overlay mount: {error.message}"
