"""Trio-flavoured. Images as an archive for ``docker load`` and whoever reads OCI layouts. Never waits.

The archive is described before its first byte goes out: which bytes stand between the blobs, and which blobs.
So its length is known, nothing is gathered in memory or on the disk, and whoever sends it reads the blobs as
they lie in the store.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import emit
from proad.engine.imagelisting import all_names
from proad.host.blobs import BlobStore
from proad.host.tarstream import Entry
from proad.host.tarwriter import END, header, padding
from proad.model import errors, platforms
from proad.model.image import Image
from proad.model.imagearchive import Platform
from proad.model.reference import Reference, parse_reference
from proad.model.savedarchive import SavedImage, blob_member, blobs_of, describing_files
from proad.store.db import Store


@dataclass(frozen=True)
class FilePiece:
    """The whole content of a file."""

    path: Path
    size_bytes: int


@dataclass(frozen=True)
class SavedArchive:
    """A tar archive, piece by piece; ``size_bytes`` is that of all of it."""

    pieces: Sequence[bytes | FilePiece]
    size_bytes: int


class ImageSaving:
    def __init__(
        self, store: Store, blobs: BlobStore, garbage: Garbage, resolve: Callable[[str], Image]
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._garbage = garbage
        self._resolve = resolve

    @contextmanager
    def saved(self, refs: Sequence[str], platform: Platform | None) -> Iterator[SavedArchive]:
        """See :meth:`proad.engine.images.Images.saved`."""
        images = self._find(refs, platform)
        needed = {digest: None for item in images for digest in blobs_of(item.image)}
        with self._garbage.pinned(needed):
            archive = self._describe(images, sorted(needed))
            if images:
                with self._store.transaction(durable=False) as tx:
                    for item in images:
                        emit(tx, "save", item.image)
            yield archive

    # --- what is meant ----------------------------------------------------------------------------------

    def _find(self, refs: Sequence[str], platform: Platform | None) -> list[SavedImage]:
        """The images that are meant, each once, with the names that they were called by."""
        names_of: dict[str, list[Reference]] = {}
        for ref in refs:
            for image, name in self._named(ref):
                if platform and not platform.matches(image.os, image.architecture, image.variant):
                    wanted = platforms.describe(platform)
                    raise errors.NotFound(f"no suitable export target found for platform {wanted}")
                names = names_of.setdefault(image.id, [])
                if name and name not in names:
                    names.append(name)
        return [SavedImage(self._store.images[image_id], names) for image_id, names in names_of.items()]

    def _named(self, ref: str) -> Sequence[tuple[Image, Reference | None]]:
        """What one name means: a repository all its images, a tag that one, an id one without a name."""
        try:
            wanted = parse_reference(ref)
        except errors.InvalidParameter:
            return [(self._resolve(ref), None)]
        if not wanted.tag and not wanted.digest:
            of_repository = [
                (self._store.images[image_id], name if name.tag else None)
                for image_id, names in all_names(self._store).items()
                for name in names
                if name.name == wanted.name
            ]
            return of_repository or [(self._resolve(ref), None)]
        image = self._resolve(ref)
        is_name = self._store.references.get(wanted.canonical) == image.id
        return [(image, wanted if is_name and not wanted.digest else None)]

    # --- how it is written ------------------------------------------------------------------------------

    def _describe(self, images: Sequence[SavedImage], digests: Sequence[str]) -> SavedArchive:
        """
        Raises:
            errors.System: a blob is not there any more.
        """
        pieces: list[bytes | FilePiece] = []
        text = bytearray(_header("blobs", "directory") + _header("blobs/sha256", "directory"))
        for digest in digests:
            size = self._blobs.blob_size(digest)
            if size is None:
                raise errors.System(f"the image store lacks blob {digest}; load or pull the image again")
            text += _header(blob_member(digest), "file", size)
            pieces += [bytes(text), FilePiece(self._blobs.blob_path(digest), size)]
            text = bytearray(padding(size))
        for name, content in sorted(describing_files(images).items()):
            text += _header(name, "file", len(content)) + content + padding(len(content))
        pieces.append(bytes(text) + END)
        size_bytes = sum(len(piece) if isinstance(piece, bytes) else piece.size_bytes for piece in pieces)
        return SavedArchive(pieces, size_bytes)


def _header(name: str, kind: str, size: int = 0) -> bytes:
    mode = 0o755 if kind == "directory" else 0o644
    return header(Entry(name=name, kind=kind, size=size, mode=mode, uid=0, gid=0, mtime_ns=0))
