"""The nftables tables, against the kernel."""

import errno
import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from proad.host.firewall import BridgeRules, Firewall, Link, Port, Published, Source, Target, published_of
from proad.host.netlinksocket import NetlinkFailed
from proad.host.nftelements import Element, ElementWriter
from proad.host.nftmessages import INET
from proad.model import errors
from proad.model.ports import PROTOCOLS, PublishedPort
from tests.support.whose import own_name

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

V4, V6 = IPv4Network("10.215.0.0/24"), IPv6Network("fd15::/64")
BRIDGE = BridgeRules("not-there", (V4, V6), internal=False, icc=True, masquerade=True)
APART = BridgeRules("not-there-2", (IPv4Network("10.216.0.0/24"),), internal=True, icc=False, masquerade=True)
WEB = Port(
    "veth-web", "not-there", "02:42:0a:d7:00:02", (IPv4Address("10.215.0.2"), IPv6Address("fd15::2")), True
)
DB = Port("veth-db", "not-there-2", "02:42:0a:d8:00:02", (IPv4Address("10.216.0.2"),), False)


@pytest.fixture
def table() -> Iterator[str]:
    name = own_name("pf")
    yield name
    Firewall(name).delete()


def opened(table: str, *bridges: BridgeRules) -> Firewall:
    firewall = Firewall(table)
    firewall.open(bridges or [BRIDGE])
    return firewall


def ports(
    *host_ports: int,
    address: str = "10.215.0.2",
    protocols: tuple[str, ...] = PROTOCOLS,
    hosts: tuple[str, ...] = ("0.0.0.0", "127.0.0.1", "::", "2001:db8::1"),
) -> Published:
    return published_of(
        address,
        "fd15::2",
        [
            PublishedPort(container_port=80, protocol=protocol, host_ip=host_ip, host_port=port)
            for port in host_ports
            for protocol in protocols
            for host_ip in hosts
        ],
    )


def nft(*command: str) -> str:
    return subprocess.run(["nft", *command], capture_output=True, text=True, check=True).stdout


def listed(table: str) -> str:
    return nft("list", "table", "inet", table) + nft("list", "table", "bridge", table)


def contents(table: str) -> list[str]:
    """The words of the tables: the elements of a set of ranges are listed in no certain order."""
    return sorted(listed(table).replace(",", " ").split())


def rules(table: str) -> str:
    """The rules with their handles: one that was written again has another handle."""
    found = nft("-a", "list", "table", "inet", table) + nft("-a", "list", "table", "bridge", table)
    return "\n".join(line for line in found.splitlines() if "comment" in line)


def test_what_is_published_is_read_back_by_the_next_daemon(table: str) -> None:
    first = opened(table)
    first.admit(WEB, ports(18100, 18101))
    second = opened(table)
    assert second.published == first.published == ports(18100, 18101)
    assert second.reconcile({"veth-web": WEB}, ports(18100, 18101)) == (0, 0)
    second.dismiss(None, ports(18100))
    assert opened(table).published == second.published == ports(18101)


def test_only_families_that_a_container_has_are_published() -> None:
    wished = [
        PublishedPort(container_port=80, protocol="tcp", host_ip=host_ip, host_port=1)
        for host_ip in ("0.0.0.0", "::", "::1")
    ]
    four, six = Target("10.215.0.2", 80), Target("fd15::2", 80)
    assert published_of("10.215.0.2", "", wished) == {Source("tcp", "0.0.0.0", 1): four}
    assert published_of("", "fd15::2", wished) == {Source("tcp", "::", 1): six, Source("tcp", "::1", 1): six}


def test_opening_again_touches_no_rule(table: str) -> None:
    opened(table)
    before = rules(table)
    assert before.count("dnat") >= 12
    opened(table)
    assert rules(table) == before


