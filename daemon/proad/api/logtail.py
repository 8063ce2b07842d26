"""asyncio-flavoured. A container's log as a stream of blocks, to its end or on until the run is over."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress

from proad.engine.logs import LogReader

_QUICK_S = 0.005
_PAUSE_S = 0.002
_LOOK_AGAIN_S = 0.05


async def read_log(
    log: LogReader, until_ns: int | None, over: asyncio.Event | None
) -> AsyncGenerator[bytes, None]:
    """Yield what the reader gives, and close it.

    With ``over`` it is followed until that is set and all has been read, or until ``until_ns``.

    Raises:
        errors.System: the disk failed, or the journal.
    """
    news: _News | None = None
    try:
        if over is None:
            log.run_is_over()
        while not log.is_over:
            if over is not None and (over.is_set() or _is_past(until_ns)):
                log.run_is_over()  # said before the read, which then reads all that was written
                over = None
            if log.must_prepare:
                await _on_a_thread(log)
            block, some = log.read()
            if block:
                yield block
            if some:
                await asyncio.sleep(0)  # others want the loop, and a client that keeps up never makes us wait
            elif not log.must_prepare and not log.is_over:
                news = news or _News(log, over)
                await news.wait(until_ns if over is not None else None)
    finally:
        if news is not None:
            news.close()
        log.close()


async def _on_a_thread(log: LogReader) -> None:
    """Have the reader prepare. Whoever is cancelled waits for it: it works on what is closed afterwards."""
    preparing = asyncio.get_running_loop().run_in_executor(None, log.prepare)
    try:
        await asyncio.shield(preparing)
    except asyncio.CancelledError:
        await asyncio.wait([preparing])
        raise


def _is_past(time_ns: int | None) -> bool:
    return time_ns is not None and time.time_ns() > time_ns


class _News:
    """Wakes a follower: there is more, the run is over, or the time is up."""

    def __init__(self, log: LogReader, over: asyncio.Event | None) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._watched_fd: int | None = None
        self._woken_at = 0.0
        self._watch()
        self._ending = self._loop.create_task(self._wait_over(over)) if over is not None else None

    def _watch(self) -> None:
        begins = self._log.news_fd is None
        self._log.watch()
        if self._watched_fd is None and self._log.news_fd is not None:
            self._watched_fd = self._log.news_fd
            self._loop.add_reader(self._watched_fd, self._on_change)
            if begins:
                self._changed.set()  # nobody told us of what came before

    def _unwatch(self) -> None:
        if self._watched_fd is not None:
            self._loop.remove_reader(self._watched_fd)
            self._watched_fd = None

    def _on_change(self) -> None:
        self._unwatch()  # until somebody waits again: a slow client must not keep the loop awake
        self._log.drain_news()
        self._changed.set()

    async def _wait_over(self, over: asyncio.Event) -> None:
        await over.wait()
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
        if self._ending is not None:
            self._ending.cancel()
        self._unwatch()
