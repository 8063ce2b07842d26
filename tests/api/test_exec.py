"""Exec: commands in running containers, byte for byte and event by event."""

import hashlib
import random
import time
from typing import Any

import docker as docker_py
import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.support import execs
from tests.support.daemon import Daemon
from tests.support.execs import ExecStream
from tests.support.hijack import demultiplex
from tests.support.rawhttp import Api

OFFLINE = {"NetworkMode": "none"}
NOT_FOUND = (
    'OCI runtime exec failed: exec failed: unable to start container process: exec: "{}": '
    "executable file not found in $PATH: unknown"
)


@pytest.fixture
def container(api: Api, image: str) -> str:
    """A container that sleeps."""
    return steps.start(api, image, HostConfig=OFFLINE, Env=["OWN=1"])


# --- streams ------------------------------------------------------------------------------------------------


def test_both_streams_and_the_exit_code(daemon: Daemon, api: Api, container: str) -> None:
    exec_id = execs.create(api, container, "sh", "-c", "echo out; echo err >&2; printf last; exit 3")
    with ExecStream(daemon.socket, exec_id) as stream:
        assert stream.head.split(b"\r\n")[0] == b"HTTP/1.1 101 UPGRADED"
        assert stream.header("Content-Type") == "application/vnd.docker.multiplexed-stream"
        assert stream.header("Connection") == "Upgrade"
        assert stream.header("Upgrade") == "tcp"
        assert demultiplex(stream.read()) == (b"out\nlast", b"err\n")
    # The connection ends when the end is on record: who looks then knows the exit code.
    assert (execs.inspect(api, exec_id)["Running"], execs.inspect(api, exec_id)["ExitCode"]) == (False, 3)
    command = "sh -c echo out; echo err >&2; printf last; exit 3"
    assert execs.told(api, exec_id) == [f"exec_create: {command}", f"exec_start: {command}", "exec_die 3"]


@pytest.mark.parametrize(
    ("version", "upgrade", "status", "content_type"),
    [
        ("v1.51", False, 200, "application/vnd.docker.raw-stream"),
        ("v1.41", True, 101, "application/vnd.docker.raw-stream"),
    ],
)
def test_how_the_stream_is_called(
    daemon: Daemon, api: Api, container: str, version: str, upgrade: bool, status: int, content_type: str
) -> None:
    exec_id = execs.create(api, container, "echo", "hi")
    with ExecStream(daemon.socket, exec_id, version=version, upgrade=upgrade) as stream:
        assert stream.status == status
        assert stream.header("Content-Type") == content_type
        assert demultiplex(stream.read()) == (b"hi\n", b"")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pieces", [False, True])
def test_however_the_request_comes(
    daemon: Daemon, api: Api, container: str, pieces: bool, chunked: bool
) -> None:
    """Head and body in one go or apart, the length known before or not, input right behind them."""
    exec_id = execs.create(api, container, "cat", AttachStdin=True)
    with ExecStream(daemon.socket, exec_id, pieces=pieces, chunked=chunked, early=b"typed early, ") as stream:
        stream.send(b"and later")
        stream.half_close()
        assert demultiplex(stream.read()) == (b"typed early, and later", b"")


def test_only_what_is_attached_is_heard(daemon: Daemon, api: Api, container: str) -> None:
    exec_id = execs.create(api, container, "sh", "-c", "echo out; echo err >&2", AttachStdout=False)
    with ExecStream(daemon.socket, exec_id) as stream:
        assert demultiplex(stream.read()) == (b"", b"err\n")


def test_with_nothing_attached_the_answer_ends_at_once(daemon: Daemon, api: Api, container: str) -> None:
    exec_id = execs.create(api, container, "sleep", "1000", AttachStdout=False, AttachStderr=False)
    with ExecStream(daemon.socket, exec_id) as stream:
        assert stream.read() == b""
    assert execs.inspect(api, exec_id)["Running"] is True


def test_half_close_ends_stdin_and_the_output_still_comes(daemon: Daemon, api: Api, container: str) -> None:
    exec_id = execs.create(api, container, "sh", "-c", "cat; echo after", AttachStdin=True)
    with ExecStream(daemon.socket, exec_id) as stream:
        stream.send(b"typed\n")
        stream.read_until(b"typed\n")
        stream.half_close()
        assert stream.read().endswith(b"after\n")


