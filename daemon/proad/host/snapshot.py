"""Trio-flavoured. A container's files as they are: what it changed, that as a layer, and all of them.

    files = Files(lower, upper, rootfs)
    changed = await snapshots.changes(files)
    async with snapshots.layer(files, descriptor) as packing:     # a helper writes a tar into the descriptor
        …                                                         # somebody reads it
        packed = await packing.finished()

The helper is a process of its own, jailed among the mounts that it makes for itself; what it does stands in
``snapshothelper``. Whoever dies, it does, and its mounts with it.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from proad.host import process
from proad.model import errors
from proad.model.ownpaths import OWN_PATHS

Mode = Literal["changes", "layer", "whole"]


@dataclass(frozen=True)
class Files:
    """Where a container's files are: its layers' directories, uppermost first; what it wrote, None if it
    never could; and where all is mounted, None if it is not.
    """

    lower: Sequence[Path]
    upper: Path | None
    rootfs: Path | None


@dataclass(frozen=True)
class Change:
    """A path, from the container's root, and what became of it: ``A`` added, ``C`` changed, ``D`` deleted."""

    kind: str
    path: str


@dataclass(frozen=True)
class Packed:
    """How many entries an archive has, and paths that a layer cannot have and were left out."""

    entries: int
    left_out: Sequence[str] = ()


class Unread(errors.System):
    """Nobody read the archive to its end."""


class Packing:
    """A helper at work."""

    def __init__(self, child: process.Child, answer: int) -> None:
        self._child = child
        self._answer = answer

    async def ended(self) -> None:
        """Return when the helper has read all that it will."""
        await self._child.wait()

    async def finished(self) -> Packed:
        """Return when the whole archive is written.

        Raises:
            errors.InvalidParameter: the tree has something that no archive can hold; the text names it.
            Unread: nobody took all of it.
            errors.System: it is not whole: something could not be read, or the helper died.
        """
        told = await self.told()
        return Packed(told["entries"], tuple(told["left_out"]))

    async def told(self) -> dict[str, Any]:
        """The helper's result; raises as :meth:`finished`."""
        code = await self._child.wait()
        lines = process.read_memfd(self._answer).splitlines()
        last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        if "result" in last:
            result: dict[str, Any] = last["result"]
            return result
        if last.get("kind") == "invalid":
            raise errors.InvalidParameter(f"cannot archive the container's files: {last['error']}")
        if last.get("kind") == "unread":
            raise Unread(last["error"])
        reason = last.get("error") or f"the helper ended early (status {code})"
        raise errors.System(f"cannot read the container's files: {reason}")


class Snapshots:
    """Spawns the helpers. ``place`` is a directory that is there; helpers cover it, each for itself alone."""

    def __init__(self, place: Path) -> None:
        self._place = place

    async def changes(self, files: Files) -> list[Change]:
        """What the container changed, in order of the paths.

        Raises:
            errors.InvalidParameter, errors.System: as :meth:`Packing.finished`.
        """
        async with self._spawn("changes", files, None) as helper:
            told = await helper.told()
        return [Change(kind, f"/{path}") for kind, path in told["changes"]]

    @asynccontextmanager
    async def layer(self, files: Files, output: int) -> AsyncIterator[Packing]:
        """Have what the container wrote put into ``output`` as an OCI layer, compressed by gzip.

        ``output`` stays the caller's, who may close it in the block. The helper ends with the block.
        """
        async with self._spawn("layer", files, output) as helper:
            yield helper

    @asynccontextmanager
    async def whole(self, files: Files, output: int) -> AsyncIterator[Packing]:
        """Have all files of the container put into ``output`` as a tar; otherwise like :meth:`layer`."""
        async with self._spawn("whole", files, output) as helper:
            yield helper

    @asynccontextmanager
    async def _spawn(self, mode: Mode, files: Files, output: int | None) -> AsyncIterator[Packing]:
        job = {
            "mode": mode,
            "lower": [str(path) for path in files.lower],
            "upper": str(files.upper) if files.upper is not None else None,
            "rootfs": str(files.rootfs) if files.rootfs is not None else None,
            "own": [path.removeprefix("/") for path in OWN_PATHS],
            "output": output,
            "place": str(self._place),
            "parent": os.getpid(),
        }
        argv = [sys.executable, "-I", "-m", "proad.host.snapshothelper", json.dumps(job)]
        inherit = [] if output is None else [output]
        answer = os.memfd_create("answer")
        try:
            child = process.spawn(argv, stdout=answer, stderr=2, inherit=inherit)
            try:
                yield Packing(child, answer)
            finally:
                await process.end(child)
        finally:
            os.close(answer)
