"""Requests that are none, and requests that end too early: an answer where there can be one, nothing left
behind, and a daemon that goes on."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.api import steps
from tests.support import execs
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.rawhttp import Api

DEEP = b'{"a":' * 5000
LIVE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]


@pytest.fixture
def running(api: Api, image: str) -> str:
    answer = api("POST", "/containers/create", json_body={"Image": image, "Cmd": LIVE}).expect(201)
    api("POST", f"/containers/{answer.json['Id']}/start").expect(204)
    return str(answer.json["Id"])


@contextmanager
def connected(daemon: Daemon) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(daemon.socket))
        yield connection


def asked(daemon: Daemon, request: bytes) -> tuple[int, bytes]:
    """Send bytes and nothing more; returns the status and all that is answered."""
    with connected(daemon) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, body


def post(path: str, body: bytes, *, length: int | None = None) -> bytes:
    head = f"POST /v1.51{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def descriptors(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def logged(daemon: Daemon, since: int) -> list[dict[str, object]]:
    return [json.loads(line) for line in daemon.log_path.read_bytes()[since:].splitlines()]


@pytest.mark.parametrize(
    "path",
    [
        "/containers/create",
        "/containers/{id}/exec",
        "/containers/{id}/update",
        "/commit?container={id}",
        "/volumes/create",
    ],
)
def test_json_that_is_too_deep(api: Api, running: str, path: str) -> None:
    route, _, query = path.partition("?")
    arguments = dict([query.format(id=running).split("=")]) if query else {}
    headers = {"Content-Type": "application/json"}
    answer = api("POST", route.format(id=running), body=DEEP, headers=headers, **arguments).expect(400)
    assert answer.message.startswith("invalid JSON")


def test_filters_that_are_too_deep(api: Api) -> None:
    assert api("GET", "/containers/json", filters=DEEP.decode()).expect(400).message


def test_a_line_feed_in_a_path(api: Api) -> None:
    assert api("GET", "/containers/a%0Ab/json").expect(404).message


def test_a_websocket_that_is_none(api: Api, running: str) -> None:
    assert api("GET", f"/containers/{running}/attach/ws", stream=True).status in (400, 404, 501)


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\0\x01\0\x01\xfc", b"GET /\xff x\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
)
def test_what_is_no_http_is_refused_and_fills_no_log(daemon: Daemon, junk: bytes) -> None:
    since = daemon.log_path.stat().st_size
    status, _ = asked(daemon, junk)
    assert status in (0, 400)
    assert [line for line in logged(daemon, since) if line["level"] == "error"] == []


# --- bodies that break off, clients that go -----------------------------------------------------------------

STREAMS = (
    "POST /images/load", "POST /images/create?fromSrc=-&repo=half",
        "PUT /containers/{id}/archive?path=/tmp",
)  # fmt: skip
BODIES = (
    "/containers/create",
    "/containers/{id}/exec",
    "/containers/{id}/update",
    "/exec/{exec}/start",
    "/commit",
)


@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one(
    daemon: Daemon, api: Api, running: str, path: str
) -> None:
    """What came is JSON by itself; it is not what was meant."""
    exec_id = execs.create(api, running, "true")
    before = len(api("GET", "/containers/json", all=True).json), len(api("GET", "/images/json").json)
    asked(daemon, post(path.format(id=running, exec=exec_id), b"{}", length=500))
    assert before == (
        len(api("GET", "/containers/json", all=True).json),
        len(api("GET", "/images/json").json),
    )
    assert execs.inspect(api, exec_id)["ExitCode"] is None


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_that_breaks_off_leaves_nothing(
    daemon: Daemon, api: Api, running: str, stream: str, chunked: bool
) -> None:
    """Half of an archive is no image; nothing of the request stays open in the daemon."""
    images = api("GET", "/images/json").json
    open_before = descriptors(daemon)
    since = daemon.log_path.stat().st_size
    half = busybox_tar()[: 700 << 10]
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(half) * 2}"
    method, _, path = stream.format(id=running).partition(" ")
    for _ in range(3):
        with connected(daemon) as connection:
            head = f"{method} /v1.51{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
            connection.sendall(f"{head}{framing}\r\n\r\n".encode())
            connection.sendall((f"{len(half):x}\r\n".encode() if chunked else b"") + half)
    # A copy keeps a helper at hand for the next one, which holds a few descriptors.
    steps.until(lambda: descriptors(daemon) <= open_before + 8)
    assert api("GET", "/images/json").json == images
    steps.until(lambda: not list((daemon.data_root / "tmp").iterdir()))
    assert [line for line in logged(daemon, since) if line["level"] == "error"] == []


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /containers/{id}/export", "GET /containers/{id}/archive?path=/",
            "GET /containers/{id}/stats?stream=1",
        "GET /containers/{id}/logs?follow=1&stdout=1", "GET /events", "POST /containers/{id}/wait",
        "POST /containers/{id}/attach?stream=1&stdout=1", "GET /containers/{id}/changes",
        "POST /commit?container={id}&repo=gone",
    ],
)  # fmt: skip
def test_clients_that_vanish_leave_no_descriptor(
    daemon: Daemon, api: Api, running: str, request_line: str
) -> None:
    """At once, before the head, and after it."""
    open_before = descriptors(daemon)
    since = daemon.log_path.stat().st_size
    request = f"{request_line.format(id=running)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for reads in (0, 1, 100, 0, 1, 100):
        with connected(daemon) as connection:
            connection.sendall(request)
            if reads:
                connection.recv(reads)
    steps.until(lambda: descriptors(daemon) <= open_before + 8)
    assert [line for line in logged(daemon, since) if line["level"] == "error"] == []
    assert api("GET", f"/containers/{running}/json").expect(200).json["State"]["Running"]
