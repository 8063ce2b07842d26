"""Containers on one network, on several, on others' and on none."""

from collections.abc import Callable
from pathlib import Path

from tests.conftest import DockerCli
from tests.net.conftest import Net, succeed
from tests.strictness import skip_for_older_docker
from tests.support.daemon import Daemon
from tests.support.nethosts import answering, ask

Refused = Callable[..., str]


def test_a_container_starts_on_several_networks(net: Net, ours: Daemon) -> None:
    skip_for_older_docker(28)  # gw-priority
    net.network("red", "--subnet", "10.221.1.0/24")
    net.network("blue", "--subnet", "10.221.2.0/24")
    red = ("--network", "name=red,alias=m,ip=10.221.1.10")
    member = net.run("member", *red, "--network", "name=blue,ip=10.221.2.10,gw-priority=1")
    assert member.interfaces() == {"eth0", "eth1"}
    assert "default via 10.221.2.1" in member.say("ip", "route")
    in_red, in_blue = net.run("red1", "--network", "red"), net.run("blue1", "--network", "blue")
    assert in_red.look_up("m") == {"10.221.1.10"}
    assert in_blue.look_up("member") == {"10.221.2.10"}
    with answering(member.netns, "tcp", 80):
        assert ask(in_red.netns, "tcp", "10.221.1.10", 80) == in_red.address("red")
        assert ask(in_blue.netns, "tcp", "10.221.2.10", 80) == in_blue.address("blue")


def test_networks_come_and_go_while_it_runs(net: Net) -> None:
    net.network("red", "--subnet", "10.222.1.0/24")
    net.network("blue", "--subnet", "10.222.2.0/24")
    member = net.run("member", "--network", "red")
    pid = member.inspect()["State"]["Pid"]
    net.connect("blue", member, "--ip", "10.222.2.77", "--alias", "other")
    assert member.interfaces() == {"eth0", "eth1"}
    assert member.address("blue") == "10.222.2.77"
    peer = net.run("peer", "--network", "blue")
    with answering(member.netns, "tcp", 80):
        assert ask(peer.netns, "tcp", "10.222.2.77", 80) == peer.address("blue")
    net.disconnect("red", member)
    assert list(member.inspect()["NetworkSettings"]["Networks"]) == ["blue"]
    assert len(member.interfaces()) == 1
    assert "default via 10.222.2.1" in member.say("ip", "route")
    net.disconnect("blue", member)
    assert member.interfaces() == set()
    net.connect("red", member)
    assert "default via 10.222.1.1" in member.say("ip", "route")
    assert member.inspect()["State"]["Pid"] == pid


def test_networks_come_and_go_while_it_is_stopped(net: Net, docker: DockerCli) -> None:
    net.network("red")
    net.network("blue", "--subnet", "10.223.2.0/24")
    succeed(docker("create", "--name", "later", "--network", "red", net.image, "sleep", "1000"))
    succeed(docker("network", "connect", "--ip", "10.223.2.9", "--alias", "a", "blue", "later"))
    succeed(docker("network", "disconnect", "red", "later"))
    succeed(docker("start", "later"))
    shown = net.inspect("blue")["Containers"]
    assert [entry["IPv4Address"] for entry in shown.values()] == ["10.223.2.9/24"]
    assert net.inspect("red")["Containers"] == {}
    succeed(docker("restart", "-t", "0", "later"))
    [entry] = net.inspect("blue")["Containers"].values()
    assert entry["IPv4Address"] == "10.223.2.9/24"
    assert net.run("asker", "--network", "blue").look_up("a") == {"10.223.2.9"}


def test_a_container_that_left_all_networks_starts_without_any(net: Net, docker: DockerCli) -> None:
    net.network("red")
    for network in ("red", "bridge"):
        member = net.run(f"in-{network}", "--network", network)
        net.disconnect(network, member)
        succeed(docker("restart", "-t", "0", member.name))
        assert member.interfaces() == set()
        assert member.inspect()["NetworkSettings"]["Networks"] == {}
        net.connect(network, member)
        assert member.interfaces() == {"eth0"}


