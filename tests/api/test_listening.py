"""Dialogues about sockets: who may connect, what is replaced, what is handed in, and how a drain goes."""

import grp
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api import steps
from tests.support.daemon import Daemon, DaemonFailed
from tests.support.rawhttp import Api

MakeDaemon = Callable[..., Daemon]


def past_events(api: Api) -> bytes:
    return api("GET", "/events", since="0", until=f"{time.time():.9f}").expect(200).body


def test_the_socket_is_for_root_and_its_group(daemon: Daemon) -> None:
    mode = daemon.socket.stat()
    assert stat.S_ISSOCK(mode.st_mode)
    assert stat.S_IMODE(mode.st_mode) == 0o660
    assert mode.st_uid == 0
    groups = {group.gr_gid for group in grp.getgrall() if group.gr_name == "proa"}
    assert mode.st_gid in (groups or {0})


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(make_daemon: MakeDaemon) -> None:
    first = make_daemon().start()
    first.kill()
    assert first.socket.exists()
    first.start()
    second = make_daemon("--host", first.url)
    with pytest.raises(DaemonFailed, match="another process listens there"):
        second.start()
    assert first.api("GET", "/_ping").status == 200


def test_a_file_that_is_no_socket_is_left_alone(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    with pytest.raises(DaemonFailed, match="is not a socket"):
        make_daemon("--host", f"unix://{precious}").start()
    assert precious.read_text() == "data"


def test_several_hosts_at_once(make_daemon: MakeDaemon) -> None:
    private = make_daemon()
    other = private.directory / "other.sock"
    private.arguments = ("--host", f"unix://{other}", "--host", "tcp://127.0.0.1:0", "--insecure-tcp")
    private.start()
    assert Api(other)("GET", "/_ping").status == 200
    assert any("http://127.0.0.1" in warning for warning in private.api("GET", "/info").json["Warnings"])
    private.stop()
    assert not other.exists()
    assert not private.socket.exists()


def test_tcp_needs_to_be_asked_for_twice(make_daemon: MakeDaemon) -> None:
    with pytest.raises(DaemonFailed, match="--insecure-tcp"):
        make_daemon("--host", "tcp://127.0.0.1:0").start()


def test_sockets_from_systemd_are_served(make_daemon: MakeDaemon) -> None:
    private = make_daemon()
    path = private.directory / "inherited.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        # What systemd does: descriptor 3, and the process's own pid in the environment.
        argv = ["sh", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"', "sh", *private.argv()]

        def hand_over() -> None:
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)

        with private.log_path.open("ab") as log:
            private.process = subprocess.Popen(
                argv, stdout=log, stderr=log, pass_fds=(3,), preexec_fn=hand_over, start_new_session=True
            )
        steps.until(private.socket.exists, timeout_s=30)
        assert Api(path)("GET", "/_ping").status == 200
        private.stop()
    assert path.exists()


def test_a_drain_lets_requests_finish_and_ends_streams(make_daemon: MakeDaemon) -> None:
    private = make_daemon().start()
    image = private.import_busybox()
    stubborn = steps.start_trapping(private.api, image, "'' TERM")
    waiting = private.api.stream("POST", f"/containers/{stubborn}/wait")
    listening = private.api.stream("GET", "/events")
    answers: list[int] = []

    def stop() -> None:
        answers.append(private.api("POST", f"/containers/{stubborn}/stop", t=2).status)

    stopping = threading.Thread(target=stop)
    stopping.start()
    steps.until(lambda: b'"Action":"kill"' in past_events(private.api))
    begin = time.monotonic()
    assert private.stop() == 0
    assert time.monotonic() - begin < 12
    stopping.join()
    waiting.close()
    listening.close()
    assert answers == [204]
    private.start()
    assert steps.inspect(private.api, stubborn)["State"]["ExitCode"] == 137


def test_containers_outlive_a_drain(make_daemon: MakeDaemon) -> None:
    private = make_daemon().start()
    made = steps.start(private.api, private.import_busybox())
    before = steps.inspect(private.api, made)["State"]
    private.restart()
    assert steps.inspect(private.api, made)["State"] == before
