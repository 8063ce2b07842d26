"""Netlink requests and namespaces, against the kernel. Endpoints in use are in ``test_networks``."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest
import trio

from proad.host import netlink, netns
from proad.host.netlinksocket import NetlinkFailed
from proad.model import errors
from tests.support.whose import own_name

from .netlab import inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

GATEWAY = IPv4Interface("10.217.0.1/24")


@pytest.fixture
def bridge() -> Iterator[str]:
    name = own_name("pl")
    netlink.create_bridge(name, GATEWAY, "02:42:0a:d9:00:01", 1400)
    yield name
    netlink.delete_links([name])


def veth(bridge: str, path: Path, number: int = 2) -> netlink.Veth:
    return netlink.Veth(
        netns=path,
        host_interface=own_name("plv"),
        bridge=bridge,
        mtu=1400,
        mac_address=f"02:42:0a:d9:00:{number:02x}",
        address=IPv4Interface(f"10.217.0.{number}/24"),
        gateway=IPv4Address("10.217.0.1"),
    )


def own_namespace() -> str:
    return os.readlink(netns.OWN_NAMESPACE)


def test_a_bridge_is_there_with_its_address_and_a_fixed_mac(bridge: str, tmp_path: Path) -> None:
    found = netlink.find_link(bridge)
    assert found is not None
    assert (found.kind, found.is_up, found.addresses) == ("bridge", True, (GATEWAY,))
    address = Path(f"/sys/class/net/{bridge}/address")
    assert address.read_text() == "02:42:0a:d9:00:01\n"
    trio.run(netlink.create_veth, veth(bridge, tmp_path / "ns"))
    assert address.read_text() == "02:42:0a:d9:00:01\n"
    netns.remove(tmp_path / "ns")
    assert GATEWAY.network in netlink.taken_networks()
    assert IPv4Network("0.0.0.0/0") not in netlink.taken_networks()
    assert netlink.find_link("no-such-link") is None
    with pytest.raises(NetlinkFailed, match=f"create bridge {bridge}: file exists"):
        netlink.create_bridge(bridge, GATEWAY, "02:42:0a:d9:00:01", 1400)


def test_addresses_of_a_bridge_are_changed_in_one_batch(bridge: str) -> None:
    netlink.configure_bridge(bridge, add=IPv4Interface("10.218.0.1/16"), drop=[GATEWAY])
    found = netlink.find_link(bridge)
    assert found is not None
    assert found.addresses == (IPv4Interface("10.218.0.1/16"),)
    with pytest.raises(NetlinkFailed, match=r"remove address 10\.217\.0\.1/24") as caught:
        netlink.configure_bridge(bridge, drop=[GATEWAY])
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_veth_pair_joins_bridge_and_namespace(bridge: str, tmp_path: Path) -> None:
    wanted = veth(bridge, tmp_path / "ns")
    trio.run(netlink.create_veth, wanted)
    assert netlink.ports_of(bridge) == {wanted.host_interface}
    inner = inside(wanted.netns, lambda: netlink.find_link("eth0"))
    assert inner is not None
    assert (inner.kind, inner.is_up, inner.addresses) == ("veth", True, (wanted.address,))
    ipv6 = inside(wanted.netns, lambda: Path("/proc/thread-self/net/if_inet6").read_text())
    assert "eth0" not in ipv6
    netlink.delete_links([wanted.host_interface, "no-such-link"])
    assert netlink.ports_of(bridge) == set()
    netns.remove(wanted.netns)


def test_a_link_that_lost_its_bridge_joins_again(bridge: str, tmp_path: Path) -> None:
    wanted = veth(bridge, tmp_path / "ns")
    trio.run(netlink.create_veth, wanted)
    netlink.delete_links([bridge])
    netlink.create_bridge(bridge, GATEWAY, "02:42:0a:d9:00:01", 1400)
    netlink.join_bridge([wanted.host_interface, "no-such-link"], bridge)
    assert netlink.ports_of(bridge) == {wanted.host_interface}
    netns.remove(wanted.netns)


def test_each_failing_step_leaves_no_namespace_and_no_link(bridge: str, tmp_path: Path) -> None:
    path = tmp_path / "ns"
    for broken, text in (
        ({"bridge": "no-such-bridge"}, "find network interface no-such-bridge: no such device"),
        ({"host_interface": "lo"}, "create the veth pair lo on bridge .*: file exists"),
        ({"mac_address": "01:00:5e:00:00:01"}, "create the veth pair .*: cannot assign requested address"),
        (
            {"gateway": IPv4Address("203.0.113.1")},
            "add the default route via 203.0.113.1: network is unreachable",
        ),
    ):
        wanted = netlink.Veth(**{**vars(veth(bridge, path)), **broken})
        with pytest.raises(errors.System, match=text):
            trio.run(netlink.create_veth, wanted)
        assert not path.exists()
        assert str(path) not in Path("/proc/self/mountinfo").read_text()
    deadline = time.monotonic() + 10
    while netlink.ports_of(bridge):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_namespace_is_made_and_entered_by_threads_that_end(tmp_path: Path) -> None:
    path = tmp_path / "ns"
    before = own_namespace()

    def visit() -> str:
        netns.enter(path)
        return own_namespace()

    async def main() -> tuple[str, str]:
        await netlink.create_loopback_only(path)
        pooled = await trio.to_thread.run_sync(own_namespace)
        return pooled, await netns.in_own_thread(visit)

    pooled, visited = trio.run(main)
    assert pooled == before == own_namespace()
    assert visited != before
    assert netns.kept(tmp_path) == {path}
    with pytest.raises(errors.System, match=r"create network namespace .*: File exists"):
        trio.run(netlink.create_loopback_only, path)
    assert inside(path, own_namespace) == visited, "the refused one did not touch it"
    netns.remove(path)
    netns.remove(path)
    assert netns.kept(tmp_path) == set()
    assert netns.kept(tmp_path / "nothing") == set()
    assert not [thread for thread in threading.enumerate() if thread.name == "netns"]


def test_a_cancelled_visit_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        with trio.move_on_after(0):
            await netlink.create_loopback_only(tmp_path / "ns")
        assert (tmp_path / "ns").exists()

    trio.run(main)
    netns.remove(tmp_path / "ns")
