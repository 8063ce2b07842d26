"""Out of memory: told when it happens, of whatever process, and once."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from proad.host.cgroup import Cgroups, detect_layout
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

EAT = "tail -c 300000000 /dev/zero"
"""Keeps in memory what it reads."""
LIMITED = {"NetworkMode": "none", "Memory": 24 << 20, "MemorySwap": 24 << 20}

Run = Callable[..., str]


@pytest.fixture
def run(api: Api, image: str) -> Run:
    """Start a container that runs a shell script in little memory; returns its id."""

    def make(script: str, **host_config: Any) -> str:
        body = {"Image": image, "Cmd": ["sh", "-c", script], "HostConfig": {**LIMITED, **host_config}}
        container = str(api("POST", "/containers/create", json_body=body).expect(201).json["Id"])
        api("POST", f"/containers/{container}/start").expect(204)
        return container

    return make


def state(api: Api, container: str) -> dict[str, Any]:
    found: dict[str, Any] = api("GET", f"/containers/{container}/json").expect(200).json["State"]
    return found


def actions(api: Api, container: str) -> list[str]:
    filters = json.dumps({"container": [container], "event": ["start", "oom", "die"]})
    answer = api("GET", "/events", since=0, until=f"{time.time():.9f}", filters=filters)
    lines = answer.expect(200).body.splitlines()
    return [json.loads(line)["Action"] for line in lines]


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_container_that_is_killed_says_why(api: Api, run: Run) -> None:
    container = run(f"exec {EAT}")
    assert api("POST", f"/containers/{container}/wait").expect(200).json["StatusCode"] == 137
    assert (state(api, container)["OOMKilled"], state(api, container)["ExitCode"]) == (True, 137)
    assert actions(api, container) == ["start", "oom", "die"]


def test_a_child_that_is_killed_is_told_while_the_container_runs_on(api: Api, run: Run) -> None:
    container = run(f"trap 'exit 3' TERM; {EAT} | cat; while :; do sleep 0.1; done")
    until(lambda: "oom" in actions(api, container))
    assert (state(api, container)["OOMKilled"], state(api, container)["Running"]) == (True, True)
    api("POST", f"/containers/{container}/stop").expect(204)
    assert state(api, container)["OOMKilled"]
    assert actions(api, container) == ["start", "oom", "die"]


def test_the_next_run_begins_with_a_clean_slate(api: Api, run: Run) -> None:
    container = run(f"[ -e /done ] && exit 0; touch /done; exec {EAT}")
    api("POST", f"/containers/{container}/wait").expect(200)
    api("POST", f"/containers/{container}/start").expect(204)
    assert api("POST", f"/containers/{container}/wait").expect(200).json["StatusCode"] == 0
    assert not state(api, container)["OOMKilled"]
    assert actions(api, container) == ["start", "oom", "die", "start", "die"]


@pytest.mark.parametrize("ends", [False, True])
def test_what_happens_without_a_daemon_is_told_once_when_it_is_back(
    daemon: Daemon, api: Api, run: Run, ends: bool
) -> None:
    container = run(f"while [ ! -e /go ]; do sleep 0.02; done; {EAT} | cat; [ {int(ends)} = 1 ] || sleep 600")
    root = state(api, container)["Pid"]
    daemon.kill()
    with open(f"/proc/{root}/root/go", "w"):
        pass
    count = 0

    def killed() -> bool:
        nonlocal count
        count = max(count, kills(daemon, container))
        return count > 0

    until(killed)
    daemon.start()
    until(lambda: "oom" in actions(api, container))
    assert state(api, container)["OOMKilled"]
    daemon.kill()
    daemon.start()
    if ends:
        until(lambda: not state(api, container)["Running"])
    assert actions(api, container) == ["start", "oom", *(["die"] if ends else [])]


def kills(daemon: Daemon, container: str) -> int:
    """How many processes of the container the kernel has killed."""
    return Cgroups(detect_layout()).oom_kills(f"{daemon.config.cgroup_parent}/{container}")


def test_another_kill_is_no_lack_of_memory(api: Api, run: Run) -> None:
    container = run("head -c 8000000 /dev/zero >/dev/null; sleep 600")
    api("POST", f"/containers/{container}/kill").expect(204)
    assert (state(api, container)["OOMKilled"], state(api, container)["ExitCode"]) == (False, 137)
    assert actions(api, container) == ["start", "die"]
