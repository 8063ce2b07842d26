"""Links of the host, against the kernel. Endpoints in use are in ``test_networks``."""

import errno
import os
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_network
from pathlib import Path

import pytest

from proad.host import netlink
from proad.host.netlinksocket import NetlinkFailed
from proad.model import errors
from tests.strictness import skip_for_lack_of
from tests.support.whose import own_name

from .links import BRIDGE_MAC, GATEWAY, GATEWAY6, create, interface
from .links import bridge as bridge
from .links import path as path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_a_bridge_is_there_with_its_addresses_and_a_fixed_mac(bridge: str, path: Path) -> None:
    found = netlink.find_link(bridge)
    assert found is not None
    assert (found.kind, found.is_up, found.addresses) == ("bridge", True, (GATEWAY, GATEWAY6))
    address = Path(f"/sys/class/net/{bridge}/address")
    assert address.read_text() == f"{BRIDGE_MAC}\n"
    create(path, interface(bridge))
    assert address.read_text() == f"{BRIDGE_MAC}\n"
    assert found.is_our_bridge
    assert netlink.find_link("no-such-link") is None
    with pytest.raises(NetlinkFailed, match=f"create bridge {bridge}: file exists"):
        netlink.create_bridge(bridge, [GATEWAY], BRIDGE_MAC, 1400)


def test_no_bridge_learns_from_what_is_for_itself_alone(bridge: str) -> None:
    learns = Path(f"/sys/class/net/{bridge}/bridge/no_linklocal_learn")
    assert learns.read_text() == "1\n"
    learns.write_text("0")  # as one that a user has made
    netlink.configure_bridge(bridge)
    assert learns.read_text() == "1\n"


def test_networks_in_use_are_those_of_both_families(bridge: str) -> None:
    taken = netlink.taken_networks()
    assert {GATEWAY.network, GATEWAY6.network} <= taken
    everywhere = ("0.0.0.0/0", "::/0", "::1/128", "fe80::/64", "ff00::/8")
    assert not taken & {ip_network(text) for text in everywhere}
    assert {type(network) for network in taken} == {IPv4Network, IPv6Network}


def test_addresses_of_a_bridge_are_changed_in_one_batch(bridge: str) -> None:
    new = (IPv4Interface("10.218.0.1/16"), IPv6Interface("fd17:218::1/64"))
    netlink.configure_bridge(bridge, add=new, drop=[GATEWAY, GATEWAY6])
    found = netlink.find_link(bridge)
    assert found is not None
    assert found.addresses == new
    with pytest.raises(NetlinkFailed, match=r"remove address 10\.217\.0\.1/24") as caught:
        netlink.configure_bridge(bridge, drop=[GATEWAY])
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_link_that_lost_its_bridge_joins_again(bridge: str, path: Path) -> None:
    wanted = interface(bridge)
    create(path, wanted)
    netlink.delete_links([bridge])
    netlink.create_bridge(bridge, [], BRIDGE_MAC, 1400)
    netlink.join_bridge([wanted.host_interface, "no-such-link"], bridge)
    assert netlink.ports_of(bridge) == {wanted.host_interface}
    assert netlink.links_present([wanted.host_interface, "no-such-link"]) == {wanted.host_interface}
    netlink.delete_links([wanted.host_interface, "no-such-link"])
    assert netlink.ports_of(bridge) == set()


# --- parent links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("internal", [False, True])
def test_a_parent_that_is_not_named_leads_nowhere_and_goes(internal: bool) -> None:
    name = own_name("dm-") if not internal else own_name("px")
    netlink.create_parent(name, internal=internal)
    netlink.create_parent(name, internal=internal)
    link = netlink.find_link(name)
    assert link is not None
    assert link.is_up
    assert Path(f"/sys/class/net/{name}/carrier").read_text() == "1\n"
    netlink.delete_parent(name)
    netlink.delete_parent(name)
    assert not [left for left in os.listdir("/sys/class/net") if left.endswith(name[3:])]


def test_a_users_link_stays_as_it_is(bridge: str) -> None:
    netlink.create_parent(bridge, internal=False)
    netlink.delete_parent(bridge)
    link = netlink.find_link(bridge)
    assert link is not None
    assert link.addresses == (GATEWAY, GATEWAY6)


def test_a_parent_is_made_where_it_is_a_vlan(bridge: str) -> None:
    name = f"{bridge}.50"
    try:
        netlink.create_parent(name, internal=False)
    except NetlinkFailed as error:
        if error.errno == errno.EOPNOTSUPP:
            skip_for_lack_of("a kernel with VLANs")
        raise
    link = netlink.find_link(name)
    assert link is not None
    assert (link.kind, link.is_up) == ("vlan", True)
    assert "VID: 50" in Path(f"/proc/net/vlan/{name}").read_text()
    netlink.delete_parent(name)
    assert netlink.find_link(name) is None


def test_what_can_be_no_parent_is_refused_in_dockers_words(bridge: str) -> None:
    for name, text in (
        ("nosuchif", "invalid subinterface vlan name nosuchif, example formatting is eth0.10"),
        ("nosuchif.5", "-o parent interface was not found on the host: nosuchif"),
        (f"{bridge}.x", f"invalid subinterface vlan name {bridge}.x, example formatting is eth0.10"),
        (f"{bridge}.0", "vlan id must be between 1-4094, received: 0"),
        (f"{bridge}.4095", "vlan id must be between 1-4094, received: 4095"),
    ):
        with pytest.raises(errors.InvalidParameter) as caught:
            netlink.create_parent(name, internal=False)
        assert caught.value.message == text
