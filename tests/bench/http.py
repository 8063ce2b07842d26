"""Sync, blocking. A raw-socket HTTP client that costs next to nothing, the same for every engine measured.

One request at a time over one kept-open connection. It knows what Engine API servers answer with: a length,
chunks, or a body that ends with the connection.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

RECEIVE_BYTES = 1 << 20
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Refused(Exception):
    """The engine answered with an error status; the text has the request, the status and the message."""


class Client:
    """Requests to one engine; ``path`` is its unix socket. Not to be shared between threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._buffer.clear()

    def call(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None) -> Any:
        """Send one request and return its decoded JSON answer, or the bytes where the answer is not JSON, or
        lines of it.

        Raises:
            Refused: a status of 400 and above.
        """
        status, headers = self._send(method, path, body, raw)
        answer = b"".join(self._body(method, status, headers))
        if headers.get("connection", "").lower() == "close":
            self.close()
        if status >= 400:
            raise Refused(f"{method} {path}: {status} {answer.decode(errors='replace').strip()}")
        kind = headers.get("content-type", "")
        is_one = kind.startswith("application/json") and answer.strip() and b"}\r\n{" not in answer
        return json.loads(answer) if is_one else answer

    def drain(self, path: str) -> int:
        """GET a chunked stream to its end and return how many bytes it took on the wire.

        Chunks are not taken apart: an engine that sends each line in a chunk of its own would else be
        measured by what that costs here. The end is told by the last chunk, which no log line looks like.
        """
        status, headers = self._send("GET", path, None, None)
        if status >= 400:
            raise Refused(f"GET {path}: {status}")
        if headers.get("transfer-encoding") != "chunked":
            return sum(len(piece) for piece in self._body("GET", status, headers))
        assert self._socket is not None
        total, tail, room = (
            len(self._buffer),
            bytes(self._buffer[-len(LAST_CHUNK) :]),
            bytearray(RECEIVE_BYTES),
        )
        self._buffer.clear()
        while not tail.endswith(LAST_CHUNK):
            size = self._socket.recv_into(room)
            if not size:
                raise ConnectionError(f"GET {path}: cut off after {total} bytes")
            total += size
            tail = (tail + room[max(0, size - len(LAST_CHUNK)) : size])[-len(LAST_CHUNK) :]
        return total

    def first_byte(self, path: str, body: Any) -> float:
        """POST a request that turns its connection into a stream; returns the time of the first byte of that.

        The connection is used up; the time is of ``time.perf_counter``.
        """
        with self._upgrading(path, json.dumps(body).encode()) as connection:
            received = b""
            while not received.partition(b"\r\n\r\n")[2]:
                data = connection.recv(RECEIVE_BYTES)
                if not data:
                    raise ConnectionError(f"POST {path}: no output: {received!r}")
                received += data
            at = time.perf_counter()
            if not received.startswith(b"HTTP/1.1 101"):
                raise Refused(f"POST {path}: {received.decode(errors='replace')}")
            while connection.recv(RECEIVE_BYTES):
                pass
        return at

    @contextmanager
    def hijacked(self, path: str) -> Iterator[socket.socket]:
        """POST a request that turns a connection of its own into a stream; yields that stream."""
        with self._upgrading(path, b"") as connection:
            received = b""
            while not received.endswith(b"\r\n\r\n"):
                byte = connection.recv(1)
                if not byte:
                    raise ConnectionError(f"POST {path}: closed: {received!r}")
                received += byte
            if not received.startswith(b"HTTP/1.1 101"):
                raise Refused(f"POST {path}: {received.decode(errors='replace')}")
            yield connection

    @contextmanager
    def _upgrading(self, path: str, payload: bytes) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(self.path)
            head = f"POST {path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            connection.sendall(head.encode() + payload)
            yield connection

    def _send(self, method: str, path: str, body: Any, raw: bytes | None) -> tuple[int, dict[str, str]]:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.connect(self.path)
        payload = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        kind = "application/x-tar" if raw is not None else "application/json"
        head = f"{method} {path} HTTP/1.1\r\nHost: engine\r\n"
        if payload or method == "POST":
            head += f"Content-Type: {kind}\r\nContent-Length: {len(payload)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + payload)
        return self._head()

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._receive()
        first, *lines = self._buffer[:end].decode().split("\r\n")
        del self._buffer[: end + 4]
        pairs = (line.partition(":") for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    def _body(self, method: str, status: int, headers: dict[str, str]) -> Iterator[bytes]:
        if method == "HEAD" or status in (204, 304):
            return
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self._line().split(b";")[0], 16):
                yield from self._exactly(size)
                self._line()
            self._line()
        elif "content-length" in headers:
            yield from self._exactly(int(headers["content-length"]))
        else:
            yield bytes(self._buffer)
            assert self._socket is not None
            while piece := self._socket.recv(RECEIVE_BYTES):
                yield piece
            self.close()

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            if not self._buffer:
                self._receive()
            piece = bytes(self._buffer[:size])
            del self._buffer[: len(piece)]
            size -= len(piece)
            yield piece

    def _receive(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            self.close()
            raise ConnectionError(f"{self.path}: the engine closed the connection in the middle of an answer")
        self._buffer += data


@contextmanager
def connected(path: str) -> Iterator[Client]:
    """Yield a client whose connection is open already, so that connecting is not measured."""
    with Client(path) as client:
        client.call("GET", "/_ping")
        yield client
