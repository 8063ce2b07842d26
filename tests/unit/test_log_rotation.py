"""Sync. The files of a log: switched, cut, packed; whatever step dies, no line is lost, torn or doubled."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proad.host.logchain import LogChain
from proad.host.logrotate import LogFiles, rotated_files, torn_streams
from proad.model.logoptions import LogPolicy

HEAD = "2024-11-23T21:58:00.000000000+00:00"


class Killed(BaseException):
    """The daemon dies here."""


def lines(first: int, last: int, *, stream: str = "stdout") -> bytes:
    return b"".join(b"%s %s F %06d\n" % (HEAD.encode(), stream.encode(), n) for n in range(first, last + 1))


LINE_BYTES = len(lines(0, 0))


def part(text: str, *, stream: str = "stdout", tag: str = "P") -> bytes:
    return f"{HEAD} {stream} {tag} {text}\n".encode()


def text_of(live: Path, tail: int | None = None) -> bytes:
    chain = LogChain(live, follow=False)
    if tail is not None:
        chain.seek_tail(tail)
    text = b""
    while (block := chain.read()) or chain.must_prepare:
        text += block
        if chain.must_prepare:
            chain.prepare()
    chain.close()
    return text


def numbers_of(live: Path) -> list[int]:
    return [int(line.rsplit(b" ", 1)[1]) for line in text_of(live).splitlines()]


def switch(files: LogFiles) -> None:
    """What the keeper does, and conmon at its word."""
    files.begin_switch()
    files.live.with_name(f"{files.live.name}.tmp").rename(files.live)
    files.note_torn_line()


def rework(files: LogFiles, *, ended: bool = False) -> None:
    if files.needs_rework(ended=ended):
        files.rework(ended=ended)
    files.finish()


@pytest.fixture
def live(tmp_path: Path) -> Path:
    path = tmp_path / "container.log"
    path.touch()
    return path


def append(live: Path, data: bytes) -> None:
    with live.open("ab") as file:
        file.write(data)


def sizes(live: Path) -> list[tuple[str, int]]:
    return [(file.path.name, file.path.stat().st_size) for file in rotated_files(live)]


def test_files_get_dockers_names_and_the_oldest_goes(live: Path) -> None:
    files = LogFiles(live, LogPolicy(LINE_BYTES * 10, rotated_files=2))
    for number in range(5):
        append(live, lines(number * 10, number * 10 + 9))
        assert files.is_full()
        switch(files)
        assert not files.is_full()
    append(live, lines(50, 50))
    assert sorted(os.listdir(live.parent)) == ["container.log", "container.log.1", "container.log.2"]
    assert numbers_of(live) == list(range(30, 51))
    assert live.with_name("container.log.1").read_bytes() == lines(40, 49)


def test_a_file_between_two_names_is_read_once(live: Path) -> None:
    append(live, lines(1, 9))
    files = LogFiles(live, LogPolicy(10, rotated_files=1))
    files.begin_switch()
    assert files.is_switching()
    assert numbers_of(live) == list(range(1, 10))
    files.take_back_switch()
    assert not files.is_switching()
    assert os.listdir(live.parent) == ["container.log"]


def test_a_live_file_that_stayed_empty_is_not_the_last(live: Path) -> None:
    files = LogFiles(live, LogPolicy(10, rotated_files=2))
    files.drop_empty_live()
    append(live, lines(1, 9))
    files.drop_empty_live()
    switch(files)
    assert live.stat().st_size == 0
    files.drop_empty_live()
    assert (sizes(live), numbers_of(live)) == ([], list(range(1, 10)))
    assert live.read_bytes() == lines(1, 9)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_what_is_too_large_is_cut_at_the_ends_of_lines(live: Path, *, ended: bool, compress: bool) -> None:
    policy = LogPolicy(LINE_BYTES * 10 + 7, rotated_files=3, compress=compress)
    files = LogFiles(live, policy)
    append(live, lines(0, 9))
    switch(files)
    append(live, lines(10, 214))
    if not ended:
        switch(files)
    assert files.needs_rework(ended=ended)
    files.rework(ended=ended)
    files.finish()
    kept = numbers_of(live)
    assert kept == list(range(kept[0], 215))
    assert len(kept) >= 0.7 * policy.file_bytes * (3 + ended) / LINE_BYTES
    assert len(rotated_files(live)) == 3
    assert all(file.is_packed == compress for file in rotated_files(live))
    assert live.stat().st_size <= policy.file_bytes + LINE_BYTES
    if not compress:
        assert all(size <= policy.file_bytes + LINE_BYTES for _, size in sizes(live))
    assert not files.needs_rework(ended=True)


def test_a_little_too_large_is_left_and_packed_where_asked(live: Path) -> None:
    append(live, lines(0, 10))
    files = LogFiles(live, LogPolicy(LINE_BYTES * 10, rotated_files=2))
    switch(files)
    assert not files.needs_rework(ended=False)
    packing = LogFiles(live, LogPolicy(LINE_BYTES * 10, rotated_files=2, compress=True))
    assert packing.needs_rework(ended=False)
    packing.rework(ended=False)
    packing.finish()
    assert [file.path.name for file in rotated_files(live)] == ["container.log.1.gz"]
    assert not packing.needs_rework(ended=False)
    append(live, lines(11, 30))
    switch(packing)
    assert [file.path.name for file in rotated_files(live)] == ["container.log.1", "container.log.2.gz"]
    append(live, lines(31, 40))
    assert numbers_of(live) == list(range(41))
    for count in (0, 1, 5, 12, 30, 35, 41, 99):
        wanted = range(41 - min(count, 41), 41)
        assert [int(x.rsplit(b" ", 1)[1]) for x in text_of(live, tail=count).splitlines()] == list(wanted)


def test_a_line_whose_beginning_is_gone_is_not_shown(live: Path) -> None:
    files = LogFiles(live, LogPolicy(1, rotated_files=1))
    append(live, lines(1, 2) + part("begin") + lines(3, 3, stream="stderr"))
    switch(files)
    assert torn_streams(live) == {b"stdout"}
    append(live, part("mid") + lines(4, 4, stream="stderr") + part("end", tag="F") + lines(5, 5))
    assert text_of(live).endswith(
        part("begin") + lines(3, 3, stream="stderr") + part("mid") + lines(4, 4, stream="stderr")
        + part("end", tag="F") + lines(5, 5)
    )  # fmt: skip
    switch(files)  # now the beginning goes
    assert text_of(live) == lines(4, 4, stream="stderr") + lines(5, 5)
    assert torn_streams(live) == frozenset()


def test_pieces_of_a_line_that_is_longer_than_a_file(live: Path) -> None:
    files = LogFiles(live, LogPolicy(20_000, rotated_files=3))
    append(live, b"".join(part("x" * 8000) for _ in range(50)) + part("end", tag="F") + lines(1, 3))
    switch(files)
    files.rework(ended=False)
    files.finish()
    assert text_of(live) == lines(1, 3)


def test_a_follower_goes_on_through_cut_and_removed_files(live: Path) -> None:
    files = LogFiles(live, LogPolicy(LINE_BYTES * 10, rotated_files=1))
    chain = LogChain(live, follow=True)
    for number in range(6):
        append(live, lines(number * 40, number * 40 + 39))
        switch(files)
        chain.go_on_with(os.open(live, os.O_RDONLY))
        files.rework(ended=False)
        files.finish()
    append(live, lines(240, 240))
    seen = b""
    while block := chain.read():
        seen += block
    chain.close()
    assert seen == lines(0, 240)


def test_packed_files_older_than_wanted_are_not_unpacked(live: Path) -> None:
    files = LogFiles(live, LogPolicy(10, rotated_files=3, compress=True))
    for number in range(3):
        append(live, lines(number, number))
        switch(files)
        files.rework(ended=False)
        files.finish()
        packed = live.with_name("container.log.1.gz")
        os.utime(packed, (number * 10, number * 10))
    append(live, lines(3, 3))
    chain = LogChain(live, follow=False, since_ns=15 * 10**9)
    assert chain.must_prepare
    chain.prepare()
    assert chain.read() + chain.read() == lines(2, 3)
    chain.close()


def _die_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Have the ``step``-th change of the file system not happen; returns whether it was reached."""
    count = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                raise Killed
            return real(*args, **kwargs)

        return call

    for module, name in (
        (os, "link"), (os, "sendfile"), (os, "utime"), (Path, "rename"), (Path, "unlink"), (Path, "rmdir"),
        (Path, "mkdir"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    return lambda: count >= step


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_whatever_step_dies_the_next_daemon_finds_every_line(
    tmp_path: Path, *, ended: bool, compress: bool
) -> None:
    """Each change of the file system in turn is the one before which the daemon is killed."""
    policy = LogPolicy(LINE_BYTES * 10, rotated_files=4, compress=compress)
    for step in range(1, 100):
        live = tmp_path / str(step) / "container.log"
        live.parent.mkdir()
        live.touch()
        before = LogFiles(live, policy)
        for number in range(3):
            append(live, lines(number * 10, number * 10 + 9))
            switch(before)
            rework(before)
        append(live, lines(30, 60))
        with pytest.MonkeyPatch.context() as patch:
            reached = _die_at(step, patch)
            try:
                if not ended:
                    switch(before)
                rework(before, ended=ended)
            except Killed:
                pass
        after = LogFiles(live, policy)
        after.finish()
        if after.is_switching():
            after.take_back_switch()
        kept = numbers_of(live)
        assert kept == list(range(kept[0], 61)), f"step {step}"
        assert kept[0] <= 40, f"step {step}"
        append(live, lines(61, 80))
        switch(after)
        rework(after)
        kept = numbers_of(live)
        assert kept == list(range(kept[0], 81)), f"step {step}"
        assert not live.with_name("log.parts").exists()
        assert not live.with_name("log.parts.tmp").exists()
        assert len(rotated_files(live)) <= policy.rotated_files
        shutil.rmtree(live.parent)
        if not reached():
            return
    pytest.fail("there are more steps than expected")
