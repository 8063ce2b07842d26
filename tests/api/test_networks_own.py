"""Dialogues about networks of one's own: create, list, inspect, remove, prune."""

import ipaddress
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import steps
from tests.support import schema
from tests.support.daemon import Daemon
from tests.support.rawhttp import Answer, Api

BRIDGE = "com.docker.network.bridge."


@pytest.fixture(autouse=True)
def no_networks_stay(daemon: Daemon, api: Api) -> Iterator[None]:
    yield
    daemon.remove_containers()
    daemon.remove_networks()


def ask(api: Api, name: str, version: str = "v1.51", **fields: Any) -> Answer:
    return api("POST", "/networks/create", json_body={"Name": name, **fields}, version=version)


def create(api: Api, name: str, **fields: Any) -> str:
    """Create a network and return its id."""
    answer = ask(api, name, **fields).expect(201)
    schema.check_answer("POST", "/networks/create", 201, answer.json)
    return str(answer.json["Id"])


def inspect(api: Api, ref: str) -> Any:
    answer = api("GET", f"/networks/{ref}", verbose=True).expect(200)
    schema.check_answer("GET", "/networks/{id}", 200, answer.json)
    return answer.json


def own(api: Api, version: str = "v1.51", **filters: list[str]) -> list[str]:
    """The names of the networks that filters let through, without the predefined ones."""
    answer = api("GET", "/networks", filters=filters, version=version).expect(200)
    schema.check_answer("GET", "/networks", 200, answer.json)
    return sorted(n["Name"] for n in answer.json if n["Name"] not in ("bridge", "host", "none"))


def subnet(*config: dict[str, Any]) -> dict[str, Any]:
    return {"IPAM": {"Config": list(config)}}


def links() -> set[str]:
    listed = subprocess.run(["ip", "-o", "link"], capture_output=True, check=True, text=True).stdout
    return {line.split(": ")[1].partition("@")[0] for line in listed.splitlines()}


# --- create and inspect -----------------------------------------------------------------------------------


def test_a_network_by_name_alone(api: Api) -> None:
    made = create(api, "web")
    shown = inspect(api, "web")
    assert (shown["Id"], shown["Name"], shown["Driver"], shown["Scope"]) == (made, "web", "bridge", "local")
    assert (shown["EnableIPv4"], shown["EnableIPv6"]) == (True, False)
    assert (shown["Internal"], shown["Attachable"], shown["Ingress"]) == (False, False, False)
    assert shown["Options"] == shown["Labels"] == shown["Containers"] == {}
    [pool] = shown["IPAM"]["Config"]
    assert pool["Gateway"] == str(ipaddress.ip_network(pool["Subnet"])[1])
    assert f"br-{made[:12]}" in links()


def test_all_that_can_be_asked_is_shown_again(api: Api) -> None:
    options = {
        BRIDGE + "name": "n4br0",
        BRIDGE + "enable_icc": "false",
        BRIDGE + "enable_ip_masquerade": "false",
        BRIDGE + "host_binding_ipv4": "127.0.0.1",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.container_iface_prefix": "lan",
    }
    four = {
        "Subnet": "10.231.0.0/16",
        "IPRange": "10.231.5.0/24",
        "Gateway": "10.231.0.254",
        "AuxiliaryAddresses": {"nas": "10.231.5.9"},
    }
    six = {"Subnet": "fd31:9::/64", "Gateway": "fd31:9::9"}
    create(
        api,
        "web",
        Internal=True,
        Attachable=True,
        EnableIPv6=True,
        Options=options,
        Labels={"a": "b"},
        IPAM={"Driver": "default", "Options": {"x": "y"}, "Config": [six, four]},
    )
    shown = inspect(api, "web")
    assert shown["IPAM"] == {"Driver": "default", "Options": {"x": "y"}, "Config": [four, six]}
    assert (shown["Internal"], shown["Attachable"], shown["EnableIPv6"]) == (True, True, True)
    assert (shown["Options"], shown["Labels"]) == (options, {"a": "b"})
    assert "n4br0" in links()
    mtu = subprocess.run(["cat", "/sys/class/net/n4br0/mtu"], capture_output=True, check=True, text=True)
    assert mtu.stdout.strip() == "1400"


