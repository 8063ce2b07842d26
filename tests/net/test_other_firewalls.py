"""Firewalls of others that are loaded while the daemon runs, in a network namespace of the daemon's own."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proad.host import netns
from tests.api.steps import until
from tests.conftest import _close, _needs_root
from tests.support.daemon import Daemon
from tests.support.nethosts import in_place

DROPS_ALL = (
    "add table inet theirs; "
    "add chain inet theirs forward { type filter hook forward priority 0; policy drop; }"
)


class SecludedDaemon(Daemon):
    """A ``proad`` that has a network namespace for its host's."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self._place = place

    def argv(self) -> list[str]:
        return ["nsenter", f"--net={self._place}", *super().argv()]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    _needs_root()
    path = tmp_path / "net"
    thread = threading.Thread(target=netns.unshare_into, args=(path,))
    thread.start()
    thread.join()
    yield path
    netns.remove(path)


@pytest.fixture
def secluded(place: Path) -> Iterator[SecludedDaemon]:
    daemon = SecludedDaemon(place)
    try:
        daemon.start()
        yield daemon
    finally:
        _close(daemon)


def test_one_that_drops_all_it_does_not_know_lets_our_bridges_through(
    secluded: SecludedDaemon, place: Path
) -> None:
    body = {"Name": "shore", "Options": {"com.docker.network.bridge.name": "shore0"}}
    secluded.api("POST", "/networks/create", json_body=body).expect(201)
    in_place(place, "nft", DROPS_ALL)

    def theirs() -> str:
        return in_place(place, "nft", "list", "table", "inet", "theirs")

    until(lambda: 'iifname "shore0"' in theirs() and 'oifname "shore0"' in theirs())
    in_place(place, "nft", "flush chain inet theirs forward")
    until(lambda: 'iifname "shore0"' in theirs())
    secluded.api("DELETE", "/networks/shore").expect(204)
    in_place(place, "nft", "add rule inet theirs forward counter")
    until(lambda: "shore0" not in theirs())


def test_our_own_rules_are_made_again_after_a_flush(secluded: SecludedDaemon, place: Path) -> None:
    def ours() -> str:
        return in_place(place, "nft", "list", "ruleset")

    assert f"table inet {secluded.config.table}" in ours()
    in_place(place, "nft", "flush ruleset")
    until(lambda: f"table inet {secluded.config.table}" in ours())
