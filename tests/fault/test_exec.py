"""Execs and the daemon's death: who had clients is ended, the rest goes on, and each is told once."""

import contextlib
import http.client
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon, events_of
from tests.fault.crash import BEFORE, killed_at, make, moments, post, remove, sweep
from tests.support import execs
from tests.support.execs import ExecStream


@pytest.fixture(autouse=True)
def swept(sabotaged: SabotagedDaemon) -> Iterator[None]:
    yield
    sweep(sabotaged)


def running(daemon: SabotagedDaemon) -> str:
    made = make(daemon)
    post(daemon, f"/containers/{made}/start").expect(204)
    return made


def start(daemon: SabotagedDaemon, exec_id: str) -> None:
    daemon.api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True}).expect(200)


def die_and_return(daemon: SabotagedDaemon) -> None:
    daemon.kill()
    daemon.start()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def actions(daemon: SabotagedDaemon, exec_id: str) -> list[str]:
    return [action.split(":")[0] for action in execs.told(daemon.api, exec_id)]


def test_one_with_a_client_is_ended(sabotaged: SabotagedDaemon) -> None:
    """With all that it started, also what does not care about its streams."""
    made = running(sabotaged)
    script = "trap '' HUP PIPE; sleep 1000 & setsid sleep 1000 & echo ready; wait"
    exec_id = execs.create(sabotaged.api, made, "sh", "-c", script)
    with ExecStream(sabotaged.socket, exec_id) as stream:
        stream.read_until(b"ready")
        pid = execs.inspect(sabotaged.api, exec_id)["Pid"]
        die_and_return(sabotaged)
    assert not is_alive(pid)
    assert execs.told(sabotaged.api, exec_id)[-1] == "exec_die 137"
    assert actions(sabotaged, exec_id) == ["exec_create", "exec_start", "exec_die 137"]
    assert execs.inspect(sabotaged.api, exec_id)["ExitCode"] == 137
    processes = sabotaged.api("GET", f"/containers/{made}/top").expect(200).json["Processes"]
    assert len(processes) == 1
    remove(sabotaged, made)


def test_one_in_the_background_goes_on(sabotaged: SabotagedDaemon) -> None:
    made = running(sabotaged)
    script = "while ! test -e /go; do sleep 0.05; done; exit 7"
    exec_id = execs.create(sabotaged.api, made, "sh", "-c", script)
    start(sabotaged, exec_id)
    before = execs.inspect(sabotaged.api, exec_id)
    die_and_return(sabotaged)
    assert execs.inspect(sabotaged.api, exec_id) == before
    assert steps.inspect(sabotaged.api, made)["ExecIDs"] == [exec_id]
    die_and_return(sabotaged)
    execs.run(sabotaged.api, made, "touch", "/go")
    steps.until(lambda: not execs.inspect(sabotaged.api, exec_id)["Running"])
    assert execs.inspect(sabotaged.api, exec_id)["ExitCode"] == 7
    assert actions(sabotaged, exec_id) == ["exec_create", "exec_start", "exec_die 7"]
    remove(sabotaged, made)


def test_the_code_of_one_that_ended_meanwhile(sabotaged: SabotagedDaemon) -> None:
    made = running(sabotaged)
    exec_id = execs.create(sabotaged.api, made, "sh", "-c", "sleep 0.5; exit 9")
    start(sabotaged, exec_id)
    pid = execs.inspect(sabotaged.api, exec_id)["Pid"]
    sabotaged.kill()
    steps.until(lambda: not is_alive(pid))
    sabotaged.start()
    steps.until(lambda: not execs.inspect(sabotaged.api, exec_id)["Running"])
    assert actions(sabotaged, exec_id) == ["exec_create", "exec_start", "exec_die 9"]
    remove(sabotaged, made)


