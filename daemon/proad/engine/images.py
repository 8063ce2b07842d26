"""Trio-flavoured. Images: found by name, listed, named, removed, pruned. How they come in is
``imageintake``."""

import io
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import msgspec
import structlog

from proad.engine.imagecommit import Announce, Commit, ImageCommit, Whole
from proad.engine.imagegarbage import Garbage
from proad.engine.imageintake import ImageIntake, Report
from proad.engine.imagekeeping import ImageKeeping, emit
from proad.engine.imagelisting import ImageQuery, ImageSummary, list_images
from proad.engine.imageload import ImageLoad
from proad.engine.imagepruning import ImagePrune, ImagePruning
from proad.engine.imageremoval import ImageRemoval, RemovedImage
from proad.engine.imagesaving import ImageSaving, SavedArchive
from proad.engine.lookup import images_of
from proad.host.archive import Unpacker
from proad.host.blobs import BlobStore
from proad.model import errors
from proad.model.filters import Filters
from proad.model.image import Image
from proad.model.imagearchive import Descriptor, Platform
from proad.model.reference import Reference, parse_reference
from proad.store.db import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ImageUsage:
    """``layers_bytes`` is what the store has on the disk: each layer once as it lies unpacked, and each blob
    that layers, configurations and manifests came as. ``summaries`` know their containers and shared sizes;
    an image's own size is that of its unpacked layers alone, as everywhere.
    """

    layers_bytes: int = 0
    summaries: Sequence[ImageSummary] = field(default_factory=list)


@dataclass(frozen=True)
class ImageContent:
    """Bytes of the blobs of an image, whether all of them are there, and ids of containers made from it."""

    size_bytes: int
    is_whole: bool
    containers: Sequence[str]


