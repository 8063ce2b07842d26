"""The packet filter with real packets: a host, its containers and a neighbour are network namespaces."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from proad.host.conntrack import forget_flows_of, forget_translated, forget_untranslated
from proad.host.firewall import Firewall, Link
from tests.support.nethosts import answering, ask, connect, inside, reaches

from .filterlab import HOST, HOST6, NEIGHBOUR, NEIGHBOUR6, TABLE, Box, World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=[False, True], ids=["plain", "br_netfilter"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Both kinds of host: that which hands bridged packets to iptables, as one with Docker, and the other."""
    with World(bridge_netfilter=request.param) as made:
        yield made


def both(box: Box) -> tuple[str, str]:
    return box.address, box.address6


# --- out and in -----------------------------------------------------------------------------------------


def test_outside_a_container_has_the_hosts_address_and_inside_its_own(world: World) -> None:
    net = world.network(1)
    one, two = world.container(net, 2), world.container(net, 3)
    for protocol in ("tcp", "udp"):
        with answering(world.neighbour, protocol, 80), answering(world.neighbour, protocol, 80, "::"):
            assert ask(one.netns, protocol, NEIGHBOUR, 80) == HOST
            assert ask(one.netns, protocol, NEIGHBOUR6, 80) == HOST6
        with answering(two.netns, protocol, 80), answering(two.netns, protocol, 80, "::"):
            assert ask(one.netns, protocol, two.address, 80) == one.address
            assert ask(one.netns, protocol, two.address6, 80) == one.address6
            assert ask(world.host, protocol, two.address, 80) == net.gateway
            assert ask(world.host, protocol, two.address6, 80) == net.gateway6
    with answering(world.host, "tcp", 80):
        assert ask(one.netns, "tcp", net.gateway, 80) == one.address
        assert ask(one.netns, "tcp", HOST, 80) == one.address


def test_a_network_that_is_not_hidden_is_seen_as_it_is(world: World) -> None:
    box = world.container(world.network(1, masquerade=False), 2)
    with answering(world.neighbour, "tcp", 80), answering(world.neighbour, "tcp", 80, "::"):
        assert ask(box.netns, "tcp", NEIGHBOUR, 80) == box.address
        assert ask(box.netns, "tcp", NEIGHBOUR6, 80) == box.address6


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_is_reached_from_everywhere_and_shows_the_real_client(
    world: World, protocol: str
) -> None:
    net, other = world.network(1), world.network(2)
    box, beside, far = world.container(net, 2), world.container(net, 3), world.container(other, 2)
    for address in ("0.0.0.0", "::"):
        world.publish(box, protocol, address, 8080, 80)
    with answering(box.netns, protocol, 80), answering(box.netns, protocol, 80, "::"):
        assert ask(world.neighbour, protocol, HOST, 8080) == NEIGHBOUR
        assert ask(world.neighbour, protocol, HOST6, 8080) == NEIGHBOUR6
        for local in ("127.0.0.1", "127.9.9.9", HOST, net.gateway, other.gateway):
            assert ask(world.host, protocol, local, 8080) in (net.gateway, HOST, other.gateway)
        for local in (HOST6, net.gateway6, *([] if world.bridge_netfilter else ["::1"])):
            assert ask(world.host, protocol, local, 8080) in (net.gateway6, HOST6)
        with pytest.raises(ConnectionRefusedError) if world.bridge_netfilter else contextlib.nullcontext():
            ask(world.host, protocol, "::1", 8080)  # and not a client that waits
        for asker in (box, beside):
            assert ask(asker.netns, protocol, HOST, 8080) == net.gateway
            assert ask(asker.netns, protocol, net.gateway, 8080) == net.gateway
            assert ask(asker.netns, protocol, HOST6, 8080) == net.gateway6
        assert ask(far.netns, protocol, HOST, 8080) == net.gateway
        assert ask(far.netns, protocol, HOST6, 8080) == net.gateway6
        world.firewall.dismiss(None, box.ports)
        assert not reaches(world.neighbour, protocol, HOST, 8080)


