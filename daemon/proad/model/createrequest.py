"""Sync, pure. The bodies that configure a container: create, the old HostConfig at start, update."""

from typing import Any

import msgspec

from proad.model import errors, gojson
from proad.model.hostconfig import ContainerConfig, HostConfig, UpdateRequest
from proad.model.network import EndpointSettings

ApiVersion = tuple[int, int]


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A container as asked for; ``networks`` maps a network's name or id to what is asked of the
    attachment.
    """

    config: ContainerConfig
    host_config: HostConfig
    networks: dict[str, EndpointSettings] = {}


def parse_create(body: bytes, api_version: ApiVersion) -> CreateRequest:
    """Read the body of ``POST /containers/create``.

    Raises:
        errors.InvalidParameter: the body is not JSON or a field has the wrong type.
    """
    fields = gojson.parse_object(body)
    if not fields:
        raise errors.InvalidParameter("config cannot be empty in order to create a container")
    return CreateRequest(
        config=gojson.convert(fields, ContainerConfig),
        host_config=_host_config(gojson.field(fields, "HostConfig")),
        networks=_networks(gojson.field(fields, "NetworkingConfig")),
    )


def parse_host_config(body: bytes) -> HostConfig | None:
    """Read the body of ``POST /containers/{ref}/start`` as old clients send it; ``None`` if it asks for
    nothing.
    """
    if not body.strip():
        return None
    fields = gojson.parse_object(body)
    return _host_config(fields) if fields else None


def parse_update(body: bytes) -> UpdateRequest:
    """Read the body of ``POST /containers/{ref}/update``."""
    return gojson.convert(gojson.parse_object(body), UpdateRequest)


def _host_config(value: Any) -> HostConfig:
    return HostConfig() if value is None else gojson.convert(value, HostConfig, "HostConfig")


def _networks(value: Any) -> dict[str, EndpointSettings]:
    endpoints = gojson.field(value, "EndpointsConfig") if isinstance(value, dict) else None
    if not isinstance(endpoints, dict):
        return {}
    return {
        name: gojson.convert({} if wish is None else wish, EndpointSettings, f"NetworkingConfig: {name}")
        for name, wish in endpoints.items()
    }
