"""asyncio-flavoured. Routes that stream: attach (hijacked and by websocket) and logs."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import web

from proad.api import params
from proad.api.attachhub import Hub
from proad.api.attachments import Attachment, Wanted
from proad.api.clients import Client, HijackedClient, WebSocketClient
from proad.api.hijack import Hijacked, hijackable, take_over
from proad.api.logtail import read_log
from proad.api.server import VERSION, lingering, roles_of
from proad.engine.streams import Streams, log_attributes
from proad.model import errors
from proad.model.container import Container
from proad.model.loglines import Shape
from proad.model.stdstreams import STDOUT, frame, parse_detach_keys

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
MULTIPLEXED_SINCE = (1, 42)
"""Older clients are told ``raw-stream`` for frames too."""
BINARY_WEBSOCKET_SINCE = (1, 28)
WEBSOCKET_CHOICE_SINCE = (1, 42)
"""Older clients get all three streams by websocket, whatever they ask for."""


def routes() -> list[web.RouteDef]:
    return [
        web.post("/containers/{name:.+}/attach", post_attach),
        web.get("/containers/{name:.+}/attach/ws", get_attach_websocket),
        web.get("/containers/{name:.+}/logs", get_logs),
    ]


# --- attach -------------------------------------------------------------------------------------------------


async def post_attach(request: web.Request) -> web.StreamResponse:
    """Attach: the connection becomes the container's streams, both ways."""
    streams = roles_of(request).streams
    with hijackable(request):
        container = streams.find_attachable(request.match_info["name"])
        session = _session(request, streams, container, multiplexed=not container.config.tty)
        client = HijackedClient()
        async with lingering(request):
            # Joined before the answer: once a client has it, a start that it asks for is missed by nothing.
            session.join(client)
            try:
                with take_over(request, client, _attach_head(request, session.wanted)):
                    await session.run(client)
            finally:
                session.attachment.lost()
    return Hijacked()


def _attach_head(request: web.Request, wanted: Wanted) -> bytes:
    if "Upgrade" not in request.headers:
        return f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n".encode()
    content_type = MULTIPLEXED if wanted.multiplexed and request[VERSION] >= MULTIPLEXED_SINCE else RAW
    return (
        f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    ).encode()


async def get_attach_websocket(request: web.Request) -> web.StreamResponse:
    """Attach by websocket; the streams are never in frames of their own."""
    streams = roles_of(request).streams
    container = streams.find_attachable(request.match_info["name"])
    session = _session(request, streams, container, multiplexed=False, websocket=True)
    socket = web.WebSocketResponse(compress=False)
    client = WebSocketClient(socket, binary=request[VERSION] >= BINARY_WEBSOCKET_SINCE)
    async with lingering(request):
        session.join(client)
        try:
            await socket.prepare(request)
            client.start()
            await session.run(client)
            await client.close()
        finally:
            session.attachment.lost()
            client.stop()
    return socket


def _session(
    request: web.Request,
    streams: Streams,
    container: Container,
    *,
    multiplexed: bool,
    websocket: bool = False,
) -> "Session":
    """What the query asks for.

    Raises:
        errors.InvalidParameter: a flag or a detach key is none.
    """
    query = request.query
    keys = parse_detach_keys(query.get("detachKeys", ""))
    everything = websocket and request[VERSION] < WEBSOCKET_CHOICE_SINCE
    wanted = Wanted(
        stdin=everything or params.boolean(query, "stdin"),
        stdout=everything or params.boolean(query, "stdout"),
        stderr=everything or params.boolean(query, "stderr"),
        multiplexed=multiplexed,
        detach_keys=keys if container.config.tty else None,
    )
    return Session(
        streams, container, wanted, logs=params.boolean(query, "logs"), stream=params.boolean(query, "stream")
    )


