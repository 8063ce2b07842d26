"""Sync, pure. Bridges, endpoints and published ports as the packet filter knows them: elements of sets.

The sets, and the rules that look things up in them, are those of ``nftrules``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from proad.host.nftelements import Element
from proad.host.nftmessages import BRIDGE, INET
from proad.host.nftrules import PORT_MAPS
from proad.model.ports import PublishedPort

ANY_ADDRESSES = ("0.0.0.0", "::")
_NAME_BYTES = 16
_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
_UNSPECIFIED = IPv6Address(0)


@dataclass(frozen=True)
class BridgeRules:
    """A network's bridge: its subnets, whether anything enters or leaves it, whether its containers may talk
    to each other (``icc``), and whether their addresses are hidden behind the host's outside.

    Of the IP versions ``routed``, they are not, and others reach published ports there; of ``unprotected``
    ones, they reach all.
    """

    bridge: str
    subnets: tuple[IPv4Network | IPv6Network, ...]
    internal: bool
    icc: bool
    masquerade: bool
    routed: frozenset[int] = frozenset()
    unprotected: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Port:
    """A port of a bridge with the endpoint behind it; a ``strict`` one may send as itself alone.

    ``opened`` are ports that others reach at its own addresses.
    """

    host_interface: str
    bridge: str
    mac: str
    addresses: tuple[IPv4Address | IPv6Address, ...]
    strict: bool
    opened: tuple["Opened", ...] = ()


@dataclass(frozen=True)
class Opened:
    """A port that others reach at a container's own address."""

    address: IPv4Address | IPv6Address
    protocol: str
    port: int


@dataclass(frozen=True)
class Link:
    """What one endpoint may say to another on a bridge without ``icc``, and be answered."""

    source: IPv4Address | IPv6Address
    target: IPv4Address | IPv6Address
    protocol: str
    port: int


@dataclass(frozen=True)
class Source:
    """Where a published port is reached; ``address`` is 0.0.0.0 or :: for every address of the host."""

    protocol: str
    address: str
    port: int

    @property
    def map_name(self) -> str:
        version = 6 if ":" in self.address else 4
        return f"{self.protocol}{version}_{'any' if self.address in ANY_ADDRESSES else 'bound'}"

    @property
    def packed(self) -> bytes:
        """The key in its map."""
        if self.address in ANY_ADDRESSES:
            return self.port.to_bytes(2, "big")
        return _address(self.address) + _four(self.port.to_bytes(2, "big"))

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Target:
    """Where a published port leads: a container's address and port."""

    address: str
    port: int

    @property
    def packed(self) -> bytes:
        return _address(self.address) + _four(self.port.to_bytes(2, "big"))


Published = Mapping[Source, Target]


def published_of(address: str, ipv6_address: str, ports: Iterable[PublishedPort]) -> dict[Source, Target]:
    """Return what ``ports`` of a container with these addresses, empty for none, are in the maps."""
    published = {}
    for port in ports:
        target = ipv6_address if ":" in port.host_ip else address
        if target and port.host_port:
            source = Source(port.protocol, port.host_ip, port.host_port)
            published[source] = Target(target, port.container_port)
    return published


def opened_of(address: str, ipv6_address: str, ports: Iterable[PublishedPort]) -> Iterator[Opened]:
    """Yield what ``ports`` of a container with these addresses open there."""
    for port in ports:
        target = ipv6_address if ":" in port.host_ip else address
        if target and not port.host_port:
            yield Opened(ip_address(target), port.protocol, port.container_port)


# --- elements -------------------------------------------------------------------------------------------


def of_published(source: Source, target: Target) -> Element:
    return Element(INET, source.map_name, source.packed, target.packed, shown=str(source))


def published_in(elements: Iterable[Element]) -> dict[Source, Target]:
    """Return the published ports among elements that were read from the kernel."""
    return dict(map(_published, (element for element in elements if element.set_name in PORT_MAPS)))


def _published(element: Element) -> tuple[Source, Target]:
    protocol, version = element.set_name.partition("_")[0][:-1], element.set_name.partition("_")[0][-1]
    length = 4 if version == "4" else 16
    if element.set_name.endswith("any"):
        address, port = ANY_ADDRESSES[version == "6"], element.key
    else:
        address, port = str(ip_address(element.key[:length])), element.key[length:]
    target = Target(str(ip_address(element.value[:length])), _number(element.value[length:]))
    return Source(protocol, address, _number(port)), target


