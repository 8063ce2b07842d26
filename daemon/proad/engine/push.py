"""Trio-flavoured. Push: an image out of the store into a registry.

plain layers compressed (``layerpack``)
each layer: there already, or mounted from another repository of the registry, or uploaded
configuration, then the manifest as it is stored
one transaction: the digest that the image now has there, event
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import trio

from proad.engine.imagegarbage import Garbage
from proad.engine.imageintake import Report
from proad.engine.images import Images
from proad.engine.layerpack import LayerPacker
from proad.engine.piping import first_error
from proad.host.blobs import BlobStore
from proad.host.registry import Registries, Repository
from proad.model import errors, imagearchive, progress
from proad.model.credentials import Credentials
from proad.model.image import Image
from proad.model.imagearchive import Descriptor
from proad.model.reference import Reference, parse_reference
from proad.store.db import Store

MAX_MOUNT_ATTEMPTS = 4


@dataclass
class _Target:
    """Where a push goes, and what it has found there: a layer that several tags have is asked for once."""

    name: Reference
    repository: Repository
    report: Report
    takes_foreign_layers: bool
    there: set[str] = field(default_factory=set)


class Pusher:
    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        garbage: Garbage,
        packer: LayerPacker,
        images: Images,
        registries: Registries,
        *,
        max_concurrent: int,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._garbage = garbage
        self._packer = packer
        self._images = images
        self._registries = registries
        self._slots = trio.CapacityLimiter(max_concurrent)

    async def push(self, wanted: Reference, *, credentials: Credentials, report: Report) -> None:
        """Push the image of that tag; without a tag, all that have a tag of that name.

        Raises:
            errors.ProaError: there is no such image, or the registry does not take it; told after the first
            line of progress.
        """
        report(progress.message(f"The push refers to repository [{wanted.name}]"))
        names = self._names(wanted)
        repository = self._registries.repository(wanted, credentials, to_push=True)
        takes_foreign_layers = await self._registries.takes_foreign_layers(wanted.domain)
        target = _Target(wanted, repository, report, takes_foreign_layers)
        for name in names:
            await self._push(name, target)

    def _names(self, wanted: Reference) -> list[Reference]:
        """The tagged names to push.

        Raises:
            errors.NotFound: there are none.
            errors.InvalidParameter: a digest is asked for.
        """
        if wanted.digest:
            raise errors.InvalidParameter("cannot push a digest reference")
        known = sorted(map(parse_reference, self._store.references), key=lambda name: name.canonical)
        known = [name for name in known if name.name == wanted.name]
        if not known:
            raise errors.NotFound(f"An image does not exist locally with the tag: {wanted.familiar_name}")
        if not wanted.tag:
            tagged = [name for name in known if name.tag]
            if not tagged:
                raise errors.NotFound(f"no tags to push for {wanted.familiar_name}")
            return tagged
        if wanted not in known:
            raise errors.NotFound(f"tag does not exist: {wanted.familiar}")
        return [wanted]

    async def _push(self, name: Reference, target: _Target) -> None:
        image = self._store.images[self._store.references[name.canonical]]
        for diff_id in reversed(image.diff_ids):
            target.report(progress.update(_shown(diff_id), "Preparing"))
        sizes = [self._blobs.blob_size(digest) or 0 for digest in image.layer_blobs]

        def packing(position: int, current: int) -> None:
            shown = _shown(image.diff_ids[position])
            target.report(progress.progress(shown, "Preparing", current, sizes[position]))

        if (packed := await self._packer.packed(image, packing)) is not image:
            image = packed
            self._images.write_index()
        with self._garbage.pinned((image.id, image.manifest_digest, *image.layer_blobs)):
            content = self._blobs.read_blob(image.manifest_digest)
            manifest = imagearchive.parse_manifest(content)
            await self._push_layers(image, manifest.layers, target)
            if not await target.repository.has_blob(image.id):
                await target.repository.upload(image.id, self._blobs.blob_path(image.id))
            await target.repository.put_manifest(name.tag, content, image.manifest_media_type)
        digest, size = image.manifest_digest, len(content)
        self._record(name, image)
        target.report(progress.message(f"{name.tag}: digest: {digest} size: {size}"))
        target.report(progress.aux({"Tag": name.tag, "Digest": digest, "Size": size}))

    async def _push_layers(self, image: Image, layers: Sequence[Descriptor], target: _Target) -> None:
        try:
            async with trio.open_nursery() as nursery:
                done: set[str] = set()
                for diff_id, layer in zip(reversed(image.diff_ids), reversed(layers), strict=True):
                    if layer.digest not in done:  # the same layer may be there twice
                        nursery.start_soon(self._push_layer, diff_id, layer, target)
                    done.add(layer.digest)
        except BaseExceptionGroup as group:
            raise first_error(group) from group

    async def _push_layer(self, diff_id: str, layer: Descriptor, target: _Target) -> None:
        shown, report = _shown(diff_id), target.report
        if layer.urls and not target.takes_foreign_layers:
            report(progress.update(shown, "Skipped foreign layer"))
            return
        if self._slots.available_tokens < 1:
            report(progress.update(shown, "Waiting"))
        async with self._slots:
            if layer.digest in target.there or await target.repository.has_blob(layer.digest):
                report(progress.update(shown, "Layer already exists"))
            elif source := await self._mount(layer.digest, target):
                report(progress.update(shown, f"Mounted from {source}"))
            else:
                await self._upload(layer, shown, target)
                report(progress.update(shown, "Pushed"))
        target.there.add(layer.digest)

    async def _upload(self, layer: Descriptor, shown: str, target: _Target) -> None:
        size = self._blobs.blob_size(layer.digest)
        if size is None:
            raise errors.System(f"the image store lacks blob {layer.digest}; pull or load the image again")

        def pushed(current: int) -> None:
            target.report(progress.progress(shown, "Pushing", current, size))

        pushed(0)
        await target.repository.upload(layer.digest, self._blobs.blob_path(layer.digest), progress=pushed)

    async def _mount(self, digest: str, target: _Target) -> str:
        """The path of the repository that the registry took the blob from; empty if from none."""
        for path in self._mount_candidates(digest, target.name)[:MAX_MOUNT_ATTEMPTS]:
            if await target.repository.mount(digest, path):
                return path
        return ""

    def _mount_candidates(self, digest: str, name: Reference) -> list[str]:
        """Other repositories of the registry that may hold a blob: those that its images were pulled from or
        pushed to, before those that they only have a name of.
        """
        proven: list[str] = []
        named: list[str] = []
        for text, image_id in self._store.references.items():
            image, other = self._store.images.get(image_id), parse_reference(text)
            if not image or digest not in image.layer_blobs:
                continue
            if other.domain == name.domain and other.path != name.path:
                (proven if other.digest else named).append(other.path)
        return list(dict.fromkeys(proven + named))

    def _record(self, name: Reference, image: Image) -> None:
        """Keep the digest that the image has there, if the image is still here."""
        by_digest = msgspec.structs.replace(name, tag="", digest=image.manifest_digest)
        with self._store.transaction(growing=True) as tx:
            if image.id in self._store.images:
                tx.put_reference(by_digest.canonical, image.id)
            attributes = {**image.config.labels, "name": name.familiar_name}
            tx.emit("image", "push", name.familiar, attributes)


def _shown(diff_id: str) -> str:
    return diff_id.removeprefix("sha256:")[:12]
