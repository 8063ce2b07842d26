"""Namespaces and the interfaces in them, against the kernel."""

import errno
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
import trio

from proad.host import netlink, netns, sandbox
from proad.host.netlinksocket import NetlinkFailed, NetlinkSocket
from proad.model import errors
from tests.strictness import skip_for_lack_of
from tests.support.whose import own_name

from .links import BY_ETH0, BY_ETH0_BOTH, GATEWAY, GATEWAY6, create, interface
from .links import bridge as bridge
from .links import other as other
from .links import path as path
from .netlab import inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NONE = sandbox.Gateways()


def own_namespace() -> str:
    return os.readlink(netns.OWN_NAMESPACE)


def links_in(path: Path) -> dict[str, netlink.Link | None]:
    return inside(path, lambda: {name: netlink.find_link(name) for _, name in socket.if_nameindex()})


def link_in(path: Path, name: str) -> netlink.Link:
    link = links_in(path)[name]
    assert link is not None
    return link


def route_of(family: socket.AddressFamily, towards: str) -> str:
    """The address that a packet to ``towards`` would be sent from, which tells the interface."""
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((towards, 9))
        address: str = asking.getsockname()[0]
        return address


def from_ipv4() -> str:
    return route_of(socket.AF_INET, "203.0.113.1")


def from_ipv6() -> str:
    return route_of(socket.AF_INET6, "2001:db8::1")


def setting(name: str) -> Callable[[], str]:
    return lambda: Path("/proc/sys/net", name).read_text().strip()


def port_setting(wanted: sandbox.Interface, name: str) -> str:
    return Path(f"/sys/class/net/{wanted.host_interface}/brport/{name}").read_text().strip()


def tells_who_asks(server: Path, client: Path, address: str) -> str:
    """Ask a TCP server in one namespace from another, at the first attempt; return the address it sees."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = inside(server, lambda: socket.create_server((address, 8077), family=family))
    with listening:
        asking = inside(client, lambda: socket.create_connection((address, 8077), timeout=3))
        with asking:
            peer: str = listening.accept()[1][0]
            return peer


def gone(names: list[str]) -> None:
    deadline = time.monotonic() + 10
    while left := netlink.links_present(names):
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


# --- new namespaces -------------------------------------------------------------------------------------


def test_a_veth_pair_joins_bridge_and_namespace(bridge: str, path: Path) -> None:
    wanted = interface(bridge)
    create(path, wanted)
    assert netlink.ports_of(bridge) == {wanted.host_interface}
    assert set(links_in(path)) == {"lo", "eth0"}
    assert link_in(path, "lo").is_up
    inner = link_in(path, "eth0")
    assert (inner.kind, inner.is_up, inner.addresses) == ("veth", True, wanted.addresses)
    assert inside(path, from_ipv4) == "10.217.0.2"
    assert "eth0" not in inside(path, lambda: Path("/proc/thread-self/net/if_inet6").read_text())
    assert inside(path, setting("ipv6/conf/eth0/disable_ipv6")) == "1"
    assert port_setting(wanted, "hairpin_mode") == "0"


def test_a_bridge_lets_the_first_packet_through(bridge: str, path: Path) -> None:
    forwarding = "3"  # linux/if_bridge.h
    states = []
    for number in range(2, 12):
        wanted = interface(bridge, number)
        create(path, wanted)
        states.append(port_setting(wanted, "state"))
        another = interface(bridge, 20 + number, name="eth1")
        trio.run(sandbox.plug, path, another, BY_ETH0)
        states.append(port_setting(another, "state"))
        netns.remove(path)
    assert set(states) == {forwarding}


def test_a_link_without_a_carrier_is_not_waited_for_for_ever(
    bridge: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody inside has set it down by the time that it is asked for."""
    wanted = interface(bridge)
    let_through = sandbox._let_through
    asked: list[str] = []

    def set_down_first(host: NetlinkSocket, interfaces: Sequence[sandbox.Interface]) -> None:
        subprocess.run(["ip", "link", "set", "eth0", "down"], check=True)
        let_through(host, interfaces)
        asked.append(port_setting(wanted, "state"))

    monkeypatch.setattr(sandbox, "_let_through", set_down_first)
    monkeypatch.setattr(sandbox, "CARRIER_TIMEOUT_S", 0.05)
    create(path, wanted, gateways=NONE)
    assert asked == ["0"]


def test_interfaces_of_several_networks_come_at_once(bridge: str, path: Path) -> None:
    wanted = [
        interface(bridge, 2, hairpin=True),
        interface(bridge, 3, name="eth1", ipv6=True, mac_address="", mtu=0),
        interface(bridge, 4, name="lan0", addresses=(ip_interface("fd17:217::4/64"),)),
    ]
    gateways = sandbox.Gateways(ipv4=("eth1", str(GATEWAY.ip)), ipv6=("lan0", str(GATEWAY6.ip)))
    create(path, *wanted, gateways=gateways)
    assert set(links_in(path)) == {"lo", "eth0", "eth1", "lan0"}
    for one in wanted:
        assert link_in(path, one.name).addresses == one.addresses
        assert port_setting(one, "hairpin_mode") == str(int(one.hairpin))
    assert inside(path, from_ipv4) == "10.217.0.3"
    assert inside(path, from_ipv6) == "fd17:217::4"
    disabled = [inside(path, setting(f"ipv6/conf/{one.name}/disable_ipv6")) for one in wanted]
    assert disabled == ["1", "0", "0"]


