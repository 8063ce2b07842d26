"""Sync, blocking. Just enough of HTTP/1.1 for a daemon on a local socket: a request, its answer, no proxies.

The standard library's http.client does all this and more, but importing it (with email and ssl behind it)
takes as long as everything else a short command does together. It also keeps its socket to itself, which a
hijacked connection needs. Source: RFC 9112.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from proa.errors import HungUp, Lost

CHUNK_BYTES = 64 * 1024
UPLOAD_BYTES = 256 * 1024
MAX_LINE_BYTES = 64 * 1024
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_BODYLESS = (204, 304)


class Readable(Protocol):
    """A body to upload: a file opened in binary mode, or whatever reads like one."""

    def read(self, size: int, /) -> bytes: ...


class Head(NamedTuple):
    """Status line and headers of an answer; header names are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]


class Connection:
    """One connection. Send a request, read its head, then its body to the end; and again."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._early = b""

    def close(self) -> None:
        self.sock.close()

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | Readable | None) -> None:
        """Send a request; of a body that is read from something only the announcement (see `send_body`).

        Raises OSError, in particular when the other side answers and hangs up before it has read the body.
        """
        fields = {"Host": "localhost", **headers}
        if isinstance(body, bytes):
            fields["Content-Length"] = str(len(body))
        elif body is not None:
            fields["Transfer-Encoding"] = "chunked"
        elif method == "POST":
            fields["Content-Length"] = "0"
        lines = [f"{method} {url} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        self.sock.sendall(head + body if isinstance(body, bytes) else head)

    def send_body(self, body: Readable) -> None:
        """Send all that `body` has, in chunks. Raises OSError as `send` does, and what reading raises."""
        while piece := body.read(UPLOAD_BYTES):
            self.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.sock.sendall(b"0\r\n\r\n")

    def read_head(self) -> Head:
        """The next answer's head; interim ones (100) are skipped. Raises Lost."""
        while True:
            version, _, rest = self._line().partition(" ")
            code, _, reason = rest.partition(" ")
            if not version.startswith("HTTP/1.") or not code.isdigit():
                raise Lost(f"the other side does not speak HTTP: it said {version[:40]!r}")
            headers: dict[str, str] = {}
            while line := self._line():
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            if int(code) != 100:
                return Head(int(code), reason, headers)

    def body(self, head: Head, method: str) -> Iterator[bytes]:
        """The pieces of the body that belongs to `head`, as they arrive. Raises Lost when it is cut off."""
        if method == "HEAD" or head.status in _BODYLESS or head.status < 200:
            return iter(())
        if head.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked()
        length = head.headers.get("content-length")
        if length is None:
            return self._until_closed()
        if not length.isdigit():
            raise Lost(f"the other side announced a body of {length!r} bytes")
        return self._counted(int(length))

    def take_early(self) -> bytes:
        """What had been read beyond the last head or body: the first bytes of a hijacked stream."""
        early, self._early = self._early, b""
        return early

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(CHUNK_BYTES)
        except TimeoutError:
            raise Lost("the daemon did not answer in time") from None
        except OSError as error:
            raise HungUp(f"the connection to the daemon broke: {error.strerror or error}") from None

    def _line(self) -> str:
        while b"\n" not in self._early:
            more = self._receive()
            if not more:
                raise HungUp("the daemon closed the connection without an answer")
            if len(self._early) > MAX_LINE_BYTES:
                raise Lost("the other side does not speak HTTP: its lines have no end")
            self._early += more
        line, _, self._early = self._early.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def _counted(self, length: int) -> Iterator[bytes]:
        while length:
            piece = self._early or self._receive()
            if not piece:
                raise Lost("the daemon closed the connection in the middle of its answer")
            self._early = piece[length:]
            piece = piece[:length]
            length -= len(piece)
            yield piece

    def _chunked(self) -> Iterator[bytes]:
        while True:
            size = self._line().partition(";")[0]
            try:
                length = int(size, 16)
            except ValueError:
                raise Lost(
                    f"the daemon's answer is garbled: {size[:40]!r} is not the size of a chunk"
                ) from None
            if length == 0:
                while self._line():
                    pass  # trailers
                return
            yield from self._counted(length)
            self._line()

    def _until_closed(self) -> Iterator[bytes]:
        if self._early:
            yield self.take_early()
        while piece := self._receive():
            yield piece


def percent(text: str, safe: bytes = b"") -> str:
    """Percent-encode everything but letters, digits, `-._~` and what is in `safe` (RFC 3986)."""
    return "".join(
        chr(byte) if byte in _UNRESERVED or byte in safe else f"%{byte:02X}" for byte in text.encode()
    )
