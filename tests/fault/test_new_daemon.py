"""A daemon goes and another comes: what ran runs on, what ended is told with its real time, policies hold,
signals mean what they say, and state that cannot be used is refused untouched.
"""

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.fault.conftest import close, events_of
from tests.support.daemon import Daemon, DaemonFailed

MakeDaemon = Callable[..., Daemon]
IMAGE = "busybox:latest"


@pytest.fixture(scope="module")
def lasting() -> Iterator[Daemon]:
    """A daemon that the tests kill and start as they like."""
    daemon = Daemon()
    try:
        daemon.start()
        daemon.import_busybox()
        yield daemon
    finally:
        if not daemon.is_running:
            daemon.start()
        close(daemon)


@pytest.fixture(autouse=True)
def swept(lasting: Daemon) -> Iterator[None]:
    yield
    if not lasting.is_running:
        lasting.start()
    lasting.remove_containers()
    assert lasting.settle() == []


def state_of(daemon: Daemon, container_id: str) -> Any:
    return steps.inspect(daemon.api, container_id)["State"]


def actions(daemon: Daemon, container_id: str) -> list[str]:
    return [event["Action"] for event in events_of(daemon, container_id)]


def policy(name: str, retries: int = 0) -> dict[str, Any]:
    return {"RestartPolicy": {"Name": name, "MaximumRetryCount": retries}}


# --- what ends while no daemon looks ------------------------------------------------------------------------


def test_ends_while_the_daemon_is_away_are_told_with_their_real_times(lasting: Daemon) -> None:
    """Three end one after the other, in the reverse order of their names and ids."""
    api = lasting.api
    gate = lasting.directory / "gate"
    gate.mkdir(exist_ok=True)
    bind = {"Binds": [f"{gate}:/gate"]}
    made = sorted(
        steps.start(
            api,
            IMAGE,
            "sh",
            "-c",
            f"while [ ! -e /gate/{n} ]; do sleep 0.01; done; exit {n}",
            HostConfig=bind,
        )
        for n in (3, 4, 5)
    )
    numbers = {c: int(steps.inspect(api, c)["Config"]["Cmd"][2][-1]) for c in made}
    pids = {c: state_of(lasting, c)["Pid"] for c in made}
    lasting.kill()
    ended: dict[str, tuple[float, float]] = {}
    for container_id in reversed(made):
        opened = time.time()
        (gate / str(numbers[container_id])).touch()
        steps.until(lambda pid=pids[container_id]: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]
        run = lasting.exec_root / "runs" / container_id
        steps.until(lambda run=run: any(run.glob("*/exit")))  # type: ignore[misc]  # its monitor tells it last
        ended[container_id] = (opened, time.time())
    returned = time.time()
    lasting.start()
    for container_id in made:
        begin, end = ended[container_id]
        state = state_of(lasting, container_id)
        assert (state["Status"], state["ExitCode"]) == ("exited", numbers[container_id])
        die = [event for event in events_of(lasting, container_id) if event["Action"] == "die"]
        assert [event["Actor"]["Attributes"]["exitCode"] for event in die] == [str(numbers[container_id])]
        at = die[0]["timeNano"] / 1e9
        assert begin - 0.01 <= at <= min(end + 0.5, returned)
        assert actions(lasting, container_id) == ["create", "start", "die"]
    assert lasting.settle(*made) == []


def test_a_wait_begun_before_the_death_can_be_asked_again(lasting: Daemon) -> None:
    made = steps.start(lasting.api, IMAGE)
    pid = state_of(lasting, made)["Pid"]
    waiting = lasting.api.stream("POST", f"/containers/{made}/wait")
    lasting.kill()
    waiting.close()
    lasting.start()
    waiting = lasting.api.stream("POST", f"/containers/{made}/wait")
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGKILL)
    assert json.loads(waiting.read())["StatusCode"] == 137


