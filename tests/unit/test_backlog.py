"""What waits for a slow client: in order, complete, and not in memory."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from proad.api import backlog
from proad.api.backlog import Backlog
from tests.api import steps


def test_order_is_kept_across_memory_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MEMORY_BYTES", 1000)
    monkeypatch.setattr(backlog, "SEGMENT_BYTES", 5000)
    queue = Backlog(tmp_path)
    put = taken = b""
    for turn in range(300):
        data = bytes([turn % 256]) * (turn * 7 % 400 + 1)
        queue.put(data)
        put += data
        if turn % 3 == 0:
            taken += queue.take(500)
        assert queue.size == len(put) - len(taken)
    while data := queue.take(900):
        taken += data
    assert taken == put
    assert queue.size == 0
    queue.put(b"again in memory")
    assert queue.take() == b"again in memory"
    assert list(tmp_path.iterdir()) == []  # the files have no names
    queue.close()


def open_files(directory: Path) -> int:
    """How many descriptors this process has of files below it.

    Others may be on their way out: a thread closes what an earlier test gave back.
    """
    count = 0
    for entry in os.scandir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(entry.path).startswith(f"{directory}/")
    return count


def test_files_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MEMORY_BYTES", 10)
    monkeypatch.setattr(backlog, "SEGMENT_BYTES", 1000)
    monkeypatch.setattr(backlog, "LIMIT_BYTES", 40_000)
    queue = Backlog(tmp_path)
    for _ in range(50):
        queue.put(b"x" * 1000)
    assert open_files(tmp_path) == 50
    assert queue.is_full
    for _ in range(40):
        queue.take(1000)
    steps.until(lambda: open_files(tmp_path) == 10)
    assert not queue.is_full
    queue.close()
    steps.until(lambda: open_files(tmp_path) == 0)
