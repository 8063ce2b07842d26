"""Trio-flavoured. How images come in: import of a root filesystem, load of an archive.

Both take the archive as a descriptor, so that its bytes never pass through this process's loop; both unpack
into a workspace, put layers and blobs into the store by renames, and make the image known in one
transaction at the end. Whatever fails before that leaves nothing behind.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import ImageKeeping, emit, make_directory
from proad.host.archive import Member, Members, Unpacker
from proad.host.blobs import BlobStore, LayerInfo
from proad.model import errors, imagearchive
from proad.model.changes import apply_changes
from proad.model.durations import format_rfc3339_ns
from proad.model.image import History, Image, ImageConfig, chain_ids
from proad.model.imagearchive import Descriptor, Platform
from proad.model.reference import Reference, parse_reference
from proad.store.db import Store

MAX_JSON_BYTES = 16 << 20
MAX_INDEX_DEPTH = 4

Report = Callable[[dict[str, Any]], None]
"""Takes one line of progress, as Docker shapes them."""


@dataclass(frozen=True)
class Candidate:
    """One image of an archive, before anything is unpacked; ``manifest`` is None where it came without."""

    config: bytes
    layers: Sequence[Member]
    names: Sequence[Reference]
    manifest: bytes | None = None


class ImageIntake:
    def __init__(
        self, store: Store, blobs: BlobStore, unpacker: Unpacker, garbage: Garbage, keeping: ImageKeeping
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._unpacker = unpacker
        self._garbage = garbage
        self._keeping = keeping

    # --- import -----------------------------------------------------------------------------------------

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

    # --- load -------------------------------------------------------------------------------------------

    async def load(
        self, source: int, *, quiet: bool, platform: Platform | None, report: Report
    ) -> list[Image]:
        """Take all images of an archive: of ``docker save``, or an OCI image layout.

        ``report`` hears of each layer's progress unless ``quiet``, and of each image that is there.

        Raises:
            errors.InvalidParameter: the archive is broken, or holds no image for the platform.
        """
        async with self._blobs.workspace() as work, self._keeping.clean_after_failure():
            files = make_directory(work / "files")
            members = await self._unpacker.members(source, files)
            candidates = _candidates(members, platform)
            if not candidates:
                raise errors.InvalidParameter("the archive holds no image" + _for(platform))
            loaded, named = [], False
            for number, candidate in enumerate(candidates):
                image = await self._take(candidate, work / f"image{number}", None if quiet else report)
                named = self._announce(image, candidate.names, report) or named
                loaded.append(image)
            if not named:
                for image in loaded:
                    report({"stream": f"Loaded image ID: {image.id}\n"})
        return loaded

    async def _take(self, candidate: Candidate, work: Path, report: Report | None) -> Image:
        image = imagearchive.parse_image(candidate.config)
        if len(candidate.layers) != len(image.diff_ids):
            raise errors.InvalidParameter(
                "invalid manifest, layers length mismatch: "
                f"expected {len(candidate.layers)}, got {len(image.diff_ids)}"
            )
        make_directory(work)
        blobs = tuple(member.digest for member in candidate.layers)
        with self._garbage.pinned((image.id, *image.chain_ids, *blobs)):
            sizes = [
                await self._layer(image, position, member, work, report)
                for position, member in enumerate(candidate.layers)
            ]
            descriptors = [self._place(member) for member in candidate.layers]
            known = self._store.images.get(image.id)
            now_ns = time.time_ns() if candidate.names else known.last_tagged_ns if known else 0
            image = msgspec.structs.replace(image, layer_sizes=tuple(sizes), last_tagged_ns=now_ns)
            image = await self._keeping.keep(image, candidate.config, candidate.manifest, descriptors)
            with self._store.transaction(growing=True) as tx:
                tx.put_image(image)
                emit(tx, "load", image)
        return image

    async def _layer(
        self, image: Image, position: int, member: Member, work: Path, report: Report | None
    ) -> int:
        """Have one layer unpacked, if it is not there from another image; returns its size."""
        diff_id, chain_id = image.diff_ids[position], image.chain_ids[position]
        known = self._blobs.layer(chain_id)
        if known:
            return known.size_bytes
        tree = make_directory(work / str(position))
        told = _LayerProgress(report, diff_id, member.size_bytes)
        # An image before this one may have moved the file to the blobs.
        path = member.path if member.path.exists() else self._blobs.blob_path(member.digest)
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            layer = await self._unpacker.layer(source, tree, progress=told)
        finally:
            os.close(source)
        if layer.diff_id != diff_id:
            raise errors.InvalidParameter(
                f'invalid diffID for layer {position}: expected "{diff_id}", got "{layer.diff_id}"'
            )
        await self._blobs.place_layer(
            tree, LayerInfo(chain_id=chain_id, diff_id=diff_id, size_bytes=layer.size_bytes)
        )
        told(member.size_bytes)
        return layer.size_bytes

    def _place(self, member: Member) -> Descriptor:
        """Make a layer's file a blob."""
        if not self._blobs.blob_path(member.digest).exists():
            self._blobs.place_blob(member.path, member.digest)
        return self._keeping.descriptor(member.digest)

    def _announce(self, image: Image, names: Sequence[Reference], report: Report) -> bool:
        """Name a loaded image; whether it has names."""
        for name in names:
            before = self._store.references.get(name.canonical)
            if before and before != image.id:
                report(
                    {
                        "stream": f"The image {name.familiar} already exists, "
                        f"renaming the old one with ID {before} to empty string\n"
                    }
                )
            with self._store.transaction(growing=True) as tx:
                tx.put_reference(name.canonical, image.id)
            report({"stream": f"Loaded image: {name.familiar}\n"})
        return bool(names)


