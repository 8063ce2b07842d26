"""Sync. What every test needs that kills the daemon at a transaction: the death, the questions."""

import contextlib
import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fault.conftest import SabotagedDaemon
from tests.support.rawhttp import Answer

BEFORE, AFTER = "before", "after"
FOREVER = ["sleep", "1000"]


def sweep(daemon: SabotagedDaemon) -> None:
    """Remove what a test left that failed."""
    daemon.order_path.unlink(missing_ok=True)
    if not daemon.is_running:
        daemon.start()
    daemon.remove_containers()
    daemon.api("POST", "/volumes/prune", filters={"all": ["1"]}).expect(200)


@contextlib.contextmanager
def killed_at(daemon: SabotagedDaemon, when: str, commit: int) -> Iterator[None]:
    """The daemon dies at that transaction of what is asked in the body, and is started again."""
    daemon.order("kill", when, f"commit {commit}")
    with contextlib.suppress(OSError, http.client.HTTPException):
        yield
    daemon.wait_for_death()
    assert not daemon.order_path.exists(), "the operation has fewer transactions"
    daemon.start()


def make(daemon: SabotagedDaemon, *command: str, **host_config: Any) -> str:
    """A container with an anonymous volume, an endpoint, a port and a shared memory of its own."""
    body = {
        "Image": "busybox:latest", "Cmd": list(command or FOREVER), "Volumes": {"/anonymous": {}},
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"IpcMode": "shareable", "PublishAllPorts": True, **host_config},
    }  # fmt: skip
    return str(daemon.api("POST", "/containers/create", json_body=body).expect(201).json["Id"])


def post(daemon: SabotagedDaemon, path: str, **query: Any) -> Answer:
    return daemon.api("POST", path, **query)


def nothing_is_left(daemon: SabotagedDaemon) -> None:
    assert daemon.settle() == []
    assert daemon.api("GET", "/volumes").json["Volumes"] == []
    assert list((daemon.data_root / "volumes").iterdir()) == []


def remove(daemon: SabotagedDaemon, container_id: str) -> None:
    daemon.api("DELETE", f"/containers/{container_id}", force=True, v=True).expect(204)
    nothing_is_left(daemon)


def state_of(daemon: SabotagedDaemon, container_id: str) -> Any:
    answer = daemon.api("GET", f"/containers/{container_id}/json")
    return answer.json["State"] if answer.status == 200 else None


def moments(commits: int) -> list[Any]:
    numbers = range(1, commits + 1)
    return [
        pytest.param(when, number, id=f"{when}-{number}") for number in numbers for when in (BEFORE, AFTER)
    ]
