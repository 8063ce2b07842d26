"""False senders: what a container claims to be that it is not, in frames that it makes itself."""

import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from tests.support.nethosts import answering, ask, inside

from .filterlab import HOST, HOST6, NEIGHBOUR, NEIGHBOUR6, Box, Net, World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MARK = b"a false sender?"
BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, IPV6, VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
SERVICE_VLAN = 0x88A8
OUT_MAC = "02:00:00:00:00:01"
OTHER_MAC = "02:66:66:66:66:66"
NO_FRAME_S = 0.15
PATIENCE_S = 2.0
"""How long what should come may take on a busy machine."""


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def frame(destination: str, source: str, kind: int, body: bytes) -> bytes:
    return mac(destination) + mac(source) + kind.to_bytes(2, "big") + body


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp4(source: str, destination: str) -> bytes:
    datagram = struct.pack("!4H", 4000, 4000, 8 + len(MARK), 0) + MARK
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    head = struct.pack("!2B3H2BH", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0) + addresses
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + datagram


def ipv6(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    at = 6 if protocol == 17 else 2
    pseudo = addresses + struct.pack("!2I", len(body), protocol) + body
    body = body[:at] + checksum(pseudo).to_bytes(2, "big") + body[at + 2 :]
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 255) + addresses + body


def udp6(source: str, destination: str) -> bytes:
    return ipv6(source, destination, 17, struct.pack("!4H", 4000, 4000, 8 + len(MARK), 0) + MARK)


def neighbour_advertisement(source: str, target: str) -> bytes:
    body = struct.pack("!2BHI", 136, 0, 0, 0x2000_0000) + IPv6Address(target).packed
    return ipv6(source, "ff02::1", 58, body + MARK)


def router_advertisement(source: str) -> bytes:
    return ipv6(source, "ff02::1", 58, struct.pack("!2BH2BHII", 134, 0, 0, 64, 0, 1800, 0, 0) + MARK)


def arp(sender_mac: str, sender: str, target: str) -> bytes:
    head = struct.pack("!2H2BH", 1, IPV4, 6, 4, 2)
    body = mac(sender_mac) + IPv4Address(sender).packed + bytes(6) + IPv4Address(target).packed
    return head + body + MARK


@contextmanager
def listening(place: Path, interface: str = "eth0") -> Iterator[socket.socket]:
    """A socket that gets every frame of an interface."""
    kind = socket.ntohs(3)  # ETH_P_ALL
    ears = inside(place, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, kind))
    with ears:
        ears.bind((interface, 3))
        yield ears


