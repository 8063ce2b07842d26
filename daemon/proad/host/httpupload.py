"""Sync, blocking. A request's body, read by a process that has been handed the client's socket.

The head was parsed by the socket's owner, who also passes on what it had read beyond that (RFC 9112, section
7.1). Data is received into one small buffer and handed out from there: what is written to a file has then
been copied once by the kernel, and not at all here.
"""

import io
import re
import select
import socket
import time
from typing import Any

from proad.host.decompress import LONGEST_MAGIC

BUFFER_BYTES = 256 << 10
MAX_LINE_BYTES = 16 << 10
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
_DRAIN_S = 2.0


class BrokenOff(EOFError):
    """The client went away before the end of the body, or does not keep to HTTP."""


class Upload(io.RawIOBase):
    """A body, of ``length`` bytes or, if that is None, in chunks.

    All methods that read raise BrokenOff where it has no end.
    """

    def __init__(self, descriptor: int, early: bytes, *, length: int | None) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._pending = memoryview(early)
        self._is_chunked = length is None
        self._left = length or 0
        self._ended = length == 0
        self._is_first = True
        self._end_s: float | None = None
        """When it is no longer waited for what is to come."""

    def readable(self) -> bool:
        return True

    def head(self) -> bytes:
        """The first bytes of the body, as many as tell a compression; they are read again."""
        if self._is_chunked and self._is_first:
            self._next_chunk()
        while not self._ended and len(self._pending) < min(LONGEST_MAGIC, self._left):
            before = bytes(self._pending)
            self._receive()
            self._pending = memoryview(before + self._pending)
        return bytes(self._pending[: min(LONGEST_MAGIC, self._left)])

    def read_some(self, size: int) -> memoryview:
        """Up to ``size`` bytes that have come, valid until the next call; empty at the end of the body."""
        while not self._ended and not self._left:
            self._next_chunk()
        if self._ended:
            return self._pending[:0]
        if not self._pending:
            self._receive()
        piece = self._pending[: min(size, self._left)]
        self._pending = self._pending[len(piece) :]
        self._left -= len(piece)
        self._ended = not self._left and not self._is_chunked
        return piece

    def read(self, size: int = -1, /) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end of the body."""
        data = bytes(self.read_some(size))
        while 0 < len(data) < size and (piece := self.read_some(size - len(data))):
            data += piece
        return data

    def readinto(self, buffer: Any) -> int:
        piece = self.read_some(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def drain(self) -> None:
        """Take what is left of the body, within reason: a client that still sends may not hear an answer."""
        self._end_s = time.monotonic() + _DRAIN_S
        try:
            while time.monotonic() < self._end_s and self.read_some(BUFFER_BYTES):
                pass
        except (BrokenOff, OSError):
            return

    def _next_chunk(self) -> None:
        """Read the line ahead of a chunk; after the last one, the trailers."""
        if not self._is_first and self._line():
            raise BrokenOff("a chunk of the body is longer than announced")
        self._is_first = False
        digits = self._line().partition(b";")[0].strip()
        if not _SIZE.fullmatch(digits):
            raise BrokenOff("the body is not in chunks as announced")
        self._left = int(digits, 16)
        if self._left == 0:
            while self._line():
                pass
            self._ended = True

    def _line(self) -> bytes:
        line = b""
        while b"\n" not in line:
            if not self._pending:
                self._receive()
            end = bytes(self._pending[:64]).find(b"\n") + 1 or min(64, len(self._pending))
            line += self._pending[:end]
            self._pending = self._pending[end:]
            if len(line) > MAX_LINE_BYTES:
                raise BrokenOff("a line of the body has no end")
        return line.rstrip(b"\r\n")

    def _receive(self) -> None:
        while True:
            try:
                count = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                left_s = None if self._end_s is None else self._end_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise BrokenOff("the client takes its time") from None
                self._poll.poll(None if left_s is None else left_s * 1000)
                continue
            except ConnectionResetError:
                count = 0
            if not count:
                raise BrokenOff("unexpected EOF")
            self._pending = self._buffer[:count]
            return
