"""Sync, pure. Networks and endpoints as records; the choice of subnets, addresses and ports as functions."""

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from proad.model import errors

PROTOCOLS = ("tcp", "udp", "sctp")
MIN_PORT, MAX_PORT = 1, 65535

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
    ipam_config: IpamWish | None = msgspec.field(default=None, name="IPAMConfig")


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the host that leads to one port of the container, by ``tcp``, ``udp`` or ``sctp``."""

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


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network that containers may name; ``subnet`` and ``gateway`` are empty where the driver has none."""

    id: str
    name: str
    driver: str
    created_ns: int
    subnet: str = ""
    gateway: str = ""
    options: dict[str, str] = {}


class PortRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to publish: any free host port from ``first`` to ``last``; both 0 for "choose one"."""

    container_port: int
    protocol: str
    host_ip: str
    first: int = 0
    last: int = 0


# --- names ----------------------------------------------------------------------------------------------


def interface_name(run_id: str) -> str:
    """Name the host's end of a run's veth pair, in the kernel's 15 characters; run ids are hexadecimal."""
    return INTERFACE_PREFIX + run_id[:11]


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


# --- subnets and addresses ------------------------------------------------------------------------------


def choose_subnet(pools: Iterable[tuple[str, int]], taken: Collection[IPv4Network]) -> IPv4Interface:
    """Return the gateway's address in the first piece of a pool that overlaps nothing taken.

    ``pools`` are pairs of a base and a prefix length: ``("172.17.0.0/12", 16)`` gives 172.17.0.0/16,
    172.18.0.0/16 and so on to the end of 172.16.0.0/12. ``taken`` are the networks that this host has
    routes or addresses in.

    Raises:
        errors.Unavailable: all pieces overlap something.
    """
    for base, size in pools:
        start = IPv4Interface(base)
        for subnet in start.network.subnets(new_prefix=size):
            if subnet.broadcast_address < start.ip:
                continue
            if not any(subnet.overlaps(other) for other in taken):
                return IPv4Interface((subnet.network_address + 1, size))
    raise errors.Unavailable(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the "
        "network"
    )


def next_address(gateway: IPv4Interface, taken: Collection[IPv4Address], last: IPv4Address) -> IPv4Address:
    """Return the first free address after ``last``, going round: a released one rests as long as it can.

    Raises:
        errors.Unavailable: every host address of the subnet is taken.
    """
    subnet = gateway.network
    lowest, highest = int(subnet.network_address) + 1, int(subnet.broadcast_address) - 1
    count = highest - lowest + 1
    start = int(last) + 1 if lowest <= int(last) < highest else lowest
    for step in range(count):
        address = IPv4Address(lowest + (start - lowest + step) % count)
        if address != gateway.ip and address not in taken:
            return address
    raise errors.Unavailable(f"no available IPv4 addresses on this network's address pool: {subnet}")


# --- ports ----------------------------------------------------------------------------------------------


def parse_port(text: str) -> tuple[int, str]:
    """Return number and protocol of ``80/tcp``; the protocol is ``tcp`` where none is given.

    Raises:
        errors.InvalidParameter: no number from 1 to 65535, or an unknown protocol.
    """
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise errors.InvalidParameter(f"invalid port specification: {text!r}: invalid proto: {protocol}")
    return _port_number(number, text), protocol


def _port_number(text: str, whole: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not MIN_PORT <= int(text) <= MAX_PORT:
        raise errors.InvalidParameter(f"invalid port specification: {whole!r}")
    return int(text)


def parse_host_port(text: str) -> tuple[int, int]:
    """Return first and last of ``8080`` or ``8000-8010``; (0, 0) for empty or ``0``, which mean "choose one".

    Raises:
        errors.InvalidParameter: something else, or a range that runs backwards.
    """
    if text in ("", "0"):
        return 0, 0
    low, dash, high = text.partition("-")
    first = _port_number(low, text)
    last = _port_number(high, text) if dash else first
    if last < first:
        raise errors.InvalidParameter(f"invalid port specification: {text!r}: the range runs backwards")
    return first, last


def parse_host_ip(text: str) -> str:
    """Return the host address that a port binds to; empty means all of IPv4.

    Raises:
        errors.InvalidParameter: no address, or one of IPv6: containers have no IPv6 address to lead to.
    """
    if not text:
        return "0.0.0.0"
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise errors.InvalidParameter(f"invalid HostIp {text!r}: not an IP address") from None
    if not isinstance(address, IPv4Address):
        raise errors.InvalidParameter(
            f"invalid HostIp {text!r}: publishing on an IPv6 address needs a network that has IPv6"
        )
    return str(address)


def requested_ports(
    exposed: Iterable[str], bindings: Mapping[str, Iterable[tuple[str, str]]], publish_all: bool
) -> list[PortRequest]:
    """Return what a container wants published, fixed ports before chosen ones so that none is chosen away.

    ``exposed`` and the keys of ``bindings`` are ``80/tcp``; a binding is a pair of host address and host
    port (or range). An empty list of bindings asks for any port; with ``publish_all``, so does every
    exposed port without bindings.

    Raises:
        errors.InvalidParameter: a port, range, protocol or address is malformed.
    """
    wishes = list(_wishes(exposed, bindings, publish_all))
    return sorted(wishes, key=lambda wish: (wish.first == 0, wish.last - wish.first))


def _wishes(
    exposed: Iterable[str], bindings: Mapping[str, Iterable[tuple[str, str]]], publish_all: bool
) -> Iterator[PortRequest]:
    for key in sorted(set(bindings) | (set(exposed) if publish_all else set())):
        port, protocol = parse_port(key)
        pairs = list(bindings.get(key, ())) or [("", "")]
        for host_ip, host_port in pairs:
            first, last = parse_host_port(host_port)
            yield PortRequest(
                container_port=port, protocol=protocol, host_ip=parse_host_ip(host_ip), first=first, last=last
            )