def test_bridges_come_and_go_and_nothing_of_them_stays(table: str) -> None:
    firewall = opened(table)
    before, bare = rules(table), listed(table)
    firewall.set_bridge(APART)
    assert '"not-there-2" . 10.216.0.0/24' in listed(table)
    firewall.set_bridge(BridgeRules("not-there-2", (IPv4Network("10.217.0.0/24"),), False, True, True))
    assert "10.216." not in listed(table)
    firewall.drop_bridge("not-there-2")
    firewall.drop_bridge("not-there-2")
    assert listed(table) == bare
    assert rules(table) == before, "rules do not change with networks"


def test_endpoints_come_and_go_and_nothing_of_them_stays(table: str) -> None:
    firewall = opened(table, BRIDGE, APART)
    bare = listed(table)
    link = Link(IPv4Address("10.216.0.3"), IPv4Address("10.216.0.2"), "udp", 53)
    firewall.admit(WEB, ports(18100))
    firewall.admit(DB, {})
    firewall.allow([link, link])
    full = listed(table)
    for part in (
        '"veth-web" . 02:42:0a:d7:00:02 . fe80::42:aff:fed7:2',
        "10.216.0.3 . 10.216.0.2 . udp . 53",
        '"veth-db"',
    ):
        assert part in full
    assert '"veth-db" .' not in full, "one that is not strict may send what it likes"
    other = opened(table, BRIDGE, APART)
    assert other.reconcile({"veth-web": WEB, "veth-db": DB}, ports(18100), [link]) == (0, 0)
    other.dismiss("veth-web", ports(18100))
    other.dismiss("veth-db", {})
    other.disallow([link])
    other.disallow([link])
    assert listed(table) == bare


def test_an_endpoint_that_is_admitted_again_is_as_it_is_now(table: str) -> None:
    firewall = opened(table)
    firewall.admit(WEB, {})
    moved = Port(WEB.host_interface, WEB.bridge, WEB.mac, (IPv4Address("10.215.0.9"),), True)
    firewall.admit(moved, {})
    assert "10.215.0.9" in listed(table)
    assert "10.215.0.2" not in listed(table)


def test_rules_that_somebody_flushed_or_added_are_put_right_and_the_maps_kept(table: str) -> None:
    opened(table).admit(None, ports(18102))
    count = len(rules(table).splitlines())
    nft("flush", "chain", "inet", table, "to_bridge")
    assert opened(table).published == ports(18102)
    assert len(rules(table).splitlines()) == count
    nft("insert", "rule", "inet", table, "forward", "accept")
    opened(table)
    assert len(rules(table).splitlines()) == count
    assert "\t\taccept\n" not in nft("list", "chain", "inet", table, "forward")


def test_everything_that_somebody_took_away_is_restored(table: str) -> None:
    firewall = opened(table, BRIDGE, APART)
    firewall.admit(WEB, ports(18103))
    firewall.admit(DB, {})
    before = contents(table)
    for harm in (
        f"delete table inet {table}",
        f"delete table inet {table}\ndelete table bridge {table}",
        f"flush map inet {table} tcp4_any",
        f"add element inet {table} tcp4_any {{ 1 : 192.0.2.1 . 1 }}",
        f"flush set bridge {table} strict",
        f"delete element inet {table} subnets4 {{ not-there . 10.215.0.0/24 }}",
        f"flush chain bridge {table} receive",
    ):
        nft(harm)
        assert not listed_or_none(table) or contents(table) != before
        assert firewall.restore(), harm
        assert contents(table) == before, harm
        assert not firewall.restore()


def listed_or_none(table: str) -> str:
    try:
        return listed(table)
    except subprocess.CalledProcessError:
        return ""


def test_a_change_that_meets_a_flushed_table_mends_it_first(table: str) -> None:
    firewall = opened(table)
    firewall.admit(WEB, ports(18104))
    nft("delete", "table", "inet", table)
    firewall.admit(None, ports(18105))
    assert opened(table).published == firewall.published == {**ports(18104), **ports(18105)}
    nft("delete", "table", "bridge", table)
    firewall.dismiss("veth-web", ports(18104))
    assert "veth-web" not in listed(table)
    assert opened(table).published == ports(18105)


def test_the_table_of_an_earlier_daemon_goes(table: str) -> None:
    nft(f"add table ip {table}")
    opened(table)
    assert f"table ip {table}" not in nft("list", "tables")


