"""Bridges in the zones of a firewalld that runs."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.firewalls import FirewalledHost

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ENSURE = """
import json, sys
from proad.host.firewalld import TABLE, Zones
from proad.host.foreignchains import ForwardChains

zones, chains = Zones(), ForwardChains()
[forward] = [chain for chain in chains.all() if chain.table == TABLE]
print(json.dumps([zones.ensure(bridges, chains.interfaces(forward)) for bridges in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def host() -> Iterator[FirewalledHost]:
    with FirewalledHost() as made, made.firewalld():
        yield made


def ensure(host: FirewalledHost, *bridges: list[str]) -> list[bool]:
    """Have these be in a zone, one list after the other, as one daemon does; whether it changed anything."""
    changed: list[bool] = json.loads(host.run(sys.executable, "-c", ENSURE, json.dumps(bridges)))
    return changed


def trusted(host: FirewalledHost) -> list[str]:
    return host.run("firewall-cmd", "--zone=trusted", "--list-interfaces").split()


def test_bridges_come_into_a_zone_and_leave_it(host: FirewalledHost) -> None:
    host.run("firewall-cmd", "--zone=internal", "--add-interface=br-mine")
    assert ensure(host, ["br-a", "br-b", "br-mine"], ["br-a", "br-b", "br-mine"], ["br-b"]) == [
        True,
        False,
        True,
    ]
    assert trusted(host) == ["br-b"]
    assert host.run("firewall-cmd", "--get-zone-of-interface=br-mine") == "internal\n"
    assert ensure(host, ["br-b"], []) == [False, True], "a later daemon knows what is there"
    assert trusted(host) == []
    ensure(host, ["br-c"])
    host.run("firewall-cmd", "--reload")
    assert ensure(host, ["br-c"]) == [True]
    script = Path(__file__).parents[2] / "scripts" / "forget.sh"
    root = host.directory / "root"
    host.run(
        str(script), f"{root}/data", f"{root}/run", "br-c", "no-such-table", "/proa-there-is-no-such-group"
    )
    assert trusted(host) == []
