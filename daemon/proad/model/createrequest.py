"""Sync, pure. The bodies that configure a container: create, the old HostConfig at start, update.

What comes out is valid in itself and reads the same whatever API version it came in by: what a version did
not have yet is dropped, what it meant by default is written out (moby: ``container_routes.go``,
``postContainersCreate``).
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from proad.model import errors, gojson
from proad.model.hostconfig import (
    BindOptions,
    ContainerConfig,
    HostConfig,
    MountRequest,
    UpdateRequest,
    VolumeOptions,
)
from proad.model.network import EndpointSettings
from proad.model.requestcheck import check_request

ApiVersion = tuple[int, int]

DEFAULT_NETWORK = "bridge"


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A container as asked for.

    ``networks`` maps a network's name or id to what is asked of the attachment; ``warnings`` is what the
    client should be told about the way it asked. ``is_read_only_flat``: what is mounted read-only leaves
    mounts below it writable, as all did before API 1.44.
    """

    config: ContainerConfig
    host_config: HostConfig
    networks: dict[str, EndpointSettings] = {}
    warnings: tuple[str, ...] = ()
    is_read_only_flat: bool = False


def parse_create(body: bytes, api_version: ApiVersion) -> CreateRequest:
    """Read the body of ``POST /containers/create``.

    Raises:
        errors.InvalidParameter: the body is not JSON, a field has the wrong type or is out of range, two
        contradict
            each other, or one is not honoured by this engine; says which.
    """
    fields = gojson.parse_object(body)
    if not fields:
        raise errors.InvalidParameter("config cannot be empty in order to create a container")
    asked = gojson.field(fields, "HostConfig")
    if api_version < (1, 24):
        asked = _with_outer_fields(fields, asked)
    request = CreateRequest(
        config=gojson.convert(fields, ContainerConfig),
        host_config=HostConfig() if asked is None else gojson.convert(asked, HostConfig, "HostConfig"),
        networks=_networks(gojson.field(fields, "NetworkingConfig")),
    )
    request = _of_version(_with_network_name(request), api_version)
    check_request(request.config, request.host_config, request.networks)
    return _with_volume_driver_warning(_with_endpoint_mac(request, api_version), api_version)


def parse_config(body: bytes) -> ContainerConfig | None:
    """Read the body of ``POST /commit``: a container's configuration, or nothing (None).

    Raises:
        errors.InvalidParameter: the body is not JSON, or a field has the wrong type.
    """
    fields = gojson.parse_object(body) if body.strip() else {}
    return gojson.convert(fields, ContainerConfig) if fields else None


def parse_host_config(body: bytes) -> HostConfig | None:
    """Read the body of ``POST /containers/{ref}/start`` as clients below API 1.24 send it.

    Returns ``None`` if it asks for nothing.

    Raises:
        errors.InvalidParameter: as for :func:`parse_create`.
    """
    fields = gojson.parse_object(body) if body.strip() else {}
    if not fields:
        return None
    inner = gojson.field(fields, "HostConfig")
    host_config = gojson.convert(fields if inner is None else inner, HostConfig)
    request = _with_network_name(CreateRequest(config=ContainerConfig(), host_config=host_config))
    request = _of_version(request, (1, 23))
    check_request(request.config, request.host_config)
    return request.host_config


def parse_update(body: bytes) -> UpdateRequest:
    """Read the body of ``POST /containers/{ref}/update``; its values are checked against what the container
    has.

    Raises:
        errors.InvalidParameter: the body is not JSON, or a field has the wrong type.
    """
    request = gojson.convert(gojson.parse_object(body), UpdateRequest)
    return replace(request, memory_swappiness=None) if request.memory_swappiness == -1 else request


def _with_outer_fields(fields: dict[str, Any], host_config: Any) -> Any:
    """Limits beside ``HostConfig`` instead of inside it, as clients of Docker 1.6 and before wrote them."""
    outer = {
        name: gojson.field(fields, name)
        for name in ("Memory", "MemorySwap", "CpuShares", "CpusetCpus", "VolumeDriver")
    }
    outer["CpusetCpus"] = outer["CpusetCpus"] or gojson.field(fields, "Cpuset")
    inner = host_config if isinstance(host_config, dict) else {}
    missing = {name: value for name, value in outer.items() if value and not gojson.field(inner, name)}
    return {**inner, **missing} if missing else host_config


def _networks(value: Any) -> dict[str, EndpointSettings]:
    endpoints = gojson.field(value, "EndpointsConfig") if isinstance(value, dict) else None
    if not isinstance(endpoints, dict):
        return {}
    networks = {}
    for name, wish in endpoints.items():
        where = f"NetworkingConfig.EndpointsConfig.{name}"
        networks[name] = gojson.convert({} if wish is None else wish, EndpointSettings, where)
    return networks


