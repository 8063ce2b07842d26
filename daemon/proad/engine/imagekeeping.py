"""Trio-flavoured. Keeping an image that was made or brought in: what all ways in have in common."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog
import trio

from proad.engine.imagegarbage import Garbage
from proad.host.blobs import BlobStore
from proad.model import errors, imagearchive
from proad.model.image import Image
from proad.model.imagearchive import Descriptor
from proad.store.db import Transaction

log = structlog.get_logger(__name__)


class ImageKeeping:
    def __init__(self, blobs: BlobStore, garbage: Garbage) -> None:
        self._blobs = blobs
        self._garbage = garbage

    async def keep(
        self, image: Image, config: bytes, manifest: bytes | None, layers: Sequence[Descriptor]
    ) -> Image:
        """Keep configuration and manifest as blobs; the image with what names them, safe on the disk."""
        image_id = self._blobs.put_blob(config)
        if manifest is None:
            manifest = imagearchive.make_manifest(image_id, len(config), layers)
        with self._garbage.pinned((image_id, digest := self._blobs.put_blob(manifest))):
            await self._blobs.settle()
        return msgspec.structs.replace(
            image,
            id=image_id,
            layer_blobs=tuple(layer.digest for layer in layers),
            manifest_digest=digest,
            manifest_media_type=imagearchive.parse_manifest(manifest).media_type or imagearchive.OCI_MANIFEST,
            manifest_size_bytes=len(manifest),
        )

    def descriptor(self, digest: str) -> Descriptor:
        """What a manifest says of the blob of a layer.

        Raises:
            errors.System: it is not there.
        """
        try:
            with self._blobs.blob_path(digest).open("rb") as file:
                media_type = imagearchive.layer_media_type(file.read(8))
                size = file.seek(0, 2)
        except FileNotFoundError:
            raise errors.System(f"the image store lacks layer blob {digest}; load the image again") from None
        return Descriptor(media_type=media_type, digest=digest, size=size)

    @asynccontextmanager
    async def clean_after_failure(self) -> AsyncIterator[None]:
        """What had found its place already goes again if the rest fails."""
        try:
            yield
        except BaseException:
            with trio.CancelScope(shield=True):
                try:
                    await self._garbage.sweep()
                except errors.System as error:  # the next sweep takes it; what failed first is what to tell
                    log.error("image store not swept", error=error.message)
            raise


def emit(tx: Transaction, action: str, image: Image, name: str = "") -> None:
    """Tell an event of an image: its labels, and the name it was done by, or else its id."""
    tx.emit("image", action, image.id, {**image.config.labels, "name": name or image.id})


def make_directory(path: Path) -> Path:
    """An empty directory, for a layer or for the files of an archive.

    Raises:
        errors.System: the disk is full.
    """
    try:
        path.mkdir()
    except OSError as error:
        raise errors.System(f"cannot make room for an image: {error.strerror}") from error
    path.chmod(0o755)  # the root directory of a container, where the archive says nothing of it
    return path
