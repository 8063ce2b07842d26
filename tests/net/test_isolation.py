"""Who reaches whom, and who does not."""

import socket

import pytest

from tests.conftest import DockerCli
from tests.net.conftest import Container, Net, succeed
from tests.support.daemon import Daemon
from tests.support.nethosts import Hosts, Place, answering, ask, in_place, inside, reaches


def pair(net: Net, network: str, *flags: str) -> tuple[Container, Container]:
    net.network(network, *flags)
    return tuple(net.run(f"{network}{number}", "--network", network) for number in (1, 2))  # type: ignore[return-value]


def test_networks_do_not_reach_each_other(net: Net) -> None:
    (red, other), (blue, _) = pair(net, "red"), pair(net, "blue")
    default = net.run("default")
    with answering(red.netns, "tcp", 80), answering(default.netns, "tcp", 80):
        assert ask(other.netns, "tcp", red.address("red"), 80) == other.address("red")
        assert not reaches(blue.netns, "tcp", red.address("red"), 80)
        assert not reaches(default.netns, "tcp", red.address("red"), 80)
        assert not reaches(blue.netns, "tcp", default.address(), 80)
        assert ask(None, "tcp", red.address("red"), 80)  # this host reaches all of its containers


def test_containers_reach_out_behind_this_hosts_address(net: Net, hosts: Hosts) -> None:
    red, _ = pair(net, "red")
    outside = hosts.add("outside")
    with answering(outside.netns, "tcp", 80), answering(outside.netns, "udp", 80):
        for protocol in ("tcp", "udp"):
            assert ask(red.netns, protocol, outside.address, 80) == outside.router


def test_without_masquerade_they_go_out_as_they_are(net: Net, hosts: Hosts) -> None:
    net.network("plain", "-o", "com.docker.network.bridge.enable_ip_masquerade=false")
    plain = net.run("plain", "--network", "plain")
    outside = hosts.add("outside")
    with answering(outside.netns, "tcp", 80):
        assert ask(plain.netns, "tcp", outside.address, 80) == plain.address("plain")


def test_a_neighbour_that_routes_to_a_container_is_turned_away(net: Net, hosts: Hosts, ours: Daemon) -> None:
    red, _ = pair(net, "red")
    default = net.run("default", "-p", "81:80")
    neighbour = hosts.add("neighbour")
    for container, network in ((red, "red"), (default, "bridge")):
        with answering(container.netns, "tcp", 80), answering(container.netns, "udp", 80):
            for protocol in ("tcp", "udp"):
                assert not reaches(neighbour.netns, protocol, container.address(network), 80)
            assert reaches(None, "tcp", container.address(network), 80)


def test_an_internal_network_reaches_nothing_but_itself(net: Net, hosts: Hosts) -> None:
    one, two = pair(net, "closed", "--internal")
    outside = hosts.add("outside")
    red, _ = pair(net, "red")
    with (
        answering(one.netns, "tcp", 80),
        answering(outside.netns, "tcp", 80),
        answering(red.netns, "tcp", 80),
    ):
        assert ask(two.netns, "tcp", one.address("closed"), 80) == two.address("closed")
        gateway = net.inspect("closed")["IPAM"]["Config"][0]["Gateway"]
        # Not even with a route of its own making.
        in_place(two.netns, "ip", "route", "replace", "default", "via", gateway)
        assert not reaches(two.netns, "tcp", outside.address, 80)
        assert not reaches(two.netns, "tcp", red.address("red"), 80)
        assert not reaches(outside.netns, "tcp", one.address("closed"), 80)
        assert two.look_up("closed1") == {one.address("closed")}


def test_an_internal_network_has_no_default_route(net: Net, ours: Daemon) -> None:
    one, _ = pair(net, "closed", "--internal", "--ipv6", "--subnet", "fd4e:7072:6f68::/64")
    assert "default" not in one.say("ip", "route") + one.say("ip", "-6", "route")
    assert one.endpoint("closed")["Gateway"] == ""


def test_what_is_published_on_an_internal_network_is_not(net: Net, hosts: Hosts) -> None:
    net.network("closed", "--internal")
    server = net.run("server", "--network", "closed", "-p", "8123:80")
    outside = hosts.add("outside")
    with answering(server.netns, "tcp", 80):
        assert not reaches(outside.netns, "tcp", outside.router, 8123)


