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
from typing import Protocol

import structlog

from proad.api.attachments import Attachment
from proad.model.stdstreams import STDERR, STDOUT

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
HELD_S = 0.1
"""While a container waits for its only client, it is looked this often whether it still may."""
_STREAM_OF = {2: STDOUT, 3: STDERR}


class Surroundings(Protocol):
    """What else there is about a container that a hub must know before it lets the container wait."""

    def others_read(self) -> bool:
        """Whether somebody follows its log, which waits with it."""

    def has_ended(self) -> bool:
        """Whether its process has: then its last output is taken, so that its end can be seen."""


class Hub:
    """The one connection to a container's monitor, for one run. (``engine.streams.Live``)

    ``takes_input`` is ``OpenStdin``; ``stdin_once`` is ``StdinOnce`` without a terminal: then stdin ends with
    the client that types, and clients are let go only when the container's end is on record. ``on_idle`` is
    called when the last client has gone and the hub with it.
    """

    def __init__(
        self,
        *,
        takes_input: bool,
        stdin_once: bool,
        surroundings: Surroundings,
        on_idle: Callable[["Hub"], None],
    ) -> None:
        self.takes_input = takes_input
        self.stdin_once = stdin_once
        self._surroundings = surroundings
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
        self._held: asyncio.TimerHandle | None = None
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
        if laggards and (len(self._clients) > 1 or self._surroundings.others_read()):
            for client in laggards:
                client.cut_off_laggard()
            laggards = []
        holds = bool(laggards) and not self._surroundings.has_ended()
        self._set_reading(not holds)
        if holds and self._held is None:
            self._held = self._loop.call_later(HELD_S, self._look_again)

    def _look_again(self) -> None:
        self._held = None
        self.backlog_changed()

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
            else:
                if self._poll is not None:
                    self._poll.cancel()
                    self._poll = None
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
            if self._held is not None:
                self._held.cancel()
                self._held = None
            self._connection.close()
            self._connection = None
