"""asyncio-flavoured. The data plane of attach: one connection to a container's monitor, any number of
clients.

    conmon ── SOCK_SEQPACKET ── Hub ──┬── Attachment ── client that keeps up: straight into its transport
                                      └── Attachment ── slow client: waits in its Backlog

The hub reads whenever there is something to read, many packets at a time, and hands each client what it wants
in its own form (frames or plain). A wake-up of the loop costs more than a packet of 8 KiB does, so a
container that writes fast is not waited for but looked at every millisecond, until it has been quiet for
some. Input goes the other way with back pressure: while conmon does not take more, the clients that type are
not read.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from proad.api.backlog import Backlog
from proad.model.stdstreams import STDERR, STDOUT, DetachScanner, frame

log = structlog.get_logger(__name__)

PACKET_BYTES = 64 << 10
"""More than any conmon sends at once (8 KiB in 2.1, 32 KiB later)."""
PACKETS_A_TURN = 64
INPUT_PACKET_BYTES = 32_767
"""conmon reads input into 32 KiB and would cut a longer packet."""
MAX_PENDING_INPUT_BYTES = 64 << 10
POLL_S = 0.001
"""conmon's socket buffer holds some 140 KB: at this pace, 140 MB/s."""
QUICK_WAKEUPS = 4
EMPTY_POLLS = 4
_STREAM_OF = {2: STDOUT, 3: STDERR}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a client attaches to and how it reads; ``detach_keys`` None where there is no terminal."""

    stdin: bool
    stdout: bool
    stderr: bool
    multiplexed: bool
    detach_keys: bytes | None = None

    def form(self, stream: int, data: bytes) -> bytes:
        """``data`` as this client reads it; empty if it does not want that stream."""
        if not (self.stdout, self.stderr)[stream - 1]:
            return b""
        return frame(stream, data) if self.multiplexed else data


class Outlet(Protocol):
    """A client's connection as an attachment needs it."""

    def write(self, data: bytes) -> None:
        """Send; whether it can take more is told by :meth:`Attachment.set_writable`."""

    def set_reading(self, reading: bool) -> None:
        """Read the client's input, or leave it unread."""

    def finish(self) -> None:
        """All has been written: end the connection."""


class Attachment:
    """One client of a container's streams."""

    def __init__(self, wanted: Wanted, outlet: Outlet, spool_directory: Path) -> None:
        self.wanted = wanted
        self.detached = False
        """It ended by the detach keys."""
        self._outlet = outlet
        self._backlog = Backlog(spool_directory)
        self._writable = True
        self._ending = False
        self._scanner = DetachScanner(wanted.detach_keys) if wanted.detach_keys else None
        self._hub: Hub | None = None

    # --- output ---------------------------------------------------------------------------------------------

    def deliver(self, stream: int, data: bytes) -> None:
        """Output of the container."""
        if formed := self.wanted.form(stream, data):
            self.send(formed)

    def send(self, data: bytes) -> None:
        """Bytes for the client, as they shall arrive."""
        if self._ending:
            return
        if self._writable and not self._backlog.size:
            self._outlet.write(data)
            return
        try:
            self._backlog.put(data)
        except OSError as error:
            self._cut_off(f"its backlog cannot be kept: {error.strerror}")

    def set_writable(self, writable: bool) -> None:
        """The connection takes more, or does not for the moment."""
        self._writable = writable
        while self._writable and self._backlog.size:
            self._outlet.write(self._backlog.take())
        if self._hub is not None:
            self._hub.backlog_changed()
        if self._ending and not self._backlog.size:
            self._outlet.finish()

    @property
    def is_too_far_behind(self) -> bool:
        return self._backlog.is_full

    def end(self) -> None:
        """No more will come; the connection ends when the client has taken what waits."""
        if not self._ending:
            self._ending = True
            if not self._backlog.size:
                self._outlet.finish()

    def cut_off_laggard(self) -> None:
        """Give up on a client that is too far behind while others want to go on."""
        self._cut_off("it is too far behind, and others are reading")

    def _cut_off(self, reason: str) -> None:
        log.warning("an attached client is cut off", reason=reason)
        self._backlog.close()
        self._ending = True
        self._outlet.finish()

    # --- input ----------------------------------------------------------------------------------------------

    def join(self, hub: "Hub") -> None:
        self._hub = hub
        hub.join(self)

    def type(self, data: bytes) -> None:
        """Input from the client; dropped where the container has no open stdin."""
        if self._ending or self._hub is None or not (self.wanted.stdin and self._hub.takes_input):
            return
        if self._scanner is not None:
            data, self.detached = self._scanner.feed(data)
        if data:
            self._hub.feed(data)
        if self.detached:
            self._hub.leave(self)
            self.end()

    def end_input(self) -> None:
        """The client has ended its side.

        With ``StdinOnce`` and no terminal the container's stdin ends; else, as in Docker, the attachment
        does.
        """
        if self._hub is None or not (self.wanted.stdin and self._hub.takes_input):
            return
        if self._hub.stdin_once:
            self._hub.end_input()
        else:
            self._hub.leave(self)
            self.end()

    def set_reading(self, reading: bool) -> None:
        self._outlet.set_reading(reading)

    def lost(self) -> None:
        """The client's connection is gone."""
        self._ending = True
        self._backlog.close()
        if (hub := self._hub) is not None:
            self._hub = None
            if self.wanted.stdin and hub.takes_input and hub.stdin_once:
                hub.end_input()
            hub.leave(self)


