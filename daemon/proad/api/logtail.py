"""asyncio-flavoured. A container's log as a stream of blocks, to its end or on until the run is over."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from proad.engine.logs import LogReader
from proad.model.loglines import Shape

_MAX_QUICK_TAIL = 10_000
"""To find more lines than this from the end is done off the loop."""
_QUICK_S = 0.005
_PAUSE_S = 0.002
_LOOK_AGAIN_S = 0.05


async def read_log(
    path: Path, shape: Shape, *, tail: int | None, over: asyncio.Event | None
) -> AsyncIterator[bytes]:
    """Yield the log in ``shape``: the last ``tail`` lines of it, None for all.

    With ``over`` it is followed until that is set and all has been read, or until ``shape.until_ns``;
    without, it ends where the file ended at the call.
    """
    log = LogReader(path, shape, follow=over is not None)
    news = _News(log, over) if over is not None else None
    try:
        if tail is not None and tail > _MAX_QUICK_TAIL:
            await asyncio.get_running_loop().run_in_executor(None, log.seek_tail, tail)
        elif tail is not None:
            log.seek_tail(tail)
        while not log.is_over:
            ended = over is not None and over.is_set()  # asked first: what was written before is then read
            block, some = log.read()
            if block:
                yield block
            if some:
                await asyncio.sleep(0)  # others want the loop, and a client that keeps up never makes us wait
            elif news is None or ended or _is_past(shape.until_ns):
                return
            else:
                await news.wait(shape.until_ns)
    finally:
        if news is not None:
            news.close()
        log.close()


def _is_past(time_ns: int | None) -> bool:
    return time_ns is not None and time.time_ns() > time_ns


class _News:
    """Wakes a follower: the file grew, the run is over, or the time is up."""

    def __init__(self, log: LogReader, over: asyncio.Event) -> None:
        self._log = log
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._watched_fd: int | None = None
        self._woken_at = 0.0
        self._watch()
        self._ending = self._loop.create_task(self._wait_over())

    def _watch(self) -> None:
        self._log.watch()
        if self._watched_fd is None and self._log.news_fd is not None:
            self._watched_fd = self._log.news_fd
            self._loop.add_reader(self._watched_fd, self._on_change)
            self._changed.set()

    def _on_change(self) -> None:
        self._log.drain_news()
        self._changed.set()

    async def _wait_over(self) -> None:
        await self._over.wait()
        self._changed.set()

    async def wait(self, until_ns: int | None) -> None:
        """Return when there may be more to read, or at ``until_ns``; of news in quick succession not each."""
        if time.monotonic() - self._woken_at < _QUICK_S:
            await asyncio.sleep(_PAUSE_S)
        timeout_s = None if until_ns is None else max(0.0, (until_ns - time.time_ns()) / 1e9) + 0.001
        self._watch()
        if self._watched_fd is None:
            timeout_s = _LOOK_AGAIN_S
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()
        self._woken_at = time.monotonic()

    def close(self) -> None:
        self._ending.cancel()
        if self._watched_fd is not None:
            self._loop.remove_reader(self._watched_fd)
