"""Trio-flavoured. How images come in by ``docker load``: several at once, each with all of its layers.

The archive comes as a descriptor and is taken apart by a jailed helper process, as is each layer. Layers and
blobs find their places in the store by renames; an image becomes known, under all its names, in one
transaction at the end. Whatever fails before that leaves nothing behind; images of the same archive that were
whole before stay.
"""

import os
import time
from pathlib import Path

import msgspec
import trio

from proad.engine.archivedimages import Candidate, find_candidates
from proad.engine.imagegarbage import Garbage
from proad.engine.imageintake import Report
from proad.engine.imagekeeping import ImageKeeping, emit, make_directory
from proad.engine.lookup import is_blob_of_layer
from proad.engine.piping import first_error
from proad.host.archive import Member, Unpacker
from proad.host.blobs import BlobStore, LayerInfo
from proad.model import errors, platforms, progress
from proad.model.image import Image
from proad.model.imagearchive import Descriptor, Platform
from proad.model.savedarchive import blobs_of
from proad.store.db import Store


class ImageLoad:
    def __init__(
        self, store: Store, blobs: BlobStore, unpacker: Unpacker, garbage: Garbage, keeping: ImageKeeping
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._unpacker = unpacker
        self._garbage = garbage
        self._keeping = keeping

    async def load(
        self, source: int, *, quiet: bool, platform: Platform | None, report: Report
    ) -> list[Image]:
        """Take all images of an archive: of ``docker save``, or an OCI image layout.

        ``report`` hears of each layer's progress unless ``quiet``, and of each image that is there.

        Raises:
            errors.InvalidParameter: the archive is broken, or holds no image for the platform.
            errors.System: the disk is full.
        """
        async with self._blobs.workspace() as work, self._keeping.clean_after_failure():
            members = await self._unpacker.members(source, make_directory(work / "files"))
            candidates = find_candidates(members, platform)
            if not candidates:
                wanted = f" for {platforms.describe(platform)}" if platform else ""
                raise errors.InvalidParameter(f"the archive holds no image{wanted}")
            loaded = []
            for number, candidate in enumerate(candidates):
                directory = make_directory(work / f"image{number}")
                loaded.append(await self._take(candidate, directory, None if quiet else report, report))
            if not any(candidate.names for candidate in candidates):
                for image in loaded:
                    report({"stream": f"Loaded image ID: {image.id}\n"})
        return loaded

    async def _take(self, candidate: Candidate, work: Path, told: Report | None, report: Report) -> Image:
        image = candidate.image
        known = self._store.images.get(image.id)
        if known and self._is_whole(known):
            parent_id = known.parent_id or image.parent_id
            return self._make_known(candidate, msgspec.structs.replace(known, parent_id=parent_id), report)
        blobs = {member.digest for member in candidate.layers}
        with self._garbage.pinned((image.id, *image.chain_ids, *blobs)):
            sizes = await self._layers(candidate, work, told)
            descriptors = [self._place(member) for member in candidate.layers]
            image = msgspec.structs.replace(
                image,
                layer_sizes=sizes,
                last_tagged_ns=known.last_tagged_ns if known else 0,
                parent_id=image.parent_id or (known.parent_id if known else ""),
                built_with=known.built_with if known else None,
            )
            image = await self._keeping.keep(image, candidate.config, candidate.manifest, descriptors)
            return self._make_known(candidate, image, report)

    def _is_whole(self, image: Image) -> bool:
        """Whether all of an image that is known is there; then the archive can only name it."""
        return all(self._blobs.layer(chain_id) for chain_id in image.chain_ids) and all(
            self._blobs.blob_size(digest) is not None for digest in blobs_of(image)
        )

    def _make_known(self, candidate: Candidate, image: Image, report: Report) -> Image:
        """Tell the state of the image and its names, all at once, and then whoever waits for it."""
        if image.parent_id not in self._store.images:
            image = msgspec.structs.replace(image, parent_id="")
        if candidate.names:
            image = msgspec.structs.replace(image, last_tagged_ns=time.time_ns())
        before = [self._store.references.get(name.canonical, image.id) for name in candidate.names]
        with self._store.transaction(growing=True) as tx:
            tx.put_image(image)
            for name in candidate.names:
                tx.put_reference(name.canonical, image.id)
            emit(tx, "load", image)
        for name, other_id in zip(candidate.names, before, strict=True):
            if other_id != image.id:
                text = f"The image {name.familiar} already exists, renaming the old one with ID {other_id}"
                report({"stream": f"{text} to empty string\n"})
            report({"stream": f"Loaded image: {name.familiar}\n"})
        return image

    # --- layers -----------------------------------------------------------------------------------------

    async def _layers(self, candidate: Candidate, work: Path, told: Report | None) -> tuple[int, ...]:
        """Have all layers in the store, several unpacked at the same time; returns their sizes."""
        sizes = [0] * len(candidate.layers)
        slots = trio.CapacityLimiter(len(os.sched_getaffinity(0)))

        async def bring(position: int) -> None:
            async with slots:
                sizes[position] = await self._layer(candidate, position, work, told)

        try:
            async with trio.open_nursery() as nursery:
                for position in range(len(sizes)):
                    nursery.start_soon(bring, position)
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        return tuple(sizes)

    async def _layer(self, candidate: Candidate, position: int, work: Path, told: Report | None) -> int:
        """Have one layer unpacked, if it is not there from another image; returns its size."""
        image, member = candidate.image, candidate.layers[position]
        diff_id, chain_id = image.diff_ids[position], image.chain_ids[position]
        known = self._blobs.layer(chain_id)
        if known and is_blob_of_layer(self._store, member.digest, diff_id):
            return known.size_bytes
        tree = make_directory(work / str(position))
        progressed = _LayerProgress(told, diff_id, member.size_bytes)
        # An image before this one may have moved the file to the blobs.
        path = member.path if member.path.exists() else self._blobs.blob_path(member.digest)
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            layer = await self._unpacker.layer(source, tree, progress=progressed)
        finally:
            os.close(source)
        if layer.diff_id != diff_id:
            raise errors.InvalidParameter(
                f'invalid diffID for layer {position}: expected "{diff_id}", got "{layer.diff_id}"'
            )
        await self._blobs.place_layer(
            tree, LayerInfo(chain_id=chain_id, diff_id=diff_id, size_bytes=layer.size_bytes)
        )
        progressed(member.size_bytes)
        return layer.size_bytes

    def _place(self, member: Member) -> Descriptor:
        """Make a layer's file a blob."""
        if not self._blobs.blob_path(member.digest).exists():
            self._blobs.place_blob(member.path, member.digest)
        return self._keeping.descriptor(member.digest)


class _LayerProgress:
    """Tells how far a layer is, in Docker's words."""

    def __init__(self, report: Report | None, diff_id: str, total: int) -> None:
        self._report = report
        self._id = diff_id.removeprefix("sha256:")[:12]
        self._total = total

    def __call__(self, current: int) -> None:
        if self._report:
            self._report(progress.progress(self._id, "Loading layer", current, self._total))
