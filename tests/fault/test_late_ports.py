"""Ports that a running container gains by a network that it is connected to later: they are its own from then
until it ends, whatever becomes of the daemon.
"""

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon
from tests.fault.crash import AFTER, BEFORE, FOREVER, killed_at, moments, sweep
from tests.support.whose import own_port

CLOSED, OPEN = "closed", "open"


@pytest.fixture(autouse=True)
def networks(sabotaged: SabotagedDaemon) -> Iterator[None]:
    """Two networks: one that publishes nothing, and one that does, by both families."""
    sabotaged.api("POST", "/networks/create", json_body={"Name": CLOSED, "Internal": True}).expect(201)
    sabotaged.api("POST", "/networks/create", json_body={"Name": OPEN, "EnableIPv6": True}).expect(201)
    yield
    sweep(sabotaged)
    sabotaged.api("POST", "/networks/prune").expect(200)


@pytest.fixture
def port() -> int:
    return own_port()


def run(daemon: SabotagedDaemon, port: int) -> str:
    """A container on the closed network that publishes ``port`` and, by UDP, the same."""
    bindings = {f"80/{protocol}": [{"HostPort": str(port)}] for protocol in ("tcp", "udp")}
    host_config = {"NetworkMode": CLOSED, "PortBindings": bindings}
    return steps.start(daemon.api, "busybox:latest", *FOREVER, HostConfig=host_config)


def connect(daemon: SabotagedDaemon, container_id: str) -> Any:
    return daemon.api("POST", f"/networks/{OPEN}/connect", json_body={"Container": container_id})


def published(daemon: SabotagedDaemon, container_id: str) -> list[tuple[str, int]]:
    ports = steps.inspect(daemon.api, container_id)["NetworkSettings"]["Ports"]
    return sorted(
        (key, int(binding["HostPort"])) for key, bindings in ports.items() for binding in bindings or ()
    )


def attached(daemon: SabotagedDaemon, container_id: str) -> list[str]:
    return sorted(steps.inspect(daemon.api, container_id)["NetworkSettings"]["Networks"])


def who_may_have(port: int) -> set[str]:
    """By which protocols and families another program gets the port."""
    free = set()
    for kind, protocol in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
        for family, version in ((socket.AF_INET, "4"), (socket.AF_INET6, "6")):
            with socket.socket(family, kind) as other:
                if family == socket.AF_INET6:
                    other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    other.bind(("", port))
                except OSError:
                    continue
                free.add(protocol + version)
    return free


ALL = {"tcp4", "tcp6", "udp4", "udp6"}


def test_they_are_held_while_no_daemon_runs_and_free_when_the_container_ends(
    sabotaged: SabotagedDaemon, port: int
) -> None:
    made = run(sabotaged, port)
    assert who_may_have(port) == ALL
    connect(sabotaged, made).expect(200)
    assert who_may_have(port) == set()
    pid = steps.inspect(sabotaged.api, made)["State"]["Pid"]
    sabotaged.kill()
    assert who_may_have(port) == set()
    os.kill(pid, signal.SIGKILL)
    steps.until(lambda: who_may_have(port) == ALL)
    sabotaged.start()
    assert steps.inspect(sabotaged.api, made)["State"]["ExitCode"] == 137
    assert who_may_have(port) == ALL


def test_the_next_daemon_goes_on_with_them(sabotaged: SabotagedDaemon, port: int) -> None:
    made = run(sabotaged, port)
    connect(sabotaged, made).expect(200)
    before = published(sabotaged, made)
    assert before == [("80/tcp", port)] * 2 + [("80/udp", port)] * 2
    for _ in range(2):
        sabotaged.kill()
        sabotaged.start()
        assert published(sabotaged, made) == before
        assert who_may_have(port) == set()
    sabotaged.api("POST", f"/networks/{OPEN}/disconnect", json_body={"Container": made}).expect(200)
    assert published(sabotaged, made) == []
    assert who_may_have(port) == set(), "they are its own for as long as it runs"
    connect(sabotaged, made).expect(200)
    assert published(sabotaged, made) == before
    sabotaged.api("POST", f"/containers/{made}/kill").expect(204)
    steps.wait_exit(sabotaged.api, made)
    assert who_may_have(port) == ALL


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_a_daemon_that_dies_while_it_connects(
    sabotaged: SabotagedDaemon, port: int, when: str, commit: int
) -> None:
    made = run(sabotaged, port)
    with killed_at(sabotaged, when, commit):
        connect(sabotaged, made)
    is_recorded, is_done = (when, commit) != (BEFORE, 1), (when, commit) == (AFTER, 2)
    assert who_may_have(port) == (set() if is_recorded else ALL)
    assert attached(sabotaged, made) == [CLOSED, *([OPEN] if is_done else [])]
    if not is_done:
        connect(sabotaged, made).expect(200)
    assert len(published(sabotaged, made)) == 4
    assert who_may_have(port) == set()


def test_those_of_a_family_that_comes_later_are_held_as_well(sabotaged: SabotagedDaemon, port: int) -> None:
    """The first network is of IPv4 alone."""
    bindings = {"80/tcp": [{"HostPort": str(port)}], "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    host_config = {"NetworkMode": "bridge", "PortBindings": bindings, "Init": False}
    made = steps.start(sabotaged.api, "busybox:latest", *FOREVER, HostConfig=host_config)
    first = published(sabotaged, made)
    assert first[0] == ("80/tcp", port)
    assert who_may_have(port) == ALL - {"tcp4"}
    connect(sabotaged, made).expect(200)
    assert published(sabotaged, made) == sorted([*first, ("80/tcp", port)])
    for _ in range(2):
        assert who_may_have(port) == ALL - {"tcp4", "tcp6"}
        sabotaged.kill()
        sabotaged.start()
    sabotaged.api("POST", f"/containers/{made}/kill").expect(204)
    steps.wait_exit(sabotaged.api, made)
    assert who_may_have(port) == ALL


def test_what_another_program_has_is_missed_when_it_is_wanted(sabotaged: SabotagedDaemon, port: int) -> None:
    made = run(sabotaged, port)
    with socket.create_server(("", port)):
        refusal = connect(sabotaged, made).expect(500).json["message"]
        assert f"failed to bind host port 0.0.0.0:{port}/tcp: address already in use" in refusal
        assert attached(sabotaged, made) == [CLOSED]
    assert who_may_have(port) == ALL
    connect(sabotaged, made).expect(200)
    assert len(published(sabotaged, made)) == 4


def test_a_monitor_that_cannot_keep_them(sabotaged: SabotagedDaemon, port: int) -> None:
    made = run(sabotaged, port)
    [box] = (sabotaged.exec_root / "runs" / made).glob("*/box")
    box.rename(box.with_name("hidden"))
    assert "no such file" in connect(sabotaged, made).expect(500).json["message"].lower()
    assert attached(sabotaged, made) == [CLOSED]
    assert who_may_have(port) == ALL
    box.with_name("hidden").rename(box)
    connect(sabotaged, made).expect(200)
    assert who_may_have(port) == set()