def test_much_input_arrives_exactly(daemon: Daemon, api: Api, container: str) -> None:
    data = random.Random(3).randbytes(1 << 20) * 48
    exec_id = execs.create(api, container, "sha256sum", AttachStdin=True)
    with ExecStream(daemon.socket, exec_id, timeout_s=90) as stream:
        stream.send(data)
        stream.half_close()
        out, _ = demultiplex(stream.read())
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_much_output_arrives_exactly_at_a_reader_that_pauses(
    daemon: Daemon, api: Api, container: str
) -> None:
    """While nobody reads, the command waits; it is not gathered in memory."""
    script = "head -c 67108864 /dev/zero | tr '\\0' x; echo end >&2"
    exec_id = execs.create(api, container, "sh", "-c", script)
    with ExecStream(daemon.socket, exec_id, timeout_s=90) as stream:
        time.sleep(0.5)
        assert execs.inspect(api, exec_id)["Running"] is True
        out, err = demultiplex(stream.read())
    assert (len(out), out.strip(b"x"), err) == (64 << 20, b"", b"end\n")


def test_a_command_that_does_not_read_its_stdin_stops_nobody(
    daemon: Daemon, api: Api, container: str
) -> None:
    exec_id = execs.create(api, container, "sleep", "1000", AttachStdin=True)
    with ExecStream(daemon.socket, exec_id, timeout_s=1) as stream:
        with pytest.raises(TimeoutError):
            stream.send(b"x" * (8 << 20))
        assert execs.run(api, container, "echo", "hi") == (0, b"hi\n", b"")


def test_a_client_that_vanishes_leaves_the_command_running(daemon: Daemon, api: Api, container: str) -> None:
    """Its output goes nowhere, and does not block it."""
    script = "head -c 1000000 /dev/zero; touch /done; sleep 1000"
    exec_id = execs.create(api, container, "sh", "-c", script)
    ExecStream(daemon.socket, exec_id).close()
    steps.until(lambda: execs.run(api, container, "test", "-e", "/done")[0] == 0)
    assert execs.inspect(api, exec_id)["Running"] is True


def test_output_of_what_the_command_left_running_is_not_waited_for_long(
    daemon: Daemon, api: Api, container: str
) -> None:
    exec_id = execs.create(api, container, "sh", "-c", "(sleep 0.5; echo late; sleep 1000) & echo now")
    began = time.monotonic()
    with ExecStream(daemon.socket, exec_id) as stream:
        assert demultiplex(stream.read()) == (b"now\nlate\n", b"")
    assert time.monotonic() - began < 15


def test_stdout_can_be_opened_by_its_name(api: Api, container: str) -> None:
    said = execs.run(api, container, "sh", "-c", "echo hi >/dev/stdout; echo no >/dev/stderr", User="1234")
    assert said == (0, b"hi\n", b"no\n")


# --- terminals ----------------------------------------------------------------------------------------------


def test_a_terminal(daemon: Daemon, api: Api, container: str) -> None:
    script = 'tty; stty size; echo "$TERM"; read line; echo "got $line"; stty size'
    exec_id = execs.create(
        api, container, "sh", "-c", script, Tty=True, AttachStdin=True, ConsoleSize=[33, 77]
    )
    with ExecStream(daemon.socket, exec_id, Tty=True) as stream:
        assert stream.header("Content-Type") == "application/vnd.docker.raw-stream"
        assert stream.read_until(b"xterm\r\n") == b"/dev/pts/0\r\n33 77\r\nxterm\r\n"
        api("POST", f"/exec/{exec_id}/resize", h=44, w=88).expect(200)
        stream.send(b"it\n")
        assert stream.read().replace(b"\r", b"") == b"it\ngot it\n44 88\n"
    assert execs.inspect(api, exec_id)["ExitCode"] == 0


def test_the_size_given_with_the_start_is_the_one(daemon: Daemon, api: Api, container: str) -> None:
    # crun sets the size beside the command's first steps, not before them.
    command = ("sh", "-c", "until stty size 2>/dev/null | grep .; do :; done")
    exec_id = execs.create(api, container, *command, Tty=True, ConsoleSize=[33, 77])
    with ExecStream(daemon.socket, exec_id, Tty=True, ConsoleSize=[20, 50]) as stream:
        assert stream.read() == b"20 50\r\n"


def test_a_resize_reaches_the_program(daemon: Daemon, api: Api, container: str) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    exec_id = execs.create(api, container, "sh", "-c", script, Tty=True)
    with ExecStream(daemon.socket, exec_id, Tty=True) as stream:
        stream.read_until(b"ready")
        api("POST", f"/exec/{exec_id}/resize", h=40, w=100).expect(200)
        stream.read_until(b"40 100")