def test_a_table_of_another_make_gives_way(table: str) -> None:
    nft(f"add table inet {table}\nadd set inet {table} bridges {{ type ipv4_addr; }}")
    firewall = opened(table)
    firewall.admit(WEB, ports(18106))
    assert opened(table).published == ports(18106)


def test_a_leftover_is_replaced_and_what_is_anothers_is_not_withdrawn(table: str) -> None:
    firewall = opened(table)
    four = ("0.0.0.0", "127.0.0.1")
    firewall.admit(None, ports(18107, hosts=four))
    firewall.admit(None, ports(18107, hosts=four, address="10.215.0.3"))
    firewall.dismiss(None, ports(18107, hosts=four))
    assert opened(table).published == ports(18107, hosts=four, address="10.215.0.3")
    for _ in range(2):
        firewall.dismiss(None, ports(18107, hosts=four, address="10.215.0.3"))
    assert not opened(table).published


def test_reconcile_changes_only_what_is_wrong(table: str) -> None:
    firewall = opened(table, BRIDGE, APART)
    one = {"protocols": ("tcp",), "hosts": ("0.0.0.0",)}
    firewall.admit(DB, ports(18108, 18109, **one))  # type: ignore[arg-type]
    wanted = ports(18109, 18110, **one)  # type: ignore[arg-type]
    assert firewall.reconcile({"veth-db": DB}, wanted) == (1, 1)
    assert firewall.reconcile({"veth-db": DB}, wanted) == (0, 0)
    assert opened(table, BRIDGE, APART).published == wanted
    assert firewall.reconcile({}, {}) == (4, 0), "two ports, and the endpoint in two sets"


def test_hundreds_of_ports_are_one_transaction(table: str) -> None:
    firewall = opened(table)
    many = ports(*range(20000, 20600), protocols=("tcp",))
    firewall.admit(WEB, many)
    assert opened(table).published == many
    nft("delete", "table", "inet", table)
    assert firewall.restore()
    firewall.dismiss("veth-web", many)
    assert not opened(table).published


def test_a_refused_change_says_so_and_changes_nothing(table: str) -> None:
    firewall = opened(table)
    firewall.admit(None, ports(18111))
    wrong = Port("veth-web", "not-there", "02", (IPv4Address("10.215.0.2"),), True)
    with pytest.raises(errors.System, match=f"add veth-web 10.215.0.2 in set own4 of nftables table {table}"):
        firewall.admit(wrong, ports(18112))
    assert firewall.published == ports(18111) == opened(table).published
    assert "veth-web" not in listed(table)
    firewall.delete()
    firewall.delete()
    assert not listed_or_none(table)


def test_a_transaction_is_all_or_nothing(table: str) -> None:
    opened(table)
    writer = ElementWriter(table)
    value = bytes([10, 215, 0, 2, 0, 80, 0, 0])
    port = Element(INET, "tcp4_any", (18110).to_bytes(2, "big"), value, shown="18110")
    missing = Element(INET, "tcp4_any", (18111).to_bytes(2, "big"), value, shown="18111")
    with pytest.raises(
        NetlinkFailed, match=f"remove 18111 in map tcp4_any of nftables table {table}: no such"
    ) as caught:
        writer.exchange([missing], [port])
    assert caught.value.errno == errno.ENOENT
    assert not opened(table).published
    writer.exchange([], [port])
    elsewhere = Element(INET, "tcp4_any", port.key, bytes([10, 215, 0, 3, 0, 80, 0, 0]), shown="18110")
    with pytest.raises(NetlinkFailed, match=r"add 18110 .*: (file exists|device or resource busy)"):
        writer.exchange([], [elsewhere])
    assert [(str(source), target.address) for source, target in opened(table).published.items()] == [
        ("0.0.0.0:18110", "10.215.0.2")
    ]
    with pytest.raises(NetlinkFailed, match="in map tcp4_any of nftables table nobodys"):
        ElementWriter("nobodys").exchange([], [port])
