"""Sync, pure. Published ports: what a request may ask, and what a container gets."""

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv6Address

import msgspec

from proad.model import errors

PROTOCOLS = ("tcp", "udp", "sctp")
ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"
MIN_PORT, MAX_PORT = 1, 65535


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """One port of the host that leads to one port of the container, by ``tcp``, ``udp`` or ``sctp``.

    A ``host_port`` of 0 is none: the container's port is open at its own address.
    """

    container_port: int
    protocol: str
    host_ip: str
    host_port: int


class PortRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to publish: any host port from ``first`` to ``last`` that is free on all of ``host_ips``; both 0
    for "choose one".
    """

    container_port: int
    protocol: str
    host_ips: tuple[str, ...]
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
    """Return the host address that a port binds to, in its usual writing; empty means all addresses.

    Raises:
        errors.InvalidParameter: no address.
    """
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise errors.InvalidParameter(f"invalid HostIp {text!r}: not an IP address") from None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise errors.InvalidParameter(f"invalid HostIp {text!r}: an address with a zone")
        return str(address.ipv4_mapped or address)
    return str(address)


def requested_ports(
    exposed: Iterable[str],
    bindings: Mapping[str, Iterable[tuple[str, str]]],
    publish_all: bool,
    *,
    default_host_ip: str = "",
    ipv4: bool = True,
    ipv6: bool = False,
    passed: Collection[int] = (),
) -> list[PortRequest]:
    """Return what a container wants published, fixed ports before chosen ones so that none is chosen away.

    ``exposed`` and the keys of ``bindings`` are ``80/tcp``; a binding is a pair of host address and host
    port (or range). An empty list of bindings asks for any port; with ``publish_all``, so does every
    exposed port without bindings. A binding without an address means ``default_host_ip``, or else all
    addresses of the families that the container can be reached by, ``ipv4`` and ``ipv6``. The IP versions
    ``passed`` are passed over: they need no port of the host, or have theirs.

    Raises:
        errors.InvalidParameter: a port, range, protocol or address is malformed, or of a family that the
            container has no address of.
    """
    everywhere: tuple[str, ...] = (ANY_IPV4,) * ipv4 + (ANY_IPV6,) * ipv6
    if default_host_ip not in ("", ANY_IPV4):
        everywhere = (default_host_ip,) * ipv4
    wishes = []
    for key in sorted(set(bindings) | (set(exposed) if publish_all else set())):
        port, protocol = parse_port(key)
        for host_ip, host_port in list(bindings.get(key, ())) or [("", "")]:
            first, last = parse_host_port(host_port)
            asked = parse_host_ip(host_ip)
            if asked and _version(asked) in passed:
                continue
            if asked:
                _check_family(asked, ipv4=ipv4, ipv6=ipv6)
            if host_ips := (asked,) if asked else everywhere:
                wish = PortRequest(
                    container_port=port, protocol=protocol, host_ips=host_ips, first=first, last=last
                )
                wishes.append(wish)
    return sorted(wishes, key=lambda wish: (wish.first == 0, wish.last - wish.first))


def opened_ports(
    exposed: Iterable[str],
    bindings: Mapping[str, Iterable[tuple[str, str]]],
    publish_all: bool,
    version: int,
) -> list[PublishedPort]:
    """Return what a container publishes where others have a route to its addresses of an IP ``version``.

    The arguments are those of :func:`requested_ports`; of bindings, the host's ports do not matter, and of
    their addresses only the family.
    """
    found = []
    for key in sorted(set(bindings) | (set(exposed) if publish_all else set())):
        port, protocol = parse_port(key)
        asked = [parse_host_ip(host_ip) for host_ip, _ in bindings.get(key, ())] or [""]
        if any(not host_ip or _version(host_ip) == version for host_ip in asked):
            host_ip = ANY_IPV6 if version == 6 else ANY_IPV4
            found.append(PublishedPort(container_port=port, protocol=protocol, host_ip=host_ip, host_port=0))
    return found


def _version(host_ip: str) -> int:
    return 6 if ":" in host_ip else 4


def _check_family(host_ip: str, *, ipv4: bool, ipv6: bool) -> None:
    is_ipv6 = ":" in host_ip
    if not (ipv6 if is_ipv6 else ipv4):
        family = "IPv6" if is_ipv6 else "IPv4"
        raise errors.InvalidParameter(
            f"invalid HostIp {host_ip!r}: publishing on an {family} address needs a network that has {family}"
        )