def of_loopback6() -> Element:
    return Element(INET, "loopback6", IPv6Address("::1").packed, shown="::1")


def of_links_apart(version: int, links: Iterable[str]) -> Iterator[Element]:
    for link in links:
        yield Element(INET, f"strangers{version}", _name(link), shown=link)


def of_bridge(rules: BridgeRules) -> Iterator[Element]:
    name = _name(rules.bridge)
    shown = rules.bridge
    yield Element(INET, "bridges", name, shown=shown)
    yield Element(INET, "ways", name, shown=shown)
    yield Element(INET, "same" if rules.icc else "kept", name + name, shown=shown)
    if rules.internal:
        yield Element(INET, "internal", name, shown=shown)
    for subnet in rules.subnets:
        first, last = name + subnet.network_address.packed, name + subnet.broadcast_address.packed
        yield Element(INET, f"subnets{subnet.version}", first, end=last, shown=f"{shown} {subnet}")
        for kind, has in (
            ("hidden", rules.masquerade and not rules.internal and subnet.version not in rules.routed),
            ("routed", subnet.version in rules.routed),
            ("unprotected", subnet.version in rules.unprotected),
        ):
            if has:
                yield Element(INET, f"{kind}{subnet.version}", first, end=last, shown=f"{shown} {subnet}")


def of_port(port: Port, *, apart: bool) -> Iterator[Element]:
    """``apart``: its bridge has no ``icc``."""
    name = _name(port.host_interface)
    shown = port.host_interface
    if port.strict:
        yield Element(BRIDGE, "strict", name, shown=shown)
        sender = name + _four(bytes.fromhex(port.mac.replace(":", "")))
        for address in _senders(port):
            own = sender + address.packed
            yield Element(BRIDGE, f"own{address.version}", own, shown=f"{shown} {address}")
            if address.version == 6:
                yield Element(BRIDGE, "announced6", own, shown=f"{shown} {address}")
    if apart:
        yield Element(BRIDGE, "apart", name, shown=shown)
        for address in port.addresses:
            yield Element(BRIDGE, f"apart{address.version}", address.packed, shown=str(address))


def of_opened(opened: Opened) -> Element:
    what = _four(bytes([_PROTOCOL_NUMBERS[opened.protocol]])) + _four(opened.port.to_bytes(2, "big"))
    shown = f"{opened.address} {opened.port}/{opened.protocol}"
    return Element(INET, f"opened{opened.address.version}", opened.address.packed + what, shown=shown)


def of_link(link: Link) -> Iterator[Element]:
    what = _four(bytes([_PROTOCOL_NUMBERS[link.protocol]])) + _four(link.port.to_bytes(2, "big"))
    key = link.source.packed + link.target.packed + what
    shown = f"{link.source} to {link.target} {link.port}/{link.protocol}"
    yield Element(BRIDGE, f"links{link.source.version}", key, shown=shown)
    yield Element(INET, f"paths{link.source.version}", key, shown=shown)


def _senders(port: Port) -> Iterator[IPv4Address | IPv6Address]:
    """What a port may send as: its addresses, and what the kernel needs with IPv6.

    That is the link-local address made of its MAC (RFC 4291, appendix A), and none at all while it asks
    whether others have an address.
    """
    yield from port.addresses
    if any(address.version == 6 for address in port.addresses):
        mac = bytes.fromhex(port.mac.replace(":", ""))
        identifier = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
        yield IPv6Address(b"\xfe\x80" + bytes(6) + identifier)
        yield _UNSPECIFIED


def _name(interface: str) -> bytes:
    return interface.encode().ljust(_NAME_BYTES, b"\0")


@lru_cache(64)  # the ports of one container, one after the other
def _address(text: str) -> bytes:
    return ip_address(text).packed


def _four(value: bytes) -> bytes:
    """Fill a field up to a multiple of four bytes, as concatenated ones are."""
    return value + bytes(-len(value) % 4)


def _number(port: bytes) -> int:
    return int.from_bytes(port[:2], "big")
