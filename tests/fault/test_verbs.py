"""The verbs on a container, broken at every transaction: the daemon is killed before its commit and after, or
the transaction fails. The events tell each thing once and in order, and the state tells the truth.

What a verb had promised to a container that runs (a signal, a stop, a restart) the next daemon does.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest

from proad.host.process import ProcessId
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

BORN = ["create", "start"]
COUNTS = "trap 'echo got' HUP; echo ready; while :; do sleep 0.01; done"
OBEYS = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"
IGNORES = "trap '' TERM; echo ready; while :; do sleep 0.01; done"


@pytest.fixture(autouse=True)
def swept(sabotaged: SabotagedDaemon) -> Iterator[None]:
    yield
    sweep(sabotaged)


def running(daemon: SabotagedDaemon, script: str = "", **host_config: Any) -> str:
    """Start a container; with a script, return when its traps are set."""
    made = make(daemon, *(["sh", "-c", script] if script else []), **host_config)
    post(daemon, f"/containers/{made}/start").expect(204)
    if script:
        steps.until(lambda: "ready" in said(daemon, made))
    return made


def said(daemon: SabotagedDaemon, container_id: str) -> str:
    answer = daemon.api("GET", f"/containers/{container_id}/logs", stdout=True)
    return answer.expect(200).body.decode(errors="replace")


def signals_told(daemon: SabotagedDaemon, container_id: str) -> list[str]:
    events = events_of(daemon, container_id)
    return [event["Actor"]["Attributes"]["signal"] for event in events if event["Action"] == "kill"]


def ended(daemon: SabotagedDaemon, container_id: str) -> Any:
    steps.until(lambda: state_of(daemon, container_id)["Status"] == "exited")
    return state_of(daemon, container_id)


def fail_at(daemon: SabotagedDaemon, commit: int) -> None:
    daemon.order("raise", BEFORE, f"commit {commit}")


# --- kill ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_kill_with_a_signal_it_survives(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The intent, then the signal, then its event."""
    made = running(sabotaged, COUNTS)
    with killed_at(sabotaged, when, commit):
        post(sabotaged, f"/containers/{made}/kill", signal="HUP")
    if (when, commit) == (BEFORE, 1):
        assert sabotaged.told(made) == BORN
        assert "got" not in said(sabotaged, made)
    else:
        assert sabotaged.told(made) == [*BORN, "kill"]
        steps.until(lambda: "got" in said(sabotaged, made))
    sabotaged.kill()
    sabotaged.start()  # what is settled is not done again
    assert sabotaged.told(made).count("kill") == (0 if (when, commit) == (BEFORE, 1) else 1)
    assert state_of(sabotaged, made)["Running"]
    remove(sabotaged, made)


