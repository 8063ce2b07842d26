"""Sync, blocking. Progress of uploads and downloads, on a terminal only."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from typing import BinaryIO

from proa.transport import Readable

# Below this an upload is over before a bar could be read, and the bar's import would take longer.
WORTH_SHOWING_BYTES = 8 * 1024 * 1024


@contextmanager
def shown(file: BinaryIO | FileIO, what: str, quiet: bool) -> Iterator[Readable]:
    """The file, read through a bar on stderr: with its share where the size is known, else with its rate."""
    size = _size(file)
    if quiet or not sys.stderr.isatty() or (size is not None and size < WORTH_SHOWING_BYTES):
        yield file
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=size)
        yield _Counted(file, lambda count: progress.advance(task, count), progress.stop)


@contextmanager
def counted(file: BinaryIO, what: str) -> Iterator[Callable[[bytes], object]]:
    """How to write to the file: on a terminal, with how much and how fast shown on stderr.

    Nothing is shown of a file that is a terminal itself.
    """
    if not sys.stderr.isatty() or file.isatty():
        yield file.write
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def write(data: bytes) -> None:
            file.write(data)
            progress.advance(task, len(data))

        yield write


@contextmanager
def advancing(what: str, total: int | None, *, is_wanted: bool) -> Iterator[Callable[[int], object]]:
    """What to call with each number of bytes that has gone through; shown on stderr if it is a terminal."""
    is_short = total is not None and total < WORTH_SHOWING_BYTES
    if not is_wanted or is_short or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


def _size(file: BinaryIO | FileIO) -> int | None:
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


class _Counted:
    """A file whose reading is counted; at its end the answer begins, and with that what else is shown."""

    def __init__(
        self, file: BinaryIO | FileIO, count: Callable[[int], object], stop: Callable[[], object]
    ) -> None:
        self._file = file
        self._count = count
        self._stop = stop

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._count(len(data))
        if not data:
            self._stop()
        return data
