"""Dialogues about networks: the predefined ones, and what containers show of them."""

import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.support import schema
from tests.support.rawhttp import Api
from tests.support.whose import own_port

HTTPD = ["sh", "-c", "echo hello >index.html; exec httpd -f -p 80"]


def networks(api: Api, **filters: list[str]) -> list[str]:
    answer = api("GET", "/networks", filters=filters).expect(200)
    schema.check_answer("GET", "/networks", 200, answer.json)
    return [network["Name"] for network in answer.json]


def inspect(api: Api, ref: str) -> Any:
    answer = api("GET", f"/networks/{ref}").expect(200)
    schema.check_answer("GET", "/networks/{id}", 200, answer.json)
    return answer.json


def test_the_predefined_networks_are_listed(api: Api) -> None:
    assert networks(api) == ["bridge", "host", "none"]
    assert networks(api, driver=["null"]) == ["none"]
    assert networks(api, name=["o"]) == ["host", "none"]
    assert networks(api, id=[inspect(api, "host")["Id"][:12]]) == ["host"]
    assert networks(api, type=["builtin"]) == ["bridge", "host", "none"]
    assert (
        networks(api, type=["custom"]) == networks(api, dangling=["true"]) == networks(api, label=["a"]) == []
    )
    assert (
        api("GET", "/networks", filters={"colour": ["red"]}).expect(400).message == "invalid filter 'colour'"
    )
    assert "invalid filter" in api("GET", "/networks", filters={"type": ["odd"]}).expect(400).message


def test_a_network_is_found_by_name_id_and_beginning(api: Api) -> None:
    bridge = inspect(api, "bridge")
    for ref in (bridge["Id"], bridge["Id"][:12]):
        assert inspect(api, ref)["Name"] == "bridge"
    assert api("GET", "/networks/nothing").expect(404).message == "network nothing not found"


def test_a_running_container_is_on_its_network_and_a_stopped_one_is_not(api: Api, image: str) -> None:
    container = steps.start(api, image, name="member")
    bridge = inspect(api, "bridge")
    settings = steps.inspect(api, container)["NetworkSettings"]
    attached = settings["Networks"]["bridge"]
    assert bridge["Containers"] == {
        container: {
            "Name": "member",
            "EndpointID": attached["EndpointID"],
            "MacAddress": attached["MacAddress"],
            "IPv4Address": f"{attached['IPAddress']}/{attached['IPPrefixLen']}",
            "IPv6Address": "",
        }
    }
    assert bridge["IPAM"]["Config"][0]["Gateway"] == attached["Gateway"]
    assert attached["NetworkID"] == bridge["Id"]
    assert bridge["Options"]["com.docker.network.bridge.default_bridge"] == "true"
    api("POST", f"/containers/{container}/kill").expect(204)
    steps.wait_exit(api, container)
    assert inspect(api, "bridge")["Containers"] == {}


def test_containers_of_none_and_host_are_members_without_address(api: Api, image: str) -> None:
    for mode in ("none", "host"):
        container = steps.start(api, image, HostConfig={"NetworkMode": mode})
        assert inspect(api, mode)["Containers"][container]["IPv4Address"] == ""


def test_predefined_networks_stay(api: Api) -> None:
    assert api("DELETE", "/networks/bridge").expect(403).message == (
        "bridge is a pre-defined network and cannot be removed"
    )
    api("DELETE", "/networks/nothing").expect(404)
    assert api("POST", "/networks/prune").expect(200).json == {"NetworksDeleted": []}


@pytest.mark.alone
def test_a_published_port_serves_and_is_shown(api: Api, image: str) -> None:
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    container = steps.start(
        api, image, *HTTPD, ExposedPorts={"80/tcp": {}}, HostConfig={"PortBindings": bindings}
    )
    shown = steps.inspect(api, container)["NetworkSettings"]["Ports"]["80/tcp"]
    assert shown[0]["HostIp"] == "127.0.0.1"
    port = int(shown[0]["HostPort"])

    def fetch() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
                return bool(answer.read() == b"hello\n")
        except OSError:
            return False

    steps.until(fetch)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    api("POST", f"/containers/{container}/kill").expect(204)
    steps.wait_exit(api, container)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))