def test_fixed_addresses_and_macs_stay(net: Net, docker: DockerCli, ours: Daemon) -> None:
    net.network("six", "--ipv6", "--subnet", "10.224.1.0/24", "--subnet", "fd4e:7072:6f65::/64")
    member = net.run(
        "member", "--network", "six", "--ip", "10.224.1.200", "--ip6", "fd4e:7072:6f65::200",
        "--mac-address", "02:42:00:00:12:34",
    )  # fmt: skip
    for _ in range(2):
        assert (member.address("six"), member.address6("six")) == ("10.224.1.200", "fd4e:7072:6f65::200")
        link = member.say("ip", "address", "show", "dev", "eth0")
        assert "02:42:00:00:12:34" in link
        assert "10.224.1.200/24" in link
        assert "fd4e:7072:6f65::200/64" in link
        assert "default via fd4e:7072:6f65::1" in member.say("ip", "-6", "route")
        succeed(docker("restart", "-t", "0", "member"))


def test_a_network_without_ipv6_has_none(net: Net, ours: Daemon) -> None:
    net.network("four")
    net.network("six", "--ipv6", "--subnet", "fd4e:7072:6f66::/64")
    member = net.run("member", "--network", "four")
    assert "inet6" not in member.say("ip", "address", "show", "dev", "eth0")
    net.connect("six", member)
    assert "fd4e:7072:6f66::" in member.say("ip", "address", "show", "dev", "eth1")
    assert "inet6" not in member.say("ip", "address", "show", "dev", "eth0")


def test_ipv6_alone(net: Net, ours: Daemon) -> None:
    skip_for_older_docker(28)  # --ipv4
    net.network("only", "--ipv4=false", "--ipv6", "--subnet", "fd4e:7072:6f67::/64")
    one, two = net.run("one", "--network", "only"), net.run("two", "--network", "only")
    assert one.address("only") == ""
    with answering(one.netns, "tcp", 80, "::"):
        assert ask(two.netns, "tcp", one.address6("only"), 80) == two.address6("only")
    assert two.look_up6("one") == {one.address6("only")}


def test_the_host_s_network_and_none(net: Net, refused: Refused) -> None:
    host, none = net.run("host", "--network", "host"), net.run("none", "--network", "none")
    assert host.netns.readlink() == Path("/proc/self/ns/net").readlink()
    assert none.interfaces() == set()
    net.network("red")
    for container in (host, none):
        assert refused("network", "connect", "red", container.name)
    assert refused("network", "disconnect", "host", "host")
    net.disconnect("none", none)
    assert none.inspect()["NetworkSettings"]["Networks"] == {}
    net.connect("red", none)
    assert none.interfaces() == {"eth0"}
    succeed(net.docker("restart", "-t", "0", "none"))
    assert none.interfaces() == {"eth0"}


def test_a_joiner_shares_all_of_its_owners_network(net: Net, refused: Refused) -> None:
    net.network("red")
    net.network("blue")
    owner = net.run("owner", "--network", "red", "-p", "80")
    joiner = net.run("joiner", "--network", "container:owner")
    assert joiner.netns.readlink() == owner.netns.readlink()
    assert joiner.say("cat", "/etc/hosts") == owner.say("cat", "/etc/hosts")
    assert joiner.look_up("owner") == {owner.address("red")}
    assert joiner.inspect()["HostConfig"]["NetworkMode"] == f"container:{owner.id}"
    net.connect("blue", owner)
    assert joiner.interfaces() == {"eth0", "eth1"}
    assert refused("network", "connect", "blue", "joiner")
    conflict = refused("run", "--rm", "--network", "container:owner", "-p", "81:81", net.image, code=125)
    assert "conflicting options: port publishing and the container type network mode" in conflict


def test_a_joiner_follows_an_owner_that_restarts_when_it_restarts_itself(
    net: Net, docker: DockerCli, refused: Refused
) -> None:
    net.network("red")
    owner = net.run("owner", "--network", "red")
    joiner = net.run("joiner", "--network", "container:owner")
    succeed(docker("stop", "-t", "0", "owner"))
    assert joiner.inspect()["State"]["Running"]
    assert "cannot join network" in refused("restart", "-t", "0", "joiner")
    succeed(docker("rename", "owner", "another"))
    succeed(docker("start", "another"))
    succeed(docker("start", "joiner"))
    owner.name = "another"
    assert joiner.netns.readlink() == owner.netns.readlink()
    assert joiner.look_up("another") == {owner.address("red")}