def test_ipv6_without_a_subnet_gets_one_of_its_own(api: Api) -> None:
    create(api, "both", EnableIPv6=True)
    create(api, "six", EnableIPv4=False, EnableIPv6=True)
    four, six = inspect(api, "both")["IPAM"]["Config"]
    other = inspect(api, "six")
    assert (other["EnableIPv4"], other["EnableIPv6"]) == (False, True)
    [only] = other["IPAM"]["Config"]
    assert ipaddress.ip_network(four["Subnet"]).version == 4
    first, second = (ipaddress.IPv6Network(pool["Subnet"]) for pool in (six, only))
    assert first.prefixlen == second.prefixlen == 64
    assert not first.overlaps(second)
    assert first.is_private


def test_chosen_subnets_avoid_networks_and_routes(api: Api) -> None:
    names = ["one", "two", "three"]
    for name in names:
        create(api, name)
    subnets = [ipaddress.ip_network(inspect(api, name)["IPAM"]["Config"][0]["Subnet"]) for name in names]
    bridge = ipaddress.ip_network(inspect(api, "bridge")["IPAM"]["Config"][0]["Subnet"])
    for position, one in enumerate(subnets):
        assert not any(one.overlaps(other) for other in [bridge, *subnets[:position]])


def test_pools_of_ones_own_are_configured(make_daemon: Any) -> None:
    daemon = make_daemon("--default-address-pool", "base=10.232.0.0/23,size=24").start()
    api = daemon.api
    used = inspect(api, "bridge")["IPAM"]["Config"][0]["Subnet"]
    if ipaddress.ip_network(used).overlaps(ipaddress.ip_network("10.232.0.0/23")):
        left = ["10.232.1.0/24"]
    else:
        left = ["10.232.0.0/24", "10.232.1.0/24"]
    for expected in left:
        create(api, f"net-{expected[7]}")
        assert inspect(api, f"net-{expected[7]}")["IPAM"]["Config"][0]["Subnet"] == expected
    refused = ask(api, "more").expect(400)
    assert refused.message == "all predefined address pools have been fully subnetted"
    daemon.remove_networks()


@pytest.mark.parametrize(
    ("status", "fields", "text"),
    [
        (400, {"Name": " "}, "invalid name:  "),
        (403, {"Name": "bridge"}, "operation is not permitted on predefined bridge network "),
        (403, {"Name": "default"}, "operation is not permitted on predefined default network "),
        (403, {"Driver": "host"}, 'only one instance of "host" network is allowed'),
        (403, {"Driver": "null"}, 'only one instance of "null" network is allowed'),
        (404, {"Driver": "magic"}, 'plugin "magic" not found'),
        (403, {"Driver": "overlay"}, "This node is not a swarm manager."),
        (404, {"IPAM": {"Driver": "magic"}}, 'plugin "magic" not found'),
        (403, {"Ingress": True}, "Ingress network can only be global scope network"),
        (403, {"Scope": "swarm"}, "cannot create a swarm scoped network when swarm is not active"),
        (403, {"ConfigOnly": True, "Internal": True}, "configuration network can only contain network"),
        (404, {"ConfigFrom": {"Network": "x"}}, 'configuration network "x" does not exist'),
        (404, {"ConfigFrom": {"Network": "bridge"}}, 'configuration network "bridge" does not exist'),
        (400, {"EnableIPv4": False}, "IPv4 or IPv6 must be enabled"),
        (400, subnet({"Subnet": "10.233.0.0"}), "invalid subnet 10.233.0.0: invalid CIDR block notation"),
        (
            400,
            subnet({"Subnet": "10.233.0.0/16", "Gateway": "10.234.0.1"}),
            "invalid network config:\n"
            "invalid gateway 10.234.0.1: parent subnet 10.233.0.0/16 doesn't contain this address",
        ),
        (
            500,
            subnet({"Subnet": "10.233.0.0/16", "Gateway": "10.233.0.0"}),
            "failed to allocate gateway (10.233.0.0): Address already in use",
        ),
        (
            500,
            subnet(
                {
                    "Subnet": "10.233.0.0/16",
                    "Gateway": "10.233.0.9",
                    "AuxiliaryAddresses": {"a": "10.233.0.9"},
                }
            ),
            "failed to allocate secondary ip address (a:10.233.0.9): Address already in use",
        ),
        (
            403,
            subnet({"Subnet": "10.233.0.0/16"}, {"Subnet": "10.234.0.0/16"}),
            "bridge driver doesn't support multiple subnets",
        ),
        (
            400,
            {"Options": {BRIDGE + "enable_icc": "si"}},
            "failed to parse com.docker.network.bridge.enable_icc value: si "
            '(strconv.ParseBool: parsing "si": invalid syntax)',
        ),
        (400, {"Options": {"com.docker.network.driver.mtu": "-5"}}, "invalid MTU number: -5"),
        (
            400,
            {"Options": {BRIDGE + "gateway_mode_ipv4": "round"}},
            "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: round "
            "(unknown gateway mode round)",
        ),
        (
            400,
            {"Options": {BRIDGE + "gateway_mode_ipv6": "isolated"}},
            "gateway mode 'isolated' can only be used for an internal network",
        ),
        (
            400,
            {"Driver": "macvlan", "Options": {"macvlan_mode": "x"}},
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default",
        ),
        (400, {"Internal": "yes"}, "invalid JSON: "),
    ],
)
def test_what_is_refused(api: Api, status: int, fields: dict[str, Any], text: str) -> None:
    refused = api("POST", "/networks/create", json_body={"Name": "web", **fields}).expect(status)
    assert text in refused.message
    assert own(api) == []