def send(sender: Box, data: bytes) -> None:
    with inside(sender.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as mouth:
        mouth.bind(("eth0", 0))
        mouth.send(data)


def arrives(sender: Box, data: bytes, ears: socket.socket, *, should: bool) -> bool:
    """Whether a frame that ``sender`` makes is heard, as it should or not; those of others are passed by."""
    send(sender, data)
    return heard(ears, PATIENCE_S if should else NO_FRAME_S)


def heard(ears: socket.socket, wait_s: float = NO_FRAME_S) -> bool:
    ears.settimeout(wait_s)
    try:
        while True:
            data, (_, _, direction, *_) = ears.recvfrom(2000)
            if MARK in data and direction != socket.PACKET_OUTGOING:  # the listener complains of some
                return True
    except TimeoutError:
        return False


def frames(sender: Box, victim: Box, net: Net, listener: Box) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What ``sender`` may say to ``listener``, and what not."""
    own, to = sender.port.mac, listener.port.mac
    link_local = str(ip_address("fe80::42:aff:fe09:102"))
    assert own == "02:42:0a:09:01:02"
    true = {
        "ipv4": frame(to, own, IPV4, udp4(sender.address, listener.address)),
        "arp": frame(BROADCAST, own, ARP, arp(own, sender.address, listener.address)),
        "ipv6": frame(to, own, IPV6, udp6(sender.address6, listener.address6)),
        "link-local": frame(to, own, IPV6, udp6(link_local, listener.address6)),
        "advertisement": frame(
            BROADCAST, own, IPV6, neighbour_advertisement(sender.address6, sender.address6)
        ),
    }
    false = {
        "another's IPv4": frame(to, own, IPV4, udp4(victim.address, listener.address)),
        "the gateway's IPv4": frame(to, own, IPV4, udp4(net.gateway, listener.address)),
        "a foreign IPv4": frame(to, own, IPV4, udp4("8.8.8.8", listener.address)),
        "to another's 127.0.0.11": frame(to, own, IPV4, udp4(sender.address, "127.0.0.11")),
        "another's MAC": frame(to, victim.port.mac, IPV4, udp4(sender.address, listener.address)),
        "nobody's MAC": frame(to, OTHER_MAC, IPV4, udp4(sender.address, listener.address)),
        "ARP for the gateway": frame(BROADCAST, own, ARP, arp(own, net.gateway, listener.address)),
        "ARP for another": frame(BROADCAST, own, ARP, arp(own, victim.address, listener.address)),
        "ARP with another's MAC": frame(
            BROADCAST, own, ARP, arp(victim.port.mac, sender.address, listener.address)
        ),
        "another's IPv6": frame(to, own, IPV6, udp6(victim.address6, listener.address6)),
        "another's link-local": frame(to, own, IPV6, udp6("fe80::42:aff:fe09:103", listener.address6)),
        "an advertisement for the gateway": frame(
            BROADCAST, own, IPV6, neighbour_advertisement(sender.address6, net.gateway6)
        ),
        "a router": frame(BROADCAST, own, IPV6, router_advertisement(link_local)),
        "another's IPv4 in a VLAN": frame(
            to, own, VLAN, struct.pack("!2H", 5, IPV4) + udp4(victim.address, listener.address)
        ),
        "no protocol of ours": frame(to, own, 0x88B5, MARK),
    }
    return true, false


def test_a_container_sends_as_itself_alone(world: World) -> None:
    net = world.network(1)
    sender, victim, listener = (world.container(net, number) for number in (2, 3, 4))
    true, false = frames(sender, victim, net, listener)
    with listening(listener.netns) as ears:
        heard = {
            what
            for what, data in {**true, **false}.items()
            if arrives(sender, data, ears, should=what in true)
        }
        assert heard == set(true)
        with listening(world.host, net.rules.bridge) as host_ears:
            assert not arrives(sender, false["ARP for the gateway"], host_ears, should=False)
            assert arrives(sender, true["arp"], host_ears, should=True)


def test_no_frame_draws_what_is_anothers(world: World) -> None:
    """A bridge takes note of who sends it frames that are for itself alone: spanning tree's, LLDP's."""
    net = world.network(1)
    thief, victim, other = (world.container(net, number) for number in (2, 3, 4))
    greeting = frame(BROADCAST, victim.port.mac, ARP, arp(victim.port.mac, victim.address, other.address))
    with listening(other.netns) as ears:
        assert arrives(victim, greeting, ears, should=True)  # the bridge knows its port from now on
    with listening(thief.netns) as ears:
        for last in range(16):
            for kind in (IPV4, 0x88CC, 3):  # the last is a length, as in frames of spanning tree
                send(thief, frame(f"01:80:c2:00:00:{last:02x}", victim.port.mac, kind, MARK))
        to_victim = frame(victim.port.mac, other.port.mac, IPV4, udp4(other.address, victim.address))
        assert not arrives(other, to_victim, ears, should=False)


def test_one_that_may_configure_its_network_sends_what_it_likes_on_it_but_not_beyond(world: World) -> None:
    net = world.network(1)
    sender, victim = world.container(net, 2, strict=False), world.container(net, 3)
    listener = world.container(net, 4)
    true, false = frames(sender, victim, net, listener)
    with listening(listener.netns) as ears:
        heard = {what for what, data in {**true, **false}.items() if arrives(sender, data, ears, should=True)}
        assert heard == {*true, *false}
    gateway_mac = "02:42:00:00:00:01"
    with listening(world.neighbour) as ears:
        for source, passes in (
            (sender.address, True),
            ("198.51.100.7", False),
            (NEIGHBOUR, False),
            (HOST, False),
        ):
            data = frame(gateway_mac, sender.port.mac, IPV4, udp4(source, NEIGHBOUR))
            assert arrives(sender, data, ears, should=passes) == passes, source
        for source, passes in ((sender.address6, True), ("2001:db8:9::7", False), (HOST6, False)):
            data = frame(gateway_mac, sender.port.mac, IPV6, udp6(source, NEIGHBOUR6))
            assert arrives(sender, data, ears, should=passes) == passes, source
        # One that the host's administrator has made a router for others.
        world.ip(world.host.name, f"route add 198.51.100.0/24 via {sender.address}")
        routed = frame(gateway_mac, sender.port.mac, IPV4, udp4("198.51.100.7", NEIGHBOUR))
        assert arrives(sender, routed, ears, should=True)


@pytest.mark.parametrize("strict", [True, False])
def test_those_who_are_kept_apart_do_not_meet_by_the_host(world: World, strict: bool) -> None:
    """The host routes what is sent to it for another on the same bridge; IPv6 even to link-local addresses,
    and whatever a frame has around it that counts for nothing.
    """
    net = world.network(1, icc=False)
    one, two = (world.container(net, number, strict=strict) for number in (2, 3))
    gateway_mac, own = "02:42:00:00:00:01", one.port.mac
    with listening(two.netns) as ears:
        for kind, body in (
            (IPV4, udp4(one.address, two.address)),
            (IPV6, udp6(one.address6, two.address6)),
            (IPV6, udp6(one.address6, "fe80::42:aff:fe09:103")),
            (IPV6, udp6("fe80::42:aff:fe09:102", "fe80::42:aff:fe09:103")),
        ):
            tagged = struct.pack("!2H", 0, kind) + body
            for to in (gateway_mac, two.port.mac, BROADCAST):
                for data in (
                    frame(to, own, kind, body),
                    frame(to, own, VLAN, tagged),
                    frame(to, own, VLAN, struct.pack("!2H", 0, VLAN) + tagged),
                    frame(to, own, SERVICE_VLAN, struct.pack("!2H", 0, VLAN) + tagged),
                ):
                    send(one, data)
        assert not heard(ears)


def test_the_endpoint_that_goes_takes_its_claims_along(world: World) -> None:
    net = world.network(1)
    sender, listener = world.container(net, 2), world.container(net, 3)
    data = frame(listener.port.mac, sender.port.mac, IPV4, udp4("10.9.1.9", listener.address))
    with listening(listener.netns) as ears:
        assert not arrives(sender, data, ears, should=False)
        world.firewall.dismiss(sender.port.host_interface, {})
        assert arrives(sender, data, ears, should=True)
    assert "10.9.1.2" not in world.on_host("nft list ruleset")


def test_addresses_given_by_hand_and_those_without_ipv6_work(world: World) -> None:
    net = world.network(1)
    one, two = world.container(net, 2), world.container(net, 3)
    with answering(two.netns, "udp", 80), answering(two.netns, "udp", 80, "::"):
        assert ask(one.netns, "udp", two.address, 80) == one.address
        assert ask(one.netns, "udp", two.address6, 80) == one.address6
        world.ip(
            one.name,
            "address add 10.9.1.77/24 dev eth0",
            f"route replace {two.address} dev eth0 src 10.9.1.77",
        )
        with pytest.raises(TimeoutError):
            ask(one.netns, "udp", two.address, 80, 0.3)


# --- from outside ---------------------------------------------------------------------------------------


def test_a_neighbour_does_not_pass_for_a_container(world: World) -> None:
    """What the host trusts its containers with is not for others, nor do they answer for them."""
    net, quiet = world.network(1), world.network(2, internal=True)
    box, kept = world.container(net, 2), world.container(quiet, 2)
    neighbour_mac = world.on_neighbour("cat /sys/class/net/eth0/address").strip()
    with hearing(world.host) as host:
        for source, target, hears in (
            (NEIGHBOUR, HOST, True),
            (box.address, HOST, False),
            (box.address, net.gateway, False),
            (kept.address, quiet.gateway, False),
            (net.gateway, HOST, False),
            ("10.9.1.77", HOST, False),
        ):
            data = frame(OUT_MAC, neighbour_mac, IPV4, udp4(source, target))
            assert told(world, data, host, should=hears) == hears, f"{source} to {target}"
        for source, target, hears in (
            (NEIGHBOUR6, HOST6, True),
            (box.address6, HOST6, False),
            (box.address6, net.gateway6, False),
            ("fd09:1::77", HOST6, False),
        ):
            data = frame(OUT_MAC, neighbour_mac, IPV6, udp6(source, target))
            assert told(world, data, host, should=hears) == hears, f"{source} to {target}"
    # A network further away may have a part of a bridge's addresses, as the host's routes say.
    world.ip(world.host.name, f"route add 10.9.1.128/25 via {NEIGHBOUR}")
    with hearing(world.host) as host:
        far = frame(OUT_MAC, neighbour_mac, IPV4, udp4("10.9.1.200", HOST))
        assert told(world, far, host, should=True)


def test_nor_by_a_published_port(world: World) -> None:
    box, kept = world.container(world.network(1), 2), world.container(world.network(2, internal=True), 2)
    for address in ("0.0.0.0", "::"):
        world.publish(box, "udp", address, 4000, 4000)
    neighbour_mac = world.on_neighbour("cat /sys/class/net/eth0/address").strip()
    with hearing(box.netns) as inner:
        for source, hears in (("10.9.1.77", False), (kept.address, False), (NEIGHBOUR, True)):
            data = frame(OUT_MAC, neighbour_mac, IPV4, udp4(source, HOST))
            assert told(world, data, inner, should=hears) == hears, source
        for source, hears in (("fd09:1::77", False), (kept.address6, False), (NEIGHBOUR6, True)):
            data = frame(OUT_MAC, neighbour_mac, IPV6, udp6(source, HOST6))
            assert told(world, data, inner, should=hears) == hears, source


@contextmanager
def hearing(place: Path) -> Iterator[list[socket.socket]]:
    """Sockets that get what is for port 4000."""
    with contextlib.ExitStack() as stack:
        ears = []
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            ear = stack.enter_context(inside(place, partial(socket.socket, family, socket.SOCK_DGRAM)))
            if family == socket.AF_INET6:
                ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            ear.bind((address, 4000))
            ears.append(ear)
        yield ears


def told(world: World, data: bytes, ears: list[socket.socket], *, should: bool) -> bool:
    """Whether what the neighbour sends in a frame is heard, as it should or not."""
    with inside(world.neighbour, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as mouth:
        mouth.bind(("eth0", 0))
        mouth.send(data)
    heard, _, _ = select.select(ears, [], [], PATIENCE_S if should else NO_FRAME_S)
    for ear in heard:
        ear.recv(100)
    return bool(heard)
