"""Beside other firewalls that forward nothing they do not know: Docker's, ufw's, firewalld's, a legacy one.

Their rules are put into a host that is a network namespace, by the programs that they use themselves.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import trio

from proad.host.filterelements import BridgeRules
from proad.host.foreignfirewall import ForeignFirewalls
from proad.host.nftwatch import NftWatch
from tests.support.nethosts import answering, connect, inside, reaches

from .filterlab import HOST, HOST6, NEIGHBOUR, NEIGHBOUR6, TABLE, Box, World

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("iptables-nft") is None, reason="needs iptables"),
]

DOCKER = """
for t in iptables-nft ip6tables-nft; do
    $t -P FORWARD DROP
    $t -N DOCKER-USER; $t -N DOCKER-FORWARD; $t -N DOCKER
    $t -A DOCKER-USER -j RETURN
    $t -A DOCKER-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $t -A DOCKER-FORWARD -i docker0 -j ACCEPT
    $t -A DOCKER ! -i docker0 -o docker0 -j DROP
    $t -A FORWARD -j DOCKER-USER
    $t -A FORWARD -j DOCKER-FORWARD
done
"""
UFW = """
for t in iptables-nft ip6tables-nft; do
    $t -P INPUT DROP; $t -P FORWARD DROP
    for c in ufw-before-logging-forward ufw-before-forward ufw-reject-forward; do
        $t -N $c; $t -A FORWARD -j $c
    done
    $t -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $t -A ufw-reject-forward -j REJECT
done
ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT
"""
FIREWALLD = """
nft -f - <<RULES
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_ZONES { iifname "out0" jump filter_FWD_public; }
    chain filter_FWD_public { meta l4proto icmp accept; }
}
RULES
"""
LEGACY = """
for t in iptables-legacy ip6tables-legacy; do
    $t -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $t -A FORWARD -j REJECT
done
"""
plain_world = pytest.mark.parametrize("world", [False], indirect=True, ids=["plain"])
LISTED = "nft -s list ruleset; iptables-legacy -S; ip6tables-legacy -S"


def mark(firewall: str) -> "pytest.MarkDecorator":
    return pytest.mark.skipif(shutil.which(firewall) is None, reason=f"needs {firewall}")


KINDS = [
    pytest.param(DOCKER, id="docker"),
    pytest.param(UFW, id="ufw"),
    pytest.param(FIREWALLD, id="firewalld"),
    pytest.param(LEGACY, id="legacy", marks=mark("iptables-legacy")),
]


@pytest.fixture(params=[False, True], ids=["plain", "br_netfilter"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(bridge_netfilter=request.param) as made:
        yield made


def ensure(world: World, *bridges: str) -> bool:
    """As the daemon does, on this world's host."""
    return inside(world.host, lambda: world.foreign.ensure(bridges))


def works(world: World, box: Box, beside: Box) -> list[bool]:
    with (
        answering(world.neighbour, "tcp", 80),
        answering(world.neighbour, "tcp", 80, "::"),
        answering(box.netns, "tcp", 80),
        answering(box.netns, "tcp", 80, "::"),
    ):
        return [
            reaches(beside.netns, "tcp", NEIGHBOUR, 80),
            reaches(beside.netns, "tcp", NEIGHBOUR6, 80),
            reaches(world.neighbour, "tcp", HOST, 8080),
            reaches(world.neighbour, "tcp", HOST6, 8080),
            reaches(beside.netns, "tcp", box.address, 80),
            reaches(beside.netns, "tcp", HOST, 8080),
        ]


@pytest.mark.parametrize("rules", KINDS)
def test_containers_reach_and_are_reached_and_the_others_rules_are_untouched(
    world: World, rules: str
) -> None:
    net = world.network(1)
    box, beside = world.container(net, 2), world.container(net, 3)
    for address in ("0.0.0.0", "::"):
        world.publish(box, "tcp", address, 8080, 80)
    world.on_host(rules)
    before = world.on_host(LISTED)
    assert not works(world, box, beside)[0], "this firewall stops nobody, and proves nothing"
    assert ensure(world, "br1", "br2")
    assert all(works(world, box, beside))
    assert not reaches(world.neighbour, "tcp", box.address, 80), "our own rules hold all the same"
    assert not ensure(world, "br1", "br2")
    assert ensure(world, "br1")
    assert '"br2"' not in world.on_host(LISTED)
    assert "-i br2" not in world.on_host(LISTED)
    assert all(works(world, box, beside))
    inside(world.host, world.foreign.remove)
    assert world.on_host(LISTED) == before


