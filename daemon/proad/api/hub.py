"""asyncio-flavoured. Hands events out to subscribers: one wake-up, one encoding, one write each.

A subscriber is a cursor on the journal and a connection. While it keeps up it is *live*: when there is news,
the hub takes what its cursor has and writes it straight to the connection, without waking a task. One whose
connection does not take more is not live until its own task has drained it; it lags at the cost of one socket
buffer and one batch, and nobody waits for it. Under load, the news of a few milliseconds go out together.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import web

COALESCE_S = 0.01
"""News that follow earlier ones sooner than this wait for company; after a pause they go out at once."""
MAX_BUFFERED_BYTES = 64 << 10
"""A connection with more than this unsent is left alone until it has drained."""
CATCH_UP_BATCH = 500


class NumberedLine(Protocol):
    """An event as the hub needs it: its number, and its JSON with a line feed."""

    @property
    def seq(self) -> int: ...
    @property
    def line(self) -> bytes: ...


class EventCursor(Protocol):
    """What the engine's cursors do; see ``store.journal.Cursor``."""

    @property
    def exhausted(self) -> bool: ...
    def take(self, limit: int = ...) -> Sequence[NumberedLine]: ...
    def on_news(self, callback: Callable[[], None] | None) -> None: ...
    def close(self) -> None: ...


Frame = Callable[[NumberedLine], bytes]


class Hub:
    """All live subscribers of one daemon. Made on the loop that it serves."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._live: set[Subscriber] = set()
        self._scheduled: asyncio.Handle | None = None
        self._last_flush_s = 0.0

    def news(self) -> None:
        """Called by the journal, synchronously: have the news handed out soon."""
        if self._scheduled is None and self._live:
            wait_s = self._last_flush_s + COALESCE_S - self._loop.time()
            if wait_s > 0:
                self._scheduled = self._loop.call_later(wait_s, self.flush)
            else:
                self._scheduled = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the news to every live subscriber that can take them; wake the tasks of those that cannot."""
        self._scheduled = None
        self._last_flush_s = self._loop.time()
        encoded: dict[tuple[object, ...], bytes] = {}
        for subscriber in tuple(self._live):
            if not subscriber.push(encoded):
                self._live.discard(subscriber)
                subscriber.wake.set()

    def join(self, subscriber: "Subscriber") -> None:
        self._live.add(subscriber)

    def leave(self, subscriber: "Subscriber") -> None:
        self._live.discard(subscriber)


class Subscriber:
    """One connection that reads events.

    ``frame`` makes an event's bytes; ``kind`` names the frame and the filters: subscribers of one kind that
    are equally far get the same bytes, made once.
    """

    def __init__(
        self,
        request: web.Request,
        cursor: EventCursor,
        frame: Frame,
        kind: tuple[object, ...],
        *,
        chunked: bool,
    ) -> None:
        self._request = request
        self._cursor = cursor
        self._frame = frame
        self._kind = kind
        self._chunked = chunked
        self.wake = asyncio.Event()
        self._is_expired = False

    def push(self, encoded: dict[tuple[object, ...], bytes]) -> bool:
        """Write one batch of news, if there are any; False if the subscriber's own task must go on."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > MAX_BUFFERED_BYTES:
            return False
        events = self._cursor.take(CATCH_UP_BATCH)
        if events:
            key = (*self._kind, events[0].seq, events[-1].seq, len(events))
            data = encoded.get(key)
            if data is None:
                data = encoded[key] = self._encode(events)
            transport.write(data)
        return len(events) < CATCH_UP_BATCH and not self._cursor.exhausted

    async def serve(self, hub: Hub) -> None:
        """Send what there is, then live on, until the cursor is exhausted.

        Raises:
            ConnectionError: the client is gone.
        """
        self._cursor.on_news(hub.news)
        try:
            while not self._cursor.exhausted:
                self.wake.clear()  # first of all, so that no wake-up from here on is lost
                if self.push({}) and not self._is_expired:
                    hub.join(self)
                    await self.wake.wait()
                    hub.leave(self)
                if self._request.transport is None:
                    raise ConnectionResetError("the subscriber is gone")
                await self._request.writer.drain()
                await asyncio.sleep(0)
        finally:
            hub.leave(self)
            self._cursor.close()

    def expire(self) -> None:
        """``until`` has come: let the task see that nothing more will."""
        self._is_expired = True
        self.wake.set()

    def _encode(self, events: Sequence[NumberedLine]) -> bytes:
        data = b"".join(map(self._frame, events))
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
