"""Sync, pure. Networks, endpoints, address and port choice."""

import msgspec


class EndpointSettings(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What a request asks of one attachment (``NetworkingConfig.EndpointsConfig[name]``)."""

    aliases: list[str] | None = None
    links: list[str] | None = None
    mac_address: str = ""


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the host that leads to one port of the container; ``protocol`` is ``tcp``, ``udp`` or ``sctp``."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A container's live attachment to a bridge network, for one run."""

    network: str
    network_id: str
    endpoint_id: str
    netns: str
    """Path of the network namespace's bind mount."""
    host_interface: str
    address: str
    prefix_length: int
    gateway: str
    mac_address: str
    ports: tuple[PublishedPort, ...] = ()