@pytest.mark.parametrize("rules", KINDS)
def test_a_daemon_that_is_uninstalled_leaves_none_behind(world: World, rules: str, tmp_path: Path) -> None:
    world.on_host(rules)
    networks = ("br-0123456789ab", "of-somebody")
    for number, bridge in enumerate(networks):
        world.on_host(f"ip link add {bridge} type bridge")
        subnets = (IPv4Network(f"10.8.{number}.0/24"),)
        known = BridgeRules(bridge, subnets, internal=False, icc=True, masquerade=True)
        inside(world.host, partial(world.firewall.set_bridge, known))
    world.network(1)
    assert ensure(world, "br1", *networks)
    (tmp_path / "data").mkdir()
    script = Path(__file__).parents[2] / "scripts" / "forget.sh"
    world.on_host(f"{script} {tmp_path}/data {tmp_path}/run br1 {TABLE} /proa-there-is-no-such-group")
    assert world.on_host("ls /sys/class/net").split() == ["lo", "of-somebody", "out0"]
    assert TABLE not in world.on_host(LISTED)
    assert not (tmp_path / "data").exists()


def test_iptables_lists_saves_and_restores_ours_and_we_know_them_again(world: World) -> None:
    world.on_host(DOCKER)
    before = world.on_host("iptables-nft -S")
    assert ensure(world, "br1")
    rule = f'-A FORWARD -i br1 -m comment --comment "proad:{TABLE}" -j ACCEPT'
    assert rule in world.on_host("iptables-nft -S")
    world.on_host("iptables-nft-save > $0.saved; iptables-nft-restore < $0.saved; rm $0.saved")
    assert rule in world.on_host("iptables-nft -S")
    again = inside(world.host, lambda: ForeignFirewalls(TABLE))
    assert not inside(world.host, lambda: again.ensure(["br1"]))
    inside(world.host, again.remove)
    assert world.on_host("iptables-nft -S") == before


def test_a_firewall_that_stops_only_what_it_names_is_left_alone(world: World) -> None:
    world.on_host(
        "iptables-nft -A FORWARD -d 198.51.100.0/24 -j DROP;"
        "iptables-nft -N OTHERS; iptables-nft -A OTHERS -j DROP; iptables-nft -A FORWARD -i eth7 -j OTHERS;"
        "nft add table inet mine; nft add chain inet mine f '{ type filter hook forward priority 0; }';"
        "nft add rule inet mine f tcp dport 25 reject"
    )
    before = world.on_host(LISTED)
    assert not ensure(world, "br1")
    assert world.on_host(LISTED) == before


@plain_world
@pytest.mark.parametrize(
    ("rules", "forbid"),
    [
        pytest.param(DOCKER, "iptables-nft -I DOCKER-USER -i br1 -p tcp --dport 25 -j DROP", id="docker"),
        pytest.param(
            UFW + "iptables-nft -A ufw-reject-forward -m limit --limit 3/min -j LOG;",
            "iptables-nft -A ufw-before-forward -i br1 -p tcp --dport 25 -j REJECT",
            id="ufw",
        ),
        pytest.param(
            FIREWALLD,
            "nft add chain inet firewalld policies;"
            "nft add rule inet firewalld policies iifname br1 tcp dport 25 reject;"
            "nft insert rule inet firewalld filter_FORWARD jump policies",
            id="firewalld",
        ),
        pytest.param(
            LEGACY,
            "iptables-legacy -N USER; iptables-legacy -I FORWARD -j USER;"
            "iptables-legacy -A USER -i br1 -p tcp --dport 25 -j DROP",
            id="legacy",
            marks=mark("iptables-legacy"),
        ),
    ],
)
def test_what_others_forbid_containers_is_forbidden(world: World, rules: str, forbid: str) -> None:
    net = world.network(1)
    box = world.container(net, 2)
    world.on_host(rules)
    with answering(world.neighbour, "tcp", 80), answering(world.neighbour, "tcp", 25):
        assert ensure(world, "br1")
        assert reaches(box.netns, "tcp", NEIGHBOUR, 25)
        world.on_host(forbid)
        ensure(world, "br1")
        assert not reaches(box.netns, "tcp", NEIGHBOUR, 25)
        assert reaches(box.netns, "tcp", NEIGHBOUR, 80)
        assert not ensure(world, "br1")


@plain_world
@pytest.mark.parametrize(
    ("rules", "program"),
    [
        pytest.param(UFW, "iptables-nft", id="nft"),
        pytest.param(LEGACY, "iptables-legacy", id="legacy", marks=mark("iptables-legacy")),
    ],
)
def test_ours_stand_behind_what_comes_to_stand_before_the_end(world: World, rules: str, program: str) -> None:
    """And before it: a firewall that begins to stop everything at its head finds them there."""
    listed = f"{program} -S FORWARD | tail -n +2"
    world.on_host(rules)
    assert ensure(world, "br1")

    def ours_at() -> list[int]:
        lines = world.on_host(listed).splitlines()
        return [number for number, line in enumerate(lines) if TABLE in line]

    first, second = ours_at()
    world.on_host(f"{program} -I FORWARD {second + 2} -d 198.51.100.7 -j DROP")
    assert ensure(world, "br1")
    assert ours_at() == [first + 1, second + 1]
    world.on_host(f"{program} -I FORWARD -j REJECT")
    assert ensure(world, "br1")
    assert ours_at() == [0, 1]
    world.on_host(f"{program} -D FORWARD -j REJECT; {program} -I FORWARD {second} -j ACCEPT")
    assert ensure(world, "br1")
    assert ours_at() == []


