"""asyncio-flavoured. Output that a slow client has not taken yet: a little in memory, the rest on disk.

conmon writes to its readers blocking. So the connection to it is always read, and what one client does not
take waits here: nobody else notices, and memory stays bounded. The files have no name and vanish with the
client.
"""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MEMORY_BYTES = 1 << 20
SEGMENT_BYTES = 64 << 20
"""A file goes when all of it has been taken, so a client that stays behind does not fill the disk."""
LIMIT_BYTES = 1 << 30

_closer = ThreadPoolExecutor(1, thread_name_prefix="backlog")
"""Freeing a file without a name takes the kernel some 20 ms, and a client that goes may leave a dozen."""


class _Segment:
    """One unnamed file: appended to at the end, taken from the front."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._written = 0
        self._taken = 0

    def put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._descriptor, view, self._written)
            self._written += count
            view = view[count:]

    def take(self, limit: int) -> bytes:
        data = os.pread(self._descriptor, min(limit, self._written - self._taken), self._taken)
        self._taken += len(data)
        return data

    @property
    def is_full(self) -> bool:
        return self._written >= SEGMENT_BYTES

    @property
    def is_taken(self) -> bool:
        return self._taken == self._written

    def close(self) -> None:
        _closer.submit(os.close, self._descriptor)


class Backlog:
    """A queue of bytes without bound in time and bounded in memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._memory: deque[bytes] = deque()
        self._memory_bytes = 0
        self._segments: deque[_Segment] = deque()
        self.size = 0

    @property
    def is_full(self) -> bool:
        """More than a client may be behind."""
        return self.size >= LIMIT_BYTES

    def put(self, data: bytes) -> None:
        """Append.

        Raises:
            OSError: it has to go to disk, and the disk is full or fails.
        """
        if not self._segments and self._memory_bytes + len(data) <= MEMORY_BYTES:
            self._memory.append(data)
            self._memory_bytes += len(data)
        else:
            if not self._segments or self._segments[-1].is_full:
                self._segments.append(_Segment(self._directory))
            self._segments[-1].put(data)
        self.size += len(data)

    def take(self, limit: int = 256 << 10) -> bytes:
        """Remove and return what is oldest, about ``limit`` bytes of it; empty only if nothing is there.

        Raises:
            OSError: the disk fails.
        """
        if self._memory:
            data = self._take_memory(limit)
        elif self._segments:
            segment = self._segments[0]
            data = segment.take(limit)
            if segment.is_taken and (segment.is_full or len(self._segments) == 1):
                segment.close()
                self._segments.popleft()
        else:
            return b""
        self.size -= len(data)
        return data

    def _take_memory(self, limit: int) -> bytes:
        pieces = []
        size = 0
        while self._memory and size < limit:
            pieces.append(self._memory.popleft())
            size += len(pieces[-1])
        self._memory_bytes -= size
        return b"".join(pieces)

    def close(self) -> None:
        self._memory.clear()
        while self._segments:
            self._segments.pop().close()
        self.size = 0