class Images:
    """The images of one daemon. Reads are answered from memory; nothing here waits but what is ``async``."""

    def __init__(
        self, store: Store, blobs: BlobStore, unpacker: Unpacker, garbage: Garbage, keeping: ImageKeeping
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._garbage = garbage
        self._intake = ImageIntake(store, blobs, unpacker, self._garbage, keeping)
        self._load = ImageLoad(store, blobs, unpacker, self._garbage, keeping)
        self._commit = ImageCommit(store, blobs, unpacker, self._garbage, keeping)
        self._removal = ImageRemoval(store, self._garbage)
        self._pruning = ImagePruning(store, self._removal)
        self._saving = ImageSaving(store, blobs, self._garbage, self.resolve)

    async def recover(self) -> None:
        """Make the directories, remove what a crash left unfinished, and name what is there in
        ``index.json``."""
        await self._blobs.prepare()
        await self.sweep()
        self.write_index()
        for image in self._store.images.values():
            missing = [chain_id for chain_id in image.chain_ids if self._blobs.layer(chain_id) is None]
            if missing:
                log.warning("image lacks layers; load it again", image=image.short_id, layers=missing)

    async def sweep(self) -> None:
        """Remove layers and blobs that nobody needs; call it when a container is gone whose image may be
        gone."""
        await self._garbage.sweep()

    # --- reading ----------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> Image:
        """The image of that name (tag ``latest`` understood), name and digest, id, or unique beginning of
        an id.

        Raises:
            errors.NotFound: there is none.
            errors.InvalidParameter: ``ref`` can be no name and no id.
        """
        if ref in self._store.images:
            return self._store.images[ref]
        name, problem = _parse(ref)
        if name:
            wanted = name if not name.digest else msgspec.structs.replace(name, tag="")
            image_id = self._store.references.get(wanted.with_default_tag().canonical, "")
            if image_id in self._store.images:
                return self._store.images[image_id]
        digits = ref.removeprefix("sha256:")
        if digits and set(digits) <= set("0123456789abcdef"):
            found = [
                image for image_id, image in self._store.images.items() if image_id[7:].startswith(digits)
            ]
            if len(found) == 1:
                return found[0]
            problem = None
        if problem:
            raise problem
        raise errors.NotFound(f"No such image: {name.with_default_tag().familiar if name else ref}")

    def names(self, image_id: str) -> list[Reference]:
        """The names of an image, tags before digests, each sorted."""
        return self._removal.names(image_id)

    def lineage(self, image: Image) -> Sequence[Image]:
        """The image, the one that it was made from by a commit, and so on as far as they are there."""
        found = deque([image])
        while parent := self._store.images.get(found[-1].parent_id):
            found.append(parent)
        return found

    def list(self, query: ImageQuery) -> list[ImageSummary]:
        """The images that ``query`` means, the latest made first.

        Raises:
            errors.InvalidParameter: an unknown filter, or a value that it cannot have.
            errors.NotFound: ``before`` or ``since`` names no image.
        """
        return list_images(self._store, query, self.resolve)

    def graph_data(self, image: Image) -> dict[str, str]:
        """Where overlayfs finds the layers, uppermost first, in the form of Docker's ``GraphDriver.Data``."""
        upper, *lower = [str(self._blobs.layer_path(c)) for c in reversed(image.chain_ids)] or [""]
        return {"UpperDir": upper, **({"LowerDir": ":".join(lower)} if lower else {})}

    def content(self, image: Image) -> ImageContent:
        """What an image keeps beside its unpacked layers, and who uses it."""
        sizes = [self._blobs.blob_size(d) for d in (image.id, image.manifest_digest, *image.layer_blobs)]
        users = [c.id for c in self._store.containers.values() if image.id in images_of(c)]
        return ImageContent(sum(size or 0 for size in sizes), None not in sizes, users)

    async def usage(self) -> ImageUsage:
        """What ``docker system df`` shows."""
        summaries = list_images(
            self._store, ImageQuery(all=True, shared_size=True, containers=True), self.resolve
        )
        return ImageUsage(await self._blobs.measure(), summaries)

    def saved(
        self, refs: Sequence[str], platform: Platform | None = None
    ) -> AbstractContextManager[SavedArchive]:
        """The archive of these images; nothing of it goes away in the block. Call :meth:`sweep` after it.

        A repository stands for all its tags; an id, or a beginning of one, for an image without a name.

        Raises:
            errors.NotFound: there is no such image, or it is for another platform.
            errors.System: a blob of one is missing.
        """
        return self._saving.saved(refs, platform)

    # --- changing ---------------------------------------------------------------------------------------

    async def import_(
        self,
        source: io.FileIO,
        *,
        reference: Reference | None = None,
        message: str = "",
        changes: Sequence[str] = (),
        platform: Platform | None = None,
    ) -> Image:
        """Make an image of a root filesystem's tar, and close it; see :meth:`ImageIntake.import_`."""
        with source:
            image = await self._intake.import_(
                source.fileno(), reference=reference, message=message, changes=changes, platform=platform
            )
        self.write_index()
        return image

    async def load(
        self, source: io.FileIO, *, quiet: bool = True, platform: Platform | None = None, report: Report
    ) -> Sequence[Image]:
        """Take all images of an archive, and close it; see :meth:`ImageLoad.load`."""
        with source:
            images = await self._load.load(source.fileno(), quiet=quiet, platform=platform, report=report)
        self.write_index()
        return images

    async def commit(self, wanted: Commit, source: io.FileIO, whole: Whole, announce: Announce) -> Image:
        """Make an image of what a container wrote; see :meth:`ImageCommit.commit`."""
        image = await self._commit.commit(wanted, source, whole, announce)
        self.write_index()
        return image

    async def tag(self, ref: str, name: Reference) -> None:
        """Give an image one more name; it is taken from the image that had it.

        Raises:
            errors.NotFound: there is no such image.
            errors.InvalidParameter: the name would look like a digest.
        """
        image = self.resolve(ref)
        if name.familiar_name == "sha256":
            raise errors.InvalidParameter(
                "refusing to create an ambiguous tag using digest algorithm as name"
            )
        name = name.with_default_tag()
        with self._store.transaction(growing=True) as tx:
            tx.put_reference(name.canonical, image.id)
            tx.put_image(msgspec.structs.replace(image, last_tagged_ns=time.time_ns()))
            emit(tx, "tag", image, name.familiar)
        self.write_index()

    async def remove(
        self, ref: str, *, force: bool = False, no_prune: bool = False
    ) -> Sequence[RemovedImage]:
        """Take a name off an image, and remove the image where it was the last; Docker's rules and conflicts.

        ``no_prune`` keeps the images that it was made from.

        Raises:
            errors.NotFound: there is no such image.
            errors.Conflict: a container needs it, or it has other names; the text says which, and what
            forces it.
        """
        removed = await self._removal.remove(self.resolve(ref), ref, force=force, prune=not no_prune)
        self.write_index()
        return removed.items

    async def prune(self, filters: Filters) -> ImagePrune:
        """Remove images that no container uses: those without a name, or with ``dangling=false`` all of them.

        Raises:
            errors.InvalidParameter: an unknown filter, or a value that it cannot have.
            errors.Conflict: another prune is going on.
        """
        pruned = await self._pruning.prune(filters)
        self.write_index()
        return pruned

    def write_index(self) -> None:
        """Name all images in the OCI layout's index, for other tools to read."""
        listed = []
        for image in self._store.images.values():
            descriptor = Descriptor(
                media_type=image.manifest_media_type,
                digest=image.manifest_digest,
                size=image.manifest_size_bytes,
            )
            names = [name.canonical for name in self.names(image.id) if name.tag]
            listed += [
                msgspec.structs.replace(descriptor, annotations={"org.opencontainers.image.ref.name": name})
                for name in names
            ] or [descriptor]
        try:
            self._blobs.write_index(listed)
        except (
            errors.System
        ) as error:  # it is for others to read and written anew each time: no reason to fail
            log.warning("index of images is out of date", error=error.message)


def _parse(ref: str) -> tuple[Reference | None, errors.InvalidParameter | None]:
    try:
        return parse_reference(ref), None
    except errors.InvalidParameter as error:
        return None, error


__all__ = ["ImageContent", "ImagePrune", "ImageQuery", "ImageSummary", "ImageUsage", "Images", "RemovedImage"]
