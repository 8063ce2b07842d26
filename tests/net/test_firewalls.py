"""Beside firewalld and ufw as they are installed: each on a host of its own, with a whole daemon there."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import _close, _needs_root
from tests.net.conftest import Container, Net
from tests.support.firewalls import FirewalledHost
from tests.support.hostpair import HOST, HOST6, NEIGHBOUR, NEIGHBOUR6, HostDaemon
from tests.support.nethosts import answering, connect, reaches

RESTORED_S = 10.0
"""Well before the daemon looks by itself, on a busy machine too."""


@dataclass(frozen=True)
class Firewall:
    """One that runs on a host, and how it is loaded again."""

    kind: str
    host: FirewalledHost
    reloads: tuple[tuple[str, ...], ...]

    def rules(self) -> str:
        """All rules on the host that are neither in a daemon's tables nor for its bridges."""
        listed = self.host.run("nft", "-s", "list", "ruleset")
        theirs = re.sub(r"^table \w+ proa.*?^}\n", "", listed, flags=re.MULTILINE | re.DOTALL)
        lines = theirs.splitlines(keepends=True)
        return "".join(line for line in lines if not re.search('"(proa|br-)[0-9a-f]+"', line))


@pytest.fixture(scope="module", params=["firewalld", "firewalld-iptables", "ufw"])
def firewall(request: pytest.FixtureRequest) -> Iterator[Firewall]:
    _needs_root()
    reload = ("firewall-cmd", "--reload"), ("firewall-cmd", "--complete-reload")
    with FirewalledHost() as host:
        if request.param == "ufw":
            with host.ufw():
                yield Firewall(
                    "ufw", host, (("ufw", "reload"), ("sh", "-c", "ufw disable; ufw --force enable"))
                )
            return
        with host.firewalld(backend="iptables" if "iptables" in request.param else "nftables"):
            yield Firewall("firewalld", host, reload)


@pytest.fixture(scope="module")
def daemon(firewall: Firewall) -> Iterator[HostDaemon]:
    started = HostDaemon(firewall.host)
    try:
        yield started.start()
    finally:
        _close(started)


@dataclass(frozen=True)
class Pair:
    """Two containers on a network; the first publishes its port 80."""

    server: Container
    other: Container
    network: str
    neighbour: FirewalledHost

    def works(self) -> list[str]:
        """What does not: nothing."""
        port = self.server.port("80/tcp")
        address = self.server.address(self.network)
        ways = {
            "out": (self.other.netns, NEIGHBOUR, 80),
            "in": (self.neighbour.neighbour, HOST, port),
            "between": (self.other.netns, address, 80),
            "between by the host": (self.other.netns, HOST, port),
            "from the host": (self.neighbour.host, address, 80),
        }
        if address6 := self.server.address6(self.network):
            ways |= {
                "out by IPv6": (self.other.netns, NEIGHBOUR6, 80),
                "in by IPv6": (self.neighbour.neighbour, HOST6, self.server.port("80/tcp", "::")),
                "between by IPv6": (self.other.netns, address6, 80),
            }
        return [what for what, (place, to, number) in ways.items() if not reaches(place, "tcp", to, number)]


@pytest.fixture
def serving(firewall: Firewall) -> Iterator[Callable[[Container], None]]:
    """Have a container answer on its port 80, and the neighbour."""
    with contextlib.ExitStack() as stack:
        for family in ("0.0.0.0", "::"):
            stack.enter_context(answering(firewall.host.neighbour, "tcp", 80, family))

        def serve(container: Container) -> None:
            for family in ("0.0.0.0", "::"):
                stack.enter_context(answering(container.netns, "tcp", 80, family))

        yield serve


@pytest.fixture
def pairs(net: Net, firewall: Firewall, serving: Callable[[Container], None]) -> Callable[[], list[Pair]]:
    """Containers on the default bridge, and on a network that is made while the firewall is there."""

    def make() -> list[Pair]:
        net.network("own", "--ipv6", "--subnet", "10.226.1.0/24", "--subnet", "fd4e:7072:6f71::/64")
        made = []
        for network in ("bridge", "own"):
            server = net.run(f"server-{network}", "--network", network, "-p", "80")
            other = net.run(f"other-{network}", "--network", network)
            serving(server)
            made.append(Pair(server, other, network, firewall.host))
        return made

    return make


def test_containers_reach_and_are_reached_at_once_and_no_rule_is_touched(
    firewall: Firewall, pairs: Callable[[], list[Pair]], daemon: HostDaemon
) -> None:
    before = firewall.rules()
    for pair in pairs():
        assert pair.works() == []
        address = pair.server.address(pair.network)
        assert not reaches(firewall.host.neighbour, "tcp", address, 80), "our own rules hold all the same"
    assert firewall.rules() == before
    daemon.remove_containers()
    daemon.remove_networks()
    assert "br-" not in firewall.host.run("nft", "list", "ruleset")


def test_they_still_do_when_it_is_loaded_again(firewall: Firewall, pairs: Callable[[], list[Pair]]) -> None:
    made = pairs()
    with connect(made[0].other.netns, "tcp", NEIGHBOUR, 80) as healthy:
        for command in firewall.reloads:
            firewall.host.run(*command)
            began = time.monotonic()
            while (broken := [what for pair in made for what in pair.works()]) and (
                time.monotonic() < began + RESTORED_S
            ):
                time.sleep(0.02)
            assert broken == [], " ".join(command)
            print(f"{' '.join(command)}: restored after {time.monotonic() - began:.1f} s")
        assert healthy.recv(100) == HOST.encode()


def test_a_daemon_that_comes_later_finds_its_way(
    firewall: Firewall, pairs: Callable[[], list[Pair]], daemon: HostDaemon
) -> None:
    made = pairs()
    daemon.kill()
    firewall.host.run(*firewall.reloads[-1])
    daemon.start()
    assert [what for pair in made for what in pair.works()] == []


def test_an_administrator_says_what_containers_may_not_do(
    firewall: Firewall, net: Net, serving: Callable[[Container], None]
) -> None:
    rule = f"-d {NEIGHBOUR} -p tcp --dport 25 -j REJECT"
    forbid = {
        "ufw": f"ufw route deny proto tcp to {NEIGHBOUR} port 25",
        "firewalld": f"firewall-cmd --direct --add-rule ipv4 filter FORWARD 0 {rule}",
    }
    own = net.run("own")
    with answering(firewall.host.neighbour, "tcp", 25):
        assert reaches(own.netns, "tcp", NEIGHBOUR, 25)
        firewall.host.run(*forbid[firewall.kind].split())
        assert not reaches(own.netns, "tcp", NEIGHBOUR, 25)
        assert reaches(own.netns, "tcp", NEIGHBOUR, 80)
