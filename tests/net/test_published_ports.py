"""Published ports, from other hosts, from this one, and from containers."""

import contextlib
import socket

import pytest

from tests.conftest import DockerCli
from tests.net.conftest import Net, succeed
from tests.strictness import skip_for_lack_of
from tests.support.daemon import Daemon
from tests.support.nethosts import Hosts, answering, ask, reaches


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("network", ["bridge", "own"])
def test_others_reach_a_published_port_and_are_seen_as_they_are(
    net: Net, hosts: Hosts, protocol: str, network: str
) -> None:
    if network == "own":
        net.network("own")
    server = net.run("server", "--network", network, "-p", f"80/{protocol}")
    port = server.port(f"80/{protocol}")
    one, two = hosts.add("one"), hosts.add("two")
    with answering(server.netns, protocol, 80):
        for host in (one, two):
            assert ask(host.netns, protocol, host.router, port) == host.address
        # Another address of this host is as good.
        assert ask(one.netns, protocol, two.router, port) == one.address


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_this_host_reaches_a_published_port_by_all_its_addresses(
    net: Net, hosts: Hosts, protocol: str
) -> None:
    net.network("own")
    server = net.run("server", "--network", "own", "-p", f"80/{protocol}")
    port = server.port(f"80/{protocol}")
    gateway = server.endpoint("own")["Gateway"]
    with answering(server.netns, protocol, 80):
        for address in ("127.0.0.1", gateway, hosts.add("one").router):
            assert ask(None, protocol, address, port)


def test_sctp(net: Net, hosts: Hosts) -> None:
    try:
        socket.socket(type=socket.SOCK_STREAM, proto=socket.IPPROTO_SCTP).close()
    except OSError:
        skip_for_lack_of("a kernel with SCTP")
    net.network("own")
    server = net.run("server", "--network", "own", "-p", "80/sctp", "-p", "80/tcp")
    client = net.run("client", "--network", "own")
    port, neighbour = server.port("80/sctp"), hosts.add("neighbour")
    with answering(server.netns, "sctp", 80):
        assert ask(neighbour.netns, "sctp", neighbour.router, port) == neighbour.address
        assert ask(None, "sctp", "127.0.0.1", port)
        assert ask(client.netns, "sctp", server.address("own"), 80) == client.address("own")
        assert not reaches(neighbour.netns, "tcp", neighbour.router, port)


def test_a_port_bound_to_an_address_is_there_alone(net: Net, hosts: Hosts) -> None:
    one, two = hosts.add("one"), hosts.add("two")
    server = net.run("server", "-p", f"{one.router}::80")
    with answering(server.netns, "tcp", 80):
        port = server.port("80/tcp", one.router)
        assert ask(one.netns, "tcp", one.router, port) == one.address
        assert not reaches(two.netns, "tcp", two.router, port)
        assert not reaches(None, "tcp", "127.0.0.1", port)


def test_nobody_reaches_a_loopback_port_from_outside(net: Net, hosts: Hosts) -> None:
    """A neighbour that sends to 127.0.0.1 by way of this host is turned away."""
    server = net.run("server", "-p", "127.0.0.1::80")
    port = server.port("80/tcp", "127.0.0.1")
    neighbour = hosts.add("neighbour")
    neighbour.run("ip", "address", "delete", "127.0.0.1/8", "dev", "lo")
    neighbour.run("ip", "route", "add", "127.0.0.0/8", "via", neighbour.router, "table", "local")
    with answering(server.netns, "tcp", 80):
        assert reaches(None, "tcp", "127.0.0.1", port)
        assert not reaches(neighbour.netns, "tcp", neighbour.router, port)
        assert not reaches(neighbour.netns, "tcp", "127.0.0.1", port)


def test_containers_reach_published_ports_their_own_among_them(net: Net) -> None:
    net.network("red")
    net.network("blue")
    server = net.run("server", "--network", "red", "-p", "80")
    peer, stranger = net.run("peer", "--network", "red"), net.run("stranger", "--network", "blue")
    port = server.port("80/tcp")
    red, blue = server.endpoint("red")["Gateway"], stranger.endpoint("blue")["Gateway"]
    with answering(server.netns, "tcp", 80):
        for asker, gateway in ((peer, red), (server, red), (stranger, blue), (stranger, red)):
            assert ask(asker.netns, "tcp", gateway, port), asker.name


def _free_port() -> int:
    with socket.create_server(("", 0)) as finder:
        return int(finder.getsockname()[1])


def test_ranges_and_random_ports(net: Net, docker: DockerCli) -> None:
    first = min(_free_port(), 65000)
    server = net.run("server", "-p", f"{first}-{first + 20}:80", "-p", "7000-7002", "-p", "53/udp")
    assert first <= server.port("80/tcp") <= first + 20
    assert len({server.port(f"{port}/tcp") for port in (7000, 7001, 7002)}) == 3
    second = net.run("second", "-p", f"{first}-{first + 20}:80")
    assert second.port("80/tcp") != server.port("80/tcp")
    assert str(second.port("80/tcp")) in succeed(docker("port", "second", "80"))


