"""Trio-flavoured. Tells the neighbours of a new interface which MAC address goes with its addresses now.

Whoever has spoken to the former owner of an address keeps that one's MAC address for half a minute or more,
and sends into the void until then. Kernels take an unasked answer for a correction: gratuitous ARP (RFC 5227)
and an unsolicited neighbour advertisement (RFC 4861).
"""

import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from proad.host import netns
from proad.host.sandbox import Interface
from proad.model import errors
from proad.model.network import mac_of

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
_TO_EVERYBODY = b"\xff" * 6
_TO_ALL_NODES_MAC, _TO_ALL_NODES = bytes.fromhex("333300000001"), IPv6Address("ff02::1").packed
_ARP_HEAD = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)  # Ethernet, IPv4, lengths of addresses, a request
_ADVERTISEMENT = 136
_OVERRIDE = 1 << 29
_ICMPV6 = 58
_TARGET_LINK_ADDRESS = b"\x02\x01"  # option and its length, eight bytes


def needs_announcing(interface: Interface) -> bool:
    """Whether the MAC address is another than the one that always goes with the IPv4 address."""
    first, *others = interface.addresses or (None,)
    if interface.kind == "ipvlan" or not interface.mac_address or first is None:
        return False  # it is the parent's, or the kernel's choice
    return bool(others) or first.version == 6 or interface.mac_address != mac_of(first.ip)


async def announce(path: Path, interfaces: Sequence[Interface]) -> None:
    """Announce those interfaces of a namespace that need it.

    Closing the socket takes the kernel some 20 ms, in which nobody should wait. A namespace that has gone
    meanwhile is no error.

    Raises:
        errors.System: the kernel refused to send.
    """
    wanted = [interface for interface in interfaces if needs_announcing(interface)]
    if wanted and path.exists():
        await netns.in_own_thread(lambda: _send(path, wanted))


def _send(path: Path, interfaces: Sequence[Interface]) -> None:
    try:
        netns.enter(path)
    except errors.System:
        if not path.exists():
            return
        raise
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        for interface in interfaces:
            for protocol, frame in _frames(interface):
                try:
                    wire.sendto(frame, (interface.name, protocol))
                except OSError as error:
                    raise errors.System(f"announce {interface.name}: {error.strerror}") from error


def _frames(interface: Interface) -> Iterator[tuple[int, bytes]]:
    mac = bytes.fromhex(interface.mac_address.replace(":", ""))
    for address in interface.addresses:
        if isinstance(address.ip, IPv4Address):
            yield ETH_P_ARP, arp_announcement(mac, address.ip)
        else:
            yield ETH_P_IPV6, neighbour_advertisement(mac, address.ip)


def arp_announcement(mac: bytes, address: IPv4Address) -> bytes:
    """An Ethernet frame: a question to everybody for one's own address, which answers it."""
    body = _ARP_HEAD + mac + address.packed + b"\0" * 6 + address.packed
    return _TO_EVERYBODY + mac + struct.pack("!H", ETH_P_ARP) + body


def neighbour_advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """An Ethernet frame: an answer to all nodes that nobody has asked for."""
    head = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE)
    message = head + address.packed + _TARGET_LINK_ADDRESS + mac
    pseudo = address.packed + _TO_ALL_NODES + struct.pack("!II", len(message), _ICMPV6)
    message = message[:2] + struct.pack("!H", _checksum(pseudo + message)) + message[4:]
    ip = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, 255) + address.packed + _TO_ALL_NODES
    return _TO_ALL_NODES_MAC + mac + struct.pack("!H", ETH_P_IPV6) + ip + message


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
