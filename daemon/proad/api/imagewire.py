"""Sync, pure. Images as the API shows them: from the record to Docker's JSON, by API version."""

from collections.abc import Sequence

import msgspec

from proad.api.wire import STORAGE_DRIVER, ApiVersion, Json
from proad.engine.imagelisting import ImageSummary, created_ns
from proad.engine.imageremoval import RemovedImage
from proad.model.durations import format_rfc3339_ns
from proad.model.image import Image
from proad.model.reference import Reference

_CONFIG_ALWAYS: Json = {
    "User": "",
    "Env": [],
    "Cmd": [],
    "Entrypoint": [],
    "Volumes": {},
    "WorkingDir": "",
    "OnBuild": None,
    "Labels": {},
}
_CONTAINER_FIELDS: Json = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}
"""Of a container's configuration; images showed them too until version 1.50."""


def tags(names: Sequence[Reference]) -> list[str]:
    return [name.familiar for name in names if name.tag]


def digests(names: Sequence[Reference]) -> list[str]:
    return [name.familiar for name in names if name.digest]


def summary(item: ImageSummary, version: ApiVersion, manifests: list[Json] | None) -> Json:
    """One entry of ``GET /images/json``; ``manifests`` where they were asked for."""
    image = item.image
    shown: Json = {
        "Id": image.id,
        "ParentId": image.parent_id,
        "RepoTags": tags(item.names),
        "RepoDigests": digests(item.names),
        "Created": created_ns(image) // 10**9,
        "Size": image.size_bytes,
        "SharedSize": item.shared_bytes,
        "Labels": image.config.labels,
        "Containers": item.containers,
    }
    if version < (1, 43) and not item.names:
        shown["RepoTags"], shown["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]
    if version < (1, 44):
        shown["VirtualSize"] = image.size_bytes
    if manifests is not None:
        shown["Manifests"] = manifests
    return shown


def inspect(
    image: Image,
    names: Sequence[Reference],
    graph: dict[str, str],
    version: ApiVersion,
    manifests: list[Json] | None,
) -> Json:
    """``GET /images/{name}/json``; ``graph`` is where overlayfs finds the layers."""
    shown: Json = {
        "Id": image.id,
        "RepoTags": tags(names),
        "RepoDigests": digests(names),
        "Parent": image.parent_id,
        "Comment": image.comment,
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": config(image, version),
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size_bytes,
        "GraphDriver": {"Name": STORAGE_DRIVER, "Data": graph},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Metadata": {"LastTagTime": format_rfc3339_ns(image.last_tagged_ns)},
    }
    if image.created or version < (1, 44):
        shown["Created"] = image.created or format_rfc3339_ns(0)
    if image.variant:
        shown["Variant"] = image.variant
    if image.os_version:
        shown["OsVersion"] = image.os_version
    if version < (1, 44):
        shown["VirtualSize"] = image.size_bytes
    # Gone from Docker's answers with version 1.45. docker-compose 1.29, which Debian has, speaks the newest
    # version there is and still cannot make a container anew without it.
    made_with: Json = msgspec.to_builtins(image.built_with) if image.built_with is not None else {}
    shown["ContainerConfig"] = {**_CONTAINER_FIELDS, **_CONFIG_ALWAYS, **made_with}
    if version < (1, 45):
        shown["Container"] = ""
    if version >= (1, 48):
        shown["Descriptor"] = descriptor(image)
        if manifests is not None:
            shown["Manifests"] = manifests
    return shown


def config(image: Image, version: ApiVersion) -> Json:
    """What the image gives its containers."""
    known: Json = msgspec.to_builtins(image.config)
    older = _CONTAINER_FIELDS if version < (1, 50) else {}
    return {**older, **_CONFIG_ALWAYS, **known}


def descriptor(image: Image) -> Json:
    return {
        "mediaType": image.manifest_media_type,
        "digest": image.manifest_digest,
        "size": image.manifest_size_bytes,
    }


def manifest_summary(image: Image, content_bytes: int, available: bool, containers: Sequence[str]) -> Json:
    """The one manifest of an image, with what its blobs and its unpacked layers take."""
    platform = {"architecture": image.architecture, "os": image.os}
    if image.variant:
        platform["variant"] = image.variant
    return {
        "ID": image.manifest_digest,
        "Descriptor": {**descriptor(image), "platform": platform},
        "Available": available,
        "Size": {"Content": content_bytes, "Total": content_bytes + image.size_bytes},
        "Kind": "image",
        "ImageData": {
            "Platform": platform,
            "Containers": containers,
            "Size": {"Unpacked": image.size_bytes},
            "UnpackedSize": image.size_bytes,
        },
    }


def history(lineage: Sequence[tuple[Image, Sequence[Reference]]]) -> list[Json]:
    """``GET /images/{name}/history``: the latest step first.

    ``lineage`` is the image with its names, then the one that it was made from, and so on; the steps of their
    bases have no id.
    """
    image = lineage[0][0]
    sizes = list(image.layer_sizes)
    steps: list[Json] = []
    for entry in image.history:
        made = created_ns(msgspec.structs.replace(image, created=entry.created or ""))
        size = 0 if entry.empty_layer or not sizes else sizes.pop(0)
        steps.append(
            {
                "Id": "<missing>",
                "Created": made // 10**9,
                "CreatedBy": entry.created_by,
                "Tags": [],
                "Size": size,
                "Comment": entry.comment,
            }
        )
    for step, (made_here, names) in zip(reversed(steps), lineage, strict=False):
        step |= {"Id": made_here.id, "Tags": tags(names)}
    return steps[::-1]


def removed(items: Sequence[RemovedImage]) -> list[Json]:
    return [{"Untagged": item.untagged} if item.untagged else {"Deleted": item.deleted} for item in items]
