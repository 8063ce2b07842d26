"""Sync, pure. What is written in an image: configuration, manifests, indexes, and Docker's ``manifest.json``.

Formats: OCI image spec (config.md, manifest.md, image-index.md), and for archives of ``docker save``
https://github.com/moby/docker-image-spec/blob/main/spec.md ("Combined Image JSON + Filesystem Changeset
Format").
"""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from proad.model import errors, gojson
from proad.model.image import History, Image, ImageConfig, chain_ids
from proad.model.reference import Reference, is_digest, parse_reference

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_MEDIA_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS = frozenset({OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"})
INDEXES = frozenset({INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"})
MAX_LAYERS = 127
"""As many as Docker stacks."""

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ARCHITECTURES = {
    "x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm", "armv6l": "arm",
    "loongarch64": "loong64",
}  # fmt: skip


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A pointer to a blob: media type, ``sha256:…`` digest, size in bytes; ``urls`` where it is, too."""

    media_type: str = ""
    digest: str = ""
    size: int = 0
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    platform: dict[str, Any] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One image: where its configuration and its layers are, lowest first."""

    schema_version: int = 2
    media_type: str = OCI_MANIFEST
    config: Descriptor = Descriptor()
    layers: tuple[Descriptor, ...] = ()
    annotations: dict[str, str] = {}


class ArchivedImage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One image of a ``manifest.json``: names of files in the archive, tags, and the id of the image that it
    was made from.
    """

    config: str = ""
    repo_tags: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    parent: str = ""


@dataclass(frozen=True)
class Platform:
    """What an image runs on, in Go's words: ``linux``, ``amd64``, and for ARM a variant."""

    os: str
    architecture: str
    variant: str = ""

    def matches(self, os: str, architecture: str, variant: str) -> bool:
        return (self.os, self.architecture) == (os, architecture) and self.variant in ("", variant)


def host_platform() -> Platform:
    machine = platform.machine()
    return Platform("linux", _ARCHITECTURES.get(machine, machine))


def parse_platform(text: str) -> Platform | None:
    """``os[/architecture[/variant]]``; None for an empty text.

    Raises:
        errors.InvalidParameter: not of that form.
    """
    if not text:
        return None
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(
        part.replace("_", "").replace("-", "").replace(".", "").isalnum() for part in parts
    ):
        raise errors.InvalidParameter(
            f'"{text}" is an invalid OS and architecture specifier: invalid argument'
        )
    host = host_platform()
    if len(parts) == 1 and parts[0] != "linux":
        return Platform("linux", _ARCHITECTURES.get(parts[0], parts[0]))
    architecture = _ARCHITECTURES.get(parts[1], parts[1]) if len(parts) > 1 else host.architecture
    return Platform(parts[0], architecture, parts[2] if len(parts) > 2 else "")


def parse_image(config: bytes) -> Image:
    """The image that a configuration blob describes; sizes of layers and the manifest are the caller's to
    add.

    Raises:
        errors.InvalidParameter: it is no image configuration, or of an image for another system than Linux.
    """
    fields = _object(config, "image configuration")
    rootfs = gojson.field(fields, "rootfs")
    if not isinstance(rootfs, dict):
        raise errors.InvalidParameter("invalid image JSON, no RootFS key")
    diff_ids = rootfs.get("diff_ids") or []
    if not isinstance(diff_ids, list) or not all(_is_sha256(diff_id) for diff_id in diff_ids):
        raise errors.InvalidParameter("invalid image JSON: a diff ID is no SHA-256 digest")
    if len(diff_ids) > MAX_LAYERS:
        raise errors.InvalidParameter("max depth exceeded")
    os = _text(fields, "os") or "linux"
    if os != "linux":
        raise errors.InvalidParameter(f"cannot load {os} image on linux")
    return Image(
        id=f"sha256:{hashlib.sha256(config).hexdigest()}",
        architecture=_text(fields, "architecture"),
        os=os,
        variant=_text(fields, "variant"),
        os_version=_text(fields, "os.version"),
        created=_text(fields, "created"),
        author=_text(fields, "author"),
        comment=_text(fields, "comment"),
        docker_version=_text(fields, "docker_version"),
        config=gojson.convert(gojson.field(fields, "config") or {}, ImageConfig, "image config"),
        diff_ids=tuple(diff_ids),
        chain_ids=chain_ids(tuple(diff_ids)),
        history=_history(fields),
    )


def encode_config(image: Image) -> bytes:
    """The configuration blob of an image made here; its digest is the image's id."""
    fields: dict[str, Any] = {
        "architecture": image.architecture,
        "os": image.os,
        "created": image.created,
        "config": image.config,
        "rootfs": {"type": "layers", "diff_ids": image.diff_ids},
        "history": image.history,
    }
    for name in ("variant", "author", "comment"):
        if value := getattr(image, name):
            fields[name] = value
    return msgspec.json.encode(fields)


def make_manifest(config_digest: str, config_size: int, layers: Sequence[Descriptor]) -> bytes:
    """The manifest blob of an image that came without one."""
    config = Descriptor(media_type=OCI_CONFIG, digest=config_digest, size=config_size)
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": list(layers),
    }
    return msgspec.json.encode(fields)


def layer_media_type(head: bytes) -> str:
    """The media type of a layer blob, by its first bytes."""
    compression = next((name for magic, name in _MAGIC if head.startswith(magic)), "none")
    return LAYER_MEDIA_TYPES[compression]


def parse_archive_manifest(content: bytes) -> list[ArchivedImage]:
    """The images of a ``docker save`` archive.

    Raises:
        errors.InvalidParameter: it is no such list.
    """
    try:
        items = msgspec.json.decode(content)
        if items is None:
            raise errors.InvalidParameter("invalid manifest, manifest cannot be null (but can be [])")
        if not isinstance(items, list):
            raise errors.InvalidParameter("invalid manifest: manifest.json is not a list")
        return [gojson.convert(item, ArchivedImage, "manifest.json") for item in items]
    except gojson.UNREADABLE as error:
        raise errors.InvalidParameter(f"invalid manifest: manifest.json: {error}") from error


def parse_manifest(content: bytes) -> Manifest:
    """An OCI manifest, or Docker's of schema 2.

    Raises:
        errors.InvalidParameter: it is none.
    """
    manifest = gojson.convert(_object(content, "manifest"), Manifest, "manifest")
    if manifest.schema_version != 2 or not manifest.config.digest:
        raise errors.InvalidParameter("invalid manifest: not one of an image (OCI, or Docker schema 2)")
    return manifest


def parse_index(content: bytes) -> list[Descriptor]:
    """The descriptors of an index, without attestations and the like that stand for no system.

    Raises:
        errors.InvalidParameter: it is none.
    """
    manifests = _object(content, "index").get("manifests")
    if not isinstance(manifests, list):
        raise errors.InvalidParameter("invalid index: it has no list of manifests")
    listed = [gojson.convert(item, Descriptor, "index") for item in manifests]
    return [item for item in listed if item.platform.get("os") != "unknown"]


def name_of(descriptor: Descriptor) -> Reference | None:
    """The name that an index gives one of its manifests; None where it gives only a bare tag, or none."""
    for annotation in _NAME_ANNOTATIONS:
        text = descriptor.annotations.get(annotation, "")
        if ":" in text:
            try:
                return parse_reference(text).with_default_tag()
            except errors.InvalidParameter:
                continue
    return None


def choose(descriptors: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """The manifest for a platform out of those of one image; one that names no platform fits all."""
    for descriptor in descriptors:
        said = descriptor.platform
        if not said or wanted.matches(
            str(said.get("os")), str(said.get("architecture")), str(said.get("variant", ""))
        ):
            return descriptor
    return None


def _object(content: bytes, what: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(content)
    except gojson.UNREADABLE as error:
        raise errors.InvalidParameter(f"invalid {what}: {error}") from error
    if not isinstance(value, dict):
        raise errors.InvalidParameter(f"invalid {what}: not a JSON object")
    return value


def _text(fields: dict[str, Any], name: str) -> str:
    value = gojson.field(fields, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise errors.InvalidParameter(f"invalid image configuration: {name} is not a string")
    return value


def _history(fields: dict[str, Any]) -> tuple[History, ...]:
    entries = gojson.field(fields, "history") or []
    if not isinstance(entries, list):
        raise errors.InvalidParameter("invalid image configuration: history is not a list")
    return tuple(gojson.convert(entry, History, "history") for entry in entries)


def _is_sha256(text: object) -> bool:
    return isinstance(text, str) and text.startswith("sha256:") and is_digest(text)
