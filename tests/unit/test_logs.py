"""Log lines as conmon writes them, shaped as Docker shows them."""

import os
import random
from pathlib import Path

import pytest

from proad.host.logchain import LogChain
from proad.host.logs import LogFile, TailSearch
from proad.model.loglines import Shape, Shaper
from proad.model.stdstreams import frame

HEAD = "2024-11-23T21:58:{second:02d}.{fraction:09d}+00:00"
AT_ZERO_NS = 1732399080 * 10**9  # 2024-11-23T21:58:00Z


def line(text: str, *, stream: str = "stdout", tag: str = "F", second: int = 0, fraction: int = 0) -> bytes:
    return f"{HEAD.format(second=second, fraction=fraction)} {stream} {tag} {text}\n".encode()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "container.log"


def read_all(path: Path, shape: Shape, tail: int | None = None) -> bytes:
    file = LogChain(path, follow=False)
    if tail is not None:
        file.seek_tail(tail)
    shaper = Shaper(shape)
    shown = b""
    while block := file.read():
        shown += shaper.shape(block)
    file.close()
    return shown


PLAIN = Shape(multiplexed=False)


def test_bytes_come_back_exactly(log: Path) -> None:
    """Whatever a program writes, in pieces of any length: the log gives it back."""
    rng = random.Random(3)
    wanted = b""
    with log.open("wb") as file:
        for _ in range(500):
            chunk = bytes(rng.choice(b"ab\n\r\0\xff") for _ in range(rng.randrange(1, 40)))
            wanted += chunk
            for piece in chunk.splitlines(keepends=True) if b"\r" not in chunk else _pieces(chunk):
                tag = "F" if piece.endswith(b"\n") else "P"
                file.write(line("", tag=tag)[:-1] + piece + (b"" if tag == "F" else b"\n"))
    assert read_all(log, PLAIN) == wanted
    framed = read_all(log, Shape())
    assert len(framed) > len(wanted)


def _pieces(chunk: bytes) -> list[bytes]:
    parts = chunk.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def test_frames_and_selection(log: Path) -> None:
    long = "x" * 5000
    log.write_bytes(line("out") + line("err", stream="stderr") + line("part", tag="P") + line(long))
    assert read_all(log, Shape()) == (
        frame(1, b"out\n") + frame(2, b"err\n") + frame(1, b"part") + frame(1, long.encode() + b"\n")
    )
    assert read_all(log, Shape(stdout=False)) == frame(2, b"err\n")
    assert read_all(log, Shape(stderr=False, multiplexed=False)) == b"out\npart" + long.encode() + b"\n"


def test_decoration_comes_once_a_line_in_each_stream(log: Path) -> None:
    log.write_bytes(
        line("o1", tag="P", second=1)
        + line("e1", tag="P", stream="stderr", second=2)
        + line("o2", second=3)
        + line("e2", stream="stderr", second=4)
    )
    shape = Shape(multiplexed=False, timestamps=True, details=b"k=v")
    assert read_all(log, shape) == (
        b"2024-11-23T21:58:01.000000000Z k=v o12024-11-23T21:58:02.000000000Z k=v e1o2\ne2\n"
    )
    assert read_all(log, Shape(multiplexed=False, details=b"")) == b" o1 e1o2\ne2\n"


@pytest.mark.parametrize(
    ("since", "until", "wanted"),
    [
        (None, None, b"012345"),
        (0, None, b"012345"),
        (2, None, b"2345"),
        (2, 4, b"234"),
        (None, 0, b"0"),
        (5, 5, b"5"),
        (6, None, b""),
        (9, 1, b""),
    ],
)
def test_since_and_until_are_inclusive(
    log: Path, since: int | None, until: int | None, wanted: bytes
) -> None:
    log.write_bytes(b"".join(line(str(second), second=second) for second in range(6)))
    shape = Shape(
        multiplexed=False,
        since_ns=None if since is None else AT_ZERO_NS + since * 10**9,
        until_ns=None if until is None else AT_ZERO_NS + until * 10**9,
    )
    assert read_all(log, shape).replace(b"\n", b"") == wanted
    finer = Shape(multiplexed=False, since_ns=AT_ZERO_NS + 2 * 10**9 + 1)
    assert read_all(log, finer) == b"3\n4\n5\n"


def test_far_away_times_do_not_fail(log: Path) -> None:
    log.write_bytes(line("x"))
    assert read_all(log, Shape(multiplexed=False, since_ns=-5, until_ns=10**30)) == b"x\n"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 100])
def test_the_tail_is_counted_in_lines_of_output(log: Path, count: int) -> None:
    lines = [f"line {number} " + "x" * (number * 90_000) for number in range(5)]
    with log.open("wb") as file:
        for text in lines:
            file.write(line(text[:10], tag="P") + line(text[10:]))
        file.write(line("unfinished", tag="P"))
    wanted = [text + "\n" for text in lines] + ["unfinished"]
    assert read_all(log, PLAIN, tail=count).decode() == "".join(wanted[len(wanted) - min(count, 6) :])


def test_a_tail_of_an_empty_log(log: Path) -> None:
    assert read_all(log, PLAIN, tail=3) == b""
    log.touch()
    descriptor = os.open(log, os.O_RDONLY)
    assert TailSearch(3).look(descriptor, 0) is None
    os.close(descriptor)


def test_a_line_being_written_waits(log: Path) -> None:
    log.write_bytes(line("whole") + line("half")[:-3])
    file = LogFile(os.open(log, os.O_RDONLY))
    assert file.read() == line("whole")
    assert file.read() == b""
    with log.open("ab") as more:
        more.write(line("half")[-3:])
    assert file.read() == line("half")
    file.close()


def test_a_file_that_comes_later_and_goes_on_in_another(log: Path) -> None:
    chain = LogChain(log, follow=True)
    assert chain.read() == b""
    log.write_bytes(line("1"))
    assert chain.read() == line("1")
    log.rename(log.with_suffix(".log.1"))
    log.write_bytes(line("2"))
    with log.with_suffix(".log.1").open("ab") as late:
        late.write(line("late"))
    chain.go_on_with(os.open(log, os.O_RDONLY))
    assert chain.read() + chain.read() == line("late") + line("2")
    assert chain.read() == b""
    chain.close()


def test_a_fast_writer_cannot_keep_a_reader_for_ever(log: Path) -> None:
    log.write_bytes(line("1"))
    file = LogChain(log, follow=False)
    with log.open("ab") as more:
        more.write(line("2"))
    assert file.read() == line("1")
    assert file.read() == b""
    file.close()