@pytest.mark.parametrize(("option", "keys"), [("", b"\x10\x11"), ("ctrl-a,d", b"\x01d")])
def test_detach_keys(daemon: Daemon, api: Api, container: str, option: str, keys: bytes) -> None:
    exec_id = execs.create(
        api, container, "sh", "-c", "echo ready; read line; sleep 1000", Tty=True, AttachStdin=True,
        DetachKeys=option,
    )  # fmt: skip
    with ExecStream(daemon.socket, exec_id, Tty=True) as stream:
        stream.read_until(b"ready")
        stream.send(b"a" + keys[:1])
        stream.send(b"b")
        stream.read_until(b"b")
        stream.send(keys[:1])
        stream.send(keys[1:])
        stream.read()
    assert execs.inspect(api, exec_id)["Running"] is True
    assert execs.told(api, exec_id)[-1] == "exec_detach"


def test_a_terminal_in_the_background(api: Api, container: str) -> None:
    """Nobody is there to read it, and it does not block; its size can still be set."""
    script = (
        "trap 'stty size >/size' WINCH; head -c 500000 /dev/zero; tty >/tty; while :; do sleep 0.05; done"
    )
    exec_id = execs.create(api, container, "sh", "-c", script, Tty=True)
    api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True, "Tty": True}).expect(200)
    steps.until(lambda: execs.run(api, container, "cat", "/tty")[1] == b"/dev/pts/0\n")
    api("POST", f"/exec/{exec_id}/resize", h=41, w=101).expect(200)
    steps.until(lambda: execs.run(api, container, "cat", "/size")[1] == b"41 101\n")


# --- in the background --------------------------------------------------------------------------------------


def test_in_the_background(api: Api, container: str) -> None:
    exec_id = execs.create(api, container, "sh", "-c", "sleep 0.2; exit 5")
    answer = api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True}).expect(200)
    assert answer.body == b""
    shown = execs.inspect(api, exec_id)
    assert (shown["Running"], shown["ExitCode"]) == (True, None)
    assert shown["Pid"] > 0
    steps.until(lambda: not execs.inspect(api, exec_id)["Running"])
    assert execs.inspect(api, exec_id)["ExitCode"] == 5
    assert execs.told(api, exec_id)[-1] == "exec_die 5"


def test_in_the_background_a_missing_command_is_an_error(api: Api, container: str) -> None:
    exec_id = execs.create(api, container, "nope")
    answer = api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True}).expect(400)
    assert answer.message == NOT_FOUND.format("nope")
    assert execs.inspect(api, exec_id)["ExitCode"] == 127
    assert execs.told(api, exec_id)[-1] == "exec_die 127"


# --- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "config", "code", "text"),
    [
        (["nope"], {}, 127, NOT_FOUND.format("nope")),
        (
            ["/no/such"], {}, 127,
            "OCI runtime exec failed: exec failed: unable to start container process: "
            'exec: "/no/such": stat /no/such: no such file or directory: unknown',
        ),
        (
            ["/etc"], {}, 126,
            "OCI runtime exec failed: exec failed: unable to start container process: "
            'exec: "/etc": permission denied: unknown',
        ),
        (
            ["pwd"], {"WorkingDir": "/nowhere"}, 127,
            "OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd "
            '("/nowhere") set in config.json failed: no such file or directory: unknown',
        ),
    ],
    ids=["not found", "no file", "directory", "place"],
)  # fmt: skip
@pytest.mark.parametrize("tty", [False, True])
def test_a_command_that_cannot_be_run(
    daemon: Daemon, api: Api, container: str, command: list[str], config: dict[str, Any], code: int,
    text: str, tty: bool,
) -> None:  # fmt: skip
    """What is wrong is told where the output would be, and by the exit code."""
    exec_id = execs.create(api, container, *command, Tty=tty, **config)
    with ExecStream(daemon.socket, exec_id, Tty=tty) as stream:
        data = stream.read()
    out, err = (data, b"") if tty else demultiplex(data)
    assert (out.decode(), err) == (f"{text}\r\n", b"")
    assert execs.inspect(api, exec_id)["ExitCode"] == code
    assert execs.told(api, exec_id)[-1] == f"exec_die {code}"


def test_a_file_that_is_no_program(api: Api, container: str) -> None:
    execs.run(api, container, "sh", "-c", "echo zz >/bad; chmod 755 /bad")
    code, out, err = execs.run(api, container, "/bad")
    assert (code, err) == (126, b"")
    assert b"exec /bad: exec format error" in out


