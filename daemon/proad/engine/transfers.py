"""Trio-flavoured. Work that several callers may want at once and that is done once: layers being fetched.

A job runs in the engine's nursery, not in the task of whoever asked first, so it goes on when that one
leaves. The last one to leave cancels it, and waits until it has cleaned up.
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog
import trio

from proad.model import errors
from proad.model.progress import Line

T = TypeVar("T")

Tell = Callable[[Line], None]

log = structlog.get_logger(__name__)


class _Job(Generic[T]):
    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.listeners: list[Tell] = []
        self.last_line: Line | None = None
        self.result: list[T] = []
        self.error: errors.ProaError | None = None

    def tell(self, line: Line) -> None:
        self.last_line = line
        for listener in self.listeners:
            listener(line)


class Transfers(Generic[T]):
    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._jobs: dict[Hashable, _Job[T]] = {}

    async def share(self, key: Hashable, work: Callable[[Tell], Awaitable[T]], listener: Tell) -> T:
        """The result of ``work``, or of the same work (by ``key``) that is under way for somebody else.

        ``listener`` hears of its progress, beginning with what was last said of it.

        Raises:
            errors.ProaError: what the work raises; to all who wait for it.
        """
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job()
            self._nursery.start_soon(self._run, key, job, work)
        elif job.last_line is not None:
            listener(job.last_line)
        job.listeners.append(listener)
        try:
            await job.ended.wait()
        finally:
            job.listeners.remove(listener)
            if not job.listeners and not job.ended.is_set():
                self._forget(key, job)
                job.scope.cancel()
                with trio.CancelScope(shield=True):
                    await job.ended.wait()
        if job.error is not None:
            raise job.error
        if not job.result:
            raise errors.Unavailable("the daemon is shutting down")
        return job.result[0]

    async def _run(self, key: Hashable, job: _Job[T], work: Callable[[Tell], Awaitable[T]]) -> None:
        try:
            with job.scope:
                job.result.append(await work(job.tell))
        except errors.ProaError as error:
            job.error = error
        except Exception as error:
            log.error("transfer crashed", key=str(key), exc_info=error)
            job.error = errors.System(f"internal error: {type(error).__name__}: {error}")
        finally:
            self._forget(key, job)
            job.ended.set()

    def _forget(self, key: Hashable, job: _Job[T]) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]
