"""Sync, blocking. Archives in whatever compression they come: recognised by their first bytes, read plain.

Modules are imported when a compression needs them: before a jail is entered, in which none can be.
"""

import importlib
import io
import os
from typing import Any

BUFFER_BYTES = 1 << 20
LONGEST_MAGIC = 8

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))


class Source(io.RawIOBase):
    """A descriptor, which stays the caller's, as it is read by :class:`io.BufferedReader`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.consumed_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.readv(self._descriptor, [buffer])
        # A pipe may bring less than what tells the format.
        while 0 < self.consumed_bytes + count < LONGEST_MAGIC:
            more = os.readv(self._descriptor, [memoryview(buffer)[count:]])
            count += more
            if not more:
                break
        self.consumed_bytes += count
        return count


def preload() -> None:
    """Have all modules in memory, where what comes is not known before the jail is entered."""
    for name in ("isal.igzip", "zstandard", "bz2", "lzma"):
        importlib.import_module(name)


def compression_of(head: bytes) -> str:
    """``none``, ``gzip``, ``zstd``, ``bzip2`` or ``xz``, by the first :data:`LONGEST_MAGIC` bytes."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "none")


def decompressed(raw: "io.BufferedReader[Any]", compression: str) -> io.BufferedIOBase:
    """Read ``raw`` plain. Errors in the data come from the module that reads it: EOFError, an OSError without
    a number, or one of its own."""
    if compression == "gzip":
        from isal import igzip

        unzipped: io.BufferedIOBase = igzip.open(raw, "rb")  # type: ignore[no-untyped-call]
        return unzipped
    if compression == "zstd":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        return io.BufferedReader(reader, BUFFER_BYTES)
    if compression == "bzip2":
        import bz2

        return bz2.BZ2File(raw)
    if compression == "xz":
        import lzma

        return lzma.LZMAFile(raw)
    return raw
