"""Sync, pure. Docker's stream framing: how stdout and stderr share one connection when there is no terminal.

Each frame is 8 bytes of header (stream number, three zero bytes, big-endian length) and its payload; see the
description of `POST /containers/{id}/attach` in the Engine API.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from proa.errors import Lost

StreamName: TypeAlias = Literal["stdout", "stderr"]
HEADER_BYTES = 8
SYSTEM_ERROR = 3  # a frame with which the daemon reports an error in the middle of a stream


class Demultiplexer:
    """Cuts a framed byte stream into (stream, bytes) pairs; give it chunks of any size.

    A payload is passed on as it arrives, not held back until its frame is complete.
    """

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self._kind = 0
        self._error = b""

    def feed(self, chunk: bytes) -> Iterator[tuple[StreamName, bytes]]:
        """The pieces that `chunk` completes. Raises Lost when the daemon sent an error frame or garbage."""
        position = 0
        while position < len(chunk):
            if self._left == 0:
                missing = HEADER_BYTES - len(self._header)
                self._header += chunk[position : position + missing]
                position += missing
                if len(self._header) < HEADER_BYTES:
                    return
                self._begin_frame()
                continue
            piece = chunk[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            if self._kind == SYSTEM_ERROR:
                self._error += piece
                if self._left == 0:
                    raise Lost(f"error from daemon in stream: {self._error.decode(errors='replace').strip()}")
            else:
                yield ("stderr" if self._kind == 2 else "stdout"), piece

    def _begin_frame(self) -> None:
        self._kind = self._header[0]
        self._left = int.from_bytes(self._header[4:])
        if self._kind > SYSTEM_ERROR or self._header[1:4] != b"\0\0\0":
            raise Lost(f"unrecognised frame in the output stream: {self._header.hex()}")
        self._header = b""
