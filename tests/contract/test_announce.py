"""Neighbours learn at once who has an address now."""

import os
import socket
from pathlib import Path

import pytest
import trio

from proad.host import netlink, netns
from proad.host.announce import announce, needs_announcing

from .links import BY_ETH0, BY_ETH0_BOTH, create, interface
from .links import bridge as bridge
from .links import other as other
from .links import path as path
from .netlab import inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def is_answered(server: Path, client: Path, address: str, within_s: float) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(server, lambda: socket.create_server((address, 8078), family=family)):
        try:
            inside(client, lambda: socket.create_connection((address, 8078), timeout=within_s)).close()
        except TimeoutError:
            return False
    return True


@pytest.mark.parametrize("address", ["10.217.0.2", "fd17:217::2"])
@pytest.mark.parametrize("announced", [True, False])
def test_an_address_with_another_mac_is_reached_at_once(
    announced: bool, address: str, bridge: str, path: Path, other: Path
) -> None:
    create(other, interface(bridge, 3, ipv6=True), gateways=BY_ETH0_BOTH)
    former = interface(bridge, 2, ipv6=True)
    create(path, former, gateways=BY_ETH0_BOTH)
    assert is_answered(path, other, address, within_s=5)
    netns.remove(path)
    netlink.delete_links([former.host_interface])
    new = interface(bridge, 2, ipv6=True, mac_address="02:99:00:00:00:02")
    create(path, new, gateways=BY_ETH0_BOTH)
    if announced:
        trio.run(announce, path, [new])
    assert is_answered(path, other, address, within_s=0.7) is announced


def test_what_always_has_the_same_mac_keeps_quiet(bridge: str, path: Path) -> None:
    assert not needs_announcing(interface(bridge, mac_address="02:42:0a:d9:00:02"))
    assert needs_announcing(interface(bridge, mac_address="02:42:0a:d9:00:03"))
    assert needs_announcing(interface(bridge, ipv6=True))
    assert not needs_announcing(interface(bridge, mac_address=""))
    assert not needs_announcing(interface(bridge, addresses=()))
    create(path, interface(bridge), gateways=BY_ETH0)
    trio.run(announce, path.parent / "gone", [interface(bridge, ipv6=True)])
