"""Trio-flavoured. What builds do to trees of files, each in a task of the warm helper, jailed among them.

    await trees.unpack_context(pipe, directory)
    found = await trees.find([context], wanted)            # hashed, for the cache
    await trees.copy([context], found, target, how)        # into an image's files, what is written on top
    packed = await trees.pack(target, blob)                # that as a layer

Where a tree comes from is a :class:`Tree`; what the tasks do stands in ``buildcontext``, ``copysources``,
``copytarget`` and ``layerpack``. None of them leaves a mount or a process behind, whoever dies when.
"""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proad.host.helpers import Helpers, Task
from proad.model.ownpaths import OWN_PATHS

_TARGET = "target"


@dataclass(frozen=True)
class Tree:
    """Files to read: a directory, or the layers of an image (uppermost first) mounted together."""

    name: str
    directory: Path | None = None
    layers: Sequence[Path] = ()

    def as_task(self) -> dict[str, Any]:
        if self.directory is not None:
            return {"name": self.name, "directory": str(self.directory)}
        return {"name": self.name, "layers": [str(path) for path in self.layers]}


@dataclass(frozen=True)
class Target:
    """Files to write to: the layers of an image (uppermost first), and where what is written goes.

    ``upper`` and ``work`` are empty directories at first, on one file system.
    """

    layers: Sequence[Path]
    upper: Path
    work: Path


@dataclass(frozen=True)
class Wanted:
    """A source of COPY or ADD: a path in the tree of that name, or a pattern of paths."""

    tree: str
    path: str
    wildcards: bool = True
    local: bool = True
    """It did not come from the network; only such files are unpacked."""


@dataclass(frozen=True)
class Found:
    """A source that is there. ``hash`` begins with what it is: ``file:`` or ``dir:``."""

    tree: str
    path: str
    hash: str
    local: bool


@dataclass(frozen=True)
class CopyRules:
    """``destination`` is absolute, and a directory where it ends in a slash; ``owner`` as of ``--chown``,
    None to keep owners; ``extract`` is what ADD does to archives.
    """

    destination: str
    owner: str | None
    extract: bool


@dataclass(frozen=True)
class PackedLayer:
    """A layer's blob: ``size_bytes`` is the sum of its files. No ``entries`` is no layer."""

    entries: int
    size_bytes: int
    diff_id: str
    blob_digest: str
    blob_size_bytes: int


class BuildTrees:
    """``place`` is a directory that is there; each task covers it, for itself alone. ``options`` are those of
    all overlays that are written to.
    """

    def __init__(self, helpers: Helpers, place: Path, options: str) -> None:
        self._helpers = helpers
        self._place = place
        self._options = options

    def warm(self) -> None:
        """A build begins: see to it that the helper is there."""
        self._helpers.warm()

    async def unpack_context(self, source: int, directory: Path) -> None:
        """Unpack the archive that ``source`` gives into an empty directory.

        Raises:
            errors.InvalidParameter: it is broken, or has devices.
            errors.System: the disk is full, or the like.
        """
        async with self._task("context", source, target=str(directory)) as task:
            await task.result()

    async def find(self, trees: Sequence[Tree], wanted: Sequence[Wanted]) -> list[Found]:
        """What of the trees is wanted, hashed; patterns may find nothing.

        Raises:
            errors.NotFound: a path leads to nothing; it is the error's text.
            errors.InvalidParameter, errors.System: something cannot be read.
        """
        found: list[Found] = []
        findings = os.memfd_create("findings", os.MFD_CLOEXEC)
        try:
            for one in wanted:  # few, and each knows what it was asked for
                os.ftruncate(findings, 0)
                os.lseek(findings, 0, os.SEEK_SET)
                asked = [{"tree": one.tree, "path": one.path, "wildcards": one.wildcards}]
                tree = next(tree for tree in trees if tree.name == one.tree)
                async with self._task("sources", findings, trees=[tree.as_task()], wanted=asked) as task:
                    await task.result()
                for item in json.loads(_content(findings)):
                    found.append(Found(item["tree"], item["path"], item["hash"], one.local))
        finally:
            os.close(findings)
        return found

    async def copy(
        self, trees: Sequence[Tree], found: Sequence[Found], target: Target, rules: CopyRules
    ) -> None:
        """Copy what was found.

        Raises:
            errors.InvalidParameter: the target cannot take it, an owner is unknown, an archive is broken.
            errors.System: the disk is full, or the like.
        """
        findings = os.memfd_create("findings", os.MFD_CLOEXEC)
        try:
            listed = [{"tree": item.tree, "path": item.path, "local": item.local} for item in found]
            with open(findings, "wb", closefd=False) as file:
                file.write(json.dumps(listed).encode())
            async with self._task(
                "copy",
                findings,
                trees=[*(tree.as_task() for tree in trees), _as_task(target)],
                destination=rules.destination,
                owner=rules.owner,
                extract=rules.extract,
            ) as task:
                await task.result()
        finally:
            os.close(findings)

    async def make_directory(self, target: Target, path: str) -> None:
        """Make a directory, and those above it.

        Raises:
            errors.InvalidParameter: something else is in its place.
            errors.System: the disk is full, or the like.
        """
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            async with self._task("directory", nothing, trees=[_as_task(target)], path=path) as task:
                await task.result()
        finally:
            os.close(nothing)

    async def pack(
        self, layers: Sequence[Path], upper: Path, blob: Path, *, clean: bool, by_container: bool
    ) -> PackedLayer:
        """Write what is in ``upper``, on top of layers, as a new blob; all of it is on the disk then. What a
        container wrote is told from what the engine made in it.

        With ``clean`` the directory holds no more than the layer afterwards: nobody may use it meanwhile.

        Raises:
            errors.InvalidParameter: it cannot be a layer.
            errors.System: the disk is full, or the like.
        """
        output = os.open(blob, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            async with self._task(
                "layer",
                output,
                lower=[str(path) for path in layers],
                upper=str(upper),
                own=[path.removeprefix("/") for path in OWN_PATHS] if by_container else [],
                clean=clean,
            ) as task:
                told = await task.result()
        finally:
            os.close(output)
        return PackedLayer(told["entries"], told["size"], told["diff_id"], told["digest"], told["blob_size"])

    @asynccontextmanager
    async def _task(self, name: str, stream: int, **fields: Any) -> AsyncIterator[Task]:
        job = {"task": name, "place": str(self._place), "options": self._options, **fields}
        async with self._helpers.task(job, stream) as task:
            yield task


def _as_task(target: Target) -> dict[str, Any]:
    return {
        "name": _TARGET,
        "layers": [str(path) for path in target.layers],
        "upper": str(target.upper),
        "work": str(target.work),
    }


def _content(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()