def test_ipv6_works_at_once_and_learns_no_routers(bridge: str, path: Path, other: Path) -> None:
    create(path, interface(bridge, 2, ipv6=True), gateways=BY_ETH0_BOTH)
    create(other, interface(bridge, 3, ipv6=True), gateways=BY_ETH0_BOTH)
    assert tells_who_asks(path, other, "fd17:217::2") == "fd17:217::3"
    assert tells_who_asks(other, path, "10.217.0.3") == "10.217.0.2"
    assert inside(path, setting("ipv6/conf/eth0/accept_ra")) == "0"


def test_a_namespace_without_interfaces_has_its_own_loopback(path: Path) -> None:
    create(path, gateways=NONE)
    assert set(links_in(path)) == {"lo"}
    assert link_in(path, "lo").is_up


def test_what_is_prepared_is_prepared_inside_when_all_is_there(bridge: str, path: Path) -> None:
    told: list[bool] = []

    async def main() -> str | None:
        def prepare() -> str:
            with socket.create_server(("10.217.0.2", 53)):
                return own_namespace()

        return await sandbox.create_sandbox(
            path, [interface(bridge)], BY_ETH0, prepare=prepare, kept=lambda: told.append(path.exists())
        )

    assert trio.run(main) == inside(path, own_namespace)
    assert told == [True]


