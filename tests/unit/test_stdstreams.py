"""Frames and detach keys."""

import pytest

from proad.model import errors
from proad.model.stdstreams import STDERR, DetachScanner, frame, frame_header, parse_detach_keys


def test_frames() -> None:
    assert frame(STDERR, b"abc") == b"\2\0\0\0\0\0\0\3abc"
    assert frame_header(1, 0x01020304) == b"\1\0\0\0\1\2\3\4"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_,DEL", b"\0\x1b\x1c\x1d\x1e\x1f\x7f"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ab", ",", "ctrl-1", "é"])
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match="Invalid detach keys"):
        parse_detach_keys(text)


@pytest.mark.parametrize(
    ("reads", "passed", "detached"),
    [
        ([b"hello"], b"hello", False),
        ([b"ab\x10\x11rest"], b"ab", True),
        ([b"ab\x10", b"\x11"], b"ab", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10"], b"", False),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_the_scanner(reads: list[bytes], passed: bytes, detached: bool) -> None:
    scanner = DetachScanner(b"\x10\x11")
    seen, done = b"", False
    for data in reads:
        out, done = scanner.feed(data)
        seen += out
    assert (seen, done) == (passed, detached)
