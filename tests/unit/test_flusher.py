"""Flushing the database's log: all who wait share it, none returns before its own commit is covered."""

import errno
import os
import threading
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from proad.model import errors
from proad.store.flusher import Flusher


class SlowDisk:
    """Stands in for fdatasync(2): counts, and takes as long as the test wants."""

    def __init__(self) -> None:
        self.flushes = 0
        self.may_end = threading.Semaphore(0)

    def __call__(self, descriptor: int) -> None:
        self.may_end.acquire()
        os.fstat(descriptor)  # a real descriptor
        self.flushes += 1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    disk = SlowDisk()
    monkeypatch.setattr("proad.store.flusher.os.fdatasync", disk)
    return disk


def flusher_at(path: Path) -> Flusher:
    path.touch()
    return Flusher(path)


def test_who_comes_during_a_flush_shares_the_next(tmp_path: Path, disk: SlowDisk) -> None:
    async def main() -> None:
        flusher = flusher_at(tmp_path / "log")
        flusher.committed()
        returned: list[str] = []

        async def flush(name: str) -> None:
            await flusher.flush()
            returned.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flush, "first")
            await wait_all_tasks_blocked()
            for number in range(5):
                flusher.committed()
                nursery.start_soon(flush, f"later {number}")
            await wait_all_tasks_blocked()
            disk.may_end.release()
            while not returned:
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked()
            assert returned == ["first"]  # the others' commits came after the flush began
            disk.may_end.release()
        assert disk.flushes == 2
        assert len(returned) == 6
        await flusher.flush()  # nothing new: no flush
        assert disk.flushes == 2
        flusher.close()

    trio.run(main)


def test_a_failing_disk_is_told_and_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [OSError(errno.EIO, "Input/output error"), None]

    def failing(_: int) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr("proad.store.flusher.os.fdatasync", failing)

    async def main() -> None:
        flusher = flusher_at(tmp_path / "log")
        flusher.committed()
        with pytest.raises(errors.System, match="Input/output error"):
            await flusher.flush()
        await flusher.flush()
        assert answers == []
        flusher.close()

    trio.run(main)