@pytest.mark.parametrize(("when", "commit"), moments(4))
def test_kill(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The intent, the event, the volume unmounted, the end."""
    made = running(sabotaged, RestartPolicy={"Name": "on-failure"})
    with killed_at(sabotaged, when, commit):
        post(sabotaged, f"/containers/{made}/kill")
    if (when, commit) == (BEFORE, 1):
        assert state_of(sabotaged, made)["Running"]
        assert sabotaged.told(made) == BORN
        post(sabotaged, f"/containers/{made}/kill").expect(204)
    assert ended(sabotaged, made)["ExitCode"] == 137
    assert sabotaged.told(made) == [*BORN, "kill", "die"]
    assert sabotaged.settle(made) == []
    remove(sabotaged, made)


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_kill_of_a_paused_container(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    made = running(sabotaged)
    post(sabotaged, f"/containers/{made}/pause").expect(204)
    with killed_at(sabotaged, when, commit):
        post(sabotaged, f"/containers/{made}/kill")
    if (when, commit) == (BEFORE, 1):
        assert state_of(sabotaged, made)["Paused"]
        post(sabotaged, f"/containers/{made}/kill").expect(204)
    assert ended(sabotaged, made)["ExitCode"] == 137
    assert sabotaged.told(made) == [*BORN, "pause", "kill", "unpause", "die"]
    remove(sabotaged, made)


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_kill_whose_process_ends_before_the_next_daemon(sabotaged: SabotagedDaemon, when: str) -> None:
    """The event was not told yet: it is, before ``die``."""
    made = running(sabotaged, OBEYS)
    process = ProcessId.of(state_of(sabotaged, made)["Pid"])
    with killed_at(sabotaged, when, 2):
        try:
            post(sabotaged, f"/containers/{made}/kill", signal="TERM")
        finally:
            steps.until(lambda: not process.is_alive())
    assert ended(sabotaged, made)["ExitCode"] == 3
    assert sabotaged.told(made) == [*BORN, "kill", "die"]
    remove(sabotaged, made)


@pytest.mark.parametrize("commit", [1, 2])
def test_kill_whose_transaction_fails(sabotaged: SabotagedDaemon, commit: int) -> None:
    """Without the intent there is no signal; a signal that could not be told is told with the next one."""
    made = running(sabotaged, COUNTS)
    fail_at(sabotaged, commit)
    post(sabotaged, f"/containers/{made}/kill", signal="HUP").expect(500)
    assert sabotaged.told(made) == BORN
    if commit == 1:
        assert "got" not in said(sabotaged, made)
    post(sabotaged, f"/containers/{made}/kill").expect(204)
    assert signals_told(sabotaged, made) == (["9"] if commit == 1 else ["1", "9"])
    assert sabotaged.told(made)[-1] == "die"
    remove(sabotaged, made)


# --- stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "commit"), moments(4))
def test_stop(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The intent, the signal's event, the volume unmounted, the end with the stop."""
    made = running(sabotaged, OBEYS)
    with killed_at(sabotaged, when, commit):
        post(sabotaged, f"/containers/{made}/stop", t=30)
    if (when, commit) == (BEFORE, 1):
        # No signal was sent: the container runs on, and can be stopped.
        assert state_of(sabotaged, made)["Running"]
        post(sabotaged, f"/containers/{made}/stop", t=30).expect(204)
    assert ended(sabotaged, made)["ExitCode"] == 3
    assert sabotaged.told(made) == [*BORN, "kill", "die", "stop"]
    assert sabotaged.settle(made) == []
    remove(sabotaged, made)


@pytest.mark.parametrize(("when", "commit"), moments(4)[1:])
def test_stop_of_what_does_not_obey(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The intent and the event of each of the two signals; the next daemon waits and kills."""
    made = running(sabotaged, IGNORES)
    with killed_at(sabotaged, when, commit):
        post(sabotaged, f"/containers/{made}/stop", t=1)
    assert ended(sabotaged, made)["ExitCode"] == 137
    assert sabotaged.told(made) == [*BORN, "kill", "kill", "die", "stop"]
    assert signals_told(sabotaged, made) == ["15", "9"]
    remove(sabotaged, made)


@pytest.mark.parametrize("commit", [1, 2, 3, 4])
def test_stop_whose_transaction_fails(sabotaged: SabotagedDaemon, commit: int) -> None:
    made = running(sabotaged, OBEYS)
    fail_at(sabotaged, commit)
    answer = post(sabotaged, f"/containers/{made}/stop", t=30)
    if commit == 1:
        answer.expect(500)
        assert state_of(sabotaged, made)["Running"]
        post(sabotaged, f"/containers/{made}/stop", t=30).expect(204)
    assert ended(sabotaged, made)["ExitCode"] == 3
    assert sabotaged.told(made) == [*BORN, "kill", "die", "stop"]
    remove(sabotaged, made)


def test_killed_in_a_stops_patience(sabotaged: SabotagedDaemon) -> None:
    made = running(sabotaged, IGNORES)
    with ThreadPoolExecutor(1) as pool:
        stop = pool.submit(post, sabotaged, f"/containers/{made}/stop", t=2)
        steps.until(lambda: "kill" in sabotaged.told(made))
        sabotaged.kill()
        assert isinstance(stop.exception(), OSError | HTTPException)
    sabotaged.start()
    assert state_of(sabotaged, made)["Running"]
    assert ended(sabotaged, made)["ExitCode"] == 137
    assert sabotaged.told(made) == [*BORN, "kill", "kill", "die", "stop"]
    remove(sabotaged, made)


# --- restart ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "commit", "auto_remove"),
    [
        *[pytest.param(*moment.values, False, id=moment.id) for moment in moments(7)],
        *[pytest.param(*moment.values, True, id=f"{moment.id}-auto-remove") for moment in moments(7)[6:10]],
    ],
)
def test_restart(sabotaged: SabotagedDaemon, when: str, commit: int, *, auto_remove: bool) -> None:
    """The intent, the signal's event, the volume unmounted, the end with the stop, the intent to start, the
    volume mounted, the start with the restart.
    """
    made = running(sabotaged, OBEYS, AutoRemove=auto_remove)
    first = state_of(sabotaged, made)["Pid"]
    with killed_at(sabotaged, when, commit):
        post(sabotaged, f"/containers/{made}/restart", t=30)
    if (when, commit) == (BEFORE, 1):
        assert state_of(sabotaged, made)["Pid"] == first
        post(sabotaged, f"/containers/{made}/restart", t=30).expect(204)
    cut_short = (when, commit) in ((AFTER, 5), (BEFORE, 6), (AFTER, 6), (BEFORE, 7))
    stopped = [*BORN, "kill", "die", "stop"]
    if cut_short and auto_remove:  # as any start that was cut in half
        assert state_of(sabotaged, made) is None
        assert sabotaged.told(made) == [*stopped, "die", "destroy"]
        nothing_is_left(sabotaged)
        return
    if cut_short:
        assert state_of(sabotaged, made)["Status"] == "exited"
        assert sabotaged.told(made) == [*stopped, "die"]
    else:
        steps.until(lambda: state_of(sabotaged, made)["Running"])
        assert state_of(sabotaged, made)["Pid"] not in (0, first)
        assert sabotaged.told(made) == [*stopped, "start", "restart"]
    remove(sabotaged, made)


@pytest.mark.parametrize(("when", "commit"), moments(3))
def test_restart_of_what_has_ended(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The intent to start, the volume mounted, the start with the restart."""
    made = running(sabotaged)
    post(sabotaged, f"/containers/{made}/kill").expect(204)
    before = sabotaged.told(made)
    with killed_at(sabotaged, when, commit):
        post(sabotaged, f"/containers/{made}/restart")
    story = [] if (when, commit) == (BEFORE, 1) else ["die"]
    if (when, commit) == (AFTER, 3):
        story = ["start", "restart"]
    assert sabotaged.told(made) == [*before, *story]
    assert state_of(sabotaged, made)["Running"] is ("start" in story)
    remove(sabotaged, made)


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_restart_between_two_runs(sabotaged: SabotagedDaemon, when: str) -> None:
    """The policy's delay is cut short; a death then does not forget the restart."""
    made = make(sabotaged, "false", RestartPolicy={"Name": "on-failure"})
    post(sabotaged, f"/containers/{made}/start").expect(204)
    steps.until(lambda: steps.inspect(sabotaged.api, made)["RestartCount"] >= 3)
    steps.until(lambda: state_of(sabotaged, made)["Status"] == "restarting")  # for 800 ms now
    before = sabotaged.told(made)
    with killed_at(sabotaged, when, 1):
        post(sabotaged, f"/containers/{made}/restart")
    expected = ["start", "die"] if when == BEFORE else ["stop", "start", "restart"]
    steps.until(lambda: sabotaged.told(made)[len(before) :][: len(expected)] == expected)
    remove(sabotaged, made)


def test_restart_keeps_what_is_removed_automatically(sabotaged: SabotagedDaemon) -> None:
    made = running(sabotaged, OBEYS, AutoRemove=True)
    post(sabotaged, f"/containers/{made}/restart", t=30).expect(204)
    assert state_of(sabotaged, made)["Running"]
    post(sabotaged, f"/containers/{made}/stop", t=30).expect(204)
    steps.until(lambda: state_of(sabotaged, made) is None)
    life = ["start", "kill", "die", "stop"]
    assert sabotaged.told(made) == ["create", *life, "start", "restart", *life[1:], "destroy"]
    nothing_is_left(sabotaged)


# --- pause, unpause, rename, update, remove -----------------------------------------------------------------


@pytest.mark.parametrize("verb", ["pause", "unpause"])
@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_pause_and_unpause(sabotaged: SabotagedDaemon, when: str, verb: str) -> None:
    """The freezer is the truth: where it was changed, the event is told after the restart."""
    made = running(sabotaged)
    story = [*BORN, "pause"]
    if verb == "unpause":
        post(sabotaged, f"/containers/{made}/pause").expect(204)
        story.append("unpause")
    with killed_at(sabotaged, when, 1):
        post(sabotaged, f"/containers/{made}/{verb}")
    assert state_of(sabotaged, made)["Paused"] is (verb == "pause")
    assert sabotaged.told(made) == story
    remove(sabotaged, made)


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_rename(sabotaged: SabotagedDaemon, when: str) -> None:
    made = running(sabotaged)
    before = steps.inspect(sabotaged.api, made)["Name"]
    with killed_at(sabotaged, when, 1):
        post(sabotaged, f"/containers/{made}/rename", name="renamed")
    done = when == AFTER
    assert steps.inspect(sabotaged.api, made)["Name"] == ("/renamed" if done else before)
    assert sabotaged.told(made) == [*BORN, *(["rename"] if done else [])]
    remove(sabotaged, made)


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_update(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The doubt, the kernel's limits, the record: what the record says holds in the kernel."""
    made = running(sabotaged, PidsLimit=50)
    with killed_at(sabotaged, when, commit):
        update(sabotaged, made, PidsLimit=77)
    done = (when, commit) == (AFTER, 2)
    assert pids_limits(sabotaged, made) == ((77, 77) if done else (50, 50))
    assert sabotaged.told(made) == [*BORN, *(["update"] if done else [])]
    update(sabotaged, made, PidsLimit=60).expect(200)
    assert pids_limits(sabotaged, made) == (60, 60)
    remove(sabotaged, made)


def test_update_that_cannot_be_recorded(sabotaged: SabotagedDaemon) -> None:
    made = running(sabotaged, PidsLimit=50)
    fail_at(sabotaged, 2)
    update(sabotaged, made, PidsLimit=77).expect(500)
    assert pids_limits(sabotaged, made) == (50, 50)
    assert sabotaged.told(made) == BORN
    remove(sabotaged, made)


def update(daemon: SabotagedDaemon, container_id: str, **limits: Any) -> Any:
    return daemon.api("POST", f"/containers/{container_id}/update", json_body=limits)


def pids_limits(daemon: SabotagedDaemon, container_id: str) -> tuple[int, int]:
    """As the record has it, and as the kernel has it."""
    inspected = steps.inspect(daemon.api, container_id)
    with open(f"/proc/{inspected['State']['Pid']}/cgroup") as groups:
        path = next(line for line in groups if "pids" in line or line.startswith("0::")).strip()
    _, controllers, group = path.split(":", 2)
    mount = f"/sys/fs/cgroup/{controllers}" if controllers else "/sys/fs/cgroup"
    with open(f"{mount}{group}/pids.max") as limit:
        return inspected["HostConfig"]["PidsLimit"], json.loads(limit.read())


@pytest.mark.parametrize(("when", "commit"), [*moments(1), *moments(7)[6:]])
def test_remove_by_force(sabotaged: SabotagedDaemon, when: str, commit: int) -> None:
    """The four transactions of a kill; then marked, gone, its volume gone."""
    made = running(sabotaged)
    with killed_at(sabotaged, when, commit):
        sabotaged.api("DELETE", f"/containers/{made}", force=True, v=True)
    killed = [*BORN, "kill", "die"]
    if (when, commit) == (BEFORE, 1):
        assert state_of(sabotaged, made)["Running"]
        remove(sabotaged, made)
    elif commit < 5 or (when, commit) == (BEFORE, 5):
        assert ended(sabotaged, made)["ExitCode"] == 137
        assert sabotaged.told(made) == killed
        remove(sabotaged, made)
    assert state_of(sabotaged, made) is None
    nothing_is_left(sabotaged)
    assert sabotaged.told(made) == [*killed, "destroy"]
