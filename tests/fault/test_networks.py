"""Networks, broken at every transaction and taken away by hand: nothing is left, what runs is mended, and the
events tell each thing once.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon
from tests.fault.crash import AFTER, BEFORE, FOREVER, killed_at, moments, post, sweep

NAME = "shore"
SERVE = ["sh", "-c", "while :; do echo hello | nc -l -p 80 >/dev/null; done"]


@pytest.fixture(autouse=True)
def swept(sabotaged: SabotagedDaemon) -> Iterator[None]:
    yield
    sweep(sabotaged)
    sabotaged.api("POST", "/networks/prune").expect(200)
    assert networks(sabotaged) == []
    assert bridges_of(sabotaged) == []


def networks(daemon: SabotagedDaemon) -> list[str]:
    found = daemon.api("GET", "/networks", filters={"type": ["custom"]}).expect(200).json
    return [network["Name"] for network in found]


def create(daemon: SabotagedDaemon, name: str = NAME, **fields: Any) -> str:
    body = {"Name": name, "Options": {"com.docker.network.bridge.name": bridge_name(daemon, name)}, **fields}
    return str(daemon.api("POST", "/networks/create", json_body=body).expect(201).json["Id"])


def bridge_name(daemon: SabotagedDaemon, name: str) -> str:
    return f"{daemon.config.bridge[-8:]}.{name}"[:15]


def bridges_of(daemon: SabotagedDaemon) -> list[str]:
    """The bridges of networks that these tests made."""
    return [name for name in links() if name.startswith(f"{daemon.config.bridge[-8:]}.")]


def links(*arguments: str) -> list[str]:
    done = subprocess.run(["ip", "-j", "link", "show", *arguments], capture_output=True, check=False)
    return [link["ifname"] for link in json.loads(done.stdout or b"[]") if link]


def told(daemon: SabotagedDaemon, network_id: str) -> list[str]:
    answer = daemon.api("GET", "/events", since="0", until=f"{time.time():.9f}").expect(200)
    events = [json.loads(line) for line in answer.body.splitlines()]
    return [event["Action"] for event in events if event["Actor"]["ID"] == network_id]


def run(daemon: SabotagedDaemon, network: str, *command: str, **fields: Any) -> str:
    body = {
        "Image": "busybox:latest", "Cmd": list(command or FOREVER),
        "HostConfig": {"NetworkMode": network}, **fields,
    }  # fmt: skip
    made = str(daemon.api("POST", "/containers/create", json_body=body).expect(201).json["Id"])
    post(daemon, f"/containers/{made}/start").expect(204)
    return made


def attached(daemon: SabotagedDaemon, container_id: str) -> dict[str, str]:
    """The addresses of a container, by network."""
    settings = steps.inspect(daemon.api, container_id)["NetworkSettings"]["Networks"]
    return {name: endpoint["IPAddress"] for name, endpoint in settings.items()}


def interfaces(daemon: SabotagedDaemon, container_id: str) -> list[str]:
    pid = steps.inspect(daemon.api, container_id)["State"]["Pid"]
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "ip", "-j", "link", "show"], capture_output=True, check=True
    )
    return sorted(link["ifname"] for link in json.loads(done.stdout))


def connect(daemon: SabotagedDaemon, container_id: str, network: str = NAME) -> Any:
    return daemon.api("POST", f"/networks/{network}/connect", json_body={"Container": container_id})


def disconnect(daemon: SabotagedDaemon, container_id: str, network: str = NAME) -> Any:
    return daemon.api("POST", f"/networks/{network}/disconnect", json_body={"Container": container_id})


# --- the daemon dies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_creation(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    with killed_at(sabotaged, when, commit):
        create(sabotaged)
    if (when, commit) == (AFTER, 2):
        assert networks(sabotaged) == [NAME]
        assert bridges_of(sabotaged) == [bridge_name(sabotaged, NAME)]
        found = sabotaged.api("GET", f"/networks/{NAME}").expect(200).json
        assert told(sabotaged, found["Id"]) == ["create"]
    else:
        assert networks(sabotaged) == []
        assert bridges_of(sabotaged) == []
        create(sabotaged)


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_removal(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    made = create(sabotaged)
    with killed_at(sabotaged, when, commit):
        sabotaged.api("DELETE", f"/networks/{made}")
    if (when, commit) == (BEFORE, 1):
        assert networks(sabotaged) == [NAME]
        assert told(sabotaged, made) == ["create"]
        sabotaged.api("DELETE", f"/networks/{made}").expect(204)
    assert networks(sabotaged) == []
    assert bridges_of(sabotaged) == []
    assert told(sabotaged, made) == ["create", "destroy"]


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_connecting_what_runs(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    network = create(sabotaged)
    made = run(sabotaged, "bridge")
    with killed_at(sabotaged, when, commit):
        connect(sabotaged, made)
    if (when, commit) == (AFTER, 2):
        assert interfaces(sabotaged, made) == ["eth0", "eth1", "lo"]
        assert told(sabotaged, network) == ["create", "connect"]
    else:
        assert interfaces(sabotaged, made) == ["eth0", "lo"]
        assert list(attached(sabotaged, made)) == ["bridge"]
        assert links("master", bridge_name(sabotaged, NAME)) == []
        connect(sabotaged, made).expect(200)
        assert told(sabotaged, network) == ["create", "connect"]
    assert all(attached(sabotaged, made)[name] for name in ("bridge", NAME))


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_disconnecting_what_runs(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    network = create(sabotaged)
    made = run(sabotaged, NAME)
    connect(sabotaged, made, "bridge").expect(200)
    with killed_at(sabotaged, when, commit):
        disconnect(sabotaged, made)
    if (when, commit) == (BEFORE, 1):
        assert len(interfaces(sabotaged, made)) == 3
        disconnect(sabotaged, made).expect(200)
    assert interfaces(sabotaged, made) == ["eth1", "lo"]
    assert list(attached(sabotaged, made)) == ["bridge"]
    assert told(sabotaged, network) == ["create", "connect", "disconnect"]


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_connecting_what_does_not_run(sabotaged: SabotagedDaemon, when: str) -> None:
    network = create(sabotaged)
    made = steps.create(sabotaged.api, "busybox:latest", *FOREVER)
    with killed_at(sabotaged, when, 1):
        connect(sabotaged, made)
    assert sorted(attached(sabotaged, made)) == ["bridge", *([NAME] if when == AFTER else [])]
    assert told(sabotaged, network) == ["create"]


def test_a_network_with_users_survives_the_daemon(sabotaged: SabotagedDaemon) -> None:
    create(sabotaged)
    one, other = run(sabotaged, NAME), run(sabotaged, NAME)
    before = attached(sabotaged, one), attached(sabotaged, other)
    sabotaged.kill()
    sabotaged.start()
    assert (attached(sabotaged, one), attached(sabotaged, other)) == before
    refused = sabotaged.api("DELETE", f"/networks/{NAME}").expect(403).json["message"]
    assert "has active endpoints" in refused
    third = run(sabotaged, NAME)
    assert attached(sabotaged, third)[NAME] not in {before[0][NAME], before[1][NAME]}


# --- taken away by hand -------------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(daemon: SabotagedDaemon) -> Iterator[tuple[str, str]]:
    """A container that serves on a network, and one that asks it; both answer before and after."""
    create(daemon)
    server, asker = run(daemon, NAME, *SERVE), run(daemon, NAME)
    steps.until(lambda: reaches(daemon, asker, server))
    yield server, asker
    steps.until(lambda: reaches(daemon, asker, server), timeout_s=15)


def reaches(daemon: SabotagedDaemon, asker: str, server: str) -> bool:
    pid = steps.inspect(daemon.api, asker)["State"]["Pid"]
    address = attached(daemon, server)[NAME]
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "busybox", "nc", "-w", "1", address, "80"],
        capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=10,
    )  # fmt: skip
    return b"hello" in done.stdout


def test_a_bridge_is_deleted(sabotaged: SabotagedDaemon) -> None:
    with answering(sabotaged):
        subprocess.run(["ip", "link", "delete", bridge_name(sabotaged, NAME)], check=True)
    assert len(links("master", bridge_name(sabotaged, NAME))) == 2


def test_a_veth_pair_is_deleted(sabotaged: SabotagedDaemon) -> None:
    with answering(sabotaged) as (server, _):
        victim = links("master", bridge_name(sabotaged, NAME))[0]
        subprocess.run(["ip", "link", "delete", victim], check=True)
    assert interfaces(sabotaged, server) == ["eth0", "lo"]


def test_the_rules_are_deleted(sabotaged: SabotagedDaemon) -> None:
    table = sabotaged.config.table
    with answering(sabotaged):
        before = tables(table)
        for family in ("inet", "bridge"):
            subprocess.run(["nft", "delete", "table", family, table], check=True)
        steps.until(lambda: tables(table) == before)


def test_the_default_bridge_is_deleted(sabotaged: SabotagedDaemon) -> None:
    made = run(sabotaged, "bridge")
    before = attached(sabotaged, made)
    subprocess.run(["ip", "link", "delete", sabotaged.config.bridge], check=True)
    steps.until(lambda: len(links("master", sabotaged.config.bridge)) == 1)
    assert attached(sabotaged, made) == before


def tables(name: str) -> set[str]:
    """Those of that name, by family: others' come and go."""
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, check=True, text=True)
    return {line for line in done.stdout.splitlines() if line.endswith(f" {name}")}