def test_a_port_bound_to_an_address_answers_there_alone(world: World) -> None:
    box = world.container(world.network(1), 2)
    world.publish(box, "tcp", "127.0.0.1", 8080, 80)
    world.publish(box, "tcp", HOST6, 8081, 80)
    with answering(box.netns, "tcp", 80), answering(box.netns, "tcp", 80, "::"):
        assert reaches(world.host, "tcp", "127.0.0.1", 8080)
        assert not reaches(world.host, "tcp", HOST, 8080)
        assert not reaches(world.neighbour, "tcp", HOST, 8080)
        assert reaches(world.neighbour, "tcp", HOST6, 8081)
        assert not reaches(world.host, "tcp", "::1", 8081)
        # A neighbour that sends what is for 127.0.0.1 to the host's MAC gets nowhere.
        localnet = "/proc/sys/net/ipv4/conf/{}/route_localnet"
        for place, link in ((world.neighbour, "eth0"), (world.host, "out0")):
            inside(place, partial(Path(localnet.format(link)).write_text, "1"))
        world.ip(world.neighbour.name, "route del local 127.0.0.0/8 dev lo table local", "link set lo down")
        world.ip(world.neighbour.name, f"route add 127.0.0.1 via {HOST}")
        assert not reaches(world.neighbour, "tcp", "127.0.0.1", 8080)


def test_services_of_the_host_on_127_are_not_for_containers(world: World) -> None:
    net = world.network(1)
    box = world.container(net, 2, strict=False)
    localnet = Path("/proc/sys/net/ipv4/conf/eth0/route_localnet")
    inside(box.netns, lambda: localnet.write_text("1"))
    world.ip(box.name, "link set lo down", f"route replace 127.0.0.1 via {net.gateway} src {box.address}")
    with answering(world.host, "tcp", 80, "127.0.0.1"):
        assert reaches(world.host, "tcp", "127.0.0.1", 80)
        assert not reaches(box.netns, "tcp", "127.0.0.1", 80)


# --- isolation ------------------------------------------------------------------------------------------


def test_a_neighbour_reaches_no_container_by_its_address_not_even_a_published_port(world: World) -> None:
    box = world.container(world.network(1, masquerade=False), 2)
    world.publish(box, "tcp", "0.0.0.0", 8080, 80)
    with answering(box.netns, "tcp", 80), answering(box.netns, "tcp", 80, "::"):
        assert reaches(world.neighbour, "tcp", HOST, 8080)
        for address in both(box):
            assert not reaches(world.neighbour, "tcp", address, 80)
            assert reaches(world.host, "tcp", address, 80)


def test_networks_do_not_reach_each_other(world: World) -> None:
    one, two = world.container(world.network(1), 2), world.container(world.network(2), 2)
    for here, there in ((one, two), (two, one)):
        with answering(there.netns, "tcp", 80), answering(there.netns, "tcp", 80, "::"):
            for address in both(there):
                assert not reaches(here.netns, "tcp", address, 80)
                assert reaches(world.host, "tcp", address, 80)


def test_an_internal_network_has_itself_and_its_gateway_alone(world: World) -> None:
    net, outside = world.network(1, internal=True), world.network(2)
    one, two, other = world.container(net, 2), world.container(net, 3), world.container(outside, 2)
    for box in (one, two):  # a container may set routes itself
        world.ip(box.name, f"route add default via {net.gateway}", f"route add ::/0 via {net.gateway6}")
    for address in ("0.0.0.0", "::"):
        world.publish(other, "tcp", address, 8080, 80)
    with answering(two.netns, "tcp", 80), answering(two.netns, "tcp", 80, "::"):
        for address in both(two):
            assert reaches(one.netns, "tcp", address, 80)
            assert reaches(world.host, "tcp", address, 80)
            assert not reaches(world.neighbour, "tcp", address, 80)
            assert not reaches(other.netns, "tcp", address, 80)
    with answering(world.neighbour, "tcp", 80), answering(world.neighbour, "tcp", 80, "::"):
        assert not reaches(one.netns, "tcp", NEIGHBOUR, 80)
        assert not reaches(one.netns, "tcp", NEIGHBOUR6, 80)
    with answering(world.host, "tcp", 81), answering(world.host, "tcp", 81, "::"):
        assert reaches(one.netns, "tcp", net.gateway, 81)
        assert reaches(one.netns, "tcp", net.gateway6, 81)
        for address in (HOST, HOST6, outside.gateway, outside.gateway6):
            assert not reaches(one.netns, "tcp", address, 81)
    with answering(other.netns, "tcp", 80), answering(other.netns, "tcp", 80, "::"):
        for address in (net.gateway, net.gateway6, HOST, HOST6):
            assert not reaches(one.netns, "tcp", address, 8080)


