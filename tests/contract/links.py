"""A bridge, and interfaces on it, for tests of links."""

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import Any

import pytest
import trio

from proad.host import netlink, netns, sandbox
from tests.support.whose import own_name

GATEWAY = IPv4Interface("10.217.0.1/24")
GATEWAY6 = IPv6Interface("fd17:217::1/64")
BRIDGE_MAC = "02:42:0a:d9:00:01"
BY_ETH0 = sandbox.Gateways(ipv4=("eth0", str(GATEWAY.ip)))
BY_ETH0_BOTH = sandbox.Gateways(ipv4=("eth0", str(GATEWAY.ip)), ipv6=("eth0", str(GATEWAY6.ip)))


@pytest.fixture
def bridge() -> Iterator[str]:
    name = own_name("pl")
    netlink.create_bridge(name, [GATEWAY, GATEWAY6], BRIDGE_MAC, 1400)
    yield name
    netlink.delete_links([name])


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where a namespace may be, which goes with the test."""
    yield tmp_path / "ns"
    netns.remove(tmp_path / "ns")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Path]:
    """Where a second one may be."""
    yield tmp_path / "other"
    netns.remove(tmp_path / "other")


def interface(bridge: str, number: int = 2, *, ipv6: bool = False, **others: Any) -> sandbox.Interface:
    """An interface with the addresses that end in ``number``."""
    addresses = (ip_interface(f"10.217.0.{number}/24"), ip_interface(f"fd17:217::{number:x}/64"))
    fields: dict[str, Any] = {
        "name": "eth0",
        "kind": "veth",
        "host_interface": own_name("plv"),
        "master": bridge,
        "mtu": 1400,
        "mac_address": f"02:42:0a:d9:00:{number:02x}",
        "addresses": addresses[: 1 + ipv6],
    }
    return sandbox.Interface(**{**fields, **others})


def create(path: Path, *interfaces: sandbox.Interface, gateways: sandbox.Gateways = BY_ETH0) -> None:
    trio.run(sandbox.create_sandbox, path, interfaces, gateways)