@plain_world
def test_a_table_that_others_may_not_change_is_left_alone_and_said(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["nsenter", f"--net={world.host}", "nft", "-i"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdin is not None
        rules = "type filter hook forward priority 0; policy drop;"
        owner.stdin.write(f"add table inet mine {{ flags owner; chain f {{ {rules} }}; }}\n")
        owner.stdin.flush()
        while "flags owner" not in (before := world.on_host("nft list ruleset")):
            time.sleep(0.01)
        assert not ensure(world, "br1")
        assert not ensure(world, "br1")
        assert world.on_host("nft list ruleset") == before
        owner.stdin.close()
    assert capsys.readouterr().out.count("another firewall may stop containers' traffic") == 1


def test_two_daemons_let_their_own_bridges_through(world: World) -> None:
    world.on_host(UFW)
    other = inside(world.host, lambda: ForeignFirewalls("another"))
    assert ensure(world, "br1")
    assert inside(world.host, lambda: other.ensure(["br2"]))
    assert not ensure(world, "br1")
    inside(world.host, world.foreign.remove)
    shown = world.on_host("iptables-nft -S FORWARD")
    assert "br1" not in shown
    assert '-i br2 -m comment --comment "proad:another" -j ACCEPT' in shown


def test_a_program_that_is_missing_is_said_once_and_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("iptables-legacy") is None:
        pytest.skip("needs iptables-legacy")
    world.on_host(LEGACY + DOCKER)
    monkeypatch.setattr("proad.host.firewalltools._SEARCH_PATH", "/nonexistent")
    assert ensure(world, "br1")
    assert not ensure(world, "br1")
    assert capsys.readouterr().out.count("another firewall may stop containers' traffic") == 1
    assert '"br1"' in world.on_host("nft list chain ip filter FORWARD")


# --- news -----------------------------------------------------------------------------------------------


def watch(world: World) -> NftWatch:
    ours = lambda: world.firewall.port_ids | world.foreign.port_ids  # noqa: E731
    return inside(world.host, lambda: NftWatch(TABLE, ours, settle_s=0.05, rest_s=0.1))


async def heard(watched: NftWatch) -> bool:
    """What the watch tells of what has happened."""
    with trio.fail_after(20):
        return await watched.changes()


async def is_silent(watched: NftWatch) -> bool:
    with trio.move_on_after(0.4) as waiting:
        await watched.changes()
    return waiting.cancelled_caught


def test_what_others_do_is_told_and_put_right_and_what_we_do_is_not(world: World) -> None:
    net = world.network(1)
    box, beside = world.container(net, 2), world.container(net, 3)
    for address in ("0.0.0.0", "::"):
        world.publish(box, "tcp", address, 8080, 80)
    watched = watch(world)

    async def others() -> None:
        world.on_host(DOCKER)
        assert await heard(watched) is False
        assert ensure(world, "br1")
        for harm, is_ours in (
            ("iptables-nft -F", False),
            ("nft flush ruleset", True),
            (DOCKER, False),
            ("iptables-nft -F; ip6tables-nft -F", False),
            (f"nft flush set bridge {TABLE} strict", True),
            (f"nft delete table inet {TABLE}; nft delete table bridge {TABLE}", True),
        ):
            world.on_host(harm)
            assert await heard(watched) is is_ours, harm
            assert inside(world.host, world.firewall.restore) is is_ours, harm
            assert ensure(world, "br1") is not is_ours, harm
            assert await is_silent(watched), "our own repairs are no news"
        world.on_host("nft add table inet mine; nft add set inet mine s '{ type ifname; }'")
        assert await heard(watched) is False
        world.on_host("nft add element inet mine s '{ eth0 }'")
        assert await is_silent(watched)

    async def ourselves() -> None:
        for _ in range(50):
            world.firewall.dismiss(box.port.host_interface, box.ports)
            world.firewall.admit(box.port, box.ports)
        assert not inside(world.host, world.firewall.restore)
        assert await is_silent(watched)

    try:
        with answering(world.neighbour, "tcp", 80), connect(beside.netns, "tcp", NEIGHBOUR, 80) as healthy:
            trio.run(others)
            assert healthy.recv(100) == HOST.encode()
        trio.run(ourselves)
        assert all(works(world, box, beside))
    finally:
        watched.close()


def test_news_that_are_too_many_to_keep_are_news(world: World, tmp_path: Path) -> None:
    world.network(1)
    watched = watch(world)
    elements = ", ".join(f"10.{a}.{b}.1" for a in range(100) for b in range(250))
    rules = tmp_path / "big.nft"  # longer than a command line may be
    rules.write_text(
        f"add table ip big\nadd set ip big s {{ type ipv4_addr; }}\nadd element ip big s {{ {elements} }}\n"
    )
    try:
        world.on_host(f"nft -f {rules}")
        trio.run(heard, watched)
        assert not inside(world.host, world.firewall.restore)
    finally:
        watched.close()
