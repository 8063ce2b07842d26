"""News of links that somebody takes away, from the kernel."""

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio

from proad.host import netlink, netns, sandbox
from proad.host.linkwatch import RECEIVE_BUFFER_BYTES, LinkWatch

from .links import BY_ETH0, GATEWAY, GATEWAY6, create, interface
from .links import bridge as bridge
from .links import other as other
from .links import path as path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def losses_after(deed: Callable[[], object], concerns: Callable[[str], bool]) -> frozenset[str] | None:
    """What is told of a deed; None where nothing is within half a second."""

    async def main() -> frozenset[str] | None:
        with closing(LinkWatch(concerns, settle_s=0.05)) as watch:
            await trio.to_thread.run_sync(deed)
            with trio.move_on_after(0.5):
                return await watch.losses()
        return None

    return trio.run(main)


@pytest.fixture
def port(bridge: str, path: Path) -> str:
    wanted = interface(bridge)
    create(path, wanted)
    return wanted.host_interface


@pytest.mark.parametrize(
    "deed",
    [
        "link delete {bridge}",
        "link set {bridge} down",
        "address delete {GATEWAY} dev {bridge}",
        "address delete {GATEWAY6} dev {bridge}",
        "link set {port} nomaster",
        "link delete {port}",
        "link set {port} down",
    ],
)
def test_what_is_taken_away_is_told(deed: str, bridge: str, port: str) -> None:
    words = deed.format(bridge=bridge, port=port, GATEWAY=GATEWAY, GATEWAY6=GATEWAY6)
    lost = losses_after(lambda: ip(*words.split()), {bridge, port}.__contains__)
    assert lost is not None
    assert (bridge if "{bridge}" in deed else port) in lost


def test_many_losses_are_told_once(bridge: str, port: str) -> None:
    def deed() -> None:
        netlink.delete_links([port, bridge])

    assert losses_after(deed, {bridge, port}.__contains__) == frozenset({bridge, port})


def test_what_starts_and_stops_is_no_news(bridge: str, port: str, other: Path) -> None:
    ours = {bridge, port}

    def deed() -> None:
        for number in range(3, 6):
            one = interface(bridge, number)
            ours.add(one.host_interface)
            create(other, one)
            trio.run(sandbox.plug, other, interface(bridge, number + 10, name="eth1"), BY_ETH0)
            ours.remove(one.host_interface)
            netns.remove(other)

    assert losses_after(deed, lambda name: name in ours) is None


def test_more_than_the_kernel_keeps_is_told_as_anything(bridge: str, port: str) -> None:
    def deed() -> None:
        for _ in range(4 * RECEIVE_BUFFER_BYTES // 1000 // 4):
            netlink.configure_bridge(bridge, drop=[GATEWAY])
            netlink.configure_bridge(bridge, add=[GATEWAY])

    assert losses_after(deed, {bridge, port}.__contains__) in (frozenset(), frozenset({bridge}))
