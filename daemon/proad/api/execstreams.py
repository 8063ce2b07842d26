"""asyncio-flavoured. The data plane of an exec: one command, one client, and descriptors in between.

    stdout, stderr ── pipes ───┐
                               ├── ExecSession ── the client's connection
    terminal ───── its master ─┘

Both ways have back pressure: while the client does not take more, the command's output is not read; while
the command does not take more, the client is not. A client that has left, or has detached, stops nothing:
the output is read on and dropped, as with Docker.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from proad.api.clients import Client
from proad.model import errors
from proad.model.stdstreams import STDERR, STDOUT, DetachScanner, frame

READ_BYTES = 64 << 10
MAX_PENDING_INPUT_BYTES = 64 << 10
LOOK_AGAIN_S = 0.002
LINGER_S = 2.0
"""How long the output of what an ended command left running is still handed on, as with Docker."""

log = structlog.get_logger(__name__)


class Descriptors(Protocol):
    """Our ends of a command's streams; see ``host.execstreams.ExecStreams``."""

    stdin: int | None
    stdout: int | None
    stderr: int | None
    terminal: int | None

    @property
    def is_runtimes(self) -> Callable[[bytes], bool]: ...


class ExecSession:
    """One exec and the client that started it (``engine.exec.ExecLive``, ``clients.Attached``).

    ``detach_keys`` is None where there is no terminal; ``on_detach`` is called when they are typed.
    """

    def __init__(
        self,
        client: Client,
        *,
        takes_input: bool,
        multiplexed: bool,
        detach_keys: bytes | None,
        on_detach: Callable[[], None],
    ) -> None:
        self._client = client
        self._takes_input = takes_input
        self._multiplexed = multiplexed
        self._scanner = DetachScanner(detach_keys) if detach_keys else None
        self._on_detach = on_detach
        self._loop = asyncio.get_running_loop()
        self._outputs: dict[int, int] = {}
        """Open descriptors that are read, and their streams' numbers."""
        self._is_runtimes: Callable[[bytes], bool] | None = None
        self._held = bytearray()
        """What came from stderr, or the terminal, and may be the runtime's own."""
        self._look_again_pending = False
        self._terminal: int | None = None
        self._input_to: int | None = None
        self._input: deque[memoryview] = deque()
        self._input_bytes = 0
        self._input_ended = False
        self._input_is_waiting = False
        self._connected = False
        self._writable = True
        self._client_gone = False
        self._finished = False

    # --- the command's side ---------------------------------------------------------------------------------

    def connect(self, streams: Descriptors) -> None:
        self._connected = True
        self._terminal = streams.terminal
        if streams.terminal is not None:
            self._outputs[streams.terminal] = STDOUT
            self._input_to = streams.terminal
        else:
            for descriptor, stream in ((streams.stdout, STDOUT), (streams.stderr, STDERR)):
                if descriptor is not None:
                    self._outputs[descriptor] = stream
            self._input_to = streams.stdin
        self._is_runtimes = streams.is_runtimes
        self._watch_outputs()
        self._flush_input()

    def last_words(self) -> bytes:
        """The command has ended: what came from stderr, or the terminal, and may be the runtime's own."""
        self._read_all()
        return bytes(self._held)

    def finish(self, failure: str) -> None:
        """The command has ended, and that is on record."""
        self._read_all()
        self._finished = True
        if failure:
            self._held.clear()
            self.tell(failure)
            self._close()
            return
        self._flush_held()
        if self._outputs:
            self._loop.call_later(LINGER_S, self._stop_lingering)
        else:
            self._close()

    def tell(self, failure: str) -> None:
        """Why the command does not run, where its output would be; in this form clients know it."""
        self._write(STDOUT, f"{failure}\r\n".encode())

    async def start(self, start: Awaitable[None]) -> None:
        """Await the start; what it fails with is told to the client, whose answer has begun."""
        try:
            await start
        except errors.ProaError as error:
            self.tell(error.message)
            self.end()

    def end(self) -> None:
        """Let the client go; the command, if it runs, goes on."""
        if not self._client_gone:
            self._client_gone = True
            self._client.finish()
            self._watch_outputs()

    def _stop_lingering(self) -> None:
        has_to_wait = not self._writable and not self._client_gone
        if self._outputs and has_to_wait:  # what is there is still to be taken
            self._loop.call_later(LINGER_S, self._stop_lingering)
        else:
            self._close()

    def _close(self) -> None:
        for descriptor in tuple(self._outputs):
            self._close_output(descriptor)
        self._close_input()
        self.end()

    # --- output ---------------------------------------------------------------------------------------------

    def _watch_outputs(self) -> None:
        reading = self._writable or self._client_gone
        for descriptor in self._outputs:
            if reading:
                self._loop.add_reader(descriptor, self._read, descriptor)
            else:
                self._loop.remove_reader(descriptor)

    def _read_all(self) -> None:
        """Read what is there, as far as the client takes it."""
        for descriptor in tuple(self._outputs):
            while descriptor in self._outputs and self._writable and self._read(descriptor):
                pass

    def _read(self, descriptor: int) -> bool:
        """Read and hand on what is there; False if there was nothing."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        stream = self._outputs[descriptor]
        if not data:
            self._close_output(descriptor)
            if self._finished and not self._outputs:
                self._close()
            return False
        if self._is_runtimes is not None:
            if stream == STDERR or descriptor == self._terminal:
                self._held += data
                if self._is_runtimes(bytes(self._held)):
                    self._look_again()
                    return True
                data = b""
            self._flush_held()
            self._is_runtimes = None  # the command itself has spoken: from here on all is its own
        if data:
            self._write(stream, data)
        return True

    def _look_again(self) -> None:
        """What is held may be the command's: the runtime notes its pid just after it has begun."""
        if not self._look_again_pending:
            self._look_again_pending = True
            self._loop.call_later(LOOK_AGAIN_S, self._decide)

    def _decide(self) -> None:
        self._look_again_pending = False
        if self._is_runtimes is None or self._finished:
            return
        if self._is_runtimes(bytes(self._held)):
            self._look_again()
        else:
            self._is_runtimes = None
            self._flush_held()

    def _flush_held(self) -> None:
        if self._held:
            self._write(STDOUT if self._terminal is not None else STDERR, bytes(self._held))
            self._held.clear()

    def _write(self, stream: int, data: bytes) -> None:
        if not self._client_gone:
            self._client.write(frame(stream, data) if self._multiplexed else data)

    def _close_output(self, descriptor: int) -> None:
        del self._outputs[descriptor]
        self._loop.remove_reader(descriptor)
        if descriptor == self._input_to:  # a terminal
            self._forget_input()
            self._input_to = None
        os.close(descriptor)

    # --- input ----------------------------------------------------------------------------------------------

    def _flush_input(self) -> None:
        descriptor = self._input_to
        if descriptor is None:
            if self._connected:
                self._forget_input()
            return
        while self._input:
            try:
                count = os.write(descriptor, self._input[0])
            except BlockingIOError:
                break
            except OSError:  # EPIPE, EIO: nobody reads it any more
                self._forget_input()
                break
            self._input_bytes -= count
            if count == len(self._input[0]):
                self._input.popleft()
            else:
                self._input[0] = self._input[0][count:]
        self._wait_for_input(bool(self._input))
        if self._input_ended and not self._input and descriptor not in self._outputs:
            self._close_input()
        self._slow_client_down()

    def _slow_client_down(self) -> None:
        if not self._client_gone:
            self._client.set_reading(self._input_bytes < MAX_PENDING_INPUT_BYTES)

    def _wait_for_input(self, waiting: bool) -> None:
        if self._input_to is not None and waiting != self._input_is_waiting:
            self._input_is_waiting = waiting
            if waiting:
                self._loop.add_writer(self._input_to, self._flush_input)
            else:
                self._loop.remove_writer(self._input_to)

    def _forget_input(self) -> None:
        self._input.clear()
        self._input_bytes = 0
        self._wait_for_input(False)
        self._slow_client_down()

    def _close_input(self) -> None:
        if self._input_to is not None:
            self._forget_input()
            os.close(self._input_to)
            self._input_to = None

    # --- the client's side ----------------------------------------------------------------------------------

    def type(self, data: bytes) -> None:
        """Input from the client; dropped where the command has none."""
        if not self._takes_input or self._client_gone or self._finished or self._input_ended:
            return
        detached = False
        if self._scanner is not None:
            data, detached = self._scanner.feed(data)
        if data:
            self._input.append(memoryview(data))
            self._input_bytes += len(data)
            self._flush_input()
            self._slow_client_down()
        if detached:
            self._on_detach()
            self.end()

    def end_input(self) -> None:
        """The client has ended its side: the command's stdin ends, but with a terminal the session does."""
        if not self._takes_input:
            return
        if self._scanner is not None:
            self.end()
        else:
            self._input_ended = True
            self._flush_input()

    def set_writable(self, writable: bool) -> None:
        """The client takes more, or does not for the moment."""
        self._writable = writable
        self._watch_outputs()

    def lost(self) -> None:
        """The client's connection is gone; the command goes on without."""
        self._client_gone = True
        if self._scanner is None:
            self._input_ended = True
            self._flush_input()
        self._watch_outputs()
