"""Trio-flavoured. COPY, ADD and WORKDIR: what they name is found and hashed, looked up in the cache, and put
into the image's files.

No container is made for it: the image's layers and an empty directory are mounted together in a helper's own
namespace, and the directory then is the new layer.
"""

import posixpath
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256

from proad.engine.buildsources import Downloads
from proad.engine.imagekeeping import make_directory
from proad.engine.stepimages import Step, StepImages
from proad.host.blobs import BlobStore
from proad.host.buildtrees import BuildTrees, CopyRules, Found, Target, Tree, Wanted
from proad.host.copytarget import UNKNOWN_OWNER
from proad.model import errors
from proad.model.image import Image
from proad.model.instructions import Add, Copy

_ROOT_OWNS = "0:0"
_URLS = ("http://", "https://")


@dataclass(frozen=True)
class Copied:
    """What an instruction copies, found: the trees and what of them, and how."""

    trees: Sequence[Tree]
    found: Sequence[Found]
    rules: CopyRules
    comment: str
    """What it is known by to the cache, and in the image's history."""


class BuildCopies:
    """Copies files into images."""

    def __init__(self, blobs: BlobStore, trees: BuildTrees, steps: StepImages) -> None:
        self._blobs = blobs
        self._trees = trees
        self._steps = steps

    def files_of(self, image: Image | None) -> Tree:
        """What an image holds, as a source."""
        return Tree("image", layers=self._steps.layer_paths(image))

    async def find(
        self,
        instruction: Copy | Add,
        source: Tree | None,
        working_directory: str,
        downloads: Downloads,
    ) -> Copied:
        """Find what an instruction names, in ``source`` or in the network.

        Raises:
            errors.InvalidParameter: something of it is not there, or the destination does not fit.
        """
        adds = isinstance(instruction, Add)
        is_image = isinstance(instruction, Copy) and bool(instruction.from_)
        trees: list[Tree] = []
        wanted: list[Wanted] = []
        for text in instruction.sources:
            if text.startswith(_URLS):
                if not adds:
                    raise _failed(instruction, "source can't be a URL for COPY")
                try:
                    downloaded = await downloads.get(text, instruction.destination)
                except errors.ProaError as error:
                    raise type(error)(f"{instruction.keyword} failed: {error.message}") from error
                trees.append(Tree(f"url{len(trees)}", directory=downloaded.parent))
                wanted.append(Wanted(trees[-1].name, downloaded.name, wildcards=False, local=False))
                continue
            if source is None:
                raise _failed(instruction, "missing build context")
            if source not in trees:
                trees.append(source)
            wanted.append(Wanted(source.name, text))
        try:
            found = await self._trees.find(trees, wanted)
        except errors.NotFound as error:
            text = f"stat {error.message}: file does not exist"
            if not is_image:
                text = f"file not found in build context or excluded by .dockerignore: {text}"
            raise _failed(instruction, text) from None
        except errors.InvalidParameter as error:
            raise _failed(instruction, error.message) from error
        if not found:
            raise _failed(instruction, "no source files were specified")
        if len(found) > 1 and not instruction.destination.endswith("/"):
            raise errors.InvalidParameter(
                f"When using {instruction.keyword} with more than one source file, the destination must be a "
                "directory and end with a /"
            )
        owner = instruction.chown or (None if is_image else _ROOT_OWNS)
        chown = f"--chown={instruction.chown}" if instruction.chown else ""
        destination = instruction.destination
        return Copied(
            trees,
            found,
            CopyRules(_absolute(working_directory, destination), owner, extract=adds),
            f"{instruction.keyword} {chown}{_hash(found)} in {destination} ",
        )

    async def copy(self, copied: Copied, step: Step) -> Image:
        """Make the image that has what was found.

        Raises:
            errors.InvalidParameter: the image's files cannot take it; or the owner is unknown.
            errors.System: the disk is full, or the like.
        """
        async with self._writing(step) as target:
            try:
                await self._trees.copy(copied.trees, copied.found, target, copied.rules)
            except errors.InvalidParameter as error:
                if error.message.startswith(UNKNOWN_OWNER):
                    raise
                raise errors.InvalidParameter(f"failed to copy files: {error.message}") from error
            return await self._steps.make_of(step, target.upper, may_take=True)

    async def make_directory(self, path: str, step: Step) -> Image:
        """Make the image that has a directory.

        Raises:
            errors.InvalidParameter: something else is there.
            errors.System: the disk is full, or the like.
        """
        async with self._writing(step) as target:
            await self._trees.make_directory(target, path)
            return await self._steps.make_of(step, target.upper, may_take=True)

    @asynccontextmanager
    async def _writing(self, step: Step) -> AsyncIterator[Target]:
        """Where a step may write, on top of its parent's layers."""
        async with self._blobs.workspace() as work:
            upper = make_directory(work / "upper")
            with self._steps.kept(step.parent):
                yield Target(self._steps.layer_paths(step.parent), upper, make_directory(work / "work"))


def _failed(instruction: Copy | Add, text: str) -> errors.InvalidParameter:
    return errors.InvalidParameter(f"{instruction.keyword} failed: {text}")


def _absolute(working_directory: str, destination: str) -> str:
    if destination.startswith("/"):
        return destination
    path = posixpath.normpath(posixpath.join("/", working_directory, destination))
    return f"{path}/" if destination.endswith("/") else path


def _hash(found: Sequence[Found]) -> str:
    if len(found) == 1:
        return found[0].hash
    hashes = ",".join(item.hash for item in found)
    return f"multi:{sha256(hashes.encode('utf-8', 'surrogateescape')).hexdigest()}"
