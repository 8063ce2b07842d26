"""Sync, pure. A log that is read over several connections comes out as over one."""

import random

import pytest

from proa.resume import Resumer
from proa.streams import StreamName

LINES: list[tuple[StreamName, int, str]] = [
    ("stdout", 1, "one"), ("stdout", 1, "one"), ("stderr", 1, "oops"), ("stdout", 2, ""),
    ("stdout", 3, "three"), ("stderr", 3, "bad"), ("stderr", 3, "bad"), ("stdout", 3, "x" * 90),
    ("stdout", 4, "four"),
]  # fmt: skip


def stamp(second: int) -> str:
    return f"2024-11-23T21:58:{second:02d}.000000000Z"


def sent(since: str | None) -> list[tuple[StreamName, bytes]]:
    """What a daemon sends: whole lines with their times, since one of them."""
    return [
        (stream, f"{stamp(second)} {text}\n".encode())
        for stream, second, text in LINES
        if since is None or stamp(second) >= since
    ]


def collect(shown: dict[StreamName, bytes], resumer: Resumer, pieces: list[tuple[StreamName, bytes]]) -> None:
    for stream, piece in pieces:
        for new in resumer.feed(stream, piece):
            shown[stream] += new


def whole(name: StreamName, *, stamped: bool) -> bytes:
    return "".join(
        f"{stamp(second)} {text}\n" if stamped else f"{text}\n" for s, second, text in LINES if s == name
    ).encode()


def cut(pieces: list[tuple[StreamName, bytes]], count: int) -> list[tuple[StreamName, bytes]]:
    """The first ``count`` bytes."""
    some: list[tuple[StreamName, bytes]] = []
    for stream, piece in pieces:
        some.append((stream, piece[:count]))
        count -= len(piece)
        if count <= 0:
            break
    return some


@pytest.mark.parametrize("stamped", [False, True])
def test_broken_off_anywhere_and_again(*, stamped: bool) -> None:
    total = sum(len(piece) for _, piece in sent(None))
    rng = random.Random(5)
    for first in range(total):
        shown: dict[StreamName, bytes] = {"stdout": b"", "stderr": b""}
        resumer = Resumer(stamped=stamped)
        collect(shown, resumer, cut(sent(None), first))
        for _ in range(rng.randrange(3)):
            collect(shown, resumer, cut(sent(resumer.begin_again()), rng.randrange(1, 200)))
        collect(shown, resumer, sent(resumer.begin_again()))
        for name in shown:
            assert shown[name] == whole(name, stamped=stamped), f"broken off at {first}"


def test_pieces_of_any_size() -> None:
    shown: dict[StreamName, bytes] = {"stdout": b"", "stderr": b""}
    resumer = Resumer(stamped=False)
    pieces = [(name, piece[at : at + 1]) for name, piece in sent(None) for at in range(len(piece))]
    collect(shown, resumer, pieces)
    assert shown == {name: whole(name, stamped=False) for name in shown}


def test_what_the_log_has_thrown_away_meanwhile_is_not_skipped_of_what_is_new() -> None:
    resumer = Resumer(stamped=False)
    assert b"".join(resumer.feed("stdout", f"{stamp(1)} gone soon\n".encode())) == b"gone soon\n"
    resumer.begin_again()
    assert b"".join(resumer.feed("stdout", f"{stamp(2)} new\n".encode())) == b"new\n"
