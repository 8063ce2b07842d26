"""`docker network …` from create to prune, as people type it."""

import json
import re
import time
from collections.abc import Callable

import pytest

from tests.conftest import DockerCli
from tests.net.conftest import Net, succeed
from tests.support.daemon import Daemon

Refused = Callable[..., str]


def names(docker: DockerCli, *filters: str) -> list[str]:
    flags = [flag for each in filters for flag in ("--filter", each)]
    return succeed(docker("network", "ls", "--format", "{{.Name}}", *flags)).splitlines()


def test_the_life_of_a_network(docker: DockerCli, net: Net) -> None:
    network_id = succeed(
        docker(
            "network", "create", "--label", "team=blue", "-o", "com.docker.network.driver.mtu=1400", "life"
        )
    )
    assert re.fullmatch("[0-9a-f]{64}", network_id)
    shown = net.inspect("life")
    assert shown == net.inspect(network_id[:12])
    assert (shown["Driver"], shown["Scope"], shown["Internal"]) == ("bridge", "local", False)
    assert shown["Labels"] == {"team": "blue"}
    assert shown["Options"]["com.docker.network.driver.mtu"] == "1400"
    assert shown["Containers"] == {}
    member = net.run("member", "--network", "life")
    assert member.say("cat", "/sys/class/net/eth0/mtu") == "1400"
    [entry] = net.inspect("life")["Containers"].values()
    assert entry["Name"] == "member"
    assert entry["IPv4Address"].split("/")[0] == member.address("life")
    succeed(docker("rm", "-f", "member"))
    assert succeed(docker("network", "rm", "life")) == "life"
    assert names(docker, "name=life") == []


def test_lists_are_filtered(docker: DockerCli, net: Net, ours: Daemon) -> None:
    net.network("alpha", "--label", "team=blue")
    net.network("beta", "--label", "team=red", "--internal")
    net.run("member", "--network", "alpha")
    assert names(docker) == ["alpha", "beta", "bridge", "host", "none"]
    assert names(docker, "type=custom") == ["alpha", "beta"]
    assert names(docker, "type=builtin", "driver=null") == ["none"]
    assert names(docker, "label=team") == ["alpha", "beta"]
    assert names(docker, "label=team=red") == ["beta"]
    assert names(docker, "name=^alp") == ["alpha"]
    assert names(docker, "dangling=true") == ["beta"]
    assert names(docker, "scope=local", "driver=bridge") == ["alpha", "beta", "bridge"]
    assert names(docker, f"id={net.inspect('beta')['Id'][:10]}") == ["beta"]


def test_addresses_are_as_asked(docker: DockerCli, net: Net) -> None:
    net.network(
        "planned", "--subnet", "10.213.0.0/16", "--ip-range", "10.213.7.0/24", "--gateway", "10.213.9.9",
        "--aux-address", "router=10.213.7.1",
    )  # fmt: skip
    [config] = net.inspect("planned")["IPAM"]["Config"]
    assert config == {
        "Subnet": "10.213.0.0/16",
        "IPRange": "10.213.7.0/24",
        "Gateway": "10.213.9.9",
        "AuxiliaryAddresses": {"router": "10.213.7.1"},
    }
    chosen = net.run("chosen", "--network", "planned")
    assert chosen.address("planned").startswith("10.213.7.")
    assert chosen.address("planned") != "10.213.7.1"
    assert "default via 10.213.9.9 dev eth0" in chosen.say("ip", "route")
    fixed = net.run("fixed", "--network", "planned", "--ip", "10.213.200.3")
    assert fixed.address("planned") == "10.213.200.3"
    assert fixed.say("ping", "-c", "1", "-W", "2", chosen.address("planned"))