class Session:
    """One attached client from its request to its end.

    ``stream=1`` alone is fed by the hub. With ``logs=1`` all output comes from the log, the past and what is
    added to it, so nothing is missing or doubled where the two meet; the hub is then only typed into, and
    says when the run is over.
    """

    def __init__(
        self, streams: Streams, container: Container, wanted: Wanted, *, logs: bool, stream: bool
    ) -> None:
        self.wanted = wanted
        self._streams = streams
        self._container = container
        self._logs = logs
        self._stream = stream
        self._over = asyncio.Event()

    def join(self, client: Client) -> None:
        """Connect the client to the container's streams, and tell it by an event."""
        config = self._container.config
        self.attachment = (
            _FromLog(self.wanted, client, self._streams, self._over)
            if self._logs
            else Attachment(self.wanted, client, self._streams.spool_directory)
        )
        client.attachment = self.attachment
        self._streams.tell(self._container, "attach")
        takes_input = self.wanted.stdin and config.open_stdin
        if self._stream and (takes_input or self.wanted.stdout or self.wanted.stderr):
            self.attachment.join(self._streams.live(self._container, self._make_hub))
        else:
            self._over.set()

    def _make_hub(self) -> Hub:
        container, streams = self._container, self._streams
        return Hub(
            takes_input=container.config.open_stdin,
            stdin_once=container.config.stdin_once and not container.config.tty,
            surroundings=_Surroundings(streams, container.id),
            on_idle=lambda hub: streams.forget(container.id, hub),
        )

    async def run(self, client: Client) -> None:
        """Return when the client has gone, or has been sent everything."""
        if self._logs:
            await self._send_log(client)
        if self._over.is_set():
            self.attachment.end()
        await client.ended
        if self.attachment.detached:
            self._streams.tell(self._container, "detach")

    async def _send_log(self, client: Client) -> None:
        try:
            container = self._streams.find_logged(self._container.id)
        except errors.ProaError as error:
            text = f"Error attaching: {error.message}\n".encode()
            self.attachment.send(frame(STDOUT, text) if self.wanted.multiplexed else text)
            self._over.set()
            return
        shape = Shape(
            stdout=self.wanted.stdout, stderr=self.wanted.stderr, multiplexed=self.wanted.multiplexed
        )
        log = self._streams.open_log(container, shape, tail=None, follow=not self._over.is_set())
        async with aclosing(read_log(log, None, self._over)) as blocks:
            async for block in blocks:
                if client.ended.done():
                    return
                self.attachment.send(block)
                await client.writable.wait()


@dataclass(frozen=True)
class _Surroundings:
    """What a container's hub must know of it. (``attachhub.Surroundings``)"""

    streams: Streams
    container_id: str

    def others_read(self) -> bool:
        return self.streams.is_followed(self.container_id)

    def has_ended(self) -> bool:
        return self.streams.is_ending(self.container_id)


class _FromLog(Attachment):
    """An attachment whose output is read from the log: the hub's is not wanted, its end is."""

    def __init__(self, wanted: Wanted, client: Client, streams: Streams, over: asyncio.Event) -> None:
        super().__init__(wanted, client, streams.spool_directory)
        self._over = over

    def deliver(self, stream: int, data: bytes) -> None:
        return

    def end(self) -> None:
        if self._over.is_set() or self.detached:
            super().end()
        self._over.set()

    def lost(self) -> None:
        self._over.set()
        super().lost()


# --- logs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogQuery:
    """A request for logs. ``tail`` None is all."""

    shape: Shape
    tail: int | None
    follow: bool


async def get_logs(request: web.Request) -> web.StreamResponse:
    """The log, as it is or followed until the container stops."""
    streams = roles_of(request).streams
    stdout, stderr = (params.boolean(request.query, name) for name in ("stdout", "stderr"))
    if not (stdout or stderr):
        raise errors.InvalidParameter("Bad parameters: you must choose at least one stream")
    container = streams.find_logged(request.match_info["name"])
    wanted = _log_query(request, container, stdout=stdout, stderr=stderr)
    multiplexed = wanted.shape.multiplexed and request[VERSION] >= MULTIPLEXED_SINCE
    response = web.StreamResponse(headers={"Content-Type": MULTIPLEXED if multiplexed else RAW})
    over = asyncio.Event() if wanted.follow and streams.is_on(container.id) else None
    log = streams.open_log(container, wanted.shape, tail=wanted.tail, follow=over is not None)
    stop_watching = streams.when_over(container.id, over.set) if over is not None else None
    try:
        async with lingering(request), aclosing(read_log(log, wanted.shape.until_ns, over)) as blocks:
            await response.prepare(request)
            async for block in blocks:
                await response.write(block)
        await response.write_eof()
    finally:
        log.close()
        if stop_watching is not None:
            stop_watching()
    return response


def _log_query(request: web.Request, container: Container, *, stdout: bool, stderr: bool) -> LogQuery:
    query = request.query
    now_ns = time.time_ns()
    details = log_attributes(container) if params.boolean(query, "details") else None
    shape = Shape(
        stdout=stdout,
        stderr=stderr,
        multiplexed=not container.config.tty,
        timestamps=params.boolean(query, "timestamps"),
        details=details,
        since_ns=_moment_ns(query, "since", now_ns),
        until_ns=_moment_ns(query, "until", now_ns),
    )
    return LogQuery(shape, _tail(query.get("tail", "")), params.boolean(query, "follow"))


def _moment_ns(query: params.Query, name: str, now_ns: int) -> int | None:
    """A point in time; 0 is what clients send for none."""
    return params.timestamp_ns(query, name, now_ns=now_ns) or None


def _tail(text: str) -> int | None:
    """How many lines; ``all``, nothing and, as with Docker, what is no number at all mean all of them."""
    try:
        count = int(text)
    except ValueError:
        return None
    return None if count < 0 else count