def test_a_signals_death(api: Api, container: str) -> None:
    assert execs.run(api, container, "sh", "-c", "kill -9 $$")[0] == 137
    assert execs.run(api, container, "sh", "-c", "kill -TERM $$")[0] == 143


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "No exec command specified"),
        ({"Cmd": []}, "No exec command specified"),
        ({"Cmd": "true", "DetachKeys": "ctrl-nonsense"}, "Invalid escape keys (ctrl-nonsense) provided"),
        ({"Cmd": ["tr\0ue"]}, "invalid exec config: a string holds a NUL byte"),
    ],
)
def test_create_refuses(api: Api, container: str, body: object, message: str) -> None:
    answer = api("POST", f"/containers/{container}/exec", json_body=body).expect(400)
    assert answer.message == message


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"Cmd": 1}', b'{"Cmd": ["x"], "Tty": "y"}', b'{"Cmd": ["x"], "Env": [1]}',
        b'{"Cmd": ["x"], "ConsoleSize": [-1, 2]}', b'{"Cmd": ["x"], "ConsoleSize": [70000, 2]}',
    ],
)  # fmt: skip
def test_create_refuses_what_is_malformed(api: Api, container: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    api("POST", f"/containers/{container}/exec", body=body, headers=headers).expect(400)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"Detach": 1}', b'{"Tty": true, "ConsoleSize": [-1, 2]}']
)
def test_start_refuses_what_is_malformed(api: Api, container: str, body: bytes) -> None:
    exec_id = execs.create(api, container, "true")
    headers = {"Content-Type": "application/json"}
    api("POST", f"/exec/{exec_id}/start", body=body, headers=headers).expect(400)
    assert execs.inspect(api, exec_id)["Running"] is False
    with ExecStream(api.path, exec_id) as stream:
        stream.read()


def test_what_there_is_not(api: Api, container: str) -> None:
    body = {"Cmd": ["true"]}
    assert (
        api("POST", "/containers/none/exec", json_body=body).expect(404).message == "No such container: none"
    )
    unknown = "f" * 64
    for method, path in (("POST", "start"), ("POST", "resize"), ("GET", "json")):
        query = {"h": 1, "w": 1} if path == "resize" else {}
        sent = {"Detach": False} if path == "start" else None
        answer = api(method, f"/exec/{unknown}/{path}", json_body=sent, **query).expect(404)
        assert answer.message == f"No such exec instance: {unknown}"
    exec_id = execs.create(api, container, "true")
    api("DELETE", f"/containers/{container}", force=True).expect(204)
    api("GET", f"/exec/{exec_id}/json").expect(404)


def test_states_that_do_not_allow_it(api: Api, image: str, container: str) -> None:
    body = {"Cmd": ["true"]}
    created = steps.create(api, image, HostConfig=OFFLINE)
    answer = api("POST", f"/containers/{created}/exec", json_body=body).expect(409)
    assert answer.message == f"container {created} is not running"
    exec_id = execs.create(api, container, "true")
    api("POST", f"/containers/{container}/pause").expect(204)
    paused = f"container {container} is paused, unpause the container before exec"
    assert api("POST", f"/containers/{container}/exec", json_body=body).expect(409).message == paused
    assert api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True}).expect(409).message == paused
    api("POST", f"/containers/{container}/unpause").expect(204)
    api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True}).expect(200)
    steps.until(lambda: not execs.inspect(api, exec_id)["Running"])
    answer = api("POST", f"/exec/{exec_id}/start", json_body={"Detach": False}).expect(409)
    assert answer.message == f"exec command {exec_id} has already run"


def test_it_runs_once(daemon: Daemon, api: Api, container: str) -> None:
    exec_id = execs.create(api, container, "cat", AttachStdin=True)
    with ExecStream(daemon.socket, exec_id) as stream:
        answer = api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True}).expect(409)
        assert answer.message == f"exec command {exec_id} is already running"
        stream.half_close()
        stream.read()


@pytest.mark.parametrize("query", [{}, {"h": 1}, {"h": "x", "w": 1}, {"h": -1, "w": 1}, {"h": 1, "w": 70000}])
def test_resize_refuses(api: Api, container: str, query: dict[str, object]) -> None:
    exec_id = execs.create(api, container, "true")
    api("POST", f"/exec/{exec_id}/resize", **query).expect(400)


# --- beside its container -----------------------------------------------------------------------------------


def test_the_containers_end_ends_it(daemon: Daemon, api: Api, container: str) -> None:
    """Streams end, ends are told before ``die``, and nothing is left."""
    attached = execs.create(api, container, "sh", "-c", "echo ready; sleep 1000")
    background = execs.create(api, container, "sleep", "1000")
    api("POST", f"/exec/{background}/start", json_body={"Detach": True}).expect(200)
    with ExecStream(daemon.socket, attached) as stream:
        stream.read_until(b"ready")
        assert sorted(steps.inspect(api, container)["ExecIDs"]) == sorted([attached, background])
        api("POST", f"/containers/{container}/kill").expect(204)
        stream.read()
    steps.wait_exit(api, container)
    for exec_id in (attached, background):
        assert execs.told(api, exec_id)[-1] == "exec_die 137"
        assert (execs.inspect(api, exec_id)["Running"], execs.inspect(api, exec_id)["ExitCode"]) == (
            False,
            137,
        )
    assert steps.inspect(api, container)["ExecIDs"] is None
    assert daemon.settle(container) == []