def _with_network_name(request: CreateRequest) -> CreateRequest:
    """``default`` and nothing at all are the bridge, as a mode and as the name of an attachment."""
    if request.host_config.network_mode not in ("", "default"):
        return request
    networks = dict(request.networks)
    if "default" in networks:
        networks[DEFAULT_NETWORK] = networks.pop("default")
    return replace(
        request, host_config=replace(request.host_config, network_mode=DEFAULT_NETWORK), networks=networks
    )


def _of_version(request: CreateRequest, version: ApiVersion) -> CreateRequest:
    """Drop what the version does not have, write out what it means."""
    host_config = request.host_config
    changes: dict[str, Any] = {
        "mounts": tuple(_mount_of_version(mount, version) for mount in host_config.mounts)
    }
    if host_config.pids_limit is not None and host_config.pids_limit <= 0:
        changes["pids_limit"] = None
    if host_config.memory_swappiness == -1:
        changes["memory_swappiness"] = None
    if version < (1, 25):
        changes["auto_remove"] = False
    if version < (1, 40) and not host_config.ipc_mode:
        changes["ipc_mode"] = "shareable"
    if version < (1, 40):
        changes["kernel_memory_tcp"] = 0
    if version < (1, 42):
        changes["console_size"] = (0, 0)
    else:
        changes["kernel_memory"] = 0
    if version < (1, 43):
        changes["annotations"] = {}
    networks, config = request.networks, request.config
    if version < (1, 44):
        if config.healthcheck is not None:
            config = replace(config, healthcheck=replace(config.healthcheck, start_interval=0))
        if len(networks) > 1:
            raise errors.InvalidParameter(
                f"Container cannot be created with multiple network endpoints: {', '.join(networks)}"
            )
        networks = {name: replace(endpoint, mac_address="") for name, endpoint in networks.items()}
    host_config = replace(host_config, **changes)
    return replace(
        request,
        config=config,
        host_config=host_config,
        networks=networks,
        is_read_only_flat=version < (1, 44),
    )


def _mount_of_version(mount: MountRequest, version: ApiVersion) -> MountRequest:
    bind, volume = mount.bind_options, mount.volume_options
    if version < (1, 40) and bind is not None:
        bind = replace(bind, non_recursive=False)
    if version < (1, 42):
        bind = replace(bind, create_mountpoint=False) if bind is not None else None
        mount = replace(
            mount,
            bind_options=bind,
            volume_options=volume if mount.type == "volume" else None,
            tmpfs_options=mount.tmpfs_options if mount.type == "tmpfs" else None,
        )
    if version < (1, 44) and mount.type == "bind":
        bind = bind or BindOptions()
        if bind.read_only_force_recursive:
            raise errors.InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
        mount = replace(mount, bind_options=replace(bind, read_only_non_recursive=True))
    if version < (1, 45) and (mount.volume_options or VolumeOptions()).subpath:
        raise errors.InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")
    if version < (1, 48) and mount.type == "image":
        raise errors.InvalidParameter('Mount type "Image" needs API v1.48 or newer')
    return mount


def _with_endpoint_mac(request: CreateRequest, version: ApiVersion) -> CreateRequest:
    """The container's own MAC address, deprecated since 1.44, moved to its attachment."""
    address, mode = request.config.mac_address, request.host_config.network_mode
    if not address or mode == "none":
        return request
    endpoint = request.networks.get(mode, EndpointSettings())
    if endpoint.mac_address and endpoint.mac_address != address:
        raise errors.InvalidParameter(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main "
            "network, or be left empty"
        )
    networks = {**request.networks, mode: replace(endpoint, mac_address=address)}
    request = replace(request, networks=networks)
    if version < (1, 44):
        return request
    return _warned(
        request,
        "The container-wide MacAddress field is now deprecated. "
        "It should be specified in EndpointsConfig instead.",
    )


def _with_volume_driver_warning(request: CreateRequest, version: ApiVersion) -> CreateRequest:
    if version < (1, 48) or not request.host_config.volume_driver:
        return request
    for mount in request.host_config.mounts:
        driver = mount.volume_options.driver_config if mount.volume_options else None
        if mount.type == "volume" and not (driver and driver.name):
            return _warned(
                request,
                "WARNING: the container-wide volume-driver configuration is ignored for volumes "
                "specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead",
            )
    return request


def _warned(request: CreateRequest, warning: str) -> CreateRequest:
    return replace(request, warnings=(*request.warnings, warning))
