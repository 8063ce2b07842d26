"""Sync, pure. Image records, the configuration an image gives its containers, and how the two are merged.

An image is named by the SHA-256 of its configuration blob. Its layers are named twice: a diff ID is the
SHA-256 of one layer's uncompressed tar, a chain ID names a layer together with all below it (OCI image spec,
config.md); the directory of a layer on disk is named after its chain ID.
"""

import hashlib

import msgspec

from proad.model.hostconfig import ContainerConfig, Empty, Healthcheck, api_name
from proad.model.reference import Reference, parse_reference

__all__ = ["History", "Image", "ImageConfig", "Reference", "chain_ids", "merge_config", "parse_reference"]


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True, rename=api_name, omit_defaults=True):
    """What an image says of the containers made from it: the ``config`` of its OCI configuration.

    ``cmd``, ``entrypoint``, ``shell`` and ``on_build`` are None where the image is silent.
    """

    user: str = ""
    exposed_ports: dict[str, Empty] = {}
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, Empty] = {}
    working_dir: str = ""
    labels: dict[str, str] = {}
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    on_build: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None


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
    or empty. ``manifest_digest`` and ``layer_blobs`` name the blobs that the image keeps beside its
    configuration.
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
    layer_blobs: tuple[str, ...] = ()
    manifest_digest: str = ""
    manifest_media_type: str = ""
    manifest_size_bytes: int = 0
    parent_id: str = ""
    last_tagged_ns: int = 0
    built_with: ImageConfig | None = None
    """The configuration of the build's step that made it, its command included: the build cache goes by it.
    None where no build of this engine did."""

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


def merge_config(image: ImageConfig, asked: ContainerConfig) -> ContainerConfig:
    """What a container gets that was asked for as ``asked`` and is made from an image: Docker's rules.

    Maps and the environment are united, the request winning; an entrypoint in the request, even an empty one,
    makes the image's command void, and ``[""]`` stands for none at all; ``Test: ["NONE"]`` of a health
    check stays as it is. What an image asks of builds (``on_build``) is no container's.
    """
    entrypoint, cmd, args_escaped = asked.entrypoint, asked.cmd, asked.args_escaped
    if not entrypoint:
        if not cmd:
            cmd, args_escaped = image.cmd, image.args_escaped
        if entrypoint is None:
            entrypoint = image.entrypoint
    return msgspec.structs.replace(
        asked,
        user=asked.user or image.user,
        exposed_ports={**image.exposed_ports, **asked.exposed_ports},
        env=_merge_environment(image.env, asked.env),
        labels={**image.labels, **asked.labels},
        entrypoint=None if entrypoint == ("",) else entrypoint,
        cmd=cmd,
        args_escaped=args_escaped,
        healthcheck=_merge_healthcheck(image.healthcheck, asked.healthcheck),
        working_dir=asked.working_dir or image.working_dir,
        volumes={**image.volumes, **asked.volumes},
        stop_signal=asked.stop_signal or image.stop_signal,
        shell=asked.shell if asked.shell is not None else image.shell,
    )


def _merge_environment(image: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    given = {variable.partition("=")[0] for variable in asked}
    return (*asked, *(variable for variable in image if variable.partition("=")[0] not in given))


def _merge_healthcheck(image: Healthcheck | None, asked: Healthcheck | None) -> Healthcheck | None:
    if image is None or asked is None:
        return asked or image
    return Healthcheck(
        test=asked.test or image.test,
        interval=asked.interval or image.interval,
        timeout=asked.timeout or image.timeout,
        start_period=asked.start_period or image.start_period,
        start_interval=asked.start_interval or image.start_interval,
        retries=asked.retries or image.retries,
    )
