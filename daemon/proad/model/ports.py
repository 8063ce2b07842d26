"""Sync, pure. Published ports: what a request may ask, and what a container gets."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

import msgspec

from proad.model import errors

PROTOCOLS = ("tcp", "udp", "sctp")
MIN_PORT, MAX_PORT = 1, 65535


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the host that leads to one port of the container, by ``tcp``, ``udp`` or ``sctp``."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int


class PortRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to publish: any free host port from ``first`` to ``last``; both 0 for "choose one"."""

    container_port: int
    protocol: str
    host_ip: str
    first: int = 0
    last: int = 0


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
