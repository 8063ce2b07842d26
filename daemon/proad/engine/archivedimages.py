"""Trio-flavoured. What images an archive holds, by its own word: one of ``docker save``, or an OCI layout.

Newer archives of ``docker save`` are both. Then ``manifest.json`` says which images there are and what they
are called, and the layout gives each the manifest that it was pushed or pulled with. Never waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from proad.host.archive import Member, Members
from proad.model import errors, imagearchive
from proad.model.image import Image
from proad.model.imagearchive import Descriptor, Platform
from proad.model.reference import Reference, parse_reference
from proad.model.savedarchive import blob_member

MAX_JSON_BYTES = 16 << 20
MAX_INDEX_DEPTH = 4


@dataclass(frozen=True)
class Candidate:
    """One image of an archive, before anything is unpacked; ``image`` knows no sizes and no blobs yet.

    ``manifest`` is None where it came without.
    """

    image: Image
    config: bytes
    layers: Sequence[Member]
    names: Sequence[Reference]
    manifest: bytes | None = None


def find_candidates(members: Members, platform: Platform | None) -> list[Candidate]:
    """The images of an archive, for any platform or the one that is asked for; of a layout that has an image
    for several platforms, the one of this machine.

    Raises:
        errors.InvalidParameter: it is no archive of images, or contradicts itself.
    """
    listed = members.find("manifest.json")
    if listed:
        return _of_docker_archive(members, _content(listed), platform)
    if members.find("index.json") and members.find("oci-layout"):
        return _of_layout(members, platform or imagearchive.host_platform())
    raise errors.InvalidParameter(
        "the archive has neither a manifest.json (docker save) nor an index.json (OCI image layout)"
    )


# --- docker save --------------------------------------------------------------------------------------------


def _of_docker_archive(members: Members, content: bytes, platform: Platform | None) -> list[Candidate]:
    manifests = _manifests_by_config(members)
    candidates, parents = [], {}
    for item in imagearchive.parse_archive_manifest(content):
        config = _member(members, item.config)
        image = imagearchive.parse_image(_content(config))
        if platform and not platform.matches(image.os, image.architecture, image.variant):
            continue
        layers = [_member(members, layer) for layer in item.layers]
        candidate = Candidate(
            image=image,
            config=_content(config),
            layers=layers,
            names=[_tagged(tag) for tag in item.repo_tags],
            manifest=_fitting(manifests.get(config.digest, []), layers),
        )
        candidates.append(_checked(candidate))
        parents[image.id] = item.parent
    return _with_parents(candidates, parents)


def _manifests_by_config(members: Members) -> dict[str, list[bytes]]:
    """The image manifests of the layout that the archive is as well, by the digest of their configuration."""
    index = members.find("index.json")
    found: dict[str, list[bytes]] = {}
    for descriptor in imagearchive.parse_index(_content(index)) if index else []:
        member = members.find(blob_member(descriptor.digest))
        if descriptor.media_type in imagearchive.MANIFESTS and member and member.digest == descriptor.digest:
            content = _content(member)
            found.setdefault(imagearchive.parse_manifest(content).config.digest, []).append(content)
    return found


def _fitting(manifests: Sequence[bytes], layers: Sequence[Member]) -> bytes | None:
    """The one that names just these layers; dockerd 25 to 28 write manifests that name none."""
    digests = [layer.digest for layer in layers]
    return next(
        (
            manifest
            for manifest in manifests
            if [layer.digest for layer in imagearchive.parse_manifest(manifest).layers] == digests
        ),
        None,
    )


def _with_parents(candidates: Sequence[Candidate], parents: Mapping[str, str]) -> list[Candidate]:
    """Tell images which others of the archive they were made from.

    Raises:
        errors.InvalidParameter: an image cannot have been made from the one that is called its parent.
    """
    images = {candidate.image.id: candidate.image for candidate in candidates}
    told = []
    for candidate in candidates:
        image, parent = candidate.image, images.get(parents[candidate.image.id])
        if parent and parent.id != image.id:
            if image.history[:-1] != parent.history:
                raise errors.InvalidParameter(f"image {parent.id} is not a valid parent for {image.id}")
            image = msgspec.structs.replace(image, parent_id=parent.id)
        told.append(replace(candidate, image=image))
    return told


def _tagged(text: str) -> Reference:
    name = parse_reference(text)
    if not name.tag:
        raise errors.InvalidParameter(f'invalid tag "{text}"')
    return name


# --- OCI layouts --------------------------------------------------------------------------------------------


def _of_layout(members: Members, platform: Platform) -> list[Candidate]:
    """The images of the index; of an index inside of it, the one that fits the platform."""
    candidates = []
    for descriptor in imagearchive.parse_index(_content(_member(members, "index.json"))):
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
        config = _content(_blob(members, parsed.config))
        candidate = Candidate(
            image=imagearchive.parse_image(config),
            config=config,
            layers=[_blob(members, layer) for layer in parsed.layers],
            names=[name] if name else [],
            manifest=manifest,
        )
        candidates.append(_checked(candidate))
    return _joined(candidates)


def _joined(candidates: Sequence[Candidate]) -> list[Candidate]:
    """One candidate for each image, with all of its names: an index lists it once under each."""
    found: dict[tuple[str, bytes | None], Candidate] = {}
    for candidate in candidates:
        key = (candidate.image.id, candidate.manifest)
        known = found.get(key)
        found[key] = replace(known, names=[*known.names, *candidate.names]) if known else candidate
    return list(found.values())


# --- files --------------------------------------------------------------------------------------------------


def _checked(candidate: Candidate) -> Candidate:
    """
    Raises:
        errors.InvalidParameter: there are not as many layers as the configuration tells.
    """
    if len(candidate.layers) != len(candidate.image.diff_ids):
        raise errors.InvalidParameter(
            "invalid manifest, layers length mismatch: "
            f"expected {len(candidate.layers)}, got {len(candidate.image.diff_ids)}"
        )
    return candidate


def _blob(members: Members, descriptor: Descriptor) -> Member:
    """The file of a descriptor, its content checked against the digest."""
    member = _member(members, blob_member(descriptor.digest))
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
