"""The ways in which a bridge's containers and what is outside may reach each other."""

import socket
import subprocess

import pytest

from tests.net.conftest import Net
from tests.support.daemon import Daemon
from tests.support.nethosts import Hosts, OtherHost, Place, answering, ask, in_place, reaches
from tests.support.whose import own_port

MODE4 = "com.docker.network.bridge.gateway_mode_ipv4"
MODE6 = "com.docker.network.bridge.gateway_mode_ipv6"


def is_there(place: Place, address: str) -> bool:
    """Whether it answers a ping."""
    prefix = [] if place is None else ["nsenter", f"--net={place}"]
    ping = [*prefix, "busybox", "ping", "-c", "1", "-W", "1", address]
    return subprocess.run(ping, capture_output=True, check=False).returncode == 0


def is_free(port: int) -> bool:
    with socket.socket() as other:
        try:
            other.bind(("", port))
        except OSError:
            return False
        return True


@pytest.fixture
def visitor(hosts: Hosts) -> OtherHost:
    return hosts.add("visitor")


def test_where_others_have_a_route_they_reach_what_is_published(
    net: Net, ours: Daemon, visitor: OtherHost
) -> None:
    port = own_port()
    net.network("lane", "-o", f"{MODE4}=routed")
    net.network("other")
    server = net.run("server", "--network", "lane", "-p", f"{port}:80", "-p", "82/udp")
    stranger = net.run("stranger", "--network", "other")
    address = server.address("lane")
    assert server.inspect()["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}],
        "82/udp": [{"HostIp": "0.0.0.0", "HostPort": ""}],
    }
    assert is_free(port)

    def all_is_well() -> None:
        with (
            answering(server.netns, "tcp", 80),
            answering(server.netns, "tcp", 81),
            answering(server.netns, "udp", 82),
            answering(visitor.netns, "tcp", 90),
        ):
            assert ask(visitor.netns, "tcp", address, 80) == visitor.address
            assert ask(visitor.netns, "udp", address, 82) == visitor.address
            assert ask(stranger.netns, "tcp", address, 80)
            assert not reaches(visitor.netns, "tcp", address, 81)
            assert not reaches(stranger.netns, "tcp", address, 81)
            assert not reaches(visitor.netns, "tcp", visitor.router, port)
            assert ask(server.netns, "tcp", visitor.address, 90) == address
            assert is_there(visitor.netns, address)

    all_is_well()
    ours.kill()
    ours.start()
    all_is_well()
    in_place(None, "nft", "flush", "set", "inet", ours.config.table, "opened4")
    ours.restart()
    all_is_well()


def test_ports_change_with_the_network_that_has_the_gateway(
    net: Net, ours: Daemon, visitor: OtherHost
) -> None:
    port = own_port()
    net.network("lane", "-o", f"{MODE4}=routed")
    net.network("alley")
    server = net.run("server", "--network", "lane", "-p", f"{port}:80")
    routed = server.address("lane")
    with answering(server.netns, "tcp", 80):
        assert ask(visitor.netns, "tcp", routed, 80)
        net.connect("alley", server)  # the first by its name
        assert server.port("80/tcp") == port
        assert not is_free(port)
        assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address
        assert not reaches(visitor.netns, "tcp", routed, 80)
        net.disconnect("alley", server)
        assert ask(visitor.netns, "tcp", routed, 80)
        assert not reaches(visitor.netns, "tcp", visitor.router, port)
    net.docker("rm", "-f", "server")
    assert is_free(port)


def test_one_family_may_be_routed_and_the_other_not(net: Net, ours: Daemon, visitor: OtherHost) -> None:
    port = own_port()
    net.network("lane", "--ipv6", "--subnet", "fd4e:7072:6f63::/64", "-o", f"{MODE6}=routed")
    server = net.run("server", "--network", "lane", "-p", f"{port}:80")
    bindings = server.inspect()["NetworkSettings"]["Ports"]["80/tcp"]
    assert sorted((each["HostIp"], each["HostPort"]) for each in bindings) == [
        ("0.0.0.0", str(port)),
        ("::", ""),
    ]
    with answering(server.netns, "tcp", 80), answering(server.netns, "tcp", 80, "::"):
        assert ask(visitor.netns, "tcp", visitor.router, port) == visitor.address
        assert not reaches(visitor.netns, "tcp", server.address("lane"), 80)
        assert ask(visitor.netns, "tcp", server.address6("lane"), 80) == visitor.address6
        assert not reaches(visitor.netns, "tcp", visitor.router6, port)
        assert is_there(visitor.netns, server.address6("lane"))
    only = net.run("only", "--network", "lane", "-p", "[::]::81")
    assert only.inspect()["NetworkSettings"]["Ports"]["81/tcp"] == [{"HostIp": "::", "HostPort": ""}]


def test_unprotected_containers_are_reached_by_all_their_ports(
    net: Net, ours: Daemon, visitor: OtherHost
) -> None:
    net.network("field", "-o", f"{MODE4}=nat-unprotected")
    server = net.run("server", "--network", "field", "-p", "80")
    with answering(server.netns, "tcp", 80), answering(server.netns, "tcp", 81):
        for port in (80, 81):
            assert ask(visitor.netns, "tcp", server.address("field"), port) == visitor.address
        assert ask(visitor.netns, "tcp", visitor.router, server.port("80/tcp")) == visitor.address
    with answering(visitor.netns, "tcp", 90):
        assert ask(server.netns, "tcp", visitor.address, 90) == visitor.router


def test_an_isolated_network_has_no_gateway(net: Net, ours: Daemon) -> None:
    modes = ("-o", f"{MODE4}=isolated", "-o", f"{MODE6}=isolated")
    net.network("cell", "--internal", "--ipv6", "--subnet", "fd4e:7072:6f64::/64", *modes)
    one, two = (net.run(name, "--network", "cell") for name in ("one", "two"))
    configs = net.inspect("cell")["IPAM"]["Config"]
    assert [config.get("Gateway", "") for config in configs] == ["", ""]
    bridge = f"br-{net.inspect('cell')['Id'][:12]}"
    assert in_place(None, "ip", "-o", "address", "show", "dev", bridge) == ""
    assert one.endpoint("cell")["Gateway"] == one.endpoint("cell")["IPv6Gateway"] == ""
    with answering(one.netns, "tcp", 80), answering(one.netns, "tcp", 80, "::"):
        assert ask(two.netns, "tcp", one.address("cell"), 80)
        assert ask(two.netns, "tcp", one.address6("cell"), 80)
        assert not is_there(None, one.address("cell"))
    assert two.look_up("one") == {one.address("cell")}
    ours.restart()
    assert in_place(None, "ip", "-o", "address", "show", "dev", bridge) == ""
    assert two.look_up("one") == {one.address("cell")}