def test_without_icc_containers_have_published_ports_and_links_alone(world: World) -> None:
    net = world.network(1, icc=False)
    one, two = world.container(net, 2), world.container(net, 3)
    for address in ("0.0.0.0", "::"):
        world.publish(two, "tcp", address, 8080, 80)
    links = [
        Link(here, there, "tcp", 80)
        for here, there in zip(one.port.addresses, two.port.addresses, strict=True)
    ]
    with (
        answering(two.netns, "tcp", 80),
        answering(two.netns, "tcp", 80, "::"),
        answering(two.netns, "tcp", 81),
        answering(one.netns, "tcp", 80),
    ):
        for address in both(two):
            assert not reaches(one.netns, "tcp", address, 80)
            assert reaches(world.host, "tcp", address, 80)
        assert ask(one.netns, "tcp", HOST, 8080) == net.gateway
        assert ask(one.netns, "tcp", HOST6, 8080) == net.gateway6
        assert ask(world.neighbour, "tcp", HOST, 8080) == NEIGHBOUR
        world.firewall.allow(links)
        for address in both(two):
            assert reaches(one.netns, "tcp", address, 80)
        assert not reaches(one.netns, "tcp", two.address, 81)
        assert not reaches(two.netns, "tcp", one.address, 80)
        world.firewall.disallow(links)
        assert not reaches(one.netns, "tcp", two.address, 80)
    with answering(world.neighbour, "tcp", 80), answering(world.neighbour, "tcp", 80, "::"):
        assert ask(one.netns, "tcp", NEIGHBOUR, 80) == HOST
        assert ask(one.netns, "tcp", NEIGHBOUR6, 80) == HOST6


def test_who_is_linked_to_answers_and_asks_nothing_itself(world: World) -> None:
    """Not even from the port that it is linked to by."""
    net = world.network(1, icc=False)
    one, two = world.container(net, 2), world.container(net, 3)
    world.firewall.allow(
        [
            Link(here, there, "tcp", 80)
            for here, there in zip(one.port.addresses, two.port.addresses, strict=True)
        ]
    )
    for here, there, family in (
        (two.address, one.address, socket.AF_INET),
        (two.address6, one.address6, socket.AF_INET6),
    ):
        with (
            answering(one.netns, "tcp", 22, "::" if family == socket.AF_INET6 else "0.0.0.0"),
            inside(two.netns, partial(socket.socket, family, socket.SOCK_STREAM)) as asking,
        ):
            asking.bind((here, 80))
            asking.settimeout(0.5)
            with pytest.raises(OSError, match=r"timed out|No route"):
                asking.connect((there, 22))


# --- what healthy traffic notices -----------------------------------------------------------------------


