"""Trio-flavoured. The images that the steps of a build make: each of the one before and, where the step wrote
something, of one more layer.

What was written is the upper directory of an overlay. Where nobody needs it any more it becomes the layer as
it is: nothing is unpacked, and a step costs no more than its blob.
"""

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import ImageKeeping, make_directory
from proad.host.archive import Unpacker
from proad.host.blobs import BlobStore, LayerInfo
from proad.host.buildtrees import BuildTrees, PackedLayer
from proad.model import errors, imagearchive
from proad.model.durations import format_rfc3339_ns
from proad.model.image import History, Image, ImageConfig, chain_ids
from proad.store.db import Store


@dataclass(frozen=True)
class Step:
    """What a step makes of ``parent`` (None is nothing at all, ``FROM scratch``): an image that gives its
    containers ``config``. ``built_with`` is the configuration that the step ran with, by which the cache
    finds it.
    """

    parent: Image | None
    config: ImageConfig
    built_with: ImageConfig
    author: str
    held: ExitStack
    """Keeps the new image from being removed from the moment on when it is known."""

    @property
    def chain_ids(self) -> Sequence[str]:
        return self.parent.chain_ids if self.parent is not None else ()

    @property
    def layer_blobs(self) -> Sequence[str]:
        return self.parent.layer_blobs if self.parent is not None else ()


class StepImages:
    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        unpacker: Unpacker,
        trees: BuildTrees,
        garbage: Garbage,
        keeping: ImageKeeping,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._unpacker = unpacker
        self._trees = trees
        self._garbage = garbage
        self._keeping = keeping

    def layer_paths(self, image: Image | None) -> list[Path]:
        """Where the layers of an image are, uppermost first."""
        chain = image.chain_ids if image is not None else ()
        return [self._blobs.layer_path(chain_id) for chain_id in reversed(chain)]

    @contextmanager
    def kept(self, *images: Image | None) -> Iterator[None]:
        """Keep what images consist of for as long as the block runs, should they be removed meanwhile."""
        names = [
            name for image in images if image is not None for name in (*image.chain_ids, *image.layer_blobs)
        ]
        with self._garbage.pinned(names):
            yield

    def holding(self, image: Image) -> AbstractContextManager[None]:
        """Keep an image that a build needs for as long as the block runs."""
        return self._garbage.holding(image.id)

    async def make(self, step: Step) -> Image:
        """Make the image of a step that changed the configuration only.

        Raises:
            errors.System: the disk is full, or a layer of the parent is not there any more.
        """
        async with self._keeping.clean_after_failure():
            return await self._make_known(_describe(step, None, time.time_ns()), step, None)

    async def make_of(self, step: Step, upper: Path, *, may_take: bool, by_container: bool = False) -> Image:
        """Make the image of a step that wrote ``upper``, itself or by a container; what is empty is no layer.

        With ``may_take`` the directory is gone afterwards.

        Raises:
            errors.InvalidParameter: what was written cannot be a layer, or there would be too many.
            errors.System: the disk is full, or a layer of the parent is not there any more.
        """
        if len(step.chain_ids) >= imagearchive.MAX_LAYERS:
            raise errors.InvalidParameter("max depth exceeded")
        async with self._blobs.workspace() as work, self._keeping.clean_after_failure():
            blob = work / "blob"
            layers = self.layer_paths(step.parent)
            layer = await self._trees.pack(layers, upper, blob, clean=may_take, by_container=by_container)
            if not layer.entries:
                return await self._make_known(_describe(step, None, time.time_ns()), step, None)
            image = _describe(step, layer, time.time_ns())
            with self._garbage.pinned((image.chain_ids[-1], layer.blob_digest)):
                tree = await self._tree(upper, work, blob, may_take=may_take)
                info = LayerInfo(
                    chain_id=image.chain_ids[-1], diff_id=layer.diff_id, size_bytes=layer.size_bytes
                )
                await self._blobs.place_layer(tree, info)
                self._blobs.place_blob(blob, layer.blob_digest)
                return await self._make_known(image, step, layer)

    async def _tree(self, upper: Path, work: Path, blob: Path, *, may_take: bool) -> Path:
        """The layer unpacked, in the workspace: the directory itself, else made of the blob."""
        tree = work / "tree"
        if may_take:
            try:
                os.rename(upper, tree)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise errors.System(f"cannot keep a layer: {error.strerror}") from error
            else:
                return tree
        make_directory(tree)
        source = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._unpacker.layer(source, tree, any_device=True)
        finally:
            os.close(source)
        return tree

    async def _make_known(self, image: Image, step: Step, layer: PackedLayer | None) -> Image:
        blobs = [*step.layer_blobs, *([layer.blob_digest] if layer is not None else [])]
        return await self.keep(image, blobs, step.held)

    async def keep(self, image: Image, layer_blobs: Sequence[str], held: ExitStack) -> Image:
        """Make an image known whose layers are there; ``held`` keeps it from being removed.

        Raises:
            errors.System: the disk is full, or a blob is not there.
        """
        descriptors = [self._keeping.descriptor(digest) for digest in layer_blobs]
        image = await self._keeping.keep(image, imagearchive.encode_config(image), None, descriptors)
        if image.parent_id not in self._store.images:  # it was removed meanwhile, or never was
            image = replace(image, parent_id="")
        held.enter_context(self._garbage.holding(image.id))
        with self._store.transaction(growing=True) as tx:
            tx.put_image(image)
        return image


def _describe(step: Step, layer: PackedLayer | None, now_ns: int) -> Image:
    """The record of the new image, without what its blobs will say."""
    created = format_rfc3339_ns(now_ns)
    made = History(
        created=created,
        author=step.author,
        created_by=" ".join(step.built_with.cmd or ()),
        empty_layer=layer is None,
    )
    parent = step.parent or empty_image()
    diff_ids = (*parent.diff_ids, *([layer.diff_id] if layer is not None else []))
    return replace(
        parent,
        id="",
        created=created,
        author=step.author,
        comment="",
        docker_version="",
        config=step.config,
        diff_ids=diff_ids,
        chain_ids=chain_ids(diff_ids),
        layer_sizes=(*parent.layer_sizes, *([layer.size_bytes] if layer is not None else [])),
        history=(*parent.history, made),
        parent_id=parent.id,
        last_tagged_ns=0,
        built_with=step.built_with,
    )


def empty_image() -> Image:
    """What ``FROM scratch`` begins with."""
    platform = imagearchive.host_platform()
    return Image(id="", architecture=platform.architecture, os=platform.os, variant=platform.variant)
