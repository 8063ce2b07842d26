"""Trio-flavoured. Files in and out of containers, running or not: what lies at a path, it as a tar, and a tar
unpacked below it.

A path is looked up here; what is copied is copied by a helper process, jailed in the container's files as
they are seen in it. Nothing is locked: starts, stops and copies go on side by side on one mount of the root
filesystem, and a removal ends the copies.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import trio

from proad.engine.exports import check_intact
from proad.engine.lookup import event_attributes, find_container
from proad.engine.mounting import Mounting
from proad.engine.resources import RunResources
from proad.host.helpers import HelperEnded, Helpers
from proad.host.overlay import Overlay
from proad.host.pathlookup import Found, Lookup
from proad.host.rootfs import Rootfs
from proad.model import errors
from proad.model.container import Container
from proad.model.mounts import SpecMount, by_depth
from proad.model.pathstatus import AskedPath, PathStatus, describe, parse_path
from proad.model.storage import parse_storage_opt
from proad.model.user import resolve_user
from proad.store.db import Store

_PACKET_BYTES = 64 << 10

Begin = Callable[[PathStatus], bytes]
"""Called when a path is found and its archive is about to come; returns the head of the answer."""


@dataclass(frozen=True)
class Upload:
    """An archive that is the body of a request, still in the client's socket but for what came ``early``.
    It comes in chunks if ``length`` is None.
    """

    early: bytes
    length: int | None


@dataclass(frozen=True)
class Extraction:
    """How an archive is to be unpacked: ``replaces`` lets directories and what is none take each other's
    place, ``as_user`` gives all of it to the container's user.
    """

    replaces: bool = True
    as_user: bool = False


@dataclass(frozen=True)
class _View:
    """Where a container's files are on the host, for as long as they are looked at."""

    container: Container
    rootfs: Path
    mounts: list[SpecMount]

    def as_task(self) -> dict[str, Any]:
        return {
            "root": str(self.rootfs),
            "read_only": self.container.host_config.readonly_rootfs,
            "mounts": [
                {
                    "source": mount.source,
                    "destination": mount.destination,
                    "read_only": bool({"ro", "rro"} & set(mount.options)),
                    "recursive": "rbind" in mount.options,
                }
                for mount in self.mounts
            ],
        }


