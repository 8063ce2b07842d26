"""The client's side of the wire: HTTP, frames, errors; against a scripted other side, without a daemon."""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import proa
from proa.errors import APIError, BadHost, Forbidden, Lost, NotFound, NotSupported, Unreachable, api_error
from proa.hosts import Host, choose_host, parse_host
from proa.http1 import percent
from proa.streams import Demultiplexer
from proa.transport import Transport, explain_connect_failure

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nContent-Length: 0\r\n\r\n"


class Script:
    """Listens on a unix socket and gives each connection its turn of prepared answers."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "s"
        self.requests: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()

    def transport(self, *connections: list[bytes], version: str | None = "1.44") -> Transport:
        """A transport to it; `connections` are the answers on the first, the second … connection."""
        threading.Thread(target=self._serve, args=(connections,), daemon=True).start()
        return Transport(parse_host(f"unix://{self.path}"), 5.0, version)

    def _serve(self, connections: tuple[list[bytes], ...]) -> None:
        for answers in connections:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # the test is over without it
                return
            for answer in answers:
                self.requests.append(sock.recv(1 << 20))
                with suppress(OSError):  # a client that has given up is what some tests are about
                    sock.sendall(answer)
            sock.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    made = Script(tmp_path)
    yield made
    made.close()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


def test_the_version_is_agreed_upon_and_the_connection_kept(script: Script) -> None:
    transport = script.transport([PING, answer(b"[1]"), answer(b"")], version=None)
    assert transport.json("GET", "/x", {"all": True, "limit": None, "f": {"a": ["ä b"]}, "n": [1, 2]}) == [1]
    assert transport.json("POST", "/y") is None
    assert script.requests[0].startswith(b"HEAD /_ping HTTP/1.1\r\n")
    first = script.requests[1].split(b"\r\n")[0]
    assert first == b"GET /v1.44/x?all=1&f=%7B%22a%22%3A%20%5B%22%5Cu00e4%20b%22%5D%7D&n=1&n=2 HTTP/1.1"
    assert b"Content-Length: 0" in script.requests[2]


def test_a_newer_daemon_is_spoken_to_in_our_version(script: Script) -> None:
    transport = script.transport([PING.replace(b"1.44", b"1.99"), answer(b"{}")], version=None)
    assert transport.version() == (1, 51)


def test_a_daemon_too_old_is_refused(script: Script) -> None:
    transport = script.transport([PING.replace(b"1.44", b"1.12")], version=None)
    with pytest.raises(BadHost, match="too old"):
        transport.version()


@pytest.mark.parametrize(
    "body",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2;x=y\r\n2]\r\n0\r\nT: x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n[1,2]",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\n[1,2]",
    ],
)
def test_bodies_of_every_framing(script: Script, body: bytes) -> None:
    assert script.transport([body]).json("GET", "/x") == [1, 2]


def test_a_closed_connection_is_opened_anew(script: Script) -> None:
    transport = script.transport([answer(b"1")], [answer(b"2")])
    assert transport.json("GET", "/x") == 1
    assert transport.json("GET", "/x") == 2


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "garbled"),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
    ],
)
def test_broken_answers_are_lost(script: Script, broken: bytes, words: str) -> None:
    with pytest.raises(Lost, match=words):
        script.transport([broken]).json("GET", "/x")


@pytest.mark.parametrize(
    ("status", "kind"),
    [("404 Not Found", NotFound), ("501 Not Implemented", NotSupported), ("500 Oops", APIError)],
)
def test_errors_have_the_daemons_words(script: Script, status: str, kind: type[APIError]) -> None:
    with pytest.raises(kind, match=r"^no such thing$"):
        script.transport([answer(b'{"message": "no such thing"}', status)]).json("GET", "/x")


def test_errors_without_json_are_shown_as_they_are(script: Script) -> None:
    with pytest.raises(APIError, match=r"^plain words$"):
        script.transport([answer(b"plain words\n", "400 Bad")]).stream("GET", "/x")
    assert str(api_error(418, "x")) == "x"


def test_an_upload_answered_early_raises_the_answer(script: Script) -> None:
    transport = script.transport([answer(b'{"message": "disk full"}', "500 Oops")])
    with pytest.raises(APIError, match="disk full"):
        transport.stream("POST", "/load", None, io.BytesIO(bytes(64 << 20)))


def test_an_upload_goes_out_in_chunks(script: Script) -> None:
    with script.transport([answer(b"{}")]).stream(
        "POST", "/load", {"quiet": False}, io.BytesIO(b"abc")
    ) as stream:
        assert list(stream.objects()) == [{}]
    assert b"POST /v1.44/load?quiet=0" in script.requests[0]
    assert b"Transfer-Encoding: chunked" in script.requests[0]


def test_a_hijacked_connection_keeps_what_came_with_the_header(script: Script) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
    hijacked = script.transport([head + b"early"]).hijack("/attach", {"stream": True})
    with hijacked.sock:
        late = b""
        while piece := hijacked.sock.recv(100):
            late += piece
    assert hijacked.early + late == b"early"
    assert hijacked.media_type == "application/vnd.docker.raw-stream"
    assert b"Upgrade: tcp" in script.requests[0]


def frame(kind: int, payload: bytes) -> bytes:
    return bytes([kind, 0, 0, 0]) + len(payload).to_bytes(4) + payload


@pytest.mark.parametrize("size", [1, 3, 8, 9, 1000])
def test_frames_are_cut_whatever_the_chunks(size: int) -> None:
    wire = frame(1, b"hello") + frame(2, b"oops") + frame(1, b"") + frame(1, b"!")
    cutter = Demultiplexer()
    output = {"stdout": b"", "stderr": b""}
    for start in range(0, len(wire), size):
        for stream, piece in cutter.feed(wire[start : start + size]):
            output[stream] += piece
    assert output == {"stdout": b"hello!", "stderr": b"oops"}


def test_error_frames_and_garbage_are_lost() -> None:
    with pytest.raises(Lost, match="it broke"):
        list(Demultiplexer().feed(frame(3, b"it broke")))
    with pytest.raises(Lost, match="unrecognised frame"):
        list(Demultiplexer().feed(b"GET / HTTP/1.1"))


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("unix:///a/b.sock", Host("unix:///a/b.sock", socket_path="/a/b.sock")),
        ("/a/b.sock", Host("unix:///a/b.sock", socket_path="/a/b.sock")),
        ("tcp://1.2.3.4:99", Host("tcp://1.2.3.4:99", address="1.2.3.4", port=99)),
        ("tcp://[::1]:99", Host("tcp://[::1]:99", address="::1", port=99)),
        ("tcp://name", Host("tcp://name", address="name", port=2375)),
    ],
)
def test_hosts(text: str, host: Host) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("text", ["", "nope", "ssh://x", "unix://", "tcp://x:y", "tcp://x:70000"])
def test_hosts_that_are_none(text: str) -> None:
    with pytest.raises(BadHost):
        parse_host(text)


def test_the_host_is_taken_from_the_first_that_is_set() -> None:
    both = {"PROA_HOST": "unix:///p", "DOCKER_HOST": "unix:///d"}
    assert choose_host("unix:///g", both).socket_path == "/g"
    assert choose_host(None, both).socket_path == "/p"
    assert choose_host(None, {"PROA_HOST": "", "DOCKER_HOST": "unix:///d"}).socket_path == "/d"
    assert choose_host(None, {}).socket_path == "/run/proa/proa.sock"


def test_failures_to_connect_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="is proad running there") as caught:
        proa.connect(f"unix://{tmp_path}/none").system.ping()
    assert "\n" not in str(caught.value)
    forbidden = explain_connect_failure(
        parse_host(f"unix://{tmp_path}/none"), PermissionError(13, "Permission denied")
    )
    assert isinstance(forbidden, Forbidden)
    assert "join the socket's group" in str(forbidden)


def test_percent_encoding() -> None:
    assert percent("a b/ä~", b"/") == "a%20b/%C3%A4~"


class Pieces:
    """A body of pieces; what is no bytes is raised or called."""

    def __init__(self, *pieces: object) -> None:
        self._pieces = list(pieces)

    def read(self, size: int, /) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        if callable(piece):
            piece = piece()
        assert isinstance(piece, bytes)
        return piece


def test_an_answer_is_read_while_the_upload_goes_on(script: Script) -> None:
    heard = threading.Event()

    def last_piece() -> bytes:
        assert heard.wait(5), "the answer was not read before the upload was over"
        return b"end"

    transport = script.transport([answer(b'{"status": "go on"}\n')])
    with transport.stream("POST", "/load", None, Pieces(b"begin", last_piece)) as stream:
        assert list(stream.objects()) == [{"status": "go on"}]
        heard.set()


def test_an_upload_that_cannot_be_read_is_the_error(script: Script) -> None:
    silent = [b""] * 3
    transport = script.transport(silent, silent, silent)
    broken = OSError(5, "Input/output error")
    for body in (Pieces(broken), Pieces(b"begin", broken)):
        with pytest.raises(OSError, match="Input/output error"):
            transport.stream("POST", "/load", None, body)
    with pytest.raises(OSError, match="Input/output error"):
        transport.json("PUT", "/archive", None, Pieces(broken))