def test_a_terminal_in_the_background_goes_on(sabotaged: SabotagedDaemon) -> None:
    made = running(sabotaged)
    script = "trap 'stty size >/size' WINCH; while :; do head -c 100000 /dev/zero; sleep 0.05; done"
    exec_id = execs.create(sabotaged.api, made, "sh", "-c", script, Tty=True)
    start(sabotaged, exec_id)
    die_and_return(sabotaged)
    sabotaged.api("POST", f"/exec/{exec_id}/resize", h=41, w=101).expect(200)
    steps.until(lambda: execs.run(sabotaged.api, made, "cat", "/size")[1] == b"41 101\n")
    remove(sabotaged, made)


def test_the_container_ended_meanwhile(sabotaged: SabotagedDaemon) -> None:
    """The ends of its execs are told before its own."""
    made = running(sabotaged)
    exec_id = execs.create(sabotaged.api, made, "sleep", "1000")
    start(sabotaged, exec_id)
    pid = steps.inspect(sabotaged.api, made)["State"]["Pid"]
    sabotaged.kill()
    os.kill(pid, 9)
    steps.until(lambda: not is_alive(pid))
    sabotaged.start()
    steps.until(lambda: steps.status(sabotaged.api, made) == "exited")
    told = [event["Action"] for event in events_of(sabotaged, made)]
    assert told.index("exec_die") < told.index("die")
    assert told.count("exec_die") == 1
    remove(sabotaged, made)


def test_a_gentle_end_ends_one_with_a_client(sabotaged: SabotagedDaemon) -> None:
    made = running(sabotaged)
    exec_id = execs.create(sabotaged.api, made, "sh", "-c", "trap '' HUP PIPE TERM; echo ready; sleep 1000")
    with ExecStream(sabotaged.socket, exec_id) as stream:
        stream.read_until(b"ready")
        pid = execs.inspect(sabotaged.api, exec_id)["Pid"]
        sabotaged.stop()
        assert not is_alive(pid)
    sabotaged.start()
    assert actions(sabotaged, exec_id) == ["exec_create", "exec_start", "exec_die 137"]
    remove(sabotaged, made)


@pytest.mark.parametrize(("when", "commit"), moments(3))
@pytest.mark.parametrize("detach", [False, True])
def test_killed_at_every_transaction(
    sabotaged: SabotagedDaemon, when: str, commit: int, detach: bool
) -> None:
    """``exec_die`` follows every ``exec_start``, once, and nothing is left."""
    made = running(sabotaged)
    known: list[str] = []

    def run() -> None:
        known.append(execs.create(sabotaged.api, made, "sh", "-c", "exit 3"))
        body = {"Detach": detach}
        sabotaged.api("POST", f"/exec/{known[0]}/start", json_body=body)
        steps.until(lambda: not execs.inspect(sabotaged.api, known[0])["Running"])

    with killed_at(sabotaged, when, commit):
        run()
    steps.until(lambda: steps.inspect(sabotaged.api, made)["ExecIDs"] is None)
    events = [e for e in events_of(sabotaged, made) if e["Action"].startswith("exec_")]
    told = [event["Action"].split(":")[0] for event in events]
    done = commit - (when == BEFORE)
    assert told == ["exec_create", "exec_start", "exec_die"][: 3 if done >= 2 else done]
    if detach and done >= 3:
        assert events[-1]["Actor"]["Attributes"]["exitCode"] == "3"
    assert list((sabotaged.exec_root / "runs" / made / "execs").glob("*")) == []
    remove(sabotaged, made)


def test_a_disk_that_is_full_only_delays_the_news(sabotaged: SabotagedDaemon) -> None:
    made = running(sabotaged)
    exec_id = execs.create(sabotaged.api, made, "sh", "-c", "while ! test -e /go; do sleep 0.05; done")
    start(sabotaged, exec_id)
    go = execs.create(sabotaged.api, made, "touch", "/go")
    sabotaged.order("raise", BEFORE, "commit 2")  # the start of the second, then an end
    with contextlib.suppress(OSError, http.client.HTTPException):
        start(sabotaged, go)
    for each in (exec_id, go):
        steps.until(lambda: not execs.inspect(sabotaged.api, each)["Running"])  # noqa: B023
        assert actions(sabotaged, each) == ["exec_create", "exec_start", "exec_die 0"]
    remove(sabotaged, made)