def test_without_icc_only_what_is_published_or_linked_is_reached(net: Net, hosts: Hosts) -> None:
    net.network("apart", "-o", "com.docker.network.bridge.enable_icc=false")
    server = net.run("server", "--network", "apart", "-p", "80")
    other = net.run("other", "--network", "apart")
    outside = hosts.add("outside")
    with answering(server.netns, "tcp", 80), answering(outside.netns, "tcp", 80):
        assert not reaches(other.netns, "tcp", server.address("apart"), 80)
        assert reaches(other.netns, "tcp", outside.address, 80)
        gateway = server.endpoint("apart")["Gateway"]
        assert reaches(other.netns, "tcp", gateway, server.port("80/tcp"))
        assert reaches(None, "tcp", server.address("apart"), 80)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_container_reaches_itself_by_its_published_port(net: Net, protocol: str) -> None:
    net.network("own")
    server = net.run("server", "--network", "own", "-p", f"80/{protocol}")
    with answering(server.netns, protocol, 80):
        gateway = server.endpoint("own")["Gateway"]
        assert ask(server.netns, protocol, gateway, server.port(f"80/{protocol}"))


def test_source_addresses_cannot_be_borrowed(net: Net, hosts: Hosts, ours: Daemon) -> None:
    """A container that speaks in another's name is not heard, neither next to it nor outside."""
    net.network("red", "--subnet", "10.220.1.0/24")
    victim, thief = net.run("victim", "--network", "red"), net.run("thief", "--network", "red")
    outside = hosts.add("outside")
    for borrowed in ("10.220.1.200", "192.0.2.9"):
        in_place(thief.netns, "ip", "address", "add", f"{borrowed}/32", "dev", "eth0")
        for target in (victim, outside):
            address = victim.address("red") if target is victim else outside.address
            assert _arrives(thief, None, target.netns, address), "what it says in its own name is heard"
            assert not _arrives(thief, borrowed, target.netns, address), f"{borrowed} to {address}"


def _arrives(sender: Container, source: str | None, place: object, address: str) -> bool:
    """Whether one packet, that needs no answer, arrives."""
    listening = inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))  # type: ignore[arg-type]
    sending = inside(sender.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with listening, sending:
        listening.bind((address, 4321))
        listening.settimeout(0.5)
        if source:
            sending.bind((source, 0))
        sending.sendto(b"hello", (address, 4321))
        try:
            return bool(listening.recv(100))
        except TimeoutError:
            return False


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_an_address_comes_without_the_flows_of_who_had_it_before(
    net: Net, hosts: Hosts, docker: DockerCli, ipv6: bool
) -> None:
    """Whom an earlier container has talked to must not reach the next one, that publishes nothing."""
    subnets = ("--subnet", "10.220.2.0/24", "--ipv6", "--subnet", "fd4e:7072:6f65::/64")
    net.network("red", *subnets)
    flags = ("--network", "red", "--ip", "10.220.2.7", "--ip6", "fd4e:7072:6f65::7")
    spy = net.run("spy", *flags)
    outside = hosts.add("outside")
    address, mine = (outside.address6, spy.address6("red")) if ipv6 else (outside.address, spy.address("red"))
    with bound(outside.netns, address, 4000) as peer:
        with bound(spy.netns, mine, 53) as sending:
            sending.sendto(b"let me in", (address, 4000))
            _, door = peer.recvfrom(100)
            peer.sendto(b"it is open", door)
            assert sending.recv(100) == b"it is open"
        succeed(docker("rm", "-f", "spy"))
        secret = net.run("secret", *flags)
        with bound(secret.netns, mine, 53) as listening:
            peer.sendto(b"anybody there?", door)
            with pytest.raises(TimeoutError):
                listening.recv(100)


def bound(place: Place, address: str, port: int) -> socket.socket:
    """A socket for datagrams."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = inside(place, lambda: socket.socket(family, socket.SOCK_DGRAM))
    made.settimeout(0.5)
    made.bind((address, port))
    return made


def test_ipv6_networks_are_as_apart(net: Net, hosts: Hosts, ours: Daemon) -> None:
    one, two = pair(net, "six", "--ipv6", "--subnet", "fd4e:7072:6f63::/64")
    other, _ = pair(net, "sixth", "--ipv6", "--subnet", "fd4e:7072:6f64::/64")
    outside = hosts.add("outside")
    with answering(one.netns, "tcp", 80, "::"), answering(outside.netns, "tcp", 80, "::"):
        assert ask(two.netns, "tcp", one.address6("six"), 80) == two.address6("six")
        assert not reaches(other.netns, "tcp", one.address6("six"), 80)
        assert not reaches(outside.netns, "tcp", one.address6("six"), 80)
        assert ask(two.netns, "tcp", outside.address6, 80) == outside.router6
        assert reaches(None, "tcp", one.address6("six"), 80)
