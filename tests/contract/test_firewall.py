"""The nftables table, against the kernel."""

import errno
import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest

from proad.host.firewall import Firewall, Published, published_of
from proad.host.netlinksocket import NetlinkFailed
from proad.host.nftelements import Element, ElementWriter
from proad.model import errors
from proad.model.network import PROTOCOLS, PublishedPort
from tests.support.whose import own_name

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SUBNET = IPv4Network("10.215.0.0/24")
BRIDGE = "not-there"


@pytest.fixture
def table() -> Iterator[str]:
    name = own_name("pf")
    yield name
    Firewall(name, BRIDGE).delete()


def opened(table: str) -> Firewall:
    firewall = Firewall(table, BRIDGE)
    firewall.open(SUBNET)
    return firewall


def ports(*host_ports: int, address: str = "10.215.0.2", protocols: tuple[str, ...] = PROTOCOLS) -> Published:
    return published_of(
        address,
        [
            PublishedPort(container_port=80, protocol=protocol, host_ip=host_ip, host_port=port)
            for port in host_ports
            for protocol in protocols
            for host_ip in ("0.0.0.0", "127.0.0.1")
        ],
    )


def rules(table: str) -> str:
    """The rules with their handles: one that was written again has another handle."""
    listed = subprocess.run(
        ["nft", "-a", "list", "table", "ip", table], capture_output=True, text=True, check=True
    )
    return "\n".join(line for line in listed.stdout.splitlines() if "comment" in line)


def test_what_is_published_is_read_back_by_the_next_daemon(table: str) -> None:
    first = opened(table)
    first.publish(ports(18100, 18101))
    assert opened(table).published == first.published == ports(18100, 18101)
    first.withdraw(ports(18100))
    assert opened(table).published == first.published == ports(18101)


def test_opening_again_touches_no_rule(table: str) -> None:
    opened(table)
    before = rules(table)
    assert before.count("dnat") >= 6
    opened(table)
    assert rules(table) == before


def test_rules_that_somebody_flushed_or_added_are_put_right_and_the_maps_kept(table: str) -> None:
    opened(table).publish(ports(18102))
    count = len(rules(table).splitlines())
    subprocess.run(["nft", "flush", "chain", "ip", table, "forward"], check=True)
    assert opened(table).published == ports(18102)
    assert len(rules(table).splitlines()) == count
    subprocess.run(["nft", "insert", "rule", "ip", table, "forward", "accept"], check=True)
    opened(table)
    assert len(rules(table).splitlines()) == count
    listed = subprocess.run(
        ["nft", "list", "chain", "ip", table, "forward"], capture_output=True, text=True, check=True
    )
    assert "\t\taccept\n" not in listed.stdout


def test_another_subnet_changes_the_rules_only(table: str) -> None:
    opened(table).publish(ports(18103))
    other = Firewall(table, BRIDGE)
    other.open(IPv4Network("10.216.0.0/24"))
    assert other.published == ports(18103)
    assert "10.215." not in rules(table)
    assert "10.216.0.0/24" in rules(table)


def test_a_leftover_is_replaced_and_what_is_anothers_is_not_withdrawn(table: str) -> None:
    firewall = opened(table)
    firewall.publish(ports(18104))
    firewall.publish(ports(18104, address="10.215.0.3"))
    firewall.withdraw(ports(18104))
    assert opened(table).published == ports(18104, address="10.215.0.3")
    firewall.withdraw(ports(18104, address="10.215.0.3"))
    firewall.withdraw(ports(18104, address="10.215.0.3"))
    assert not opened(table).published


def test_reconcile_changes_only_what_is_wrong(table: str) -> None:
    firewall = opened(table)
    firewall.publish(ports(18105, 18106, protocols=("tcp",)))
    assert firewall.reconcile(ports(18106, 18107, protocols=("tcp",))) == (2, 2)
    assert firewall.reconcile(ports(18106, 18107, protocols=("tcp",))) == (0, 0)
    assert opened(table).published == ports(18106, 18107, protocols=("tcp",))


def test_a_refused_change_says_so_and_changes_nothing(table: str) -> None:
    firewall = opened(table)
    firewall.publish(ports(18108))
    subprocess.run(["nft", "delete", "table", "ip", table], check=True)
    with pytest.raises(errors.System, match=f"nftables table {table}: no such file or directory"):
        firewall.publish(ports(18109))
    assert firewall.published == ports(18108)
    firewall.delete()
    firewall.delete()


def test_a_transaction_is_all_or_nothing(table: str) -> None:
    firewall = opened(table)
    writer = ElementWriter(table)
    port = Element("tcp_any", (18110).to_bytes(2, "big"), bytes([10, 215, 0, 2, 0, 80, 0, 0]), "18110")
    missing = Element("tcp_any", (18111).to_bytes(2, "big"), port.value, "18111")
    with pytest.raises(
        NetlinkFailed, match=f"remove 18111 in map tcp_any of nftables table {table}: no such"
    ) as caught:
        writer.exchange([missing], [port])
    assert caught.value.errno == errno.ENOENT
    assert not opened(table).published
    writer.exchange([], [port])
    with pytest.raises(NetlinkFailed, match=r"add 18110 .*: file exists"):
        writer.exchange([], [Element(port.map_name, port.key, bytes([10, 215, 0, 3, 0, 80, 0, 0]), "18110")])
    assert not firewall.published, "a mirror is its own firewall's"
    assert [(str(source), target.address) for source, target in opened(table).published.items()] == [
        ("0.0.0.0:18110", "10.215.0.2")
    ]
