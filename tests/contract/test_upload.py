"""The body of a request, read off a socket: however it is cut, and however it is broken."""

import io
import socket
import threading
from collections.abc import Iterator

import pytest

from proad.host.decompress import BUFFER_BYTES
from proad.host.httpupload import BrokenOff, Upload


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    yield theirs, ours
    theirs.close()


def chunked(content: bytes, size: int, trailer: bytes = b"") -> bytes:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return (
        b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
    )


def upload(ours: socket.socket, early: bytes = b"", length: int | None = None) -> Upload:
    return Upload(ours.detach(), early, length=length)


@pytest.mark.parametrize("size", [1, 7, 1000, 70_000])
@pytest.mark.parametrize("early", [0, 1, 3, 500])
def test_chunks(pair: tuple[socket.socket, socket.socket], size: int, early: int) -> None:
    theirs, ours = pair
    content = bytes(range(256)) * 300
    body = chunked(content, size, b"Some: trailer\r\n")
    body, rest = body[:early], body[early:]

    def send() -> None:
        for start in range(0, len(rest), 5000):
            theirs.sendall(rest[start : start + 5000])

    sender = threading.Thread(target=send)
    sender.start()
    reading = upload(ours, body)
    assert reading.head() == content[:8][: max(size, 0)] or size == 1
    got = b""
    while piece := reading.read(10_000):
        got += piece
    sender.join()
    assert got == content
    assert reading.read(10) == b""


def test_a_length(pair: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = pair
    theirs.sendall(b"lo and what is not of it")
    reading = upload(ours, b"hel", length=5)
    assert reading.head() == b"hello"
    assert reading.read(100) == b"hello"
    assert reading.read(100) == b""


def test_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    reading = upload(pair[1], length=0)
    assert reading.head() == b""
    assert reading.read(100) == b""


def test_buffered(pair: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = pair
    theirs.sendall(chunked(b"x" * 50_000, 999))
    raw = io.BufferedReader(upload(ours), BUFFER_BYTES)
    assert raw.peek(8)[:8] == b"x" * 8
    assert raw.read() == b"x" * 50_000


@pytest.mark.parametrize(
    "body",
    [b"", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"zz\r\n",
     b"0x5\r\nhello\r\n", b"5\r\nhelloXX\r\n0\r\n\r\n", b"\r\n\r\n", b"1" * 20_000,
     b"ffffffffffffffffffff\r\n"],
)  # fmt: skip
def test_broken_bodies(pair: tuple[socket.socket, socket.socket], body: bytes) -> None:
    theirs, ours = pair
    theirs.sendall(body)
    theirs.shutdown(socket.SHUT_WR)
    reading = upload(ours)
    with pytest.raises(BrokenOff):
        list(iter(lambda: reading.read(100), b""))


def test_draining_ends_with_a_client_that_says_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = pair
    theirs.sendall(b"5\r\nhello\r\nffff\r\nand no")
    reading = upload(ours)
    assert reading.read(5) == b"hello"
    reading.drain()
    assert theirs.fileno() >= 0
