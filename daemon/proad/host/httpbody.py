"""Sync, blocking. An HTTP/1.1 answer written by a process that has been handed the client's socket.

The socket does not block, for its owner's sake: here is waited until it takes more. Files go from the page
cache into it without a copy in between.
"""

import errno
import os
import select
import socket
from typing import Any, Protocol

from proad.host.helperchannel import Refusal

PIECE_BYTES = 256 << 10
WORTH_SENDFILE_BYTES = 64 << 10
SEND_BUFFER_BYTES = 2 << 20
_SO_SNDBUFFORCE = 32
_ZEROS = bytes(PIECE_BYTES)


class Body(Protocol):
    """What an archive is written to."""

    def write(self, data: bytes) -> None: ...
    def send_file(self, descriptor: int, size: int) -> None: ...
    def finish(self) -> None: ...


class Answer:
    """Head and body of an answer. With ``chunked`` the client sees where it ends; without, it ends with the
    connection."""

    def __init__(self, descriptor: int, *, chunked: bool) -> None:
        self._descriptor = descriptor
        self._chunked = chunked
        self._pending = bytearray()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        _enlarge(descriptor)

    def begin(self, head: bytes) -> None:
        self._put(head)

    def write(self, data: bytes) -> None:
        """Add to the body; small pieces are gathered."""
        self._pending += data
        if len(self._pending) >= PIECE_BYTES:
            self._flush()

    def send_file(self, descriptor: int, size: int) -> None:
        """Add ``size`` bytes of a file from its beginning; zeros where it has become shorter."""
        if size < WORTH_SENDFILE_BYTES:
            data = os.pread(descriptor, size, 0)
            self.write(data + bytes(size - len(data)))
            return
        self._flush()
        self._put(b"%x\r\n" % size if self._chunked else b"")
        offset = 0
        while offset < size:
            sent = self._send_some(descriptor, offset, size - offset)
            if not sent:
                break
            offset += sent
        while offset < size:
            self._put(_ZEROS[: size - offset])
            offset += min(len(_ZEROS), size - offset)
        self._put(b"\r\n" if self._chunked else b"")

    def finish(self) -> None:
        """End the body."""
        self._flush()
        self._put(b"0\r\n\r\n" if self._chunked else b"")

    def _flush(self) -> None:
        if self._pending:
            head, tail = (b"%x\r\n" % len(self._pending), b"\r\n") if self._chunked else (b"", b"")
            self._put(b"".join((head, self._pending, tail)))
            self._pending.clear()

    def _send_some(self, descriptor: int, offset: int, size: int) -> int:
        while True:
            try:
                return os.sendfile(self._descriptor, descriptor, offset, size)
            except BlockingIOError:
                self._poll.poll()
            except (BrokenPipeError, ConnectionResetError):
                raise _gone() from None
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EIO):
                    raise
                return self._copy_some(descriptor, offset, size)

    def _copy_some(self, descriptor: int, offset: int, size: int) -> int:
        """For files that cannot be sent (FUSE, /proc); what cannot be read is the end."""
        try:
            data = os.pread(descriptor, min(size, PIECE_BYTES), offset)
        except OSError:
            return 0
        self._put(data)
        return len(data)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                self._poll.poll()
            except (BrokenPipeError, ConnectionResetError):
                raise _gone() from None


class Compressed:
    """A body compressed by gzip on its way to another."""

    def __init__(self, answer: Answer, compressor: Any) -> None:
        self._answer = answer
        self._compressor = compressor

    def write(self, data: bytes) -> None:
        self._answer.write(self._compressor.compress(data))

    def send_file(self, descriptor: int, size: int) -> None:
        offset = 0
        while offset < size:
            data = os.pread(descriptor, min(PIECE_BYTES, size - offset), offset)
            data = data or _ZEROS[: size - offset]
            self.write(data)
            offset += len(data)

    def finish(self) -> None:
        self._answer.write(self._compressor.flush())
        self._answer.finish()


def _gone() -> Refusal:
    return Refusal("unread", "the client went away before the end")


def _enlarge(descriptor: int) -> None:
    """Larger turns; a kernel that grants no larger buffer leaves it as it is."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        try:
            connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
        except OSError:
            return
