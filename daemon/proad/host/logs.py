"""Sync, blocking. A container's log file: read by whole lines, from its tail on, while it grows."""

import os
import sys
from pathlib import Path

from proad.model import errors
from proad.model.loglines import FULL_TAG_AT

BLOCK_BYTES = 256 << 10
"""Read and shaped at a time: some two milliseconds of the loop."""


class LogFile:
    """The log file, read from a place on, also where conmon begins it anew (``--log-size-max``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._offset = 0
        self._end: int | None = None
        self._open()

    def stop_at_present_end(self) -> None:
        """Read no further than where the file ends now, however fast it grows."""
        self._end = os.fstat(self._descriptor).st_size if self._descriptor >= 0 else 0

    def seek_tail(self, count: int) -> None:
        """Go to where the last ``count`` lines of output begin; 0 is the end.

        A line that was logged in parts counts once, an unfinished one at the end as well.
        """
        if self._descriptor >= 0:
            self._offset = tail_offset(self._descriptor, count)

    def read(self) -> bytes:
        """The next whole lines, about :data:`BLOCK_BYTES` of them; empty if there are none yet.

        Raises:
            errors.System: the disk failed.
        """
        if self._descriptor < 0 and not self._open():
            return b""
        left = sys.maxsize if self._end is None else self._end - self._offset
        size = min(BLOCK_BYTES, left)
        try:
            while True:
                block = os.pread(self._descriptor, size, self._offset)
                end = block.rfind(b"\n") + 1
                if end or len(block) < size or size == left:
                    break
                size = min(size * 2, left)  # a single piece longer than the block
            if not end and self._was_replaced():
                self.close()
                self._offset = 0
                return self.read() if self._open() else b""
        except OSError as error:
            raise errors.System(f"{self._path}: {error.strerror}") from error
        self._offset += end
        return block[:end]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> bool:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        return True

    def _was_replaced(self) -> bool:
        try:
            now, ours = os.stat(self._path), os.fstat(self._descriptor)
        except FileNotFoundError:
            return False
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)


def tail_offset(descriptor: int, count: int) -> int:
    """Where the last ``count`` lines of output begin, found from the file's end backwards."""
    end = os.fstat(descriptor).st_size
    if count <= 0:
        return end
    found = 0
    after_end = True  # a part at the end is a line that has not ended
    begin = end
    block = b""
    while begin > 0:
        size = min(BLOCK_BYTES, begin)
        begin -= size
        block = os.pread(descriptor, size, begin) + block
        stop = len(block)
        while stop > 0:
            start = block.rfind(b"\n", 0, stop - 1) + 1
            if start == 0 and begin > 0:
                break  # the line's head is in the block before
            if block[start + FULL_TAG_AT : start + FULL_TAG_AT + 1] == b"F" or after_end:
                if found == count:
                    return begin + stop
                found += 1
            after_end = False
            stop = start
        block = block[:stop]
    return 0
