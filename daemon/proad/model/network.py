"""Sync, pure. Networks and endpoints as records, and what they are called."""

import re
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Literal

import msgspec

from proad.model import errors
from proad.model.ports import PublishedPort

DEFAULT_BRIDGE = "bridge"
ON_LINK = ("0.0.0.0", "::")
"""Gateways of IPv4 and IPv6 that are no others' addresses: whatever there is, the interface leads to it."""
PREDEFINED = (DEFAULT_BRIDGE, "host", "none")
INTERFACE_PREFIX = "veth"
_INTERFACE_NAME = re.compile(r"veth[0-9a-f]{11}")
_MAC_ADDRESS = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")


class IpamWish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The addresses a request wants for one attachment (``IPAMConfig``)."""

    ipv4_address: str = msgspec.field(default="", name="IPv4Address")
    ipv6_address: str = msgspec.field(default="", name="IPv6Address")
    link_local_ips: list[str] | None = msgspec.field(default=None, name="LinkLocalIPs")


class EndpointSettings(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What a request asks of one attachment (``NetworkingConfig.EndpointsConfig[name]``)."""

    aliases: list[str] | None = None
    links: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    ipam_config: IpamWish | None = msgspec.field(default=None, name="IPAMConfig")


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet of a network, of IPv4 or IPv6, as text.

    ``ip_range`` is the part that addresses are chosen from, empty for all; ``auxiliary`` are addresses that
    are never given out, by the names that the user gave them. ``chosen``: nobody asked for this subnet.
    """

    subnet: str
    ip_range: str = ""
    gateway: str = ""
    auxiliary: dict[str, str] = {}
    chosen: bool = False


class NetworkState(StrEnum):
    """Where a network is in its life: what a crash cuts short in the first or the last is taken away."""

    CREATING = "creating"
    READY = "ready"
    REMOVING = "removing"


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network that containers may name.

    ``options`` and ``labels`` are as the user gave them. ``interface`` is the host's: the bridge, or what
    ``macvlan`` and ``ipvlan`` lie on; empty where the driver has none.

    One that is ``config_only`` is there for others to be made from, and for nothing else: it has no pools,
    and ``asked_pools`` are what they are asked to have. ``config_from`` is the name of the one that a network
    was made from.
    """

    id: str
    name: str
    driver: str
    created_ns: int
    state: NetworkState = NetworkState.READY
    pools: tuple[Pool, ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    interface: str = ""
    ipam_driver: str = "default"
    ipam_options: dict[str, str] = {}
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    config_only: bool = False
    config_from: str = ""
    asked_pools: tuple[Pool, ...] = ()

    @property
    def is_predefined(self) -> bool:
        return self.name in PREDEFINED

    @property
    def is_default_bridge(self) -> bool:
        return self.name == DEFAULT_BRIDGE


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A container's live attachment to a network, for one run.

    ``interface`` is what the container sees, ``host_interface`` the other end of its veth pair, empty with
    drivers that have none. Addresses are empty, their prefix lengths 0, where the network has none of their
    family; so are gateways that there are none of, and 0.0.0.0 or :: where the interface itself leads out.
    ``link_local`` are further addresses, for its neighbours only. ``ports`` are those published by this
    endpoint.
    """

    network: str
    network_id: str
    driver: str
    endpoint_id: str
    netns: str
    """Path of the network namespace's bind mount."""
    interface: str
    master: str
    """The bridge, or the parent link."""
    host_interface: str = ""
    mac_address: str = ""
    address: str = ""
    prefix_length: int = 0
    gateway: str = ""
    ipv6_address: str = ""
    ipv6_prefix_length: int = 0
    ipv6_gateway: str = ""
    gw_priority: int = 0
    link_local: tuple[str, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    state: Literal["joining", "joined", "leaving"] = "joined"
    """What a running container's connect and disconnect are doing to it just now."""

    @property
    def has_names(self) -> bool:
        """Whether containers find each other by name there: everywhere but on the default bridge."""
        return self.network not in PREDEFINED

    @property
    def interfaces(self) -> list[IPv4Interface | IPv6Interface]:
        """All addresses that its interface has."""
        found = (self.ipv4_interface, self.ipv6_interface, *map(link_local_interface, self.link_local))
        return [address for address in found if address is not None]

    @property
    def ipv4_interface(self) -> IPv4Interface | None:
        return IPv4Interface(f"{self.address}/{self.prefix_length}") if self.address else None

    @property
    def ipv6_interface(self) -> IPv6Interface | None:
        return IPv6Interface(f"{self.ipv6_address}/{self.ipv6_prefix_length}") if self.ipv6_address else None


def link_local_interface(address: str) -> IPv4Interface | IPv6Interface:
    """A link-local address with the prefix that all of them have."""
    return IPv6Interface(f"{address}/64") if ":" in address else IPv4Interface(f"{address}/16")


def own_addresses(endpoints: Iterable[Endpoint]) -> list[str]:
    """The addresses that a container has by its endpoints, IPv4 before IPv6 of each."""
    pairs = ((endpoint.address, endpoint.ipv6_address) for endpoint in endpoints)
    return [address for pair in pairs for address in pair if address]


# --- names ----------------------------------------------------------------------------------------------


def interface_name(endpoint_id: str) -> str:
    """Name the host's end of a veth pair, in the kernel's 15 characters; ids are hexadecimal."""
    return INTERFACE_PREFIX + endpoint_id[:11]


def is_interface_name(name: str) -> bool:
    """Whether :func:`interface_name` can have made it: other people's ports on our bridge are not ours."""
    return _INTERFACE_NAME.fullmatch(name) is not None


def mac_of(address: IPv4Address) -> str:
    """Return the MAC address that goes with an IPv4 address: ``02:42``, locally administered, and its bytes.

    Whoever gets the address again has the same MAC, so that no neighbour's ARP cache is wrong about it.
    """
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + address.packed)


def check_mac(text: str) -> str:
    """Return a MAC address in lower case with colons.

    Raises:
        errors.InvalidParameter: it is none, or one that no interface may have (multicast, all zero).
    """
    mac = text.lower().replace("-", ":")
    if not _MAC_ADDRESS.fullmatch(text):
        raise errors.InvalidParameter(f"address {text}: invalid MAC address")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise errors.InvalidParameter(f"address {text}: not a MAC address that an interface can have")
    return mac


def random_mac(five_bytes: bytes) -> str:
    """Return a MAC address that is locally administered, from five bytes that nobody else has."""
    return ":".join(f"{byte:02x}" for byte in b"\x02" + five_bytes)


# --- gateways -------------------------------------------------------------------------------------------


def elect_gateways(endpoints: Iterable[Endpoint]) -> tuple[Endpoint | None, Endpoint | None]:
    """The endpoints of one run whose gateways are its default ones, of IPv4 and of IPv6.

    The highest priority wins, then the first in the order of the networks' names; None where no network has a
    gateway, as internal ones.
    """
    ranked = sorted(endpoints, key=lambda endpoint: (-endpoint.gw_priority, endpoint.network))
    return (
        next((endpoint for endpoint in ranked if endpoint.gateway), None),
        next((endpoint for endpoint in ranked if endpoint.ipv6_gateway), None),
    )
