"""Names: who is called what, seen from inside containers."""

import pytest

from tests.net.conftest import Net, succeed
from tests.support.daemon import Daemon

RESOLVER = "127.0.0.11"


def test_containers_are_found_by_name_alias_and_short_id(net: Net) -> None:
    net.network("n")
    web = net.run("web", "--network", "n", "--network-alias", "www", "--network-alias", "site")
    asker = net.run("asker", "--network", "n")
    assert f"nameserver {RESOLVER}" in asker.say("cat", "/etc/resolv.conf")
    for name in ("web", "www", "site", web.id[:12], "WEB", "web.n", "www.n"):
        assert asker.look_up(name) == {web.address("n")}, name
    assert web.look_up("www") == {web.address("n")}
    assert asker.look_up("nobody") == set()
    assert asker.execute("nslookup", "nobody").returncode == 1
    assert web.address("n") in asker.say("nslookup", "www")


def test_addresses_lead_back_to_names(net: Net) -> None:
    net.network("n")
    web = net.run("web", "--network", "n")
    asker = net.run("asker", "--network", "n")
    assert asker.say("getent", "hosts", web.address("n")).split() == [web.address("n"), "web.n"]
    assert "web.n" in asker.say("nslookup", web.address("n"))


def test_the_default_bridge_has_no_names(net: Net) -> None:
    net.run("web")
    asker = net.run("asker")
    assert RESOLVER not in asker.say("cat", "/etc/resolv.conf")
    assert asker.look_up("web") == set()


def test_names_are_known_on_common_networks_only(net: Net) -> None:
    for name in ("red", "blue"):
        net.network(name)
    red, blue = net.run("red1", "--network", "red"), net.run("blue1", "--network", "blue")
    assert red.look_up("blue1") == set()
    both = net.run("both", "--network", "red")
    net.connect("blue", both, "--alias", "middle")
    assert both.look_up("red1") == {red.address("red")}
    assert both.look_up("blue1") == {blue.address("blue")}
    assert blue.look_up("middle") == {both.address("blue")}
    assert red.look_up("middle") == set()
    assert red.look_up("both") == {both.address("red")}


def test_an_alias_of_several_has_all_their_addresses(net: Net) -> None:
    net.network("n")
    members = [net.run(f"w{number}", "--network", "n", "--network-alias", "web") for number in range(3)]
    asker = net.run("asker", "--network", "n")
    assert asker.look_up("web") == {member.address("n") for member in members}
    succeed(net.docker("stop", "-t", "0", "w1"))
    assert asker.look_up("web") == {members[0].address("n"), members[2].address("n")}
    succeed(net.docker("start", "w1"))
    assert asker.look_up("web") == {member.address("n") for member in members}


def test_names_follow_renames_connects_and_removals(net: Net) -> None:
    net.network("n")
    asker = net.run("asker", "--network", "n")
    late = net.run("late")
    assert asker.look_up("late") == set()
    net.connect("n", late)
    address = late.address("n")
    assert asker.look_up("late") == {address}
    succeed(net.docker("rename", "late", "later"))
    assert asker.look_up("later") == {address}
    assert asker.look_up("late") == set()
    net.disconnect("n", type(late)(net.docker, "later"))
    assert asker.look_up("later") == set()


def test_links_are_names_on_networks_of_ones_own(net: Net) -> None:
    net.network("n")
    target = net.run("target", "--network", "n")
    linked = net.run("linked", "--network", "n", "--link", "target:database")
    other = net.run("other", "--network", "n")
    assert linked.look_up("database") == {target.address("n")}
    assert other.look_up("database") == set()


def test_a_link_waits_for_who_bears_its_name(net: Net) -> None:
    net.network("red")
    web = net.run("web", "--network", "red", "--link", "db:store")
    assert not web.inspect()["HostConfig"]["Links"]
    assert web.look_up("store") == set()
    db = net.run("db", "--network", "red")
    assert web.look_up("store") == {db.address("red")}


def test_ipv6_names(net: Net) -> None:
    net.network("six", "--ipv6", "--subnet", "fd4e:7072:6f61::/64")
    web, asker = net.run("web", "--network", "six"), net.run("asker", "--network", "six")
    assert asker.look_up6("web") == {web.address6("six")}
    assert asker.look_up("web") == {web.address("six")}
    assert asker.say("getent", "hosts", web.address6("six")).split()[1] == "web.six"


def test_resolver_settings_are_heeded(net: Net) -> None:
    net.network("n")
    net.run("web", "--network", "n", "--network-alias", "web.corp.example")
    asker = net.run(
        "asker", "--network", "n", "--dns-search", "corp.example", "--dns-option", "timeout:3",
        "--add-host", "up:host-gateway", "--add-host", "fixed:192.0.2.7",
    )  # fmt: skip
    lines = asker.say("cat", "/etc/resolv.conf").splitlines()
    assert f"nameserver {RESOLVER}" in lines
    assert "search corp.example" in lines
    [options] = [line.split()[1:] for line in lines if line.startswith("options")]
    assert {"timeout:3", "ndots:0"} <= set(options)
    assert asker.look_up("fixed") == {"192.0.2.7"}
    assert len(asker.look_up("up")) == 1


def test_a_server_of_its_own_may_have_port_53(net: Net) -> None:
    net.network("n")
    net.run("web", "--network", "n")
    server = net.run("server", "--network", "n", command=["nc", "-ll", "-p", "53", "-e", "echo", "mine"])
    asker = net.run("asker", "--network", "n")
    assert asker.say("nc", "-w", "2", server.address("n"), "53") == "mine"
    assert server.look_up("web") != set()


def test_names_survive_a_restart_of_the_daemon(net: Net, ours: Daemon) -> None:
    net.network("n")
    web, asker = (
        net.run("web", "--network", "n", "--network-alias", "www"),
        net.run("asker", "--network", "n"),
    )
    ours.kill()
    ours.start()
    for name in ("web", "www", web.id[:12]):
        assert asker.look_up(name) == {web.address("n")}
    later = net.run("later", "--network", "n")
    assert asker.look_up("later") == {later.address("n")}


@pytest.mark.parametrize("internal", [False, True])
def test_unknown_names_are_answered_at_once(net: Net, ours: Daemon, internal: bool) -> None:
    """A single label is never asked of anybody else, and on an internal network nothing is."""
    net.network("n", *(["--internal"] if internal else []))
    asker = net.run("asker", "--network", "n", "--dns", "192.0.2.53")
    # "go.n" might be of the world's: whoever names a network "dev" can still reach what is under .dev
    names = ["nobody", "nobody.n", "www.example.com"] if internal else ["nobody"]
    for name in names:
        took = asker.say("sh", "-c", f"time -f %e getent ahostsv4 {name} 2>&1; true").split()[-1]
        assert float(took) < 2.0, name
