"""Trio-flavoured. Brings the database's log to the disk off the loop, once for all who wait.

A commit that flushes costs the disk's 0.4 to 25 ms, and on the loop everybody would wait for it. What is
committed without is safe from the death of any process, and is made safe from a power cut here: SQLite's log
in WAL mode is one file that is only appended to, so flushing it is the same as the flush of a commit
(https://sqlite.org/wal.html). While one flush is under way, all who come share the next.
"""

import os
from pathlib import Path

import trio

from proad.model import errors


class Flusher:
    """Flushes one database's log. ``committed`` is told of each commit."""

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._descriptor = -1
        self._commits = 0
        self._flushed = 0
        self._under_way: trio.Event | None = None

    def committed(self) -> None:
        self._commits += 1

    async def flush(self) -> None:
        """Return when everything committed before the call is on the disk.

        Raises:
            errors.System: the disk fails.
        """
        wanted = self._commits
        while self._flushed < wanted:
            if self._under_way is not None:
                await self._under_way.wait()
            else:
                await self._flush_once()

    async def _flush_once(self) -> None:
        covered = self._commits
        done = self._under_way = trio.Event()
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._log_path, os.O_RDONLY | os.O_CLOEXEC)
            await trio.to_thread.run_sync(os.fdatasync, self._descriptor)
            self._flushed = covered
        except OSError as error:
            raise errors.System(f"state database: {self._log_path}: {error.strerror}") from error
        finally:
            self._under_way = None
            done.set()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