def test_names_bridges_and_subnets_are_taken_once(api: Api) -> None:
    bridge: dict[str, Any] = {"Options": {BRIDGE + "name": "n4br1"}}
    create(api, "web", **subnet({"Subnet": "10.231.0.0/16"}), **bridge)
    assert ask(api, "web").expect(409).message == "network with name web already exists"
    overlapping = ask(api, "other", **subnet({"Subnet": "10.231.7.0/24"})).expect(403)
    assert overlapping.message == "invalid pool request: Pool overlaps with other one on this address space"
    assert "networks have same bridge name" in ask(api, "other", **bridge).expect(403).message
    assert own(api) == ["web"]


@pytest.fixture
def link() -> Iterator[str]:
    """The name of an interface that the test makes; it is deleted after it."""
    name = "n4user0"
    yield name
    subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def test_a_bridge_of_the_users_serves_and_stays(api: Api, image: str, link: str) -> None:
    subprocess.run(["ip", "link", "add", link, "type", "bridge"], check=True)
    create(api, "web", Options={BRIDGE + "name": link}, **subnet({"Subnet": "10.231.0.0/16"}))
    container = steps.start(api, image, "sleep", "1000", HostConfig={"NetworkMode": "web"})
    addresses = ["ip", "-o", "-4", "address", "show", "dev", link]
    assert b"10.231.0.1/16" in subprocess.run(addresses, capture_output=True, check=True).stdout
    api("DELETE", f"/containers/{container}", force=True).expect(204)
    api("DELETE", "/networks/web").expect(204)
    assert subprocess.run(addresses, capture_output=True, check=True).stdout == b""


def test_an_interface_of_anothers_is_left_alone(api: Api, make_daemon: Any, link: str) -> None:
    subprocess.run(["ip", "link", "add", link, "type", "veth", "peer", "n4user1"], check=True)
    refused = ask(api, "web", Options={BRIDGE + "name": link}).expect(409)
    assert refused.message == f"an interface named {link} exists that is no bridge"
    other = make_daemon().start()
    made = create(other.api, "theirs")
    refused = ask(api, "web", Options={BRIDGE + "name": f"br-{made[:12]}"}).expect(409)
    assert "is that of another network" in refused.message
    assert {link, f"br-{made[:12]}"} <= links()
    assert own(api) == []
    other.remove_networks()


# --- networks that others are made from -------------------------------------------------------------------


