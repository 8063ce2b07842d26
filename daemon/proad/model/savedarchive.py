"""Sync, pure. What ``docker save`` writes beside the blobs: the files that say which images they make.

An archive is an OCI image layout (``oci-layout``, ``index.json``, ``blobs/sha256/…``) and at the same time
what ``docker load`` has read since version 1.10 (``manifest.json``); ``repositories`` lists the tags for
readers older than that. Formats: OCI image spec, image-layout.md; Docker image spec v1.2, "Combined Image
JSON + Filesystem Changeset Format".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from proad.model.image import Image
from proad.model.imagearchive import INDEX, Descriptor
from proad.model.reference import Reference

LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


@dataclass(frozen=True)
class SavedImage:
    """An image that goes into an archive, under these names (each with a tag), or by its id alone."""

    image: Image
    names: Sequence[Reference] = ()


def blob_member(digest: str) -> str:
    """Where an archive has the blob of that digest."""
    return "blobs/" + digest.replace(":", "/", 1)


def blobs_of(image: Image) -> tuple[str, ...]:
    """The digests of all that an image consists of."""
    return (image.id, image.manifest_digest, *image.layer_blobs)


def describing_files(saved: Sequence[SavedImage]) -> dict[str, bytes]:
    """By name, the files of an archive that are no blobs; the same images give the same bytes."""
    files = {
        "index.json": msgspec.json.encode(_index(saved)),
        "manifest.json": msgspec.json.encode(_manifest(saved)) + b"\n",
        "oci-layout": LAYOUT,
    }
    if repositories := _repositories(saved):
        files["repositories"] = msgspec.json.encode(repositories) + b"\n"
    return files


def _index(saved: Sequence[SavedImage]) -> dict[str, Any]:
    """Each image under each of its names, once; without any, once all the same."""
    manifests: list[Descriptor] = []
    for item in saved:
        image = item.image
        plain = Descriptor(
            media_type=image.manifest_media_type,
            digest=image.manifest_digest,
            size=image.manifest_size_bytes,
        )
        manifests += [
            msgspec.structs.replace(
                plain,
                annotations={
                    "io.containerd.image.name": name.canonical,
                    "org.opencontainers.image.ref.name": name.tag,
                },
            )
            for name in item.names
        ] or [plain]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}


def _manifest(saved: Sequence[SavedImage]) -> list[dict[str, Any]]:
    ids = {item.image.id for item in saved}
    listed = []
    for item in saved:
        image = item.image
        entry: dict[str, Any] = {
            "Config": blob_member(image.id),
            "RepoTags": [name.familiar for name in item.names] or None,
            "Layers": [blob_member(digest) for digest in image.layer_blobs],
        }
        if image.parent_id in ids:
            entry["Parent"] = image.parent_id
        listed.append(entry)
    return listed


def _repositories(saved: Sequence[SavedImage]) -> dict[str, dict[str, str]]:
    """By repository and tag, what Docker before 1.10 would call the image: its uppermost layer."""
    found: dict[str, dict[str, str]] = {}
    for item in saved:
        for name in item.names:
            if item.image.diff_ids:
                top = item.image.diff_ids[-1].removeprefix("sha256:")
                found.setdefault(name.familiar_name, {})[name.tag] = top
    return found
