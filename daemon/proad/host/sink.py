"""asyncio-flavoured. Where a download goes: a pipe or a file, written to without holding up the loop."""

import asyncio
import errno
import os
import time
from collections.abc import Callable

from proad.model import errors

PROGRESS_INTERVAL_S = 0.1

Progress = Callable[[int], None]
"""Called with how many bytes have come."""


class Sink:
    """A descriptor, which stays the caller's, and how much has gone into it.

    ``is_closed`` becomes true where nobody reads the pipe any more.
    """

    def __init__(self, descriptor: int, progress: Progress | None = None) -> None:
        os.set_blocking(descriptor, False)
        self.offset = 0
        self.is_closed = False
        self._descriptor = descriptor
        self._progress = progress
        self._told_s = 0.0

    async def write(self, data: bytes) -> None:
        """Write all of it, or nothing more once nobody reads.

        Raises:
            errors.System: the disk is full.
        """
        view = memoryview(data)
        while view and not self.is_closed:
            try:
                count = os.write(self._descriptor, view)
            except BlockingIOError:
                await _writable(self._descriptor)
                continue
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise errors.System(f"cannot write what was downloaded: {error.strerror}") from error
                self.is_closed = True
                return
            view = view[count:]
            self.offset += count
        now_s = time.monotonic()
        if self._progress and now_s - self._told_s > PROGRESS_INTERVAL_S:
            self._told_s = now_s
            self._progress(self.offset)


async def _writable(descriptor: int) -> None:
    """Return when a pipe takes more, or nobody reads it any more."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
