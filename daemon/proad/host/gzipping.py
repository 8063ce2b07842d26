"""Trio-flavoured. A file compressed with gzip: always to the same bytes, in a thread.

The header has no time and no name.
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio
from isal import isal_zlib

from proad.model import errors

LEVEL = 2
PIECE_BYTES = 1 << 18
PROGRESS_INTERVAL_S = 0.1
_GZIP = 31
"""zlib's number for a window of 32 KB in gzip's own wrapping."""


@dataclass(frozen=True)
class Gzipped:
    digest: str
    size_bytes: int


async def gzip_file(source: Path, target: Path, progress: Callable[[int], None] | None = None) -> Gzipped:
    """Compress ``source`` into the new file ``target``, on the disk; ``progress`` hears of bytes read.

    Raises:
        errors.System: the disk is full, or fails.
    """
    try:
        return await trio.to_thread.run_sync(_gzip, source, target, progress)
    except OSError as error:
        text = "no space left on device" if error.errno == errno.ENOSPC else error.strerror
        raise errors.System(f"cannot compress a layer: {text}") from error


def _gzip(source: Path, target: Path, progress: Callable[[int], None] | None) -> Gzipped:
    compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _GZIP)
    digest, told_s = hashlib.sha256(), 0.0
    with source.open("rb", buffering=0) as plain, target.open("xb") as packed:
        while True:
            trio.from_thread.check_cancelled()
            piece = plain.read(PIECE_BYTES)
            out = compressor.compress(piece) if piece else compressor.flush()
            digest.update(out)
            packed.write(out)
            if not piece:
                break
            if progress and time.monotonic() - told_s > PROGRESS_INTERVAL_S:
                told_s = time.monotonic()
                trio.from_thread.run_sync(progress, plain.tell())
        packed.flush()
        os.fsync(packed.fileno())
        return Gzipped(f"sha256:{digest.hexdigest()}", packed.tell())