def test_each_failing_step_leaves_no_namespace_and_no_link(bridge: str, path: Path) -> None:
    nowhere = sandbox.Gateways(ipv4=("eth0", "203.0.113.1"))
    unknown = sandbox.Gateways(ipv4=("eth7", "203.0.113.1"))
    cases: tuple[tuple[dict[str, Any], sandbox.Gateways, str], ...] = (
        ({"master": "no-such-bridge"}, BY_ETH0, "find network interface no-such-bridge: no such device"),
        ({"host_interface": "lo"}, BY_ETH0, "create the veth pair lo on bridge .*: file exists"),
        (
            {"mac_address": "01:00:5e:00:00:01"},
            BY_ETH0,
            "create the veth pair .*: cannot assign requested address",
        ),
        ({"name": "a/b"}, NONE, "create the veth pair .*: invalid argument"),
        ({}, nowhere, "add the default route via 203.0.113.1: network is unreachable"),
        ({}, unknown, "find network interface eth7: no such device"),
    )
    for broken, gateways, text in cases:
        healthy = interface(bridge, 9, name="eth9")
        with pytest.raises(errors.System, match=text):
            create(path, healthy, interface(bridge, **broken), gateways=gateways)
        assert not path.exists()
        assert str(path) not in Path("/proc/self/mountinfo").read_text()
        gone([healthy.host_interface])
    with pytest.raises(ZeroDivisionError):
        trio.run(lambda: sandbox.create_sandbox(path, [interface(bridge)], BY_ETH0, prepare=lambda: 1 // 0))
    assert not path.exists()


def test_a_namespace_is_made_and_entered_by_threads_that_end(path: Path) -> None:
    before = own_namespace()

    def visit() -> str:
        netns.enter(path)
        return own_namespace()

    async def main() -> tuple[str, str]:
        await sandbox.create_sandbox(path, [], NONE)
        pooled = await trio.to_thread.run_sync(own_namespace)
        return pooled, await netns.in_own_thread(visit)

    pooled, visited = trio.run(main)
    assert pooled == before == own_namespace()
    assert visited != before
    assert netns.kept(path.parent) == {path}
    with pytest.raises(errors.System, match=r"create network namespace .*: File exists"):
        create(path, gateways=NONE)
    assert inside(path, own_namespace) == visited, "the refused one did not touch it"
    netns.remove(path)
    netns.remove(path)
    assert netns.kept(path.parent) == set()
    assert netns.kept(path.parent / "nothing") == set()
    assert not [thread for thread in threading.enumerate() if thread.name == "netns"]


def test_a_cancelled_visit_is_waited_for(path: Path) -> None:
    async def main() -> None:
        with trio.move_on_after(0):
            await sandbox.create_sandbox(path, [], NONE)
        assert path.exists()

    trio.run(main)


# --- living namespaces ----------------------------------------------------------------------------------


def test_an_interface_is_plugged_and_the_default_routes_move(bridge: str, path: Path) -> None:
    create(path, interface(bridge, 2))
    second = interface(bridge, 3, name="eth1", ipv6=True, hairpin=True)
    by_eth1 = sandbox.Gateways(ipv4=("eth1", str(GATEWAY.ip)), ipv6=("eth1", str(GATEWAY6.ip)))
    trio.run(sandbox.plug, path, second, by_eth1)
    assert link_in(path, "eth1").addresses == second.addresses
    assert port_setting(second, "hairpin_mode") == "1"
    assert (inside(path, from_ipv4), inside(path, from_ipv6)) == ("10.217.0.3", "fd17:217::3")

    trio.run(sandbox.unplug, path, "eth1", BY_ETH0)
    assert set(links_in(path)) == {"lo", "eth0"}
    assert inside(path, from_ipv4) == "10.217.0.2"
    with pytest.raises(OSError, match="unreachable") as caught:
        inside(path, from_ipv6)
    assert caught.value.errno == errno.ENETUNREACH
    gone([second.host_interface])

    trio.run(sandbox.unplug, path, "eth1", BY_ETH0)
    trio.run(sandbox.unplug, path, "eth0", NONE)
    assert set(links_in(path)) == {"lo"}


def test_the_default_route_stays_where_a_network_without_one_comes(bridge: str, path: Path) -> None:
    create(path, interface(bridge, 2))
    trio.run(sandbox.plug, path, interface(bridge, 3, name="eth1"), BY_ETH0)
    assert inside(path, from_ipv4) == "10.217.0.2"


def test_a_plug_that_fails_leaves_the_namespace_as_it_was(bridge: str, path: Path) -> None:
    create(path, interface(bridge, 2))
    before = links_in(path)
    nowhere = sandbox.Gateways(ipv4=("eth1", "203.0.113.1"))
    half_way = sandbox.Gateways(ipv4=("eth1", str(GATEWAY.ip)), ipv6=("eth1", "2001:db8::1"))
    cases: tuple[tuple[dict[str, Any], sandbox.Gateways, str], ...] = (
        ({"name": "eth0"}, BY_ETH0, "create the veth pair .*: file exists"),
        ({"master": "no-such-bridge"}, BY_ETH0, "find network interface no-such-bridge"),
        ({"addresses": (ip_interface("ff02::5/128"),)}, BY_ETH0, "add address ff02::5/128 to eth1"),
        ({}, nowhere, "add the default route via 203.0.113.1: network is unreachable"),
        ({}, half_way, "add the default route via 2001:db8::1"),
    )
    for broken, gateways, text in cases:
        wanted = interface(bridge, 3, **{"name": "eth1", **broken})
        with pytest.raises(errors.System, match=text):
            trio.run(sandbox.plug, path, wanted, gateways)
        assert links_in(path) == before
        assert inside(path, from_ipv4) == "10.217.0.2"
        gone([wanted.host_interface])
    with pytest.raises(errors.System, match=r"open network namespace .*: No such file"):
        trio.run(sandbox.plug, path.parent / "none", interface(bridge, 3), BY_ETH0)


# --- links that lie on others ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mode", "flag"),
    [
        ("macvlan", "", ""),
        ("macvlan", "bridge", ""),
        ("ipvlan", "", ""),
        ("ipvlan", "l2", "bridge"),
        ("ipvlan", "l3", ""),
    ],
)
def test_containers_on_one_parent_reach_each_other(
    kind: sandbox.Kind, mode: str, flag: str, path: Path, other: Path
) -> None:
    parent = own_name("dm-")
    netlink.create_parent(parent, internal=False)
    on_parent = partial(interface, parent, kind=kind, mode=mode, flag=flag, mtu=0, host_interface="")
    on_link = sandbox.Gateways(ipv4=("eth0", ""), ipv6=("eth0", ""))
    try:
        create(path, on_parent(2, ipv6=True), gateways=on_link)
        trio.run(sandbox.create_sandbox, other, [], NONE)
        trio.run(sandbox.plug, other, on_parent(3, ipv6=True), on_link)
        assert link_in(path, "eth0").kind == kind
        assert tells_who_asks(path, other, "10.217.0.2") == "10.217.0.3"
        assert tells_who_asks(path, other, "fd17:217::2") == "fd17:217::3"
        assert (inside(path, from_ipv4), inside(path, from_ipv6)) == ("10.217.0.2", "fd17:217::2")
        trio.run(sandbox.unplug, other, "eth0", NONE)
        assert set(links_in(other)) == {"lo"}
    except NetlinkFailed as error:
        if kind == "ipvlan" and error.errno == errno.EOPNOTSUPP:
            skip_for_lack_of("a kernel with ipvlan")
        raise
    finally:
        netlink.delete_parent(parent)


@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
def test_a_macvlan_has_the_mode_that_is_asked_for(mode: str, path: Path) -> None:
    parent = own_name("dm-")
    netlink.create_parent(parent, internal=False)
    wanted = interface(parent, kind="macvlan", mode=mode, host_interface="", mtu=1300)
    try:
        create(path, wanted, gateways=NONE)
        assert link_in(path, "eth0").addresses == wanted.addresses
        shown = inside(path, lambda: subprocess.check_output(["ip", "-d", "link", "show", "eth0"], text=True))
        assert f"macvlan mode {mode}" in shown
        assert "mtu 1300" in shown
        if mode == "passthru":
            another = interface(parent, 3, name="eth1", kind="macvlan", mode=mode, host_interface="", mtu=0)
            with pytest.raises(NetlinkFailed, match=f"create macvlan link eth1 on {parent}"):
                trio.run(sandbox.plug, path, another, NONE)
    finally:
        netlink.delete_parent(parent)
