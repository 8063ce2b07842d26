"""Trio-flavoured. Plain layers compressed before they are pushed, as registries and their users expect them.

Only images whose manifest was made here are changed, for whatever came with a manifest is to go back with the
same digest. A compressed blob of the same layer that another image has is taken instead of a new one.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import ImageKeeping
from proad.host.blobs import BlobStore
from proad.host.gzipping import gzip_file
from proad.model import errors, imagearchive
from proad.model.image import Image
from proad.model.imagearchive import Descriptor, Manifest
from proad.store.db import Store

Progress = Callable[[int, int], None]
"""Called with the position of a layer and how many of its bytes have been compressed."""


class LayerPacker:
    def __init__(self, store: Store, blobs: BlobStore, garbage: Garbage, keeping: ImageKeeping) -> None:
        self._store = store
        self._blobs = blobs
        self._garbage = garbage
        self._keeping = keeping

    async def packed(self, image: Image, progress: Progress) -> Image:
        """The image with no plain layer left, recorded so; the same where nothing is to be done.

        Raises:
            errors.System: a blob is missing, or the disk is full.
        """
        content = self._blobs.read_blob(image.manifest_digest)
        manifest = imagearchive.parse_manifest(content)
        if not any(map(_is_plain, manifest.layers)) or not self._is_made_here(image, content, manifest):
            return image
        config = self._blobs.read_blob(image.id)
        async with self._keeping.clean_after_failure(), self._blobs.workspace() as work:
            with ExitStack() as pins:
                pins.enter_context(
                    self._garbage.pinned((image.id, image.manifest_digest, *image.layer_blobs))
                )
                layers: list[Descriptor] = []
                for position, layer in enumerate(manifest.layers):
                    found = layer
                    if _is_plain(layer):
                        found = self._packed_elsewhere(image.diff_ids[position]) or await self._pack(
                            layer, work / str(position), partial(progress, position)
                        )
                    pins.enter_context(self._garbage.pinned([found.digest]))
                    layers.append(found)
                made = await self._keeping.keep(image, config, None, layers)
                packed = self._record(made)
        await self._garbage.sweep()  # the plain blobs, where nobody else has them
        return packed

    def _is_made_here(self, image: Image, content: bytes, manifest: Manifest) -> bool:
        return content == imagearchive.make_manifest(image.id, manifest.config.size, manifest.layers)

    def _packed_elsewhere(self, diff_id: str) -> Descriptor | None:
        """A compressed blob of the same layer, of any image."""
        for image in self._store.images.values():
            for known, digest in zip(image.diff_ids, image.layer_blobs, strict=False):
                if known == diff_id and self._blobs.blob_size(digest) is not None:
                    found = self._keeping.descriptor(digest)
                    if not _is_plain(found):
                        return found
        return None

    async def _pack(self, layer: Descriptor, target: Path, progress: Callable[[int], None]) -> Descriptor:
        made = await gzip_file(self._blobs.blob_path(layer.digest), target, progress)
        self._blobs.place_blob(target, made.digest)
        return Descriptor(
            media_type=imagearchive.LAYER_MEDIA_TYPES["gzip"], digest=made.digest, size=made.size_bytes
        )

    def _record(self, made: Image) -> Image:
        """Let the image's record, as it is by now, name the new blobs.

        Raises:
            errors.NotFound: it has been removed meanwhile.
        """
        known = self._store.images.get(made.id)
        if known is None:
            raise errors.NotFound(f"No such image: {made.id}")
        packed = msgspec.structs.replace(
            known,
            layer_blobs=made.layer_blobs,
            manifest_digest=made.manifest_digest,
            manifest_media_type=made.manifest_media_type,
            manifest_size_bytes=made.manifest_size_bytes,
        )
        with self._store.transaction(growing=True) as tx:
            tx.put_image(packed)
        return packed


def _is_plain(layer: Descriptor) -> bool:
    return layer.media_type == imagearchive.LAYER_MEDIA_TYPES["none"]
