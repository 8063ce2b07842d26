"""The daemon is killed at every transaction of an operation, before its commit and after: nothing is left
over, the state tells the truth, the events tell the story once.

Between two transactions an operation does what can be done again, so these are all the moments that differ.
Each case is one operation on one container (or volume), a death, a new daemon, and the same questions.
"""

import contextlib
import http.client
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon, events_of
from tests.support.rawhttp import Answer

BEFORE, AFTER = "before", "after"
FOREVER = ["sleep", "1000"]


@pytest.fixture(autouse=True)
def swept(sabotaged: SabotagedDaemon) -> Iterator[None]:
    """What a test that failed leaves does not spoil the next one."""
    yield
    sabotaged.order_path.unlink(missing_ok=True)
    if not sabotaged.is_running:
        sabotaged.start()
    sabotaged.remove_containers()
    sabotaged.api("POST", "/volumes/prune", filters={"all": ["1"]}).expect(200)


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


# --- the end of a run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_exit_handling(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """Its volume unmounted, its end."""
    made = make(sabotaged)
    post(sabotaged, f"/containers/{made}/start").expect(204)
    pid = state_of(sabotaged, made)["Pid"]
    with killed_at(sabotaged, when, commit):
        steps.until(lambda: not _kill(pid))
        steps.wait_exit(sabotaged.api, made)
    assert sabotaged.settle(made) == []
    state = state_of(sabotaged, made)
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)
    assert sabotaged.told(made) == ["create", "start", "die"]
    remove(sabotaged, made)


def _kill(pid: int) -> bool:
    """SIGKILL a process from outside; False when it has gone."""
    assert pid > 1
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("when", "commit"), moments(5)[3:])
def test_auto_remove(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """Its end as above, marked, gone, its volume gone."""
    made = make(sabotaged, AutoRemove=True)
    post(sabotaged, f"/containers/{made}/start").expect(204)
    pid = state_of(sabotaged, made)["Pid"]
    with killed_at(sabotaged, when, commit):
        steps.until(lambda: not _kill(pid))
        sabotaged.api("POST", f"/containers/{made}/wait", condition="removed")
    steps.until(lambda: state_of(sabotaged, made) is None)
    nothing_is_left(sabotaged)
    assert sabotaged.told(made) == ["create", "start", "die", "destroy"]


@pytest.mark.parametrize(("when", "commit"), moments(5)[3:])
def test_a_restart_by_policy(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """Its end as above, the intent to start it again, its volume mounted, its start."""
    made = make(sabotaged, RestartPolicy={"Name": "always"})
    post(sabotaged, f"/containers/{made}/start").expect(204)
    first = state_of(sabotaged, made)["Pid"]
    with killed_at(sabotaged, when, commit):
        _kill(first)
        sabotaged.wait_for_death()
    steps.until(lambda: state_of(sabotaged, made)["Status"] == "running")
    assert state_of(sabotaged, made)["Pid"] != first
    story = sabotaged.told(made)
    cut_short = (when, commit) in ((AFTER, 3), (BEFORE, 4), (AFTER, 4), (BEFORE, 5))
    assert story == ["create", "start", "die", *(["die"] if cut_short else []), "start"]
    remove(sabotaged, made)


# --- verbs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_create(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The anonymous volume, the container."""
    with killed_at(sabotaged, when, commit):
        make(sabotaged)
    listed = sabotaged.api("GET", "/containers/json", all=True).json
    if (when, commit) == (AFTER, 2):
        (container,) = listed
        assert sabotaged.told(container["Id"]) == ["create"]
        remove(sabotaged, container["Id"])
    assert sabotaged.api("GET", "/containers/json", all=True).json == []
    nothing_is_left(sabotaged)


@pytest.mark.parametrize(("when", "commit"), moments(3))
def test_remove(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """Marked, gone, its volume gone."""
    made = make(sabotaged)
    with killed_at(sabotaged, when, commit):
        sabotaged.api("DELETE", f"/containers/{made}", v=True)
    if (when, commit) == (BEFORE, 1):
        assert state_of(sabotaged, made)["Status"] == "created"
        remove(sabotaged, made)
    assert state_of(sabotaged, made) is None
    nothing_is_left(sabotaged)
    assert sabotaged.told(made) == ["create", "destroy"]


@pytest.mark.parametrize(("when", "commit"), [*moments(2), *moments(5)[7:]])
def test_stop(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """Marked as stopped by hand, the signal told, the volume unmounted, the end, the stop told."""
    made = make(sabotaged, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.01; done")
    post(sabotaged, f"/containers/{made}/start").expect(204)
    with killed_at(sabotaged, when, commit):
        post(sabotaged, f"/containers/{made}/stop", t=30)
    if (when, commit) in ((BEFORE, 1), (AFTER, 1)):
        # No signal was sent: the container runs on, and can be stopped.
        assert state_of(sabotaged, made)["Running"]
        post(sabotaged, f"/containers/{made}/stop", t=30).expect(204)
    steps.until(lambda: not state_of(sabotaged, made)["Running"])
    state = state_of(sabotaged, made)
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    assert [a for a in sabotaged.told(made) if a not in ("kill", "stop")] == ["create", "start", "die"]
    assert sabotaged.told(made).count("kill") <= 1
    assert sabotaged.settle(made) == []
    remove(sabotaged, made)


@pytest.mark.parametrize("verb", ["pause", "unpause"])
@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_pause_and_unpause(sabotaged: SabotagedDaemon, when: str, verb: str) -> None:
    """The freezer is the truth: where it was changed, the event is told after the restart."""
    made = make(sabotaged)
    post(sabotaged, f"/containers/{made}/start").expect(204)
    story = ["create", "start", "pause"]
    if verb == "unpause":
        post(sabotaged, f"/containers/{made}/pause").expect(204)
        story.append("unpause")
    with killed_at(sabotaged, when, 1):
        post(sabotaged, f"/containers/{made}/{verb}")
    assert state_of(sabotaged, made)["Paused"] is (verb == "pause")
    assert sabotaged.told(made) == story
    remove(sabotaged, made)


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_volume_create(sabotaged: SabotagedDaemon, when: str) -> None:
    with killed_at(sabotaged, when, 1):
        sabotaged.api("POST", "/volumes/create", json_body={"Name": "kept"})
    names = [volume["Name"] for volume in sabotaged.api("GET", "/volumes").json["Volumes"]]
    assert names == ([] if when == BEFORE else ["kept"])
    sabotaged.api("POST", "/volumes/create", json_body={"Name": "kept"}).expect(201)
    assert [event["Action"] for event in events_of(sabotaged, "kept")][-1] == "create"
    sabotaged.api("DELETE", "/volumes/kept").expect(204)
    nothing_is_left(sabotaged)


# --- the restart's delay ------------------------------------------------------------------------------------


def test_killed_in_a_restart_delay(sabotaged: SabotagedDaemon) -> None:
    made = make(sabotaged, "false", RestartPolicy={"Name": "on-failure"})
    post(sabotaged, f"/containers/{made}/start").expect(204)
    steps.until(lambda: state_of(sabotaged, made)["Status"] == "restarting")
    sabotaged.kill()
    sabotaged.start()
    seen = len(sabotaged.told(made))
    steps.until(lambda: len(sabotaged.told(made)) >= seen + 2)
    post(sabotaged, f"/containers/{made}/stop").expect(204)
    story = [action for action in sabotaged.told(made) if action in ("start", "die")]
    assert story == ["start", "die"] * (len(story) // 2)
    assert sabotaged.settle(made) == []
    remove(sabotaged, made)
