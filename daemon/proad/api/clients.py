"""asyncio-flavoured. The two kinds of clients of attach: a hijacked connection and a websocket."""

import asyncio
import select
from typing import Protocol

from aiohttp import WSMsgType, web

from proad.api.hijack import Stream

MAX_UNSENT_BYTES = 1 << 20
LINGER_S = 1.0


class Attached(Protocol):
    """What a client is attached to: a container's streams (``attachments.Attachment``), or an exec's."""

    def type(self, data: bytes) -> None:
        """The client has sent input."""

    def end_input(self) -> None:
        """The client has ended its side."""

    def set_writable(self, writable: bool) -> None:
        """The connection takes more, or does not for the moment."""

    def lost(self) -> None:
        """The connection is gone."""


class Client(Stream):
    """A connection that one attachment uses (``attachments.Outlet``)."""

    attachment: Attached
    ended: asyncio.Future[None]
    """Done when the last byte has been handed to the connection, or it is lost."""
    writable: asyncio.Event

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def set_reading(self, reading: bool) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError


class HijackedClient(Client):
    """A client whose connection is no longer HTTP."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.closed = loop.create_future()
        self.ended = loop.create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self._transport: asyncio.Transport | None = None
        self._finishing = False
        self._client_has_ended = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        self.attachment.type(data)

    def eof_received(self) -> bool:
        assert self._transport is not None
        self._client_has_ended = True
        if _has_hung_up(self._transport):
            self._transport.abort()
        else:
            self.attachment.end_input()
        return True  # the client still reads

    def connection_lost(self, error: Exception | None) -> None:
        _settle(self.closed)
        _settle(self.ended)
        self.writable.set()
        self.attachment.lost()

    def pause_writing(self) -> None:
        self.writable.clear()
        self.attachment.set_writable(False)

    def resume_writing(self) -> None:
        self.writable.set()
        self.attachment.set_writable(True)

    # Outlet

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def set_reading(self, reading: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def finish(self) -> None:
        if not self._finishing:
            self._finishing = True
            asyncio.get_running_loop().create_task(self._finish())

    async def _finish(self) -> None:
        """End our side; a client that has read its last byte then ends its own, and none is cut short.

        One that has ended its own before can tell us no more.
        """
        if self._transport is not None and not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self.set_reading(True)
            await self.writable.wait()
            if not self._client_has_ended:
                await asyncio.wait([self.closed], timeout=LINGER_S)
        _settle(self.ended)


class WebSocketClient(Client):
    """A client that speaks websocket: one message for each piece of output or input."""

    def __init__(self, socket: web.WebSocketResponse, *, binary: bool) -> None:
        loop = asyncio.get_running_loop()
        self.closed = loop.create_future()
        self.ended = loop.create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self._socket = socket
        self._binary = binary
        self._unsent: list[bytes] = []
        self._news = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._finishing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send and to receive; the handshake is done."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._send()), loop.create_task(self._receive())]

    async def close(self) -> None:
        await self._socket.close()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def write(self, data: bytes) -> None:
        self._unsent.append(data)
        self._news.set()
        self.writable.clear()
        self.attachment.set_writable(False)

    def set_reading(self, reading: bool) -> None:
        if reading:
            self._may_read.set()
        else:
            self._may_read.clear()

    def finish(self) -> None:
        self._finishing = True
        self._news.set()

    async def _send(self) -> None:
        try:
            while self._unsent or not self._finishing:
                await self._news.wait()
                self._news.clear()
                while self._unsent:
                    data = self._unsent.pop(0)
                    if self._binary:
                        await self._socket.send_bytes(data)
                    else:
                        await self._socket.send_str(data.decode(errors="replace"))
                self.writable.set()
                self.attachment.set_writable(True)
        except ConnectionError:
            self.attachment.lost()
        finally:
            _settle(self.ended)

    async def _receive(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.BINARY:
                self.attachment.type(message.data)
            elif message.type is WSMsgType.TEXT:
                self.attachment.type(message.data.encode())
            await self._may_read.wait()
        self.attachment.end_input()
        self.attachment.lost()
        _settle(self.ended)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _has_hung_up(transport: asyncio.Transport) -> bool:
    """Whether the client has closed its connection altogether, and not only its sending side."""
    socket = transport.get_extra_info("socket")
    poll = select.poll()
    poll.register(socket.fileno(), 0)  # POLLHUP is always told
    return any(event & select.POLLHUP for _, event in poll.poll(0))