def test_what_is_refused(docker: DockerCli, net: Net, refused: Refused, ours: Daemon) -> None:
    net.network("taken", "--subnet", "10.214.0.0/24")
    net.run("member", "--network", "taken")
    overlap = "invalid pool request: Pool overlaps with other one on this address space"
    assert overlap in refused("network", "create", "--subnet", "10.214.0.0/25", "other")
    assert "network with name taken already exists" in refused("network", "create", "taken")
    assert "bridge is a pre-defined network and cannot be removed" in refused("network", "rm", "bridge")
    assert "network nowhere not found" in refused("network", "rm", "nowhere")
    assert "network nowhere not found" in refused("network", "inspect", "nowhere")
    assert "has active endpoints" in refused("network", "rm", "taken")
    assert 'plugin "nonsense" not found' in refused("network", "create", "-d", "nonsense", "other")
    assert 'only one instance of "host" network is allowed' in refused("network", "create", "-d", "host", "h")
    assert "No such container: nobody" in refused("network", "connect", "taken", "nobody")
    assert "is not connected to" in refused("network", "disconnect", "bridge", "member")
    assert "already exists in network taken" in refused("network", "connect", "taken", "member")
    unknown = refused("run", "--rm", "--network", "nowhere", net.image, "true", code=125)
    assert "network nowhere not found" in unknown
    outside = refused("run", "--rm", "--network", "taken", "--ip", "10.215.0.9", net.image, "true", code=125)
    assert "10.215.0.9" in outside
    used = net.inspect("taken")["Containers"].popitem()[1]["IPv4Address"].split("/")[0]
    again = refused("run", "--rm", "--network", "taken", "--ip", used, net.image, "true", code=125)
    assert "Address already in use" in again


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ip", "10.0.0.9"], "user specified IP address is supported on user defined networks only"),
        (["--network", "host", "--ip", "10.0.0.9"], "user specified IP address"),
    ],
)
def test_fixed_addresses_are_for_networks_of_ones_own(
    net: Net, refused: Refused, ours: Daemon, arguments: list[str], words: str
) -> None:
    assert words in refused("run", "--rm", *arguments, net.image, "true", code=125)


def test_prune_removes_what_nobody_uses(docker: DockerCli, net: Net) -> None:
    for name in ("used", "stopped", "unused", "kept"):
        net.network(name, *(["--label", "keep"] if name == "kept" else []))
    net.run("runs", "--network", "used")
    net.run("ended", "--network", "stopped", command=["true"])
    succeed(docker("wait", "ended"))
    before = f"{time.time():f}"
    pruned = succeed(docker("network", "prune", "-f", "--filter", "label!=keep"))
    assert "unused" in pruned.split()
    assert "used" not in pruned.split()
    left = names(docker, "type=custom")
    assert {"kept", "used"} <= set(left)
    during = ("--since", before, "--until", f"{time.time():f}", "--filter", "event=prune")
    assert succeed(docker("events", *during, "--format", "{{json .Actor}}")) == (
        '{"ID":"","Attributes":{"reclaimed":"0"}}'
    )
    assert "unused" not in left


def test_a_network_goes_while_stopped_containers_name_it(
    docker: DockerCli, net: Net, refused: Refused
) -> None:
    net.network("brief")
    net.run("ended", "--network", "brief", command=["true"])
    succeed(docker("wait", "ended"))
    succeed(docker("network", "rm", "brief"))
    assert re.search(r"network \S+ not found", refused("start", "ended"))
    net.network("other")
    succeed(docker("network", "disconnect", "brief", "ended"))
    assert "network brief" in refused("network", "disconnect", "brief", "ended")
    succeed(docker("network", "connect", "other", "ended"))
    succeed(docker("start", "ended"))
    succeed(docker("wait", "ended"))


def test_events_tell_of_networks(docker: DockerCli, net: Net) -> None:
    net.network("told")
    member = net.run("member")
    net.connect("told", member)
    net.disconnect("told", member)
    succeed(docker("network", "rm", "told"))
    soon = str(int(time.time()) + 1)
    lines = succeed(
        docker(
            "events",
            "--since",
            "1h",
            "--until",
            soon,
            "--filter",
            "type=network",
            "--filter",
            "network=told",
            "--format",
            "{{json .}}",
        )
    ).splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["Action"] for event in events][-4:] == ["create", "connect", "disconnect", "destroy"]
    assert events[-3]["Actor"]["Attributes"]["container"] == member.id
    assert events[-3]["Actor"]["Attributes"]["type"] == "bridge"