def test_a_taken_port_fails_the_start_in_dockers_words(api: Api, image: str) -> None:
    with socket.socket() as other:
        port = own_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
        container = steps.create(api, image, name="refused", HostConfig={"PortBindings": bindings})
        message = api("POST", f"/containers/{container}/start").expect(500).message
    assert "driver failed programming external connectivity on endpoint refused (" in message
    assert f"failed to bind host port 127.0.0.1:{port}/tcp: address already in use" in message
    api("POST", f"/containers/{container}/start").expect(204)
    second = steps.create(api, image, name="second", HostConfig={"PortBindings": bindings})
    message = api("POST", f"/containers/{second}/start").expect(500).message
    assert f"Bind for 127.0.0.1:{port} failed: port is already allocated" in message


def test_a_container_knows_its_name_its_host_and_its_servers(api: Api, image: str) -> None:
    container = steps.start(
        api,
        image,
        Hostname="web",
        Domainname="example.com",
        HostConfig={"ExtraHosts": ["up:host-gateway"], "Dns": ["192.0.2.53"], "DnsSearch": ["lan"]},
    )
    settings = steps.inspect(api, container)
    attached = settings["NetworkSettings"]["Networks"]["bridge"]
    with open(settings["HostsPath"]) as file:
        hosts = file.read().splitlines()
    assert f"{attached['IPAddress']}\tweb.example.com web" in hosts
    assert f"{attached['Gateway']}\tup" in hosts
    with open(settings["ResolvConfPath"]) as file:
        assert file.read() == "nameserver 192.0.2.53\nsearch lan\n"


# --- a mode that names its network by id ------------------------------------------------------------------


@pytest.mark.parametrize("length", [64, 12])
@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_a_network_mode_by_id_is_that_network(api: Api, image: str, name: str, length: int) -> None:
    mode = inspect(api, name)["Id"][:length]
    body = {"HostConfig": {"NetworkMode": mode}, "NetworkingConfig": {"EndpointsConfig": {mode: {}}}}
    made = steps.start(api, image, **body)
    shown = steps.inspect(api, made)
    assert shown["HostConfig"]["NetworkMode"] == name
    assert list(shown["NetworkSettings"]["Networks"]) == [name]
    assert made in inspect(api, name)["Containers"]
    own = Path(f"/proc/{shown['State']['Pid']}/ns/net").readlink()
    assert (own == Path("/proc/self/ns/net").readlink()) == (name == "host")


def test_what_contradicts_a_mode_contradicts_it_by_id_as_well(api: Api, image: str) -> None:
    mode = inspect(api, "host")["Id"]
    body = {"Image": image, "HostConfig": {"NetworkMode": mode, "Sysctls": {"net.ipv4.ip_forward": "1"}}}
    said = api("POST", "/containers/create", json_body=body).expect(400).message
    assert said == 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'


def test_a_network_cannot_be_given_twice(api: Api, image: str) -> None:
    twice = {"bridge": {}, inspect(api, "bridge")["Id"]: {}}
    body = {"Image": image, "NetworkingConfig": {"EndpointsConfig": twice}}
    said = api("POST", "/containers/create", json_body=body).expect(400).message
    assert said == "EndpointsConfig: network bridge is given more than once"


def test_a_network_that_is_not_there_is_missed_at_the_start(api: Api, image: str) -> None:
    made = steps.create(api, image, HostConfig={"NetworkMode": "nowhere"})
    refused = api("POST", f"/containers/{made}/start").expect(404)
    assert refused.message == "network nowhere not found"
    assert steps.status(api, made) == "created"