# --- what a new daemon finds --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_every_kind_of_container_is_taken_over(lasting: Daemon, how: str) -> None:
    api = lasting.api
    running = steps.start(api, IMAGE)
    paused = steps.start(api, IMAGE)
    api("POST", f"/containers/{paused}/pause").expect(204)
    leaving = steps.start(api, IMAGE, HostConfig={"AutoRemove": True})
    created = steps.create(api, IMAGE)
    stopped = steps.start(api, IMAGE, HostConfig=policy("unless-stopped"))
    api("POST", f"/containers/{stopped}/kill").expect(204)
    failing = steps.start(api, IMAGE, "sh", "-c", "sleep 0.2; false", HostConfig=policy("on-failure"))
    steps.until(lambda: state_of(lasting, failing)["Status"] == "restarting")
    before = {c: state_of(lasting, c) for c in (running, paused, leaving, created, stopped)}
    getattr(lasting, how)()
    lasting.start()
    assert {c: state_of(lasting, c) for c in before} == before
    starts = actions(lasting, failing).count("start")
    # The policy's delay doubles: it is as long as all that was before it took.
    steps.until(lambda: actions(lasting, failing).count("start") > starts, timeout_s=60)
    # All of them answer as before: what ran can be stopped, waited for, removed, and goes away by itself.
    api("POST", f"/containers/{paused}/unpause").expect(204)
    api("POST", f"/containers/{leaving}/kill").expect(204)
    steps.until(lambda: api("GET", f"/containers/{leaving}/json").status == 404)
    assert actions(lasting, leaving) == ["create", "start", "kill", "die", "destroy"]
    assert actions(lasting, running) == ["create", "start"]


def test_policies_at_boot(lasting: Daemon) -> None:
    """What each policy wants of a container that ran when the daemon went, and of one stopped by hand."""
    api = lasting.api
    policies = {
        "no": policy("no"), "always": policy("always"), "unless-stopped": policy("unless-stopped"),
        "on-failure": policy("on-failure", 3),
    }  # fmt: skip
    ran = {name: steps.start(api, IMAGE, HostConfig=host) for name, host in policies.items()}
    by_hand = {name: steps.start(api, IMAGE, HostConfig=host) for name, host in policies.items()}
    never = {name: steps.create(api, IMAGE, HostConfig=host) for name, host in policies.items()}
    for container_id in by_hand.values():
        api("POST", f"/containers/{container_id}/kill").expect(204)
    pids = {name: state_of(lasting, c)["Pid"] for name, c in ran.items()}
    lasting.kill()
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
        steps.until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]
    lasting.start()
    expected_ran = {"no": False, "always": True, "unless-stopped": True, "on-failure": True}
    expected_by_hand = {"no": False, "always": True, "unless-stopped": False, "on-failure": False}
    for name, wanted in expected_ran.items():
        if wanted:
            # "Running" is true as well while it waits for its restart.
            steps.until(lambda name=name: state_of(lasting, ran[name])["Status"] == "running")  # type: ignore[misc]
        assert actions(lasting, ran[name]) == ["create", "start", "die"] + ["start"] * wanted, name
    steps.until(lambda: state_of(lasting, by_hand["always"])["Status"] == "running")
    assert {name: state_of(lasting, c)["Running"] for name, c in by_hand.items()} == expected_by_hand
    assert {state_of(lasting, c)["Status"] for c in never.values()} == {"created"}


def test_an_auto_removed_container_that_ended_meanwhile_is_removed(lasting: Daemon) -> None:
    made = steps.start(lasting.api, IMAGE, HostConfig={"AutoRemove": True})
    pid = state_of(lasting, made)["Pid"]
    lasting.kill()
    os.kill(pid, signal.SIGKILL)
    steps.until(lambda: not Path(f"/proc/{pid}").exists())
    lasting.start()
    assert lasting.api("GET", f"/containers/{made}/json").status == 404
    assert actions(lasting, made) == ["create", "start", "die", "destroy"]


# --- signals ------------------------------------------------------------------------------------------------


def test_a_second_sigterm_hurries(lasting: Daemon) -> None:
    """A drain waits for a stop that takes half a minute; told again, it does not, and nothing is lost."""
    stubborn = steps.start(
        lasting.api, IMAGE, "sh", "-c", "trap '' TERM; echo ready; sleep 1000 & wait; sleep 1000"
    )
    with lasting.api.stream("GET", f"/containers/{stubborn}/logs", stdout=True, follow=True) as logs:
        next(logs.lines())
    asked = threading.Thread(target=_ask_to_stop, args=(lasting, stubborn))
    asked.start()
    steps.until(lambda: "kill" in actions(lasting, stubborn))
    assert lasting.process is not None
    lasting.process.send_signal(signal.SIGTERM)
    steps.until(lambda: "draining" in lasting.log_tail())
    lasting.process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    lasting.process.wait(30)
    assert time.monotonic() - begin < 5
    asked.join()
    lasting.start()
    assert state_of(lasting, stubborn)["Running"]


