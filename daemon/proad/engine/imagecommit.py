"""Trio-flavoured. Making an image of another one and what a container wrote on top of it."""

import io
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import ImageKeeping, emit, make_directory
from proad.host.archive import UnpackedLayer, Unpacker
from proad.host.blobs import BlobStore, LayerInfo
from proad.host.snapshot import Unread
from proad.model import errors, imagearchive
from proad.model.durations import format_rfc3339_ns
from proad.model.image import History, Image, ImageConfig, chain_ids
from proad.model.reference import Reference
from proad.store.db import Store, Transaction


@dataclass(frozen=True)
class Commit:
    """What a new image shall be: on top of ``parent``, with this configuration; named if there is a
    reference. ``created_by`` is the command that wrote the layer.
    """

    parent: Image
    config: ImageConfig
    created_by: str = ""
    author: str = ""
    comment: str = ""
    reference: Reference | None = None


Whole = Callable[[], Awaitable[int]]
"""Returns the number of entries once the archive is whole, and raises where it never will be."""

Announce = Callable[[Transaction, Image], None]
"""Tells, in the transaction that makes the image known, what else is to be told of it."""


class ImageCommit:
    def __init__(
        self, store: Store, blobs: BlobStore, unpacker: Unpacker, garbage: Garbage, keeping: ImageKeeping
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._unpacker = unpacker
        self._garbage = garbage
        self._keeping = keeping

    async def commit(self, wanted: Commit, source: io.FileIO, whole: Whole, announce: Announce) -> Image:
        """Make the image; ``source`` gives its uppermost layer as a tar, and is closed here. A tar without
        entries is no layer.

        Raises:
            errors.InvalidParameter: there would be too many layers.
            errors.System: the disk is full, or a layer of the parent is not there any more.
            Whatever ``whole`` raises.
        """
        parent = wanted.parent
        if len(parent.diff_ids) >= imagearchive.MAX_LAYERS:
            raise errors.InvalidParameter("max depth exceeded")
        needed = (*parent.chain_ids, *parent.layer_blobs)
        async with self._blobs.workspace() as work, self._keeping.clean_after_failure():
            with self._garbage.pinned(needed):
                tree = make_directory(work / "tree")
                layer = await self._unpack(source, tree, work / "blob", whole)
                image = _describe(wanted, layer, time.time_ns())
                with self._garbage.pinned((*image.chain_ids, *([layer.blob_digest] if layer else []))):
                    if layer is not None:
                        await self._place(image, layer, tree, work / "blob")
                    return await self._make_known(image, wanted, layer, announce)

    async def _unpack(self, source: io.FileIO, tree: Path, blob: Path, whole: Whole) -> UnpackedLayer | None:
        try:
            with source:
                layer = await self._unpacker.layer(source.fileno(), tree, keep_as=blob, any_device=True)
        except errors.ProaError as error:
            try:
                await whole()  # if the archive broke off, that says why
            except Unread:
                raise error from None
            raise
        return layer if await whole() else None

    async def _place(self, image: Image, layer: UnpackedLayer, tree: Path, blob: Path) -> None:
        info = LayerInfo(chain_id=image.chain_ids[-1], diff_id=layer.diff_id, size_bytes=layer.size_bytes)
        await self._blobs.place_layer(tree, info)
        self._blobs.place_blob(blob, layer.blob_digest)

    async def _make_known(
        self, image: Image, wanted: Commit, layer: UnpackedLayer | None, announce: Announce
    ) -> Image:
        blobs = [*wanted.parent.layer_blobs, *([layer.blob_digest] if layer is not None else [])]
        descriptors = [self._keeping.descriptor(digest) for digest in blobs]
        image = await self._keeping.keep(image, imagearchive.encode_config(image), None, descriptors)
        if wanted.parent.id not in self._store.images:  # it was removed meanwhile
            image = msgspec.structs.replace(image, parent_id="")
        with self._store.transaction(growing=True) as tx:
            tx.put_image(image)
            if wanted.reference is not None:
                tx.put_reference(wanted.reference.canonical, image.id)
                emit(tx, "tag", image, wanted.reference.familiar)
            announce(tx, image)
        return image


def _describe(wanted: Commit, layer: UnpackedLayer | None, now_ns: int) -> Image:
    """The record of the new image, without what its blobs will say."""
    parent, created = wanted.parent, format_rfc3339_ns(now_ns)
    made = History(
        created=created,
        author=wanted.author,
        created_by=wanted.created_by,
        comment=wanted.comment,
        empty_layer=layer is None,
    )
    diff_ids = (*parent.diff_ids, *([layer.diff_id] if layer is not None else []))
    return msgspec.structs.replace(
        parent,
        id="",
        created=created,
        author=wanted.author,
        comment=wanted.comment,
        docker_version="",
        config=wanted.config,
        diff_ids=diff_ids,
        chain_ids=chain_ids(diff_ids),
        layer_sizes=(*parent.layer_sizes, *([layer.size_bytes] if layer is not None else [])),
        history=(*parent.history, made),
        parent_id=parent.id,
        last_tagged_ns=now_ns if wanted.reference is not None else 0,
    )