class _LayerProgress:
    """Tells how far a layer is, in Docker's words."""

    def __init__(self, report: Report | None, diff_id: str, total: int) -> None:
        self._report = report
        self._id = diff_id.removeprefix("sha256:")[:12]
        self._total = total

    def __call__(self, current: int) -> None:
        if self._report:
            detail = {"current": current, "total": self._total}
            self._report({"status": "Loading layer", "progressDetail": detail, "id": self._id})


def _candidates(members: Members, platform: Platform | None) -> list[Candidate]:
    listed = members.find("manifest.json")
    if listed:
        return _of_docker_archive(members, _content(listed), platform)
    index = members.find("index.json")
    if index and members.find("oci-layout"):
        return _of_layout(members, _content(index), platform or imagearchive.host_platform())
    raise errors.InvalidParameter(
        "the archive has neither a manifest.json (docker save) nor an index.json (OCI image layout)"
    )


def _of_docker_archive(members: Members, content: bytes, platform: Platform | None) -> list[Candidate]:
    candidates = []
    for item in imagearchive.parse_archive_manifest(content):
        config = _content(_member(members, item.config))
        image = imagearchive.parse_image(config)
        if platform and not platform.matches(image.os, image.architecture, image.variant):
            continue
        names = []
        for tag in item.repo_tags:
            name = parse_reference(tag)
            if not name.tag:
                raise errors.InvalidParameter(f'invalid tag "{tag}"')
            names.append(name)
        layers = [_member(members, layer) for layer in item.layers]
        candidates.append(Candidate(config, layers, names))
    return candidates


def _of_layout(members: Members, content: bytes, platform: Platform) -> list[Candidate]:
    """The images of an OCI index; of an index inside of it, the one that fits the platform."""
    candidates = []
    for descriptor in imagearchive.parse_index(content):
        name = imagearchive.name_of(descriptor)
        found: Descriptor | None = descriptor
        for _ in range(MAX_INDEX_DEPTH):
            if found is None or found.media_type not in imagearchive.INDEXES:
                break
            inner = imagearchive.parse_index(_content(_blob(members, found)))
            found = imagearchive.choose(inner, platform)
        if found is None or imagearchive.choose([found], platform) is None:
            continue
        if found.media_type not in imagearchive.MANIFESTS:
            raise errors.InvalidParameter(f"unsupported media type {found.media_type!r} in the index")
        manifest = _content(_blob(members, found))
        parsed = imagearchive.parse_manifest(manifest)
        candidates.append(
            Candidate(
                config=_content(_blob(members, parsed.config)),
                layers=[_blob(members, layer) for layer in parsed.layers],
                names=[name] if name else [],
                manifest=manifest,
            )
        )
    return candidates


def _blob(members: Members, descriptor: Descriptor) -> Member:
    """The file of a descriptor, its content checked against the digest."""
    member = _member(members, "blobs/" + descriptor.digest.replace(":", "/", 1))
    if member.digest != descriptor.digest:
        raise errors.InvalidParameter(f"blob {descriptor.digest} has the digest {member.digest}")
    return member


def _member(members: Members, name: str) -> Member:
    member = members.find(name)
    if member is None:
        raise errors.InvalidParameter(f"the archive lacks the file {name!r}")
    return member


def _content(member: Member) -> bytes:
    if member.size_bytes > MAX_JSON_BYTES:
        raise errors.InvalidParameter(f"a JSON file of {member.size_bytes} bytes is too large")
    return member.path.read_bytes()


def _for(platform: Platform | None) -> str:
    return f" for {platform}" if platform else ""
