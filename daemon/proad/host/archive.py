"""Trio-flavoured. Unpacking archives nobody vouches for, each in a helper process jailed in its target.

    unpacked = await unpacker.layer(descriptor, tree)     # a layer's tar, into the directory that overlayfs
    mounts members = await unpacker.members(descriptor, files)   # an image archive, into numbered files and
    a table of names

The archive comes as a descriptor that the helper reads by itself: a file, or a pipe that somebody fills.
What the helper does, and the lines it answers with, stand in ``unpack``.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from proad.host import process
from proad.model import errors

MAX_LAYER_ENTRIES = 500_000
"""More than any real layer has; each takes an inode."""
MAX_MEMBERS = 50_000
MAX_LINKS = 40
MAX_LINE_BYTES = 64 << 20

Progress = Callable[[int], None]
"""Called with how many bytes of the archive have been read."""


@dataclass(frozen=True)
class UnpackedLayer:
    """``size_bytes`` is the sum of its files; ``compression`` (none, gzip, zstd) is that of the blob kept.

    ``blob_digest`` and ``blob_size_bytes`` are empty and 0 where no blob was asked for.
    """

    diff_id: str
    size_bytes: int
    compression: str
    blob_digest: str = ""
    blob_size_bytes: int = 0


@dataclass(frozen=True)
class Member:
    """One file of an image archive: where it lies now, and the SHA-256 of its content."""

    path: Path
    digest: str
    size_bytes: int


class Members:
    """The files of an image archive by their names there."""

    def __init__(self, directory: Path, told: dict[str, Any]) -> None:
        self._files = {
            name: Member(directory / entry["file"], entry["digest"], entry["size"])
            for name, entry in told["files"].items()
        }
        self._links: dict[str, str] = told["links"]

    def find(self, name: str) -> Member | None:
        """The file of that name, through links of the archive; None if there is none."""
        name = os.path.normpath(name)
        for _ in range(MAX_LINKS):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return None
            name = os.path.normpath(self._links[name])
        return None


class Unpacker:
    """Spawns the helpers. ``max_layer_entries`` bounds what one layer may cost in inodes."""

    def __init__(self, *, max_layer_entries: int = MAX_LAYER_ENTRIES) -> None:
        self._max_layer_entries = max_layer_entries

    async def layer(
        self,
        source: int,
        target: Path,
        *,
        keep_as: Path | None = None,
        any_device: bool = False,
        sync: bool = True,
        progress: Progress | None = None,
    ) -> UnpackedLayer:
        """Unpack the layer that ``source`` gives into the empty directory ``target``; both stay the caller's.

        With ``keep_as`` the archive is kept there as an OCI layer blob: as it came if it is plain, gzip or
        zstd, else as plain tar. Device nodes that give access to something are refused unless ``any_device``.
        What was written is on the disk in the end unless ``sync`` is false; the caller sees to it then.

        Raises:
            errors.InvalidParameter: the archive is broken, hostile or too large; the text says where.
            errors.System: the disk is full, or the helper was killed. The target holds what was written
            till then.
        """
        job = {
            "mode": "layer",
            "blob": str(keep_as) if keep_as else None,
            "entries": self._max_layer_entries,
            "any_device": any_device,
            "sync": sync,
        }
        told = await self._work(job, source, target, progress)
        blob = told.get("blob") or {"digest": "", "size": 0}
        return UnpackedLayer(told["diff_id"], told["size"], told["compression"], blob["digest"], blob["size"])

    async def members(self, source: int, target: Path) -> Members:
        """Take an image archive apart into ``target``; otherwise like :meth:`layer`."""
        job = {"mode": "members", "blob": None, "entries": MAX_MEMBERS, "sync": False}
        return Members(target, await self._work(job, source, target, None))

    async def _work(
        self, job: dict[str, Any], source: int, target: Path, progress: Progress | None
    ) -> dict[str, Any]:
        room = os.statvfs(target)
        job |= {"target": str(target), "bytes": room.f_bavail * room.f_frsize, "parent": os.getpid()}
        reading, writing = os.pipe2(os.O_CLOEXEC)
        async with trio.lowlevel.FdStream(reading) as answers:
            try:
                argv = [sys.executable, "-I", "-m", "proad.host.unpack", json.dumps(job)]
                child = process.spawn(argv, stdin=source, stdout=writing, stderr=2)
            finally:
                os.close(writing)
            try:
                last = await _listen(answers, progress)
                await child.wait()
            finally:
                await process.end(child)
        if "result" in last:
            result: dict[str, Any] = last["result"]
            return result
        if last.get("kind") == "invalid":
            raise errors.InvalidParameter(f"cannot unpack the archive: {last['error']}")
        reason = last.get("error") or f"the helper ended early (status {child.returncode})"
        raise errors.System(f"cannot unpack the archive: {reason}")


async def _listen(answers: trio.lowlevel.FdStream, progress: Progress | None) -> dict[str, Any]:
    """Read the helper's lines to their end; the last one, empty if it died without."""
    pending = bytearray()
    last: dict[str, Any] = {}
    async for chunk in answers:
        pending += chunk
        if len(pending) > MAX_LINE_BYTES:
            raise errors.System("cannot unpack the archive: the helper's answer is too long")
        if b"\n" not in chunk:
            continue
        *lines, rest = bytes(pending).split(b"\n")
        pending = bytearray(rest)
        for line in lines:
            last = json.loads(line)
            if progress and "progress" in last:
                progress(last["progress"])
    return last
