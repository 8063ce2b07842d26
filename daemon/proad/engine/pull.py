"""Trio-flavoured. Pull: an image out of a registry into the store.

    resolve the name, choose the platform's manifest out of a list
    configuration, checked against its digest
    layers that are not there, side by side (``layerfetch``)
    one transaction: image, tag, digest, event

Layers and blobs are pinned from the moment on when their names are known, so no clean-up takes them; what was
placed goes again where the rest fails.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import trio

from proad.engine.imagegarbage import Garbage
from proad.engine.imageintake import Report
from proad.engine.imagekeeping import ImageKeeping
from proad.engine.images import Images
from proad.engine.layerfetch import LayerFetcher, WantedLayer
from proad.engine.piping import first_error
from proad.host.blobs import BlobStore
from proad.host.registry import FetchedManifest, Registries, Repository
from proad.model import errors, imagearchive, platforms, progress
from proad.model.credentials import Credentials
from proad.model.image import Image
from proad.model.imagearchive import Manifest, Platform
from proad.model.reference import Reference
from proad.model.registrywire import SCHEMA1, Refused
from proad.store.db import Store

MAX_INDEX_DEPTH = 4
_IMAGE_TYPES = ("application/vnd.oci.image", "application/vnd.docker")
_OLD_TYPES = frozenset({"", "application/octet-stream", "application/json", "text/html"})
_AI_TYPE = "application/vnd.docker.ai."
_PLUGIN_TYPE = "application/vnd.docker.plugin.v1+json"


class Puller:
    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        images: Images,
        garbage: Garbage,
        keeping: ImageKeeping,
        registries: Registries,
        layers: LayerFetcher,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._images = images
        self._garbage = garbage
        self._keeping = keeping
        self._registries = registries
        self._layers = layers

    async def pull(
        self, wanted: Reference, *, platform: Platform | None, credentials: Credentials, report: Report
    ) -> Image:
        """Pull one image by its tag (``latest`` by default) or digest; returns it.

        Raises:
            errors.NotFound: there is no such image, or it is not for everybody to see.
            errors.InvalidParameter: it is none that can run here.
            errors.System: the registry cannot be reached, or fails.
        """
        wanted = wanted.with_default_tag()
        repository = self._registries.repository(wanted, credentials)
        try:
            image, is_new = await self._pull(wanted, repository, platform, report, wanted)
        except Refused as error:
            raise pull_error(error, wanted) from error
        self._finish(wanted, is_new, report)
        return image

    async def pull_all(
        self, wanted: Reference, *, platform: Platform | None, credentials: Credentials, report: Report
    ) -> Sequence[Image]:
        """Pull all tags of a repository; otherwise like :meth:`pull`."""
        repository = self._registries.repository(wanted, credentials)
        images: list[Image] = []
        any_new, named = False, wanted
        try:
            tags = await repository.tags()
            for tag in tags:
                named = msgspec.structs.replace(wanted, tag=tag)
                told = wanted if tag == tags[-1] else None
                image, is_new = await self._pull(named, repository, platform, report, told)
                images.append(image)
                any_new = any_new or is_new
        except Refused as error:
            raise pull_error(error, named) from error
        self._finish(wanted, any_new, report)
        return images

    def _finish(self, wanted: Reference, is_new: bool, report: Report) -> None:
        self._images.write_index()
        found = "Downloaded newer image for" if is_new else "Image is up to date for"
        report(progress.message(f"Status: {found} {wanted.familiar}"))

    async def _pull(
        self,
        wanted: Reference,
        repository: Repository,
        platform: Platform | None,
        report: Report,
        told: Reference | None,
    ) -> tuple[Image, bool]:
        """The image, and whether it is new under this name; the event is of ``told``."""
        # Docker Hub counts manifests that are read, not questions for what a tag stands for.
        digest = wanted.digest or (await repository.resolve(wanted.tag)).digest
        record = _Record(wanted, digest, told)
        known = self._known(record, platform)
        fetched = None if known else await repository.manifest(digest)
        if fetched:
            _check_manifest_type(fetched, wanted)
        report(
            progress.message(
                f"Pulling from {wanted.familiar_name}", wanted.canonical if wanted.digest else wanted.tag
            )
        )
        if known:
            image, is_new = self._record(known, record)
        else:
            assert fetched is not None
            manifest = await self._choose(fetched, repository, platform, wanted)
            image, is_new = await self._take(manifest, record, repository, report)
        report(progress.message(f"Digest: {digest}"))
        if platform and not platform.matches(image.os, image.architecture, image.variant):
            has = platforms.describe(Platform(image.os, image.architecture, image.variant))
            report(
                progress.message(
                    f"WARNING: image with reference {wanted.familiar} was found but its platform ({has}) "
                    f"does not match the specified platform ({platforms.describe(platform)})"
                )
            )
        return image, is_new

    async def _choose(
        self,
        fetched: FetchedManifest,
        repository: Repository,
        platform: Platform | None,
        wanted: Reference,
        depth: int = 0,
    ) -> FetchedManifest:
        """The manifest for the platform, through lists and lists in lists.

        Raises:
            errors.NotFound: there is none for it.
        """
        if fetched.media_type not in imagearchive.INDEXES:
            return fetched
        machine = platform or imagearchive.host_platform()
        listed = imagearchive.parse_index(fetched.content) if depth < MAX_INDEX_DEPTH else []
        for descriptor in platforms.best_first(listed, machine):
            if descriptor.media_type in imagearchive.INDEXES | imagearchive.MANIFESTS:
                inner = await repository.manifest(descriptor.digest)
                _check_manifest_type(inner, wanted)
                return await self._choose(inner, repository, platform, wanted, depth + 1)
        raise errors.NotFound(
            f"no matching manifest for {platforms.describe(machine)} in the manifest list entries"
        )

    async def _take(
        self, fetched: FetchedManifest, record: "_Record", repository: Repository, report: Report
    ) -> tuple[Image, bool]:
        """Have the image of a manifest in the store, with all its layers and its name."""
        manifest = imagearchive.parse_manifest(fetched.content)
        _check_content_types(manifest)
        known = self._store.images.get(manifest.config.digest)
        if known and self._is_whole(known):
            return self._record(known, record)
        config = await repository.blob(manifest.config.digest)
        image = imagearchive.parse_image(config)
        layers = _layers(manifest, image)
        names = (image.id, fetched.digest, *image.chain_ids, *(layer.digest for layer in layers))
        async with self._keeping.clean_after_failure():
            with self._garbage.pinned(names):
                sizes = await self._fetch_all(layers, repository, report)
                image = msgspec.structs.replace(
                    image, layer_sizes=tuple(sizes), parent_id=known.parent_id if known else ""
                )
                image = await self._keeping.keep(image, config, fetched.content, manifest.layers)
                return self._record(image, record)

    async def _fetch_all(
        self, layers: Sequence[WantedLayer], repository: Repository, report: Report
    ) -> list[int]:
        sizes = [0] * len(layers)

        async def fetch(position: int, layer: WantedLayer) -> None:
            sizes[position] = await self._layers.fetch(layer, repository, report)

        try:
            async with trio.open_nursery() as nursery:
                for position, layer in enumerate(layers):
                    if known := self._layers.present(layer):
                        report(progress.update(layer.shown_id, "Already exists"))
                        sizes[position] = known.size_bytes
                    else:
                        nursery.start_soon(fetch, position, layer)
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        return sizes

    def _known(self, record: "_Record", platform: Platform | None) -> Image | None:
        """The image that a digest of the repository is known to stand for, if all of it is here and it is for
        the very platform.
        """
        image = self._store.images.get(self._store.references.get(record.by_digest.canonical, ""))
        machine = platform or imagearchive.host_platform()
        if not image or (image.os, image.architecture) != (machine.os, machine.architecture):
            return None
        fits = machine.variant in ("", image.variant)
        return image if fits and self._is_whole(image) else None

    def _is_whole(self, image: Image) -> bool:
        blobs = (image.id, image.manifest_digest, *image.layer_blobs)
        return all(map(self._blobs.layer, image.chain_ids)) and None not in map(self._blobs.blob_size, blobs)

    def _record(self, image: Image, record: "_Record") -> tuple[Image, bool]:
        """Make the image known by its name and its digest; whether it was not till now."""
        name = record.by_digest if record.wanted.digest else record.wanted
        is_new = self._store.references.get(name.canonical) != image.id
        if is_new:
            image = msgspec.structs.replace(image, last_tagged_ns=time.time_ns())
        with self._store.transaction(growing=True) as tx:
            tx.put_image(image)
            tx.put_reference(record.by_digest.canonical, image.id)
            tx.put_reference(name.canonical, image.id)
            if record.told:
                attributes = {**image.config.labels, "name": record.told.familiar_name}
                tx.emit("image", "pull", record.told.familiar, attributes)
        return image, is_new


@dataclass(frozen=True)
class _Record:
    """How a pulled image is to be known: the name asked for, the digest that it stands for, and the name that
    the event tells, if there is to be one.
    """

    wanted: Reference
    digest: str
    told: Reference | None

    @property
    def by_digest(self) -> Reference:
        return msgspec.structs.replace(self.wanted, tag="", digest=self.digest)


def pull_error(error: Refused, wanted: Reference) -> errors.ProaError:
    """What a registry's refusal means to somebody who pulls, in Docker's words."""
    text = {
        "DENIED": f"pull access denied for {wanted.familiar_name}, repository does not exist or may require "
        "'docker login'",
        "MANIFEST_UNKNOWN": f"manifest for {wanted.familiar} not found",
        "NAME_UNKNOWN": f"repository {wanted.familiar_name} not found",
    }.get(error.code)
    return errors.NotFound(f"{text}: {error.message}") if text else error


def _check_manifest_type(fetched: FetchedManifest, wanted: Reference) -> None:
    """
    Raises:
        errors.InvalidParameter: it is no manifest of an image that can be pulled.
    """
    if fetched.media_type in SCHEMA1:
        raise errors.InvalidParameter(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. "
            f"Suggest the author of {wanted.canonical} to upgrade the image to the OCI Format or Docker "
            "Image manifest v2, schema 2. More information at "
            "https://docs.docker.com/go/deprecated-image-specs/"
        )
    if fetched.media_type not in imagearchive.INDEXES | imagearchive.MANIFESTS:
        raise errors.InvalidParameter("unsupported manifest format")


def _check_content_types(manifest: Manifest) -> None:
    """
    Raises:
        errors.InvalidParameter: configuration or layers are not those of an image.
    """
    if manifest.config.media_type == _PLUGIN_TYPE:
        raise errors.InvalidParameter(f'Encountered remote "{_PLUGIN_TYPE}"(plugin) when fetching')
    for descriptor in (manifest.config, *manifest.layers):
        media_type = descriptor.media_type.lower()
        if media_type.startswith(_AI_TYPE):
            raise errors.InvalidParameter(
                'AI models are not yet supported by the Engine, please use "docker model pull/run" instead'
            )
        if media_type not in _OLD_TYPES and not media_type.startswith(_IMAGE_TYPES):
            raise errors.InvalidParameter(f"unsupported media type {descriptor.media_type}")


def _layers(manifest: Manifest, image: Image) -> list[WantedLayer]:
    """
    Raises:
        errors.System: the manifest names other layers than the configuration.
    """
    if len(manifest.layers) != len(image.diff_ids):
        raise errors.System("layers from manifest don't match image configuration")
    return [
        WantedLayer(chain_id, diff_id, layer.digest, layer.size, layer.urls)
        for chain_id, diff_id, layer in zip(image.chain_ids, image.diff_ids, manifest.layers, strict=True)
    ]