def _ask_to_stop(daemon: Daemon, container_id: str) -> None:
    try:
        daemon.api("POST", f"/containers/{container_id}/stop", t=30)
        raise AssertionError("the daemon answered")
    except (OSError, http.client.HTTPException):
        return  # it left before it could answer


def test_sighup_reloads(make_daemon: MakeDaemon) -> None:
    private = make_daemon()
    config = private.directory / "config.toml"
    config.write_text('log-level = "info"\n')
    private.arguments = ("--config-file", str(config))
    private.start()
    made = steps.start(private.api, private.import_busybox())
    assert private.process is not None
    config.write_text('log-level = "debug"\nevents-max-count = 5\nmtu = 1400\n')
    private.process.send_signal(signal.SIGHUP)
    steps.until(lambda: "configuration reloaded" in private.log_path.read_text())
    (line,) = [
        json.loads(x) for x in private.log_path.read_text().splitlines() if "configuration reloaded" in x
    ]
    assert set(line["changed"]) == {"log_level", "events_max_count"}
    assert line["needs_restart"] == ["mtu"]
    config.write_text("log-level = 3\n")
    private.process.send_signal(signal.SIGHUP)
    steps.until(lambda: "configuration not reloaded" in private.log_path.read_text())
    assert state_of(private, made)["Running"]
    assert private.api("GET", "/_ping").status == 200


# --- state that cannot be had -------------------------------------------------------------------------------


def refusal(daemon: Daemon, argv: list[str]) -> str:
    """What a daemon says that refuses to start."""
    done = subprocess.run(argv, capture_output=True, timeout=30, check=False)
    text = done.stderr.decode()
    assert done.returncode == 1, text
    assert "Traceback" not in text
    return text


def test_a_second_daemon_on_the_same_state_refuses(lasting: Daemon, tmp_path: Path) -> None:
    for option, value in (("--exec-root", str(tmp_path / "run")), ("--data-root", str(tmp_path / "data"))):
        argv = [*lasting.argv(), "--host", f"unix://{tmp_path}/s", option, value]
        assert f"another proad (pid {lasting.pid}) is using" in refusal(lasting, argv)
    made = steps.start(lasting.api, IMAGE)
    lasting.kill()
    lasting.start()  # the lock died with its holder
    assert state_of(lasting, made)["Running"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"\xff" * 8192), "cannot be used"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "corrupt|cannot be used"),
        (lambda path: _sql(path, "PRAGMA user_version = 99"), "written by a newer proad"),
        (lambda path: _sql(path, "PRAGMA application_id = 7"), "is a database, but not one of proad"),
        (
            lambda path: _sql(path, "UPDATE containers SET record = CAST('{\"id\": 3}' AS BLOB)"),
            "cannot be used",
        ),
    ],
    ids=["noise", "cut", "newer", "foreign", "record"],
)
def test_state_that_cannot_be_used_is_refused_untouched(
    stopped: Daemon, spoil: Callable[[Path], object], message: str
) -> None:
    path = stopped.data_root / "state.db"
    usable = path.read_bytes()
    spoil(path)
    spoilt = path.read_bytes()
    try:
        with pytest.raises(DaemonFailed, match=message):
            stopped.start()
        assert path.read_bytes() == spoilt
    finally:
        path.write_bytes(usable)


@pytest.fixture(scope="module")
def stopped() -> Iterator[Daemon]:
    """A daemon that has gone properly, and left an image and a container."""
    daemon = Daemon()
    try:
        daemon.start()
        steps.create(daemon.api, daemon.import_busybox())
        daemon.stop()
        yield daemon
        daemon.start()
        (container,) = daemon.api("GET", "/containers/json", all=True).json
        assert container["Image"] == IMAGE
    finally:
        close(daemon)


def _sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
