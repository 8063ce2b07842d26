"""Parts that a container stands on are killed, missing, failing or hanging: told clearly, nothing is left."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon, close, events_of
from tests.support.daemon import Daemon, DaemonFailed
from tests.support.rawhttp import Api

MakeDaemon = Callable[..., Daemon]
BUSYBOX = "busybox:latest"
STORY = ["create", "start", "die"]
FAKE_RUNTIME = """#!/bin/sh
# Works as the real one, unless the file says "fail VERB", "hang VERB" or "silence VERB".
mode=$(cat {order} 2>/dev/null)
for word; do
    case "$word" in create | start | delete) verb=$word; break ;; esac
done
case "$mode" in
"fail $verb") echo "the fake runtime will not $verb" >&2; exit 3 ;;
"silence $verb") exit 3 ;;
"hang $verb") exec sleep 1000 ;;
esac
exec {real} "$@"
"""
PATIENCE_S = "1"


def monitor_of(daemon: Daemon, container_id: str) -> int:
    """The pid of a container's conmon."""
    for pid, command in daemon.own.processes():
        if "conmon " in command and container_id in command:
            return pid
    raise AssertionError("no monitor")


def actions(daemon: Daemon, container_id: str) -> list[str]:
    return [event["Action"] for event in events_of(daemon, container_id)]


# --- the monitor and the first process ----------------------------------------------------------------------


def test_a_killed_monitor_takes_its_container_along(daemon: Daemon, api: Api, image: str) -> None:
    made = steps.start(api, image, "sh", "-c", "sleep 1000 & sleep 1000")
    waiting = api.stream("POST", f"/containers/{made}/wait")
    os.kill(monitor_of(daemon, made), signal.SIGKILL)
    assert b'"StatusCode":137' in waiting.read()
    state = steps.inspect(api, made)["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)
    assert "monitor was killed" in state["Error"]
    assert daemon.settle(made) == []
    assert actions(daemon, made) == STORY
    api("POST", f"/containers/{made}/start").expect(204)
    assert steps.inspect(api, made)["State"]["Error"] == ""


def test_a_killed_monitor_of_a_paused_container(daemon: Daemon, api: Api, image: str) -> None:
    made = steps.start(api, image)
    api("POST", f"/containers/{made}/pause").expect(204)
    os.kill(monitor_of(daemon, made), signal.SIGKILL)
    assert steps.wait_exit(api, made) == 137
    assert daemon.settle(made) == []
    assert actions(daemon, made) == ["create", "start", "pause", "die"]


def test_a_killed_monitor_of_a_container_that_restarts(daemon: Daemon, api: Api, image: str) -> None:
    made = steps.start(api, image, HostConfig={"RestartPolicy": {"Name": "always"}})
    first = steps.inspect(api, made)["State"]["Pid"]
    os.kill(monitor_of(daemon, made), signal.SIGKILL)
    steps.until(lambda: steps.inspect(api, made)["State"]["Pid"] not in (0, first))
    assert actions(daemon, made) == ["create", "start", "die", "start"]


def test_a_monitor_killed_while_no_daemon_looks(make_daemon: MakeDaemon) -> None:
    private = make_daemon().start()
    made = steps.start(private.api, private.import_busybox())
    monitor = monitor_of(private, made)
    private.kill()
    os.kill(monitor, signal.SIGKILL)
    private.start()
    assert steps.inspect(private.api, made)["State"]["ExitCode"] == 137
    assert private.settle(made) == []
    assert actions(private, made) == STORY


def test_the_first_process_is_killed_from_outside(daemon: Daemon, api: Api, image: str) -> None:
    made = steps.start(api, image)
    os.kill(steps.inspect(api, made)["State"]["Pid"], signal.SIGKILL)
    assert steps.wait_exit(api, made) == 137
    state = steps.inspect(api, made)["State"]
    assert (state["Status"], state["Error"], state["OOMKilled"]) == ("exited", "", False)
    assert daemon.settle(made) == []
    assert actions(daemon, made) == STORY


# --- the runtime --------------------------------------------------------------------------------------------


class FakeRuntimeDaemon(SabotagedDaemon):
    """A daemon with a runtime ``fake`` that fails or hangs on order, and little patience with it."""

    def __init__(self) -> None:
        super().__init__(PATIENCE=PATIENCE_S)
        self.runtime = self.directory / "fake"
        self.mode = self.directory / "mode"
        self.arguments = ("--add-runtime", f"fake={self.runtime}")
        self.install()

    def install(self) -> None:
        real = shutil.which("crun") or shutil.which("runc")
        self.runtime.write_text(FAKE_RUNTIME.format(order=self.mode, real=real))
        self.runtime.chmod(0o755)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeRuntimeDaemon]:
    daemon = FakeRuntimeDaemon()
    try:
        daemon.start()
        daemon.import_busybox()
        yield daemon
    finally:
        daemon.mode.unlink(missing_ok=True)
        close(daemon)


