"""Sync, pure. Image records, the configuration an image gives its containers, and how the two are merged.

An image is named by the SHA-256 of its configuration blob. Its layers are named twice: a diff ID is the SHA-256
of one layer's uncompressed tar, a chain ID names a layer together with all below it (OCI image spec, config.md);
the directory of a layer on disk is named after its chain ID.
"""

import hashlib
from typing import Any

import msgspec

from proad.model.reference import Reference, parse_reference

__all__ = ["History", "Image", "ImageConfig", "Reference", "chain_ids", "parse_reference"]


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What an image says of the containers made from it: the ``config`` of its OCI configuration.

    None is "not given"; ``healthcheck`` is kept as the JSON object it came as, its durations in nanoseconds.
    """

    user: str = ""
    exposed_ports: dict[str, dict[str, Any]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    healthcheck: dict[str, Any] | None = None
    args_escaped: bool = False
    on_build: list[str] | None = None
    shell: list[str] | None = None


class History(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one layer, or one change of the configuration, came to be. ``created`` is RFC 3339."""

    created: str | None = None
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one image; immutable but for its names, which the store keeps apart.

    ``id`` is ``sha256:`` and the digest of the configuration blob. ``diff_ids``, ``chain_ids`` (each
    ``sha256:…``) and ``layer_sizes`` (bytes, unpacked) run from the lowest layer up. ``created`` is RFC 3339,
    or empty. ``manifest_digest`` names the manifest blob, through which all blobs of the image are found.
    """

    id: str
    architecture: str
    os: str
    variant: str = ""
    os_version: str = ""
    created: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    config: ImageConfig = ImageConfig()
    diff_ids: tuple[str, ...] = ()
    chain_ids: tuple[str, ...] = ()
    layer_sizes: tuple[int, ...] = ()
    history: tuple[History, ...] = ()
    manifest_digest: str = ""
    manifest_media_type: str = ""
    manifest_size_bytes: int = 0
    parent_id: str = ""
    last_tagged_ns: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(self.layer_sizes)

    @property
    def short_id(self) -> str:
        return self.id.removeprefix("sha256:")[:12]


def chain_ids(diff_ids: tuple[str, ...]) -> tuple[str, ...]:
    """The chain IDs of a stack of layers, lowest first (OCI image spec, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        below = f"{chain[-1]} " if chain else ""
        chain.append(f"sha256:{hashlib.sha256((below + diff_id).encode()).hexdigest()}" if below else diff_id)
    return tuple(chain)
