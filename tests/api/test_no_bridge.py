"""Dialogues with a daemon that has no default bridge (``--bridge none``)."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.api.test_networks import HTTPD
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api
from tests.support.whose import own_port


@pytest.fixture(scope="module")
def bridgeless() -> Iterator[Daemon]:
    started = Daemon("--bridge", "none")
    try:
        yield started.start()
    finally:
        leftovers = started.close()
        assert not leftovers


@pytest.fixture
def api(bridgeless: Daemon) -> Iterator[Api]:
    bridgeless.import_busybox()
    yield bridgeless.api
    bridgeless.remove_containers()


IMAGE = "busybox:latest"


def interfaces(api: Api, ref: str) -> list[str]:
    pid = steps.inspect(api, ref)["State"]["Pid"]
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return [line.split(":")[0].strip() for line in lines]


def links(*names: str) -> str:
    return subprocess.run(["ip", "-o", "link", "show", *names], capture_output=True, text=True).stdout


def has_table(daemon: Daemon) -> bool:
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return f" {daemon.config.table}\n" in tables


def test_there_is_no_bridge_and_no_table(api: Api, bridgeless: Daemon) -> None:
    assert [network["Name"] for network in api("GET", "/networks").json] == ["host", "none"]
    assert api("GET", "/networks/bridge").expect(404).message == "network bridge not found"
    assert api("GET", "/info").expect(200).json["Plugins"]["Network"] == ["bridge", "host", "null"]
    assert links(bridgeless.config.own_bridge) == ""
    assert ": none:" not in links()
    assert not has_table(bridgeless)


@pytest.mark.parametrize("mode", ["", "default", "bridge"])
def test_who_is_meant_for_the_bridge_gets_a_loopback(api: Api, mode: str) -> None:
    made = steps.start(api, IMAGE, HostConfig={"NetworkMode": mode})
    assert interfaces(api, made) == ["lo"]
    shown = steps.inspect(api, made)
    assert shown["HostConfig"]["NetworkMode"] == "bridge"
    assert shown["NetworkSettings"]["Networks"]["bridge"]["NetworkID"] == ""
    assert shown["NetworkSettings"]["IPAddress"] == ""
    [listed] = api("GET", "/containers/json", filters={"network": ["bridge"]}).json
    assert listed["Id"] == made


def test_ports_are_discarded_with_a_warning_and_links_mean_nothing(api: Api) -> None:
    steps.start(api, IMAGE, name="db")
    port = own_port()
    wish = {"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}, "Links": ["db:store"]}
    body = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": wish}
    made = api("POST", "/containers/create", json_body=body).expect(201).json
    assert made["Warnings"] == ["Published ports are discarded: this daemon has no default bridge network"]
    api("POST", f"/containers/{made['Id']}/start").expect(204)
    assert interfaces(api, made["Id"]) == ["lo"]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_the_other_modes_are_as_ever(api: Api) -> None:
    host = steps.start(api, IMAGE, HostConfig={"NetworkMode": "host"})
    assert "lo" in interfaces(api, host)
    owner = steps.start(api, IMAGE)
    guest = steps.start(api, IMAGE, HostConfig={"NetworkMode": f"container:{owner}"})
    assert interfaces(api, guest) == ["lo"]


def test_there_is_no_gateway_to_name(api: Api) -> None:
    made = steps.create(api, IMAGE, HostConfig={"ExtraHosts": ["box:host-gateway"]})
    refused = api("POST", f"/containers/{made}/start").expect(400)
    assert refused.message.startswith("unable to derive the IP value for host-gateway")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_bridge_of_an_earlier_daemon_stays_while_containers_live_on_it(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon()
    daemon.start().import_busybox()
    bridge, api = daemon.config.bridge, daemon.api
    port = own_port()
    wish: dict[str, Any] = {"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}}
    made = steps.start(api, IMAGE, *HTTPD, name="web", HostConfig=wish)
    steps.until(lambda: answers(port))
    daemon.kill()
    daemon.arguments = ("--bridge", "none")
    daemon.start()
    assert answers(port)
    assert steps.inspect(api, made)["NetworkSettings"]["IPAddress"]
    assert interfaces(api, made) == ["lo", "eth0"]
    api("POST", "/containers/web/restart", t=0).expect(204)
    assert interfaces(api, made) == ["lo"]
    assert not answers(port)
    assert links(bridge)
    assert has_table(daemon)
    daemon.restart()
    assert not links(bridge)
    assert not has_table(daemon)
    assert interfaces(api, made) == ["lo"]
    daemon.stop()
    daemon.arguments = ()
    daemon.start()
    assert links(bridge)
    api("POST", "/containers/web/restart", t=0).expect(204)
    steps.until(lambda: answers(port))