class Archives:
    """Copies files from and to containers."""

    def __init__(
        self, store: Store, overlay: Overlay, mounting: Mounting, resources: RunResources, helpers: Helpers
    ) -> None:
        self._store = store
        self._overlay = overlay
        self._mounting = mounting
        self._resources = resources
        self._helpers = helpers

    def check(self, ref: str) -> None:
        """Refuse what cannot be copied from or to, before anything is sent.

        Raises:
            errors.NotFound: there is no such container.
            errors.Conflict: it is dead or being removed.
        """
        self._intact(ref)

    def _intact(self, ref: str) -> Container:
        container = find_container(self._store, ref)
        check_intact(self._store, container, "copy files of")
        return container

    async def status(self, ref: str, path: str) -> PathStatus:
        """What lies at a path of a container, a symlink itself.

        Raises:
            errors.NotFound: no such container, or nothing there.
            errors.InvalidParameter: the path goes through what is no directory.
            errors.Conflict: the container is dead or being removed.
        """
        self._helpers.warm()  # a copy is what usually follows
        asked = parse_path(path)
        async with self._view(ref) as view:
            if view.container.mounts:  # what they lead to may be slow, or not answer: a server, a FUSE
                found = await trio.to_thread.run_sync(_look_up, view, asked)
            else:
                found = _look_up(view, asked)
        if found is None:
            raise _nothing_there(path, ref)
        status = found.status
        return describe(asked.name, status.st_mode, status.st_size, status.st_mtime_ns, found.link_target)

    async def pack(
        self, ref: str, path: str, output: int, begin: Begin, *, chunked: bool, gzip: bool
    ) -> None:
        """Write an answer with what lies at a path, as a tar, to the client's own socket. Event
        ``archive-path``.

        ``begin`` gives the head; the body follows it, in chunks of HTTP/1.1 if ``chunked``.

        Raises:
            errors.NotFound, errors.InvalidParameter, errors.Conflict: as :meth:`status`, before ``begin``.
            errors.System: the archive is not whole: something could not be read, or the client went away.
        """
        asked = parse_path(path)
        async with self._view(ref) as view:
            job = {
                "task": "pack",
                "view": view.as_task(),
                "path": asked.clean,
                "name": asked.name,
                "directory": asked.means_directory,
                "chunked": chunked,
                "gzip": gzip,
            }
            async with self._helpers.task(job, output) as task:
                try:
                    told = (await task.hear())["status"]
                except errors.NotFound:
                    raise _nothing_there(path, ref) from None
                self._tell(view.container, "archive-path")
                await task.tell(begin(describe(asked.name, **told)))
                await task.result()

    async def extract(
        self, ref: str, path: str, source: int, how: Extraction, upload: Upload | None = None
    ) -> None:
        """Unpack the tar that ``source`` gives into a directory of a container. Event ``extract-to-dir``.

        ``source`` is a pipe, or with ``upload`` the client's own socket.

        Raises:
            errors.NotFound: no such container, or no such directory.
            errors.InvalidParameter: it is no directory or read-only, or the archive is broken.
            errors.Conflict: the container is dead or being removed.
            errors.System: the disk is full, or the like. What was unpacked before an error stays.
        """
        async with self._view(ref) as view:
            container = view.container
            job = {
                "task": "extract",
                "view": view.as_task(),
                "path": parse_path(path).clean,
                "points": [
                    {"destination": point.destination, "read_write": point.read_write}
                    for point in container.mounts
                    if point.type != "tmpfs"
                ],
                "replace": how.replaces,
                "owner": _owner(view) if how.as_user and container.config.user else None,
                "upload": None if upload is None else {"early": len(upload.early), "length": upload.length},
            }
            async with self._helpers.task(job, source) as task:
                try:
                    early = upload.early if upload is not None else b""
                    for start in range(0, len(early), _PACKET_BYTES):
                        await task.tell(early[start : start + _PACKET_BYTES])
                    await task.result()
                except errors.NotFound:
                    raise _nothing_there(path, ref) from None
                except HelperEnded as error:
                    raise errors.System(f"the archive was not unpacked: {error.message}") from error
            self._tell(container, "extract-to-dir")

    @asynccontextmanager
    async def _view(self, ref: str) -> AsyncIterator[_View]:
        """Have a container's files at hand: its root filesystem mounted, and its volumes."""
        container = self._intact(ref)
        user = f"copy-{token_hex(8)}"
        size_bytes = parse_storage_opt(container.host_config.storage_opt)
        async with self._overlay.held(container.id, container.layers, size_bytes=size_bytes) as rootfs:
            mounts = self._etc_mounts(container)
            if not container.mounts:
                yield _View(container, rootfs, mounts)
                return
            mounts += await self._mounting.prepare(container, rootfs, user=user)
            try:
                yield _View(container, rootfs, by_depth(m for m in mounts if m.type == "bind"))
            finally:
                with trio.CancelScope(shield=True):
                    await self._mounting.release(container, user=user)

    def _etc_mounts(self, container: Container) -> list[SpecMount]:
        """The files that the engine keeps for a container, once it has been started."""
        paths = self._resources.paths(container.id)
        taken = {point.destination for point in container.mounts}
        files = (paths.resolv_conf, paths.hostname, paths.hosts)
        return [
            SpecMount(f"/etc/{file.name}", "bind", str(file), ("bind",))
            for file in files
            if f"/etc/{file.name}" not in taken and file.exists()
        ]

    def _tell(self, container: Container, action: str) -> None:
        with self._store.transaction(durable=False) as tx:
            tx.emit("container", action, container.id, event_attributes(container))


def _look_up(view: _View, asked: AskedPath) -> Found | None:
    """Blocking: what lies there, None if nothing does."""
    try:
        lookup = Lookup(view.rootfs, {mount.destination: mount.source for mount in view.mounts})
        try:
            return lookup.find(asked.clean, directory=asked.means_directory)
        finally:
            lookup.close()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise errors.InvalidParameter(f"{error.filename}: {reason}") from error


def _owner(view: _View) -> tuple[int, int]:
    """Uid and gid of the container's user.

    Raises:
        errors.InvalidParameter: the container's files do not know it.
    """
    with Rootfs(view.rootfs) as files:
        passwd, group = (files.read_text(path) or "" for path in ("/etc/passwd", "/etc/group"))
    try:
        user = resolve_user(view.container.config.user, passwd, group, ())
    except errors.StartFailed as error:
        raise errors.InvalidParameter(error.message) from error
    return user.uid, user.gid


def _nothing_there(path: str, ref: str) -> errors.NotFound:
    return errors.NotFound(f"Could not find the file {path} in container {ref}")