def test_connections_live_through_a_restart_a_flush_and_new_rules(world: World) -> None:
    net = world.network(1)
    box = world.container(net, 2)
    world.publish(box, "tcp", "0.0.0.0", 8080, 80)
    server = inside(box.netns, _listener)
    outer = inside(world.neighbour, _listener)
    with (
        server,
        outer,
        connect(world.neighbour, "tcp", HOST, 8080) as inbound,
        connect(box.netns, "tcp", NEIGHBOUR, 80) as outbound,
    ):
        answer, _ = server.accept()
        answer_out, _ = outer.accept()
        with answer, answer_out:

            def flows() -> bool:
                for near, far in ((inbound, answer), (outbound, answer_out)):
                    near.sendall(b"to")
                    far.settimeout(2)
                    assert far.recv(2) == b"to"
                    far.sendall(b"fro")
                    assert near.recv(3) == b"fro"
                    while _unacknowledged(far):  # a packet without translation would end the connection
                        time.sleep(0.005)
                return True

            assert flows()
            again = inside(world.host, lambda: Firewall(TABLE))
            again.open([net.rules])
            assert again.reconcile({box.port.host_interface: box.port}, box.ports) == (0, 0)
            assert flows()
            world.on_host("nft flush ruleset")
            assert again.restore()
            assert flows()
            world.on_host(f"nft flush chain inet {TABLE} forward; nft delete table bridge {TABLE}")
            assert again.restore()
            assert not again.restore()
            assert flows()


@pytest.mark.parametrize(("any_address", "host"), [("0.0.0.0", HOST), ("::", HOST6)])
def test_a_client_that_keeps_sending_datagrams_follows_the_port(
    world: World, any_address: str, host: str
) -> None:
    net = world.network(1)
    one, two = world.container(net, 2), world.container(net, 3)
    ipv6 = ":" in host
    with (
        answering(world.host, "udp", 8080, any_address),
        answering(one.netns, "udp", 80, any_address),
        connect(world.neighbour, "udp", host, 8080) as client,
    ):

        def answered() -> bool:
            client.send(b"?")
            try:
                return client.recv(100) != b""
            except OSError:  # nobody is there
                return False

        client.settimeout(0.3)
        assert answered(), "by the host itself"
        world.publish(one, "udp", any_address, 8080, 80)
        assert inside(world.host, lambda: forget_untranslated([8080], ipv6=ipv6)) == 1
        assert answered()
        address = one.address6 if ipv6 else one.address
        assert inside(world.host, lambda: forget_translated([8080], address)) == 1
        world.firewall.dismiss(None, one.ports)
        world.publish(two, "udp", any_address, 8080, 80)
        assert not answered(), "the second has no server"


@pytest.mark.parametrize("few", [20_000, -1], ids=["at once", "by address"])
def test_all_that_an_address_had_to_do_with_others_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("proad.host.conntrack._FEW", few)
    net = world.network(1)
    one, two = world.container(net, 2), world.container(net, 3)
    for address in ("0.0.0.0", "::"):
        world.publish(one, "tcp", address, 8080, 80)
    count = "cat /proc/sys/net/netfilter/nf_conntrack_count"
    with (
        answering(world.neighbour, "udp", 80),
        answering(world.neighbour, "tcp", 80, "::"),
        answering(one.netns, "tcp", 80),
        answering(one.netns, "tcp", 80, "::"),
    ):
        for asker in (one, two):
            ask(asker.netns, "udp", NEIGHBOUR, 80)
            ask(asker.netns, "tcp", NEIGHBOUR6, 80)
        ask(world.neighbour, "tcp", HOST, 8080)
        ask(world.neighbour, "tcp", HOST6, 8080)
        ask(world.host, "tcp", one.address, 80)
    before = int(world.on_host(count))
    assert inside(world.host, lambda: forget_flows_of([one.address])) == 3
    assert inside(world.host, lambda: forget_flows_of(both(one))) == 2
    assert inside(world.host, lambda: forget_flows_of(both(one))) == 0
    assert int(world.on_host(count)) <= before - 5
    assert inside(world.host, lambda: forget_flows_of(both(two))) == 2


def _listener() -> socket.socket:
    made = socket.socket()
    made.bind(("0.0.0.0", 80))
    made.listen()
    return made


def _unacknowledged(connection: socket.socket) -> int:
    """How many packets the other end has not acknowledged, of tcp_info in linux/tcp.h."""
    count: int = struct.unpack_from("=I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), 24)[
        0
    ]
    return count
