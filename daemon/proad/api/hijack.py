"""asyncio-flavoured. Taking a connection away from HTTP: ``101 UPGRADED`` and what follows.

aiohttp parses whatever arrives as HTTP and closes a connection that the client half-closes. A hijacked stream
is neither: so each connection begins with a :class:`Connection` in front of aiohttp's protocol. It passes
everything on, except that on a connection whose first request may hijack it, it lets the parser have that
request alone and keeps what follows. The handler then calls :func:`take_over`, and from there on a protocol
of ours has the transport::

    with take_over(request, stream, head) as early:     # stream: asyncio.Protocol
        stream.data_received(early)
        await stream.closed
    return Hijacked()

A handler that answers an error instead takes nothing over, and what was kept goes to the parser after all.

The body of a large upload is kept from the parser in the same way, and is left in the socket: whoever the
handler hands that to reads the body by itself (:func:`take_body`).
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

_MAY_HIJACK = re.compile(rb"POST (?:/v[0-9.]+)?/+(?:containers/[^/ ?]+/attach|exec/[^/ ?]+/start)[ ?]")
_HAS_LARGE_BODY = re.compile(rb"PUT (?:/v[0-9.]+)?/+containers/[^ ?]+/archive[ ?]")
_HAS_BODY = re.compile(rb"\r\n(?:content-length|transfer-encoding):", re.IGNORECASE)
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:\s*([0-9]{1,9})\s*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked\s*\r\n", re.IGNORECASE)
_MAX_FIRST_BYTES = 256 << 10
_MAX_EARLY_BYTES = 256 << 10


class Connection(asyncio.Protocol):
    """Stands before aiohttp's protocol on every accepted connection."""

    def __init__(self, http: asyncio.Protocol) -> None:
        self.http = http
        self._transport: asyncio.Transport | None = None
        self._first: bytearray | None = bytearray()
        """What has come of a request that is not complete yet. Looked at are the first one and those after
        requests without a body; None once there was another."""
        self._early: bytearray | None = None
        """What came after a request that may hijack; None while there is no such request."""
        self._is_body_kept = False
        """What came after it is its body."""
        self._early_eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._first is not None:
            self._receive_first(data)
        elif self._early is not None:
            self._early += data
            if len(self._early) > _MAX_EARLY_BYTES and self._transport is not None:
                self._transport.pause_reading()
        else:
            self.http.data_received(data)

    def _receive_first(self, data: bytes) -> None:
        assert self._first is not None
        first = self._first
        first += data
        self._is_body_kept = _HAS_LARGE_BODY.match(first) is not None
        if not self._is_body_kept and not _MAY_HIJACK.match(first):
            self._first = bytearray() if _is_whole_without_body(first) else None
            self.http.data_received(bytes(first))
            return
        end = _end_of_head(first) if self._is_body_kept else _end_of_request(first)
        if end is None and len(first) < _MAX_FIRST_BYTES:
            return
        self._first = None
        if end is None:  # nothing that is ever hijacked is so long
            self.http.data_received(bytes(first))
            return
        self._early = bytearray()
        if self._is_body_kept and self._transport is not None:
            self._transport.pause_reading()
        self.http.data_received(bytes(first[:end]))
        if len(first) > end:
            self.data_received(bytes(first[end:]))

    def eof_received(self) -> bool | None:
        if self._early is not None:
            self._early_eof = True
            return True
        return self.http.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self.http.connection_lost(error)

    def pause_writing(self) -> None:
        self.http.pause_writing()

    def resume_writing(self) -> None:
        self.http.resume_writing()

    def take_early(self) -> tuple[bytes, bool]:
        """What came after the request so far, and whether the client has ended its side."""
        early, self._early = bytes(self._early or b""), None
        return early, self._early_eof

    def take_body(self) -> bytes | None:
        """What has come of a body that the parser was not given, with reading stopped; None if it was."""
        return self.take_early()[0] if self._is_body_kept and self._early is not None else None

    def release(self) -> None:
        """The request was answered as HTTP: what came after it is HTTP too."""
        if self._early is None:
            return
        early, ended = self.take_early()
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.resume_reading()
        if early:
            self.http.data_received(early)
        if ended:
            self._transport.close()


def _end_of_head(data: bytearray) -> int | None:
    """Where the head that ``data`` begins with ends; None: it is not complete."""
    end = data.find(b"\r\n\r\n") + 4
    return end if end >= 4 else None


def _is_whole_without_body(data: bytearray) -> bool:
    """Whether ``data`` is one request, so that what comes next is another."""
    return _end_of_head(data) == len(data) and not _HAS_BODY.search(data)


def _end_of_request(data: bytearray) -> int | None:
    """Where the request that ``data`` begins with ends, its body included; None: it is not complete."""
    head = _end_of_head(data)
    if head is None:
        return None
    if _CHUNKED.search(data, 0, head):
        last = data.find(b"0\r\n\r\n", head)
        return last + 5 if last >= 0 else None
    length = _CONTENT_LENGTH.search(data, 0, head)
    end = head + (int(length[1]) if length else 0)
    return end if len(data) >= end else None


class Stream(asyncio.Protocol):
    """What a hijacked connection needs of its new protocol."""

    closed: asyncio.Future[None]
    """Done when the connection is lost."""


@contextmanager
def take_over(request: web.Request, stream: Stream, head: bytes) -> Iterator[None]:
    """Give the request's connection to ``stream``, answering with ``head``; on leaving, it is closed.

    What the client sent behind its request is fed to the stream first.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    connection = transport.get_protocol()
    assert isinstance(connection, Connection)
    early, ended = connection.take_early()
    transport.set_protocol(stream)
    stream.connection_made(transport)
    try:
        transport.write(head)
        transport.resume_reading()
        if early:
            stream.data_received(early)
        if ended:
            stream.eof_received()
        yield
    finally:
        # aiohttp counts its connections: it must hear of the end.
        if stream.closed.done():
            asyncio.get_running_loop().call_soon(connection.connection_lost, None)
        else:
            transport.set_protocol(connection)
            transport.close()


def take_body(request: web.Request) -> bytes | None:
    """Keep the request's body from aiohttp: returns what has come of it, the rest is left in the socket.

    The answer must be written whole and the connection closed before the handler returns. None if aiohttp has
    the body already, as it does if something unusual went before the request.
    """
    connection = request.transport.get_protocol() if request.transport is not None else None
    return connection.take_body() if isinstance(connection, Connection) else None


@contextmanager
def hijackable(request: web.Request) -> Iterator[None]:
    """Around a handler that may take its connection over: if it does not, the connection stays HTTP."""
    try:
        yield
    finally:
        transport = request.transport
        if transport is not None and isinstance(connection := transport.get_protocol(), Connection):
            asyncio.get_running_loop().call_soon(connection.release)


class Hijacked(web.StreamResponse):
    """The answer of a handler that has taken its connection over: aiohttp writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def front(make_http: Callable[[], asyncio.Protocol]) -> Callable[[], Connection]:
    """The protocol factory of a listening socket, before aiohttp's own."""
    return lambda: Connection(make_http())
