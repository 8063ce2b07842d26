"""Networks on a link of this host, whose containers are hosts of what the link leads to."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.net.conftest import Container, Net
from tests.support.daemon import Daemon
from tests.support.nethosts import Hosts, OtherHost, answering, ask, need_links_of, reaches

Refused = Callable[..., str]


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_containers_are_neighbours_of_the_parents_neighbours(net: Net, hosts: Hosts, driver: str) -> None:
    need_links_of(driver)
    neighbour = hosts.add("neighbour")
    net.network("lan", "-d", driver, *_on(neighbour), "--gateway", neighbour.address)
    one, two = net.run("one", "--network", "lan"), net.run("two", "--network", "lan")
    assert f"default via {neighbour.address}" in one.say("ip", "route")
    _let_talk(one, two, neighbour)
    assert two.look_up("one") == {one.address("lan")}
    with answering(neighbour.netns, "tcp", 80):
        assert ask(one.netns, "tcp", neighbour.address, 80) == one.address("lan")


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_vlan_is_made_and_goes_with_its_network(net: Net, hosts: Hosts, ours: Daemon, driver: str) -> None:
    need_links_of("vlan")
    need_links_of(driver)
    neighbour = hosts.add("neighbour")
    neighbour.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
    neighbour.run("ip", "link", "add", "link", "eth0", "name", "eth0.50", "type", "vlan", "id", "50")
    neighbour.run("ip", "address", "add", f"{neighbour.address}/24", "dev", "eth0.50")
    neighbour.run("ip", "link", "set", "eth0.50", "up")
    vlan = f"{neighbour.link}.50"
    net.network("lan", "-d", driver, *_on(neighbour, vlan))
    assert _is_there(vlan)
    one, two = net.run("one", "--network", "lan"), net.run("two", "--network", "lan")
    _let_talk(one, two, neighbour)
    ours.restart()
    _let_talk(one, two, neighbour)
    ours.remove_containers()
    ours.stop()
    subprocess.run(["ip", "link", "delete", vlan], check=True)  # as a reboot does
    ours.start()
    _let_talk(net.run("one", "--network", "lan"), net.run("two", "--network", "lan"), neighbour)
    ours.remove_containers()
    ours.remove_networks()
    assert not _is_there(vlan)
    assert _is_there(neighbour.link)


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_an_ipvlan_routes_where_it_is_told_to(net: Net, hosts: Hosts, mode: str) -> None:
    need_links_of("ipvlan")
    neighbour = hosts.add("neighbour")
    neighbour.run("ip", "route", "add", "10.229.1.0/24", "via", neighbour.router)
    parent = ("-o", f"parent={neighbour.link}", "-o", f"ipvlan_mode={mode}")
    net.network("routed", "-d", "ipvlan", "--subnet", "10.229.1.0/24", *parent)
    one, two = net.run("one", "--network", "routed"), net.run("two", "--network", "routed")
    assert "default dev eth0" in one.say("ip", "route")
    _let_talk(one, two, neighbour)


def test_containers_come_to_a_parent_and_leave_it_while_they_run(net: Net, hosts: Hosts) -> None:
    neighbour = hosts.add("neighbour")
    net.network("lan", "-d", "macvlan", *_on(neighbour))
    member, other = net.run("member"), net.run("other", "--network", "lan")
    address = neighbour.address.rpartition(".")[0] + ".200"
    net.connect("lan", member, "--ip", address)
    assert member.address("lan") == address
    _let_talk(member, other, neighbour)
    net.disconnect("lan", member)
    assert len(member.interfaces()) == 1
    assert not reaches(neighbour.netns, "tcp", address, 80)
    assert net.run("another", "--network", "lan", "--ip", address).address("lan") == address


def test_what_leads_nowhere_is_a_network_of_its_containers_alone(net: Net, hosts: Hosts) -> None:
    neighbour = hosts.add("neighbour")
    net.network("alone", "-d", "macvlan")
    one, two = net.run("one", "--network", "alone"), net.run("two", "--network", "alone")
    with answering(two.netns, "tcp", 80):
        assert ask(one.netns, "tcp", two.address("alone"), 80) == one.address("alone")
    assert not reaches(one.netns, "tcp", neighbour.address, 80)


def test_parents_that_cannot_be_are_refused(net: Net, hosts: Hosts, refused: Refused) -> None:
    link = hosts.add("neighbour").link
    for parent, text in (
        ("lo", "loopback interface is not a valid macvlan parent link"),
        (f"{link}.0", "vlan id must be between 1-4094, received: 0"),
        ("nosuchlink", "invalid subinterface vlan name nosuchlink, example formatting is eth0.10"),
        ("nosuchlink.7", "-o parent interface was not found on the host: nosuchlink"),
    ):
        assert text in refused("network", "create", "-d", "macvlan", "-o", f"parent={parent}", "lan")


def _on(neighbour: OtherHost, parent: str = "") -> tuple[str, ...]:
    """Flags of a network beside a host; its own addresses and its router's are not given to containers."""
    stem = neighbour.address.rpartition(".")[0]
    subnet = ("--subnet", f"{stem}.0/24", "--ip-range", f"{stem}.128/25")
    return (*subnet, "-o", f"parent={parent or neighbour.link}")


def _let_talk(one: Container, two: Container, neighbour: OtherHost) -> None:
    """See that one is reached from both others, and sees them as they are."""
    [network] = set(one.inspect()["NetworkSettings"]["Networks"]) - {"bridge"}
    with answering(one.netns, "tcp", 80):
        assert ask(two.netns, "tcp", one.address(network), 80) == two.address(network)
        assert ask(neighbour.netns, "tcp", one.address(network), 80) == neighbour.address


def _is_there(link: str) -> bool:
    return Path("/sys/class/net", link).exists()