class Hub:
    """The one connection to a container's monitor, for one run. (``engine.streams.Live``)

    ``takes_input`` is ``OpenStdin``; ``stdin_once`` is ``StdinOnce`` without a terminal: then stdin ends with
    the client that types, and clients are let go only when the container's end is on record. ``on_idle`` is
    called when the last client has gone and the hub with it.
    """

    def __init__(self, *, takes_input: bool, stdin_once: bool, on_idle: Callable[["Hub"], None]) -> None:
        self.takes_input = takes_input
        self.stdin_once = stdin_once
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._connection: socket.socket | None = None
        self._buffer = memoryview(bytearray(PACKET_BYTES))
        self._clients: list[Attachment] = []
        self._input: deque[memoryview] = deque()
        self._input_bytes = 0
        self._input_ended = False
        self._clients_read = True
        self._reading = False
        self._writing = False
        self._poll: asyncio.TimerHandle | None = None
        self._woken_at = 0.0
        self._quick_wakeups = 0
        self._empty_polls = 0
        self._over = False
        self._had_clients = False

    # --- clients --------------------------------------------------------------------------------------------

    def join(self, client: Attachment) -> None:
        if self._over:
            client.end()
            return
        self._clients.append(client)
        self._had_clients = True
        if not self._clients_read:
            client.set_reading(False)
        self.backlog_changed()

    def leave(self, client: Attachment) -> None:
        if client in self._clients:
            self._clients.remove(client)
        self.backlog_changed()
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        """Nobody is left: close, unless input is on its way, or closing would end a stdin that waits."""
        if self._clients or not self._had_clients or self._over or self._input:
            return
        if self.stdin_once and not self._input_ended:
            return
        self._over = True
        self._close()
        self._on_idle(self)

    # --- the run --------------------------------------------------------------------------------------------

    def connect(self, connection: socket.socket) -> None:
        self._connection = connection
        self._set_reading(True)
        self._flush_input()

    def finish(self) -> None:
        """The run is over: its last output is already in the socket, for conmon has ended before."""
        if self._connection is not None:
            while self._connection is not None and self._read_some():
                pass
        self._over = True
        self._close()
        clients, self._clients = self._clients, []
        for client in clients:
            client.end()

    # --- output ---------------------------------------------------------------------------------------------

    def backlog_changed(self) -> None:
        """Somebody came, went, or caught up: decide whether to read on.

        A client may be a gigabyte behind. Beyond that it is cut off if others are reading; if it is the only
        one, the container waits for it, as it would with Docker from the first megabyte on.
        """
        if self._connection is None:
            return
        laggards = [client for client in self._clients if client.is_too_far_behind]
        if laggards and len(self._clients) > 1:
            for client in laggards:
                client.cut_off_laggard()
            laggards = []
        self._set_reading(not laggards)

    def _on_readable(self) -> None:
        self._read_some()
        now = self._loop.time()
        self._quick_wakeups = self._quick_wakeups + 1 if now - self._woken_at < POLL_S else 0
        self._woken_at = now
        if self._quick_wakeups >= QUICK_WAKEUPS and self._reading and self._connection is not None:
            self._quick_wakeups = self._empty_polls = 0
            self._loop.remove_reader(self._connection.fileno())
            self._poll = self._loop.call_later(POLL_S, self._on_poll)

    def _on_poll(self) -> None:
        self._poll = None
        self._empty_polls = 0 if self._read_some() else self._empty_polls + 1
        if not self._reading or self._connection is None:
            return
        if self._empty_polls < EMPTY_POLLS:
            self._poll = self._loop.call_later(POLL_S, self._on_poll)
        else:
            self._loop.add_reader(self._connection.fileno(), self._on_readable)

    def _read_some(self) -> bool:
        """Read and hand out what is there, up to a turn's worth; False if there was nothing."""
        assert self._connection is not None
        pieces: list[bytes] = []
        current = 0
        received = ended = False
        for _ in range(PACKETS_A_TURN):
            try:
                size = self._connection.recv_into(self._buffer)
            except BlockingIOError:
                break
            except ConnectionError:
                size = 0
            if size == 0:
                ended = True
                break
            received = True
            stream = _STREAM_OF.get(self._buffer[0], STDOUT)
            if stream != current and pieces:
                self._hand_out(current, b"".join(pieces))
                pieces.clear()
            current = stream
            pieces.append(bytes(self._buffer[1:size]))
        if pieces:
            self._hand_out(current, b"".join(pieces))
        if ended:
            self._close()
            if not self.stdin_once:
                for client in tuple(self._clients):
                    client.end()
        return received and not ended

    def _hand_out(self, stream: int, data: bytes) -> None:
        for client in tuple(self._clients):
            client.deliver(stream, data)
            if client.is_too_far_behind:
                self.backlog_changed()

    # --- input ----------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Input for the container, after what was typed before."""
        if self._input_ended or self._over:
            return
        view = memoryview(data)
        for begin in range(0, len(view), INPUT_PACKET_BYTES):
            self._input.append(view[begin : begin + INPUT_PACKET_BYTES])
        self._input_bytes += len(view)
        self._flush_input()

    def end_input(self) -> None:
        """Close the container's stdin when all input has gone."""
        if not self._input_ended:
            self._input_ended = True
            self._flush_input()

    def _flush_input(self) -> None:
        connection = self._connection
        if connection is not None:
            while self._input:
                try:
                    connection.send(self._input[0])
                except BlockingIOError:
                    break
                except ConnectionError:  # the container has ended; nobody reads this any more
                    self._input.clear()
                    self._input_bytes = 0
                    break
                self._input_bytes -= len(self._input.popleft())
            if self._input_ended and not self._input:
                self._shut_down_input(connection)
            self._set_writing(bool(self._input))
        self._set_clients_read(self._input_bytes < MAX_PENDING_INPUT_BYTES)
        self._close_if_idle()

    def _shut_down_input(self, connection: socket.socket) -> None:
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # ENOTCONN: conmon has gone, and stdin with it
            log.debug("stdin was gone before it was closed")

    # --- descriptors ----------------------------------------------------------------------------------------

    def _set_clients_read(self, read: bool) -> None:
        if read != self._clients_read:
            self._clients_read = read
            for client in tuple(self._clients):
                if client.wanted.stdin:
                    client.set_reading(read)

    def _set_reading(self, reading: bool) -> None:
        if self._connection is not None and reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._connection.fileno(), self._on_readable)
            elif self._poll is not None:
                self._poll.cancel()
                self._poll = None
            else:
                self._loop.remove_reader(self._connection.fileno())

    def _set_writing(self, writing: bool) -> None:
        if self._connection is not None and writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._connection.fileno(), self._flush_input)
            else:
                self._loop.remove_writer(self._connection.fileno())

    def _close(self) -> None:
        if self._connection is not None:
            self._set_reading(False)
            self._set_writing(False)
            self._connection.close()
            self._connection = None
