"""Attach: hijacked connections and websockets, byte for byte."""

import asyncio
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.conftest import DockerCli
from tests.support.daemon import Daemon
from tests.support.hijack import Hijack, demultiplex, split_frames
from tests.support.rawhttp import Api

Create = Callable[..., str]
ALL = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}


@pytest.fixture
def create(api: Api, image: str) -> Create:
    """Create a container that runs a shell script without network; returns its id."""

    def make(script: str, host_config: dict[str, Any] | None = None, **config: Any) -> str:
        body = {
            "Image": image,
            "Cmd": ["sh", "-c", script],
            "HostConfig": {"NetworkMode": "none", **(host_config or {})},
            **config,
        }
        return str(api("POST", "/containers/create", json_body=body).expect(201).json["Id"])

    return make


def start(api: Api, container: str) -> None:
    api("POST", f"/containers/{container}/start").expect(204)


def wait(api: Api, container: str) -> int:
    return int(api("POST", f"/containers/{container}/wait").expect(200).json["StatusCode"])


def attach(daemon: Daemon, container: str, **options: Any) -> Hijack:
    return Hijack(daemon.socket, container, **{**ALL, **options})


def test_attached_before_the_start_nothing_is_missed(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("echo out; echo err >&2; printf last; exit 3")
    with attach(daemon, container) as stream:
        assert stream.head.split(b"\r\n")[0] == b"HTTP/1.1 101 UPGRADED"
        assert stream.header("Content-Type") == "application/vnd.docker.multiplexed-stream"
        assert stream.header("Connection") == "Upgrade"
        assert stream.header("Upgrade") == "tcp"
        start(api, container)
        assert demultiplex(stream.read()) == (b"out\nlast", b"err\n")
    assert wait(api, container) == 3


def test_without_upgrade_the_answer_is_plain(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("echo hi")
    with attach(daemon, container, upgrade=False) as stream:
        assert stream.status == 200
        assert stream.header("Content-Type") == "application/vnd.docker.raw-stream"
        start(api, container)
        assert demultiplex(stream.read()) == (b"hi\n", b"")


def test_older_versions_are_told_raw_for_frames(daemon: Daemon, create: Create) -> None:
    with attach(daemon, create("true"), version="v1.41") as stream:
        assert stream.header("Content-Type") == "application/vnd.docker.raw-stream"


def test_a_terminal_has_no_frames(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("echo hi; echo err >&2", Tty=True)
    with attach(daemon, container) as stream:
        assert stream.header("Content-Type") == "application/vnd.docker.raw-stream"
        start(api, container)
        assert stream.read() == b"hi\r\nerr\r\n"


@pytest.mark.parametrize(("streams", "wanted"), [(("stdout",), (b"o\n", b"")), (("stderr",), (b"", b"e\n"))])
def test_only_what_was_asked_for(
    daemon: Daemon, api: Api, create: Create, streams: tuple[str, ...], wanted: tuple[bytes, bytes]
) -> None:
    container = create("echo o; echo e >&2")
    with Hijack(daemon.socket, container, stream=1, **dict.fromkeys(streams, 1)) as stream:
        start(api, container)
        assert demultiplex(stream.read()) == wanted


def test_input_that_came_with_the_request(daemon: Daemon, api: Api, create: Create) -> None:
    """Sent in one go with the head, and our side ended at once: nothing of it is taken for HTTP."""
    container = create("cat", OpenStdin=True, StdinOnce=True)
    with attach(daemon, container, early=b"GET / HTTP/1.1\nx\n", half_close=True) as stream:
        start(api, container)
        assert demultiplex(stream.read()) == (b"GET / HTTP/1.1\nx\n", b"")
    assert wait(api, container) == 0


def test_half_close_ends_stdin_and_the_output_still_comes(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("cat; sleep 0.2; echo after", OpenStdin=True, StdinOnce=True)
    with attach(daemon, container) as stream:
        start(api, container)
        stream.send(b"typed")
        stream.half_close()
        assert demultiplex(stream.read()) == (b"typedafter\n", b"")
    # With StdinOnce the stream ends when the container's end is on record.
    assert api("GET", f"/containers/{container}/json").json["State"]["Status"] == "exited"


def test_much_input_arrives_exactly(daemon: Daemon, api: Api, create: Create) -> None:
    data = random.Random(1).randbytes(1 << 20) * 48
    container = create("sha256sum", OpenStdin=True, StdinOnce=True)
    with attach(daemon, container, timeout_s=90) as stream:
        start(api, container)
        stream.send(data)
        stream.half_close()
        out, _ = demultiplex(stream.read())
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_gigabyte_of_input_arrives_exactly(daemon: Daemon, api: Api, create: Create) -> None:
    block = random.Random(2).randbytes(1 << 20)
    digest = hashlib.sha256()
    container = create("sha256sum", OpenStdin=True, StdinOnce=True)
    with attach(daemon, container, timeout_s=300) as stream:
        start(api, container)
        for _ in range(1024):
            stream.send(block)
            digest.update(block)
        stream.half_close()
        out, _ = demultiplex(stream.read())
    assert out.split()[0].decode() == digest.hexdigest()


def test_without_stdin_once_half_close_detaches(daemon: Daemon, api: Api, create: Create) -> None:
    """As with Docker: the attachment ends, the container's stdin stays open for the next."""
    container = create("read a; read b; echo got $a $b", OpenStdin=True)
    start(api, container)
    with attach(daemon, container) as stream:
        stream.send(b"one\n")
        stream.half_close()
        assert stream.read() == b""
    with attach(daemon, container) as stream:
        stream.send(b"two\n")
        assert demultiplex(stream.read()) == (b"got one two\n", b"")


def test_a_watcher_that_leaves_does_not_end_stdin(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("cat", OpenStdin=True, StdinOnce=True)
    with attach(daemon, container) as typist:
        start(api, container)
        typist.send(b"1\n")
        with Hijack(daemon.socket, container, stream=1, stdout=1) as watcher:
            typist.read_until(b"1\n")
            typist.send(b"2\n")
            watcher.read_until(b"2\n")
        typist.send(b"3\n")
        typist.read_until(b"3\n")
        typist.half_close()
        typist.read()
    assert wait(api, container) == 0


def test_a_typist_that_vanishes_ends_stdin(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("cat >/dev/null; echo over", OpenStdin=True, StdinOnce=True)
    with attach(daemon, container) as stream:
        start(api, container)
        stream.send(b"x\n")
    assert wait(api, container) == 0
    assert demultiplex(api("GET", f"/containers/{container}/logs", stdout=1).body) == (b"over\n", b"")


@pytest.mark.parametrize(
    ("option", "keys"), [("", b"\x10\x11"), ("ctrl-a,d", b"\x01d"), ("x,ctrl-@", b"x\x00")]
)
def test_detach_keys(daemon: Daemon, api: Api, create: Create, option: str, keys: bytes) -> None:
    container = create("echo ready; read line; echo got=$line", OpenStdin=True, Tty=True)
    with attach(daemon, container, detachKeys=option) as stream:
        start(api, container)
        stream.read_until(b"ready")
        stream.send(b"a" + keys[:1])  # a half sequence, then something else: it is typed after all
        stream.send(b"b")
        stream.read_until(b"b")  # the terminal's echo: it has been typed, and what follows is read by itself
        stream.send(keys[:1])
        stream.send(keys[1:])
        stream.read()
    assert api("GET", f"/containers/{container}/json").json["State"]["Running"]
    with attach(daemon, container) as stream:
        stream.send(b"\n")
        assert b"got=a" in stream.read()
    since = api("GET", f"/containers/{container}/json").json["Created"]
    events = api("GET", "/events", since=since, until=str(time.time()), filters={"container": [container]})
    actions = [json.loads(line)["Action"] for line in events.body.splitlines()]
    assert actions.count("attach") == 2
    assert actions.count("detach") == 1


def test_refusals(daemon: Daemon, api: Api, create: Create) -> None:
    def refused(container: str, **query: object) -> tuple[int, str]:
        with Hijack(daemon.socket, container, **{**ALL, **query}) as stream:
            length = int(stream.header("Content-Length"))
            body = stream.rest
            while len(body) < length:
                body += stream.socket.recv(65536)
            return stream.status, json.loads(body)["message"]

    assert refused("nosuch") == (404, "No such container: nosuch")
    container = create("sleep 60")
    assert refused(container, detachKeys="nokey") == (400, "Invalid detach keys (nokey) provided")
    start(api, container)
    api("POST", f"/containers/{container}/pause").expect(204)
    status, message = refused(container)
    assert status == 409
    assert "is paused, unpause the container before attach" in message
    api("POST", f"/containers/{container}/unpause").expect(204)


def test_a_refused_attach_leaves_the_connection_to_http(daemon: Daemon) -> None:
    head = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with Hijack(daemon.socket, "nosuch", early=head, **ALL) as stream:
        assert stream.status == 404
        assert b"HTTP/1.1 200 OK" in stream.read()


def test_a_failed_start_lets_the_attached_go(daemon: Daemon, api: Api, image: str) -> None:
    body = {"Image": image, "Cmd": ["nosuch"], "HostConfig": {"NetworkMode": "none"}}
    container = api("POST", "/containers/create", json_body=body).expect(201).json["Id"]
    with attach(daemon, container) as stream:
        api("POST", f"/containers/{container}/start").expect(400)
        assert stream.read() == b""


def test_a_removed_container_lets_the_attached_go(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("true")
    with attach(daemon, container) as stream:
        api("DELETE", f"/containers/{container}").expect(204)
        assert stream.read() == b""


@pytest.mark.alone
def test_a_client_that_never_reads_holds_up_nobody(daemon: Daemon, api: Api, create: Create) -> None:
    size = 24 << 20
    container = create(f"head -c {size} /dev/zero; printf end")
    with attach(daemon, container, timeout_s=60) as lazy, attach(daemon, container, timeout_s=60) as eager:
        start(api, container)
        out, _ = demultiplex(eager.read())
        assert len(out) == size + 3
        assert out.endswith(b"\0end")
        began = time.monotonic()
        api("GET", "/_ping", version="").expect(200)
        assert time.monotonic() - began < 2
        assert wait(api, container) == 0
        late, _ = demultiplex(lazy.read())  # all of it waited, though the container is long gone
        assert late == out


def test_a_client_that_vanishes_in_the_middle_of_output(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("head -c 8000000 /dev/zero; echo end")
    with attach(daemon, container) as stream:
        start(api, container)
        stream.socket.recv(1000)
    assert wait(api, container) == 0


def test_log_and_stream_meet_without_a_seam(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; printf end")
    start(api, container)
    with attach(daemon, container, logs=1) as stream:
        out, _ = demultiplex(stream.read())
    assert out == b"".join(b"%d\n" % number for number in range(3000)) + b"end"
    with Hijack(daemon.socket, container, logs=1, stdout=1) as stream:
        assert demultiplex(stream.read())[0] == out


def test_log_and_stream_wait_for_a_start(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("read x; echo got $x", OpenStdin=True)
    with attach(daemon, container, logs=1) as stream:
        start(api, container)
        stream.send(b"it\n")
        assert demultiplex(stream.read()) == (b"got it\n", b"")


def test_a_log_that_cannot_be_read_is_told_in_the_stream(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("sleep 60", {"LogConfig": {"Type": "none"}})
    start(api, container)
    with attach(daemon, container, logs=1) as stream:
        told = stream.read_until(b"\n")
        api("POST", f"/containers/{container}/kill").expect(204)
        out, _ = demultiplex(told + stream.read())
    assert out == b"Error attaching: configured logging driver does not support reading\n"


def test_many_at_once_see_the_same(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("for i in $(seq 2000); do echo line $i; done")
    streams = [attach(daemon, container) for _ in range(20)]
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda s=s: results.append(s.read())) for s in streams]
    start(api, container)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    wanted = b"".join(b"line %d\n" % number for number in range(1, 2001))
    assert len(results) == 20
    assert {demultiplex(result)[0] for result in results} == {wanted}
    for stream in streams:
        stream.close()


def test_the_daemon_may_be_killed_and_attached_to_again(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("while read x; do echo got $x; done", OpenStdin=True)
    start(api, container)
    with attach(daemon, container) as stream:
        stream.send(b"1\n")
        stream.read_until(b"got 1\n")
        daemon.kill()
        assert stream.read() == b""
    daemon.start()
    with attach(daemon, container) as stream:
        stream.send(b"2\n")
        assert split_frames(stream.read_until(b"got 2\n")) == [(1, b"got 2\n")]


def test_resize(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("read x; stty size", OpenStdin=True, Tty=True)
    with attach(daemon, container) as stream:
        start(api, container)
        api("POST", f"/containers/{container}/resize", h=33, w=77).expect(200)
        stream.send(b"\n")
        assert b"33 77" in stream.read()
    api("POST", f"/containers/{container}/resize", h=1, w=1).expect(409)


def test_websocket(daemon: Daemon, api: Api, create: Create) -> None:
    container = create("read x; echo got $x; echo err >&2", OpenStdin=True)
    start(api, container)

    async def talk(version: str, **query: int) -> list[tuple[aiohttp.WSMsgType, Any]]:
        connector = aiohttp.UnixConnector(str(daemon.socket))
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"http://x/{version}/containers/{container}/attach/ws"
            async with session.ws_connect(url, params=query) as socket:
                await socket.send_bytes(b"it\n")
                return [(message.type, message.data) async for message in socket]

    messages = asyncio.run(talk("v1.51", stream=1, stdin=1, stdout=1))
    assert {kind for kind, _ in messages} == {aiohttp.WSMsgType.BINARY}
    assert b"".join(data for _, data in messages) == b"got it\n"


def test_the_docker_cli(docker: DockerCli, image: str) -> None:
    done = docker(
        "run", "--rm", "-i", image, "sh", "-c", "cat; echo err >&2; printf end; exit 4", input=b"x\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, b"x\nend", b"err\n")
    big = bytes(range(256)) * 20000
    done = docker("run", "--rm", "-i", "--log-driver", "none", image, "cat", input=big)
    assert done.stdout == big
    done = docker("run", "--rm", image, "nosuch")
    assert done.returncode == 127
