"""Dialogues about attachments: containers made on networks, connected to them, and disconnected."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import steps
from tests.support import schema
from tests.support.daemon import Daemon
from tests.support.rawhttp import Answer, Api

WEB = {"IPAM": {"Config": [{"Subnet": "10.241.0.0/24"}, {"Subnet": "fd41:7::/64"}]}, "EnableIPv6": True}
DATA = {"IPAM": {"Config": [{"Subnet": "10.242.0.0/24", "IPRange": "10.242.0.64/26"}]}, "Internal": True}


@pytest.fixture(autouse=True)
def two_networks(daemon: Daemon, api: Api) -> Iterator[None]:
    """``web`` of both families, and ``data``, internal."""
    for name, fields in (("web", WEB), ("data", DATA)):
        api("POST", "/networks/create", json_body={"Name": name, **fields}).expect(201)
    yield
    daemon.remove_containers()
    daemon.remove_networks()


def attached(api: Api, container: str, version: str = "v1.51") -> Any:
    answer = api("GET", f"/containers/{container}/json", version=version).expect(200)
    schema.check_answer("GET", "/containers/{id}/json", 200, answer.json)
    return answer.json["NetworkSettings"]["Networks"]


def members(api: Api, network: str) -> Any:
    return api("GET", f"/networks/{network}").expect(200).json["Containers"]


def connect(api: Api, network: str, container: str, **wish: Any) -> Answer:
    body = {"Container": container, "EndpointConfig": wish}
    return api("POST", f"/networks/{network}/connect", json_body=body)


def disconnect(api: Api, network: str, container: str, *, force: bool = False) -> Answer:
    return api("POST", f"/networks/{network}/disconnect", json_body={"Container": container, "Force": force})


def made(api: Api, image: str, mode: str, **endpoints: dict[str, Any] | None) -> Answer:
    body = {
        "Image": image,
        "Cmd": steps.SLEEPER,
        "HostConfig": {"NetworkMode": mode},
        "NetworkingConfig": {"EndpointsConfig": endpoints},
    }
    return api("POST", "/containers/create", json_body=body)


# --- made on networks -------------------------------------------------------------------------------------


def test_a_container_on_several_networks_shows_all_of_each(api: Api, image: str) -> None:
    web = {
        "IPAMConfig": {"IPv4Address": "10.241.0.9", "IPv6Address": "fd41:7::9"},
        "Aliases": ["front"],
        "MacAddress": "02:42:0a:f1:00:09",
        "GwPriority": 5,
        "Links": ["cache:redis"],
        "DriverOpts": {"com.docker.network.endpoint.ifname": "wan0"},
    }
    body = {
        "Hostname": "inner",
        "HostConfig": {"NetworkMode": "web"},
        "NetworkingConfig": {"EndpointsConfig": {"web": web, "data": None}},
    }
    container = steps.start(api, image, name="server", **body)
    shown = attached(api, container)
    assert list(shown) == ["data", "web"]
    network = api("GET", "/networks/web").expect(200).json
    endpoint = network["Containers"][container]
    assert shown["web"] == {
        **web,
        "NetworkID": network["Id"],
        "EndpointID": endpoint["EndpointID"],
        "Gateway": "10.241.0.1",
        "IPAddress": "10.241.0.9",
        "IPPrefixLen": 24,
        "IPv6Gateway": "fd41:7::1",
        "GlobalIPv6Address": "fd41:7::9",
        "GlobalIPv6PrefixLen": 64,
        "DNSNames": ["server", "front", container[:12], "inner"],
    }
    assert endpoint == {
        "Name": "server",
        "EndpointID": shown["web"]["EndpointID"],
        "MacAddress": "02:42:0a:f1:00:09",
        "IPv4Address": "10.241.0.9/24",
        "IPv6Address": "fd41:7::9/64",
    }
    data = shown["data"]
    assert (data["IPAddress"], data["IPPrefixLen"], data["Gateway"]) == ("10.242.0.65", 24, "")
    assert (data["GlobalIPv6Address"], data["IPAMConfig"], data["GwPriority"]) == ("", None, 0)
    settings = steps.inspect(api, container)["NetworkSettings"]
    assert (settings["IPAddress"], settings["EndpointID"]) == ("", ""), "these tell of the default bridge"
    assert settings["SandboxKey"]


def test_a_container_is_on_the_networks_that_are_named_and_no_other(api: Api, image: str) -> None:
    for mode in ("default", "bridge", "", "web"):
        container = made(api, image, mode, data={}).expect(201).json["Id"]
        assert list(attached(api, container)) == ["data"]
    container = made(api, image, "web").expect(201).json["Id"]
    assert list(attached(api, container)) == ["web"]
    container = made(api, image, "", data={}, bridge={}).expect(201).json["Id"]
    api("POST", f"/containers/{container}/start").expect(204)
    assert attached(api, container)["bridge"]["IPAddress"]


def test_networks_may_go_by_their_ids(api: Api, image: str) -> None:
    network = api("GET", "/networks/web").expect(200).json["Id"]
    container = (
        made(api, image, network[:12], **{network: {"Aliases": ["a"]}, "data": {}}).expect(201).json["Id"]
    )
    shown = attached(api, container)
    assert shown["web"]["Aliases"] == ["a"]
    assert shown["web"]["NetworkID"] == network


def test_older_clients_find_the_short_id_among_the_aliases(api: Api, image: str) -> None:
    container = made(api, image, "web", web={"Aliases": ["front"]}).expect(201).json["Id"]
    assert attached(api, container, "v1.44")["web"]["Aliases"] == ["front", container[:12]]
    assert attached(api, container, "v1.45")["web"]["Aliases"] == ["front"]
    listed = api("GET", "/containers/json", all=True, version="v1.44").expect(200).json
    assert container[:12] in listed[0]["NetworkSettings"]["Networks"]["web"]["Aliases"]


def test_one_network_was_the_most_in_older_versions(api: Api, image: str) -> None:
    body = {"Image": image, "NetworkingConfig": {"EndpointsConfig": {"web": {}, "data": {}}}}
    refused = api("POST", "/containers/create", json_body=body, version="v1.43").expect(400)
    assert "Container cannot be created with multiple network endpoints" in refused.message


@pytest.mark.parametrize(
    ("mode", "endpoints", "text"),
    [
        (
            "bridge",
            {"bridge": {"IPAMConfig": {"IPv4Address": "10.9.9.9"}, "Aliases": ["a"]}},
            "invalid config for network bridge: invalid endpoint settings:\n"
            "user specified IP address is supported on user defined networks only\n"
            "network-scoped alias is supported only for containers in user defined networks",
        ),
        (
            "web",
            {"web": {"IPAMConfig": {"IPv4Address": "10.242.0.9"}}},
            "invalid config for network web: invalid endpoint settings:\n"
            "no configured subnet or ip-range contain the IP address 10.242.0.9",
        ),
        (
            "data",
            {"data": {"IPAMConfig": {"IPv6Address": "fd41:7::9"}}},
            "invalid config for network data: invalid endpoint settings:\n"
            "user specified IP address is supported only when connecting to networks with user configured "
            "subnets",
        ),
        (
            "web",
            {"web": {"MacAddress": "x"}},
            "invalid config for network web: invalid endpoint settings:\naddress x: invalid MAC address",
        ),
        (
            "host",
            {"host": {}, "web": {}},
            "container sharing network namespace with another container or host cannot be connected to any "
            "other network",
        ),
        (
            "none",
            {"web": {}},
            "container cannot be connected to multiple networks with one of the networks in private (none) "
            "mode",
        ),
    ],
)
def test_what_a_new_container_cannot_have(
    api: Api, image: str, mode: str, endpoints: dict[str, Any], text: str
) -> None:
    assert made(api, image, mode, **endpoints).expect(400).message == text


def test_an_address_that_is_taken_is_missed_at_the_start(api: Api, image: str) -> None:
    wish = {"IPAMConfig": {"IPv4Address": "10.241.0.9"}}
    first, second = (made(api, image, "web", web=wish).expect(201).json["Id"] for _ in range(2))
    api("POST", f"/containers/{first}/start").expect(204)
    refused = api("POST", f"/containers/{second}/start").expect(403)
    assert "Address already in use" in refused.message
    api("POST", f"/containers/{first}/kill").expect(204)
    steps.wait_exit(api, first)
    steps.until(lambda: api("POST", f"/containers/{second}/start").status == 204)


def test_addresses_run_out(api: Api, image: str) -> None:
    network = {"Name": "tiny", "IPAM": {"Config": [{"Subnet": "10.243.0.0/30"}]}}
    api("POST", "/networks/create", json_body=network).expect(201)
    steps.start(api, image, HostConfig={"NetworkMode": "tiny"})
    second = steps.create(api, image, HostConfig={"NetworkMode": "tiny"})
    refused = api("POST", f"/containers/{second}/start").expect(503)
    assert "no available IPv4 addresses on this network's address pools" in refused.message


# --- connect and disconnect -------------------------------------------------------------------------------


def test_a_running_container_is_connected_and_disconnected(api: Api, image: str) -> None:
    container = steps.start(api, image, HostConfig={"NetworkMode": "web"})
    wish = {"IPAMConfig": {"IPv4Address": "10.242.0.9"}, "Aliases": ["db"], "DriverOpts": None}
    answer = connect(api, "data", container, **wish).expect(200)
    assert answer.body == b""
    shown = attached(api, container)["data"]
    assert (shown["IPAddress"], shown["Aliases"]) == ("10.242.0.9", ["db"])
    assert shown["IPAMConfig"] == {"IPv4Address": "10.242.0.9"}
    assert members(api, "data")[container]["IPv4Address"] == "10.242.0.9/24"
    assert disconnect(api, "data", container).expect(200).body == b""
    assert list(attached(api, container)) == ["web"]
    assert members(api, "data") == {}
    disconnect(api, "web", container, force=True).expect(200)
    assert steps.status(api, container) == "running"


def test_link_local_addresses_are_further_ones(api: Api, image: str) -> None:
    wish = {"IPAMConfig": {"LinkLocalIPs": ["169.254.7.9", "fe80::7:9"]}}
    container = made(api, image, "web", web=wish).expect(201).json["Id"]
    api("POST", f"/containers/{container}/start").expect(204)
    assert attached(api, container)["web"]["IPAMConfig"] == wish["IPAMConfig"]
    pid = steps.inspect(api, container)["State"]["Pid"]
    shown = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "ip", "-o", "address", "show", "dev", "eth0"],
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for address in ("10.241.0.2/24", "169.254.7.9/16", "fd41:7::2/64", "fe80::7:9/64"):
        assert f" {address} " in shown


def test_a_stopped_container_keeps_what_it_was_connected_with(api: Api, image: str) -> None:
    container = steps.create(api, image, HostConfig={"NetworkMode": "web"})
    connect(api, "data", container, GwPriority=-1, Aliases=["db"]).expect(200)
    shown = attached(api, container)["data"]
    assert (shown["GwPriority"], shown["IPAddress"], shown["EndpointID"]) == (-1, "", "")
    assert members(api, "data") == {}
    api("POST", f"/containers/{container}/start").expect(204)
    assert attached(api, container)["data"]["IPAddress"]
    api("POST", f"/containers/{container}/kill").expect(204)
    steps.wait_exit(api, container)
    disconnect(api, "web", container).expect(200)
    assert list(attached(api, container)) == ["data"]


def test_connections_that_cannot_be(api: Api, image: str) -> None:
    running = steps.start(api, image, name="running", HostConfig={"NetworkMode": "web"})
    hosted = steps.start(api, image, HostConfig={"NetworkMode": "host"})
    nowhere = steps.start(api, image, HostConfig={"NetworkMode": "none"})
    joined = steps.start(api, image, HostConfig={"NetworkMode": f"container:{running}"})
    for status, network, container, wish, text in (
        (404, "nothing", running, {}, "network nothing not found"),
        (404, "web", "nobody", {}, "No such container: nobody"),
        (400, "web", "", {}, 'invalid name or ID supplied: ""'),
        (403, "web", running, {}, "endpoint with name running already exists in network web"),
        (
            400,
            "data",
            running,
            {"IPAMConfig": {"IPv4Address": "10.241.0.9"}},
            "contain the IP address 10.241.0.9",
        ),
        (400, "bridge", running, {"Aliases": ["a"]}, "network-scoped alias is supported only"),
        (403, "data", running, {"IPAMConfig": {"IPv4Address": "10.242.0.64"}}, "Address already in use"),
    ):
        assert text in connect(api, network, container, **wish).expect(status).message
    for container in (hosted, joined):
        assert "cannot be connected" in connect(api, "web", container).expect(400).message
    assert "private (none) mode" in connect(api, "web", nowhere).expect(400).message
    assert "host network" in connect(api, "host", running).expect(400).message
    assert list(attached(api, running)) == ["web"]


def test_disconnections_that_cannot_be(api: Api, image: str) -> None:
    running = steps.start(api, image, HostConfig={"NetworkMode": "web"})
    refused = disconnect(api, "data", running).expect(403)
    assert refused.message == f"container {running} is not connected to network data"
    assert disconnect(api, "nothing", running).expect(404).message == "network nothing not found"
    assert disconnect(api, "web", "nobody").expect(404).message == "No such container: nobody"
    hosted = steps.start(api, image, HostConfig={"NetworkMode": "host"})
    assert "host network" in disconnect(api, "host", hosted).expect(400).message


def test_ports_of_both_families_are_shown(api: Api, image: str) -> None:
    host = {
        "NetworkMode": "web",
        "PortBindings": {"80/tcp": [{"HostPort": ""}], "53/udp": [{"HostIp": "::1"}]},
    }
    container = steps.start(api, image, HostConfig=host)
    shown = steps.inspect(api, container)["NetworkSettings"]["Ports"]
    four, six = shown["80/tcp"]
    assert (four["HostIp"], six["HostIp"]) == ("0.0.0.0", "::")
    assert four["HostPort"] == six["HostPort"]
    assert [binding["HostIp"] for binding in shown["53/udp"]] == ["::1"]
    listed = api("GET", "/containers/json").expect(200).json[0]["Ports"]
    assert [port["IP"] for port in listed] == ["::1", "0.0.0.0", "::"]
    disconnect(api, "web", container).expect(200)
    assert not any(steps.inspect(api, container)["NetworkSettings"]["Ports"].values())


def test_an_ipv6_binding_needs_ipv6(api: Api, image: str) -> None:
    host = {"PortBindings": {"80/tcp": [{"HostIp": "::1"}]}}
    container = steps.create(api, image, HostConfig=host)
    refused = api("POST", f"/containers/{container}/start").expect(400)
    assert "needs a network that has IPv6" in refused.message
