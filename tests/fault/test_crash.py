"""The daemon is killed at every transaction of an operation, before its commit and after: nothing is left
over, the state tells the truth, the events tell the story once.

Between two transactions an operation does what can be done again, so these are all the moments that differ.
Each case is one operation on one container (or volume), a death, a new daemon, and the same questions.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon, events_of
from tests.fault.crash import (
    AFTER,
    BEFORE,
    killed_at,
    make,
    moments,
    nothing_is_left,
    post,
    remove,
    state_of,
    sweep,
)


@pytest.fixture(autouse=True)
def swept(sabotaged: SabotagedDaemon) -> Iterator[None]:
    """What a test that failed leaves does not spoil the next one."""
    yield
    sweep(sabotaged)


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
