"""Sync, blocking. One file of a container's log: read by whole lines, from any place on, while it grows."""

import os
import sys
from dataclasses import dataclass

from proad.model import errors
from proad.model.loglines import FULL_TAG_AT, STREAM_AT

BLOCK_BYTES = 256 << 10
"""Read and shaped at a time: some two milliseconds of the loop."""
STREAM_NAMES = frozenset({b"stdout", b"stderr"})


class LogFile:
    """An open file of the log, which is closed with it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.offset = 0
        self._end: int | None = None

    def stop_at_present_end(self) -> None:
        """Read no further than where the file ends now, however fast it grows."""
        self._end = self.size()

    def size(self) -> int:
        """Bytes that there are for this reader."""
        return os.fstat(self.descriptor).st_size if self._end is None else self._end

    def read(self) -> bytes:
        """The next whole lines, about :data:`BLOCK_BYTES` of them; empty if there are none yet.

        Raises:
            errors.System: the disk failed.
        """
        left = sys.maxsize if self._end is None else self._end - self.offset
        size = min(BLOCK_BYTES, left)
        try:
            while True:
                block = os.pread(self.descriptor, size, self.offset)
                end = block.rfind(b"\n") + 1
                if end or len(block) < size or size == left:
                    break
                size = min(size * 2, left)  # a single piece longer than the block
        except OSError as error:
            raise errors.System(f"log: {error.strerror}") from error
        self.offset += end
        return block[:end]

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@dataclass
class TailSearch:
    """The search for the last ``count`` lines of output, from the end of the newest file backwards.

    A line that was logged in parts counts once, an unfinished one at the end as well; a line may begin in one
    file and end in the next.
    """

    count: int
    found: int = 0
    after_end: bool = True
    """A part at the end is a line that has not ended."""

    def look(self, descriptor: int, end: int) -> int | None:
        """Where the lines begin in this file's first ``end`` bytes; None if not in this one, or at its begin.

        Ask the next older file then.
        """
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
                if block[start + FULL_TAG_AT : start + FULL_TAG_AT + 1] == b"F" or self.after_end:
                    if self.found == self.count:
                        return begin + stop
                    self.found += 1
                self.after_end = False
                stop = start
            block = block[:stop]
        return None


def line_end_before(descriptor: int, place: int) -> int:
    """Where the last line of output ends that lies before ``place`` whole.

    Looks back no further than a block; in a longer line it is the end of a part of it.
    """
    begin = max(0, place - BLOCK_BYTES)
    block = os.pread(descriptor, place - begin, begin)
    stop = end = block.rfind(b"\n") + 1
    while stop > 0:
        start = block.rfind(b"\n", 0, stop - 1) + 1
        if block[start + FULL_TAG_AT : start + FULL_TAG_AT + 1] == b"F" and (start > 0 or begin == 0):
            return begin + stop
        stop = start
    return begin + end


def unfinished_streams(descriptor: int, end: int) -> frozenset[bytes]:
    """The streams of which the last line before ``end`` has not ended there: ``stdout``, ``stderr``.

    A stream that says nothing in the last block is taken to have ended its line.
    """
    begin = max(0, end - BLOCK_BYTES)
    block = os.pread(descriptor, end - begin, begin)
    stop = block.rfind(b"\n") + 1
    seen: set[bytes] = set()
    unfinished: set[bytes] = set()
    while stop > 0 and seen != STREAM_NAMES:
        start = block.rfind(b"\n", 0, stop - 1) + 1
        stream = block[start + STREAM_AT : start + STREAM_AT + 6]
        if stream in STREAM_NAMES - seen and (start > 0 or begin == 0):
            seen.add(stream)
            if block[start + FULL_TAG_AT : start + FULL_TAG_AT + 1] != b"F":
                unfinished.add(stream)
        stop = start
    return frozenset(unfinished)