def test_networks_are_made_from_another(api: Api, image: str) -> None:
    addresses = {"AuxiliaryAddresses": {"a": "10.239.0.9"}}
    config = {"Subnet": "10.239.0.0/24", "IPRange": "10.239.0.128/25", **addresses}
    options = {"com.docker.network.driver.mtu": "1400"}
    fields = {"Labels": {"who": "me"}, "Options": options, **subnet(config)}
    plan = create(api, "plan", Driver="macvlan", ConfigOnly=True, **fields)
    shown = inspect(api, "plan")
    assert (shown["Driver"], shown["ConfigOnly"], shown["ConfigFrom"]) == ("null", True, {"Network": ""})
    assert (shown["IPAM"]["Config"], shown["Options"]) == ([config], options)
    assert f"br-{plan[:12]}" not in links()
    made = create(api, "web", ConfigFrom={"Network": "plan"}, Attachable=True)
    shown = inspect(api, "web")
    assert (shown["Driver"], shown["ConfigOnly"]) == ("bridge", False)
    assert shown["ConfigFrom"] == {"Network": "plan"}
    assert shown["Labels"] == {"who": "me"}
    assert shown["IPAM"]["Config"] == [{**config, "Gateway": "10.239.0.128"}]
    container = steps.start(api, image, "sleep", "1000", HostConfig={"NetworkMode": "web"})
    found = steps.inspect(api, container)["NetworkSettings"]["Networks"]["web"]
    assert found["IPAddress"] == "10.239.0.129"
    mtu = ["ip", "-o", "link", "show", f"br-{made[:12]}"]
    assert b"mtu 1400" in subprocess.run(mtu, capture_output=True, check=True).stdout
    # A second one would need the same subnet: Docker's words, and status.
    assert "Pool overlaps" in ask(api, "again", ConfigFrom={"Network": "plan"}).expect(403).message
    refused = api("DELETE", "/networks/plan").expect(403)
    assert refused.message == 'error while removing network: configuration network "plan" is in use'
    assert api("POST", "/networks/prune").expect(200).json["NetworksDeleted"] == []
    api("DELETE", f"/containers/{container}", force=True).expect(204)
    assert api("POST", "/networks/prune").expect(200).json["NetworksDeleted"] == ["web"]
    api("DELETE", "/networks/plan").expect(204)
    assert own(api) == []


def test_nobody_is_on_a_network_that_is_for_others(daemon: Daemon, api: Api, image: str) -> None:
    create(api, "plan", ConfigOnly=True)
    made = steps.create(api, image, "sleep", "1000", HostConfig={"NetworkMode": "plan"})
    refusal = "cannot create endpoint on configuration-only network"
    assert refusal in api("POST", f"/containers/{made}/start").expect(403).message
    running = steps.start(api, image, "sleep", "1000")
    refused = api("POST", "/networks/plan/connect", json_body={"Container": running}).expect(403)
    assert refused.message == refusal
    daemon.restart()
    assert inspect(api, "plan")["ConfigOnly"] is True
    create(api, "web", ConfigFrom={"Network": "plan"})


def test_older_clients_cannot_switch_ipv4_off(api: Api) -> None:
    ask(api, "web", version="v1.47", EnableIPv4=False).expect(201)
    assert inspect(api, "web")["EnableIPv4"] is True


def test_what_has_no_effect_is_told(api: Api) -> None:
    answer = ask(
        api, "web", Options={"colour": "red"}, **subnet({"Subnet": "10.231.0.0/16"}, {"Subnet": "fd00::/64"})
    )
    assert answer.expect(201).json["Warning"].splitlines() == [
        "subnet fd00::/64 is not used: the network has no IPv6",
        "network option colour is unknown to driver bridge and has no effect",
    ]


def test_a_body_must_be_json(api: Api) -> None:
    headers = {"Content-Type": "text/plain"}
    for path in ("create", "bridge/connect", "bridge/disconnect"):
        refused = api("POST", f"/networks/{path}", body=b"{}", headers=headers).expect(400)
        assert "unsupported Content-Type header" in refused.message
        api("POST", f"/networks/{path}", body=b"[]", headers={"Content-Type": "application/json"}).expect(400)


# --- lists ------------------------------------------------------------------------------------------------


