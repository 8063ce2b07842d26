"""Sync, blocking. Carries bytes between this process's standard streams and a container's.

One poll loop for both directions: nothing is sent while the container does not take it, and its output is
read all the same, so that a filter such as `proa run -i image cat` can never block itself.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from contextlib import ExitStack

from proa.cli.terminal import DetachKeys, RawTerminal
from proa.errors import Lost
from proa.streams import Demultiplexer
from proa.transport import CHUNK_BYTES, Hijacked

STDIN, STDOUT, STDERR = 0, 1, 2


class Attachment:
    """A hijacked connection to be served: `stdin`, whether to read ours; `tty`, whether it is a terminal."""

    def __init__(self, connection: Hijacked, *, stdin: bool, tty: bool, detach_keys: bytes) -> None:
        self._sock = connection.sock
        self._early = connection.early
        self._reads_stdin = stdin
        self._keys = DetachKeys(detach_keys) if stdin and tty else None
        self._cutter = None if tty else Demultiplexer()
        self._raw_fd = STDIN if stdin and tty and os.isatty(STDIN) else None
        self._unsent = b""

    def serve(self) -> bool:
        """Carry bytes until the container's side ends (True) or the user detaches (False)."""
        with ExitStack() as stack:
            stack.callback(self._sock.close)
            if self._raw_fd is not None:
                stack.enter_context(RawTerminal(self._raw_fd))
            self._sock.setblocking(False)
            self._show(self._early)
            return self._loop()

    def close(self) -> None:
        """Give it up without serving it."""
        self._sock.close()

    def _loop(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        stdin_open = self._reads_stdin
        stdin_watched = False
        while True:
            poll.modify(self._sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            if stdin_watched != (stdin_open and not self._unsent):
                stdin_watched = not stdin_watched
                if stdin_watched:
                    poll.register(STDIN, select.POLLIN)
                else:
                    poll.unregister(STDIN)
            ready = dict(poll.poll())
            flags = ready.get(self._sock.fileno(), 0)
            if flags & select.POLLOUT:
                self._send()
            if flags & ~select.POLLOUT and not self._receive():
                return True
            if ready.get(STDIN) and stdin_watched:
                typed = os.read(STDIN, CHUNK_BYTES)
                stdin_open = bool(typed)
                detached = False
                if self._keys is not None:
                    typed, detached = self._keys.feed(typed)
                self._unsent += typed
                self._send()
                if detached:
                    return False
            if self._reads_stdin and not stdin_open and not self._unsent:
                self._half_close()

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return  # the container is not reading; poll tells when it goes on
        except OSError:
            # It has closed its stdin; what it still has to say is worth more than this error.
            self._unsent = b""
            self._reads_stdin = False

    def _half_close(self) -> None:
        self._reads_stdin = False
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other side was first

    def _receive(self) -> bool:
        """Show what the container wrote; False at the end."""
        try:
            chunk = self._sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            raise Lost(f"the connection to the container broke: {error.strerror or error}") from None
        self._show(chunk)
        return bool(chunk)

    def _show(self, chunk: bytes) -> None:
        if self._cutter is None:
            write_all(STDOUT, chunk)
            return
        for stream, piece in self._cutter.feed(chunk):
            write_all(STDERR if stream == "stderr" else STDOUT, piece)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, past Python's buffers. Raises BrokenPipeError when nobody reads any more."""
    (sys.stderr if fd == STDERR else sys.stdout).flush()
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
