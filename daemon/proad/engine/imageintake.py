"""Trio-flavoured. How an image comes in that is one root filesystem (``docker import``).

The archive is taken as a descriptor, so that its bytes never pass through this process's loop. It is unpacked
into a workspace, layer and blob are put into the store by renames, and the image becomes known in one
transaction at the end. Whatever fails before that leaves nothing behind.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import ImageKeeping, emit, make_directory
from proad.host.archive import Unpacker
from proad.host.blobs import BlobStore, LayerInfo
from proad.model import errors, imagearchive
from proad.model.changes import apply_changes
from proad.model.durations import format_rfc3339_ns
from proad.model.image import History, Image, ImageConfig, chain_ids
from proad.model.imagearchive import Descriptor, Platform
from proad.model.reference import Reference
from proad.store.db import Store

Report = Callable[[dict[str, Any]], None]
"""Takes one line of progress, as Docker shapes them."""


class ImageIntake:
    def __init__(
        self, store: Store, blobs: BlobStore, unpacker: Unpacker, garbage: Garbage, keeping: ImageKeeping
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._unpacker = unpacker
        self._garbage = garbage
        self._keeping = keeping

    async def import_(
        self,
        source: int,
        *,
        reference: Reference | None,
        message: str,
        changes: Iterable[str],
        platform: Platform | None,
    ) -> Image:
        """Make an image of one layer from the tar that ``source`` gives; named by ``reference`` if there is
        one.

        Raises:
            errors.InvalidParameter: the archive, a change or the platform cannot be taken.
        """
        platform = platform or imagearchive.host_platform()
        if platform.os != "linux":
            raise errors.InvalidParameter(f"operating system is not supported: {platform.os}")
        config = apply_changes(ImageConfig(), changes)
        async with self._blobs.workspace() as work, self._keeping.clean_after_failure():
            tree = make_directory(work / "tree")
            layer = await self._unpacker.layer(source, tree, keep_as=work / "blob")
            now_ns = time.time_ns()
            created = format_rfc3339_ns(now_ns)
            image = Image(
                id="",
                architecture=platform.architecture,
                os=platform.os,
                variant=platform.variant,
                created=created,
                comment=message,
                config=config,
                diff_ids=(layer.diff_id,),
                chain_ids=chain_ids((layer.diff_id,)),
                layer_sizes=(layer.size_bytes,),
                history=(History(created=created, comment=message),),
                last_tagged_ns=now_ns if reference else 0,
            )
            content = imagearchive.encode_config(image)
            with self._garbage.pinned((*image.chain_ids, layer.blob_digest)):
                await self._blobs.place_layer(
                    tree,
                    LayerInfo(
                        chain_id=image.chain_ids[0], diff_id=layer.diff_id, size_bytes=layer.size_bytes
                    ),
                )
                self._blobs.place_blob(work / "blob", layer.blob_digest)
                descriptor = Descriptor(
                    media_type=imagearchive.LAYER_MEDIA_TYPES[layer.compression],
                    digest=layer.blob_digest,
                    size=layer.blob_size_bytes,
                )
                image = await self._keeping.keep(image, content, None, [descriptor])
                with self._store.transaction(growing=True) as tx:
                    tx.put_image(image)
                    if reference:
                        tx.put_reference(reference.canonical, image.id)
                        emit(tx, "tag", image, reference.familiar)
                    emit(tx, "import", image)
        return image