def test_filters_of_lists(api: Api, image: str) -> None:
    web = create(api, "web", Labels={"tier": "front", "team": "a"})
    create(api, "web-data", Internal=True, Labels={"tier": "back"})
    steps.start(api, image, HostConfig={"NetworkMode": "web"})
    assert own(api) == own(api, driver=["bridge"]) == own(api, type=["custom"]) == ["web", "web-data"]
    assert own(api, name=["data"]) == own(api, name=["^web-"]) == ["web-data"]
    assert own(api, id=[web[:10]]) == own(api, label=["tier=front"]) == ["web"]
    assert own(api, label=["tier"]) == own(api, scope=["local"]) == ["web", "web-data"]
    assert (
        own(api, label=["tier=front", "team=b"])
        == own(api, type=["builtin"])
        == own(api, scope=["swarm"])
        == []
    )
    assert own(api, dangling=["true"]) == own(api, dangling=["1"]) == ["web-data"]
    assert own(api, dangling=["false"]) == ["web"]
    for name, value, text in (
        ("dangling", "odd", "invalid value for filter 'dangling'"),
        ("type", "odd", "invalid filter: 'type'='odd'"),
        ("scope", "odd", "invalid filter: 'scope'='odd'"),
        ("colour", "red", "invalid filter 'colour'"),
    ):
        assert text in api("GET", "/networks", filters={name: [value]}).expect(400).message


def test_lists_show_members_to_old_clients_only(api: Api, image: str) -> None:
    create(api, "web")
    container = steps.start(api, image, HostConfig={"NetworkMode": "web"})
    for version, shown in (("v1.27", [container]), ("v1.28", [])):
        listed = api("GET", "/networks", filters={"name": ["^web$"]}, version=version).expect(200).json
        assert list(listed[0]["Containers"]) == shown
    assert list(inspect(api, "web")["Containers"]) == [container]


def test_a_network_is_found_by_the_beginning_of_its_id(api: Api) -> None:
    made = create(api, "web")
    assert inspect(api, made[:9])["Name"] == "web"
    create(api, made[:5])
    assert inspect(api, made[:5])["Name"] == made[:5], "a name goes before the beginning of an id"
    assert api("GET", "/networks/web", scope="swarm").expect(404).message == "network web not found"


def test_names_may_be_odd(api: Api) -> None:
    create(api, "my team/web net")
    assert inspect(api, "my%20team/web%20net")["Name"] == "my team/web net"
    api("DELETE", "/networks/my%20team/web%20net").expect(204)
    assert own(api) == []


# --- remove and prune -------------------------------------------------------------------------------------


def test_a_network_is_removed_unless_somebody_runs_on_it(api: Api, image: str) -> None:
    made = create(api, "web")
    container = steps.start(api, image, name="member", HostConfig={"NetworkMode": "web"})
    endpoint = inspect(api, "web")["Containers"][container]["EndpointID"]
    refused = api("DELETE", "/networks/web").expect(403)
    assert refused.message == (
        f'error while removing network: network web has active endpoints (name:"member" id:"{endpoint[:12]}")'
    )
    api("POST", f"/containers/{container}/kill").expect(204)
    steps.wait_exit(api, container)
    api("DELETE", f"/networks/{made[:12]}").expect(204)
    assert api("DELETE", "/networks/web").expect(404).message == "network web not found"
    assert f"br-{made[:12]}" not in links()
    missed = api("POST", f"/containers/{container}/start").expect(404)
    assert missed.message == "network web not found"


def test_prune_removes_what_nobody_uses(api: Api, image: str) -> None:
    create(api, "used")
    create(api, "labelled", Labels={"keep": "yes"})
    create(api, "free")
    steps.start(api, image, HostConfig={"NetworkMode": "used"})
    unlabelled = {"label!": ["keep"]}
    assert api("POST", "/networks/prune", filters=unlabelled).expect(200).json == {
        "NetworksDeleted": ["free"]
    }
    old = {"until": [str(int(time.time()) - 3600)]}
    assert api("POST", "/networks/prune", filters=old).expect(200).json == {"NetworksDeleted": []}
    answer = api("POST", "/networks/prune", filters={"label": ["keep=yes"], "until": ["0s"]}).expect(200)
    schema.check_answer("POST", "/networks/prune", 200, answer.json)
    assert answer.json == {"NetworksDeleted": ["labelled"]}
    assert own(api) == ["used"]
    for filters, text in (
        ({"dangling": ["true"]}, "invalid filter 'dangling'"),
        ({"until": ["1", "2"]}, "more than one until filter specified"),
        ({"until": ["soon"]}, "invalid timestamp 'soon'"),
    ):
        assert api("POST", "/networks/prune", filters=filters).expect(400).message == text