def test_a_port_is_taken_exactly_while_its_container_runs(net: Net, docker: DockerCli) -> None:
    port = _free_port()
    net.run("server", "-p", f"{port}:80")
    refused = docker("run", "--rm", "-p", f"{port}:80", net.image, "true")
    assert refused.returncode == 125
    assert b"port is already allocated" in refused.stderr
    assert docker("run", "--rm", "-p", f"{port}:80/udp", net.image, "true").returncode == 0
    succeed(docker("stop", "-t", "0", "server"))
    assert docker("run", "--rm", "-p", f"{port}:80", net.image, "true").returncode == 0
    with socket.create_server(("127.0.0.1", port)):
        assert docker("start", "server").returncode == 1
    succeed(docker("start", "server"))


def test_ports_follow_the_container_from_network_to_network(net: Net, hosts: Hosts) -> None:
    """Whichever network it is on publishes; none does when it has left the last."""
    net.network("red")
    net.network("blue")
    server = net.run("server", "--network", "red", "-p", "80")
    port = server.port("80/tcp")
    visitor = hosts.add("visitor")
    with answering(server.netns, "tcp", 80):
        assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address
        net.connect("blue", server)
        net.disconnect("red", server)
        port = server.port("80/tcp")
        assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address
        net.disconnect("blue", server)
        assert not reaches(visitor.netns, "tcp", visitor.router, port)
        net.connect("red", server)
        assert ask(visitor.netns, "tcp", visitor.router, server.port("80/tcp")) == visitor.address


def test_a_port_is_published_as_soon_as_a_network_can(net: Net, hosts: Hosts) -> None:
    net.network("closed", "--internal")
    net.network("open")
    port = _free_port()
    server = net.run("server", "--network", "closed", "-p", f"{port}:80")
    visitor = hosts.add("visitor")
    with answering(server.netns, "tcp", 80):
        assert not reaches(visitor.netns, "tcp", visitor.router, port)
        net.connect("open", server)
        assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("", port))


def test_a_network_of_ipv6_publishes_what_one_of_ipv4_cannot(net: Net, hosts: Hosts, ours: Daemon) -> None:
    net.network("four")
    net.network("six", "--ipv6", "--subnet", "fd4e:7072:6f62::/64")
    port = _free_port()
    server = net.run("server", "--network", "four", "-p", f"{port}:80")
    visitor = hosts.add("visitor")
    with answering(server.netns, "tcp", 80), answering(server.netns, "tcp", 80, "::"):
        assert not reaches(visitor.netns, "tcp", visitor.router6, port)
        net.connect("six", server)
        assert ask(visitor.netns, "tcp", visitor.router6, port) == visitor.address6
        assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address


def test_a_parent_link_publishes_nothing(net: Net, hosts: Hosts, ours: Daemon) -> None:
    """Where the gateway is that of a network on one, others see the container at its own address."""
    net.network("web")
    net.network("lan", "-d", "macvlan", "-o", f"parent={hosts.add('router').link}")
    server = net.run("server", "--network", "web", "-p", "80")
    port = server.port("80/tcp")
    visitor = hosts.add("visitor")
    with answering(server.netns, "tcp", 80):
        net.connect("lan", server)
        assert server.inspect()["NetworkSettings"]["Ports"] == {}
        assert not reaches(visitor.netns, "tcp", visitor.router, port)
        net.disconnect("lan", server)
        assert server.port("80/tcp") == port
        assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address


def test_ipv6(net: Net, hosts: Hosts, ours: Daemon) -> None:
    net.network("six", "--ipv6", "--subnet", "fd4e:7072:6f62::/64")
    server = net.run("server", "--network", "six", "-p", "80", "-p", "80/udp")
    visitor = hosts.add("visitor")
    for protocol in ("tcp", "udp"):
        port = server.port(f"80/{protocol}", "::")
        assert port == server.port(f"80/{protocol}")
        with answering(server.netns, protocol, 80, "::"):
            assert ask(visitor.netns, protocol, visitor.router6, port) == visitor.address6
            assert ask(None, protocol, visitor.router6, port)
        with answering(server.netns, protocol, 80):
            assert ask(visitor.netns, protocol, visitor.router, port) == visitor.address
    # Where bridges hand packets to iptables nothing gets from ::1 into one; a client that is refused goes on
    # to 127.0.0.1, and one that is not had better be answered.
    with answering(server.netns, "tcp", 80, "::"), contextlib.suppress(ConnectionRefusedError):
        assert ask(None, "tcp", "::1", server.port("80/tcp", "::"))


def test_ports_answer_while_the_daemon_is_down(net: Net, hosts: Hosts, ours: Daemon) -> None:
    server = net.run("server", "-p", "80")
    port = server.port("80/tcp")
    visitor = hosts.add("visitor")
    with answering(server.netns, "tcp", 80):
        ours.kill()
        try:
            assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("", port))
        finally:
            ours.start()
        assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address
        assert server.port("80/tcp") == port