def test_on_the_hosts_processes_the_containers_end_ends_it_as_well(
    daemon: Daemon, api: Api, image: str
) -> None:
    made = steps.start(api, image, HostConfig={**OFFLINE, "PidMode": "host"})
    exec_id = execs.create(api, made, "sleep", "1000")
    api("POST", f"/exec/{exec_id}/start", json_body={"Detach": True}).expect(200)
    api("POST", f"/containers/{made}/kill").expect(204)
    assert execs.inspect(api, exec_id)["ExitCode"] == 137
    assert daemon.settle(made) == []


def test_inspect_has_the_references_shape(api: Api, container: str) -> None:
    exec_id = execs.create(api, container, "sh", "-c", "true", User="0", DetachKeys="ctrl-a", Privileged=True)
    assert execs.inspect(api, exec_id) == {
        "ID": exec_id, "Running": False, "ExitCode": None, "OpenStdin": False, "OpenStderr": True,
        "OpenStdout": True, "CanRemove": False, "ContainerID": container, "DetachKeys": "ctrl-a", "Pid": 0,
        "ProcessConfig": {
            "tty": False, "entrypoint": "sh", "arguments": ["-c", "true"], "privileged": True, "user": "0",
        },
    }  # fmt: skip


# --- other runtimes -----------------------------------------------------------------------------------------


def test_by_another_runtime(daemon: Daemon, api: Api, image: str) -> None:
    made = steps.start(api, image, HostConfig={**OFFLINE, "Runtime": "runc"})
    assert execs.run(api, made, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    code, out, err = execs.run(api, made, "nope")
    assert (code, out.decode(), err) == (127, NOT_FOUND.format("nope") + "\r\n", b"")
    exec_id = execs.create(api, made, "sh", "-c", "stty size; read x; stty size", Tty=True, AttachStdin=True,
                           ConsoleSize=[30, 60])  # fmt: skip
    with ExecStream(daemon.socket, exec_id, Tty=True) as stream:
        stream.read_until(b"30 60\r\n")
        api("POST", f"/exec/{exec_id}/resize", h=31, w=61).expect(200)
        stream.send(b"\n")
        stream.read_until(b"31 61\r\n")
        stream.read()
    background = execs.create(api, made, "sh", "-c", "sleep 0.2; exit 6", Tty=True)
    api("POST", f"/exec/{background}/start", json_body={"Detach": True}).expect(200)
    steps.until(lambda: not execs.inspect(api, background)["Running"])
    assert execs.inspect(api, background)["ExitCode"] == 6


# --- other clients ------------------------------------------------------------------------------------------


def test_with_the_docker_cli(docker: DockerCli, container: str) -> None:
    done = docker(
        "exec", "-e", "A=1", "-w", "/tmp", container, "sh", "-c", "echo $A; pwd; echo err >&2; exit 9"
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, b"1\n/tmp\n", b"err\n")
    assert docker("exec", "-i", container, "cat", input=b"typed").stdout == b"typed"
    missing = docker("exec", container, "nope")
    assert missing.returncode == 127
    assert b"executable file not found in $PATH" in missing.stdout + missing.stderr
    assert docker("exec", "-d", container, "touch", "/made").returncode == 0
    steps.until(lambda: docker("exec", container, "test", "-e", "/made").returncode == 0)


def test_with_docker_py(docker_client: docker_py.DockerClient, container: str) -> None:
    made = docker_client.containers.get(container)
    assert made.exec_run("echo hi") == (0, b"hi\n")
    assert made.exec_run(["sh", "-c", "echo o; echo e >&2; exit 2"], demux=True) == (2, (b"o\n", b"e\n"))
    assert b"".join(made.exec_run("echo hi", stream=True).output) == b"hi\n"
    assert made.exec_run("tty", tty=True).output == b"/dev/pts/0\r\n"
    assert made.exec_run("nope").exit_code == 127
    assert made.exec_run("sleep 1000", detach=True).exit_code is None
    socket = made.exec_run("cat", stdin=True, socket=True).output
    socket._sock.sendall(b"typed\n")
    assert socket.read(14)[8:] == b"typed\n"
    socket.close()