def test_the_fake_runtime_works(fake: FakeRuntimeDaemon) -> None:
    made = fake.create(Runtime="fake")
    fake.api("POST", f"/containers/{made}/start").expect(204)
    assert steps.inspect(fake.api, made)["HostConfig"]["Runtime"] == "fake"
    fake.api("DELETE", f"/containers/{made}", force=True, v=True).expect(204)
    assert fake.settle() == []


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fail create", "the fake runtime will not create"),
        ("silence create", "fake create"),
        ("hang create", "did not end within 1 s"),
        ("fail start", "the fake runtime will not start"),
        ("hang start", "did not end within 1 s"),
    ],
)
def test_a_runtime_that_cannot(fake: FakeRuntimeDaemon, mode: str, message: str) -> None:
    made = fake.create(Runtime="fake")
    fake.mode.write_text(mode)
    try:
        answer = fake.api("POST", f"/containers/{made}/start").expect(500)
    finally:
        fake.mode.unlink()
    assert message in answer.message
    state = steps.inspect(fake.api, made)["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("created", 128, answer.message)
    assert fake.told(made) == ["create", "die"]
    assert fake.settle(made) == []
    fake.api("POST", f"/containers/{made}/start").expect(204)
    fake.api("DELETE", f"/containers/{made}", force=True, v=True).expect(204)
    assert fake.settle() == []


def test_a_runtime_that_is_missing(fake: FakeRuntimeDaemon) -> None:
    made = fake.create(Runtime="fake")
    fake.runtime.unlink()
    try:
        answer = fake.api("POST", f"/containers/{made}/start").expect(400)
        assert "unknown or invalid runtime name: fake" in answer.message
        fake.api(
            "POST", "/containers/create", json_body={"Image": BUSYBOX, "HostConfig": {"Runtime": "none"}}
        ).expect(400)
    finally:
        fake.install()
    assert fake.settle(made) == []
    fake.api("POST", f"/containers/{made}/start").expect(204)
    fake.api("DELETE", f"/containers/{made}", force=True, v=True).expect(204)
    assert fake.settle() == []


@pytest.mark.parametrize("mode", ["fail delete", "hang delete"])
def test_a_runtime_that_cannot_delete(fake: FakeRuntimeDaemon, mode: str) -> None:
    """The end is told all the same; what is left is freed when the container starts or is removed."""
    made = fake.create(Runtime="fake")
    fake.api("POST", f"/containers/{made}/start").expect(204)
    fake.mode.write_text(mode)
    try:
        fake.api("POST", f"/containers/{made}/kill").expect(204)
        assert steps.inspect(fake.api, made)["State"]["ExitCode"] == 137
        fake.api("DELETE", f"/containers/{made}", v=True).expect(204)
    finally:
        fake.mode.unlink()
    assert fake.told(made) == ["create", "start", "kill", "die", "destroy"]
    fake.restart()
    assert fake.settle() == []


def test_a_runtime_that_goes_while_the_container_runs(fake: FakeRuntimeDaemon) -> None:
    made = fake.create(Runtime="fake")
    fake.api("POST", f"/containers/{made}/start").expect(204)
    fake.runtime.unlink()
    try:
        fake.api("POST", f"/containers/{made}/kill").expect(204)
        assert steps.inspect(fake.api, made)["State"]["ExitCode"] == 137
    finally:
        fake.install()
    fake.api("DELETE", f"/containers/{made}", v=True).expect(204)
    fake.restart()
    assert fake.settle() == []


# --- what a daemon needs at boot ----------------------------------------------------------------------------


def test_without_conmon_the_daemon_says_so(tmp_path: Path) -> None:
    """The monitor is looked for in system directories only, so it is hidden there, in a mount namespace."""
    conmon = shutil.which("conmon")
    assert conmon is not None
    hidden = tmp_path / "hidden"
    hidden.write_text("")
    private = Daemon()
    script = f'mount --bind {hidden} {conmon}; exec "$@"'
    try:
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *private.argv()],
            capture_output=True, timeout=30, check=False,
        )  # fmt: skip
    finally:
        private.close()
    assert done.returncode == 1
    assert b"conmon is not installed" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_default_runtime_that_is_missing_is_told_at_boot(make_daemon: MakeDaemon) -> None:
    with pytest.raises(DaemonFailed, match="unknown or invalid runtime name: kata"):
        make_daemon("--default-runtime", "kata").start()


# --- image layers -------------------------------------------------------------------------------------------


def test_a_layer_removed_by_hand(make_daemon: MakeDaemon) -> None:
    private = make_daemon().start()
    image = private.import_busybox()
    made = steps.start(private.api, image)
    private.api("POST", f"/containers/{made}/kill").expect(204)
    fresh = steps.create(private.api, image)
    (layer,) = (private.data_root / "layers").iterdir()
    layer.rename(private.directory / "stolen")
    for container_id, status in ((made, "exited"), (fresh, "created")):
        answer = private.api("POST", f"/containers/{container_id}/start").expect(500)
        assert f"layer directory {layer}/diff does not exist" in answer.message
        state = steps.inspect(private.api, container_id)["State"]
        assert (state["Status"], state["ExitCode"], state["Error"]) == (status, 128, answer.message)
    assert private.settle(made, fresh) == []
    private.restart()
    assert "image lacks layers" in private.log_path.read_text()
    (private.directory / "stolen").rename(layer)
    private.api("POST", f"/containers/{made}/start").expect(204)
    private.api("POST", f"/containers/{fresh}/start").expect(204)
    assert actions(private, fresh) == ["create", "die", "start"]


def test_loading_the_image_again_mends_it(make_daemon: MakeDaemon) -> None:
    private = make_daemon().start()
    made = steps.create(private.api, private.import_busybox())
    (layer,) = (private.data_root / "layers").iterdir()
    shutil.rmtree(layer)
    private.api("POST", f"/containers/{made}/start").expect(500)
    private.import_busybox("again:latest")
    private.api("POST", f"/containers/{made}/start").expect(204)
