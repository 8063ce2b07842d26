"""Detach keys, and the loop between our streams and a container's, without a container."""

import os
import socket
import threading

import pytest

from proa.cli.attachment import Attachment
from proa.cli.terminal import DetachKeys, parse_detach_keys
from proa.transport import Hijacked


def test_detach_keys_are_read_as_docker_reads_them() -> None:
    assert parse_detach_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_detach_keys("a,ctrl-@,ctrl-[,ctrl-_") == b"a\x00\x1b\x1f"
    for nonsense in ("", "ctrl-", "ctrl-1", "ab", "ctrl-pq", "a,,b"):
        with pytest.raises(ValueError, match="unknown character"):
            parse_detach_keys(nonsense)


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"ab\x10\x11cd"], b"ab", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"a\x10", b"b"], b"a\x10b", False),
        ([b"\x10", b"\x10", b"\x11"], b"\x10", True),
        ([b"\x10\x10\x11"], b"\x10", True),
    ],
)
def test_the_sequence_is_found_however_it_is_typed(typed: list[bytes], passed: bytes, detached: bool) -> None:
    keys = DetachKeys(b"\x10\x11")
    through = b""
    for piece in typed:
        out, found = keys.feed(piece)
        through += out
    assert (through, found) == (passed, detached)


class Piped:
    """Our stdin, stdout and stderr as pipes for the time of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from proa.cli import attachment

        self.read_stdin, self.stdin = os.pipe()
        self.stdout, self.write_stdout = os.pipe()
        self.stderr, self.write_stderr = os.pipe()
        for name, fd in (
            ("STDIN", self.read_stdin),
            ("STDOUT", self.write_stdout),
            ("STDERR", self.write_stderr),
        ):
            monkeypatch.setattr(attachment, name, fd)


def test_what_the_container_does_not_take_never_blocks_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """An echo that writes far more than any buffer holds before it reads on."""
    piped = Piped(monkeypatch)
    ours, theirs = socket.socketpair()
    size = 4 << 20

    def feed() -> None:
        os.write(piped.stdin, b"")
        left = size
        while left:
            left -= os.write(piped.stdin, bytes(min(left, 65536)))
        os.close(piped.stdin)

    def echo() -> None:
        while piece := theirs.recv(65536):
            theirs.sendall(piece)
        theirs.close()

    received = 0

    def drain() -> None:
        nonlocal received
        while received < size:
            received += len(os.read(piped.stdout, 65536))

    threads = [threading.Thread(target=target, daemon=True) for target in (feed, echo, drain)]
    for thread in threads:
        thread.start()
    attachment = Attachment(Hijacked(ours, b"", ""), stdin=True, tty=True, detach_keys=b"\x10\x11")
    assert attachment.serve()
    threads[2].join(10)
    assert received == size


def test_frames_go_to_their_streams_and_a_closed_stdin_half_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = Piped(monkeypatch)
    ours, theirs = socket.socketpair()
    os.write(piped.stdin, b"question")
    os.close(piped.stdin)

    def answer() -> None:
        asked = b""
        while piece := theirs.recv(100):
            asked += piece
        theirs.sendall(b"\x02\0\0\0\0\0\0\x03err" + b"\x01\0\0\0\0\0\0\x08" + asked)
        theirs.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    early = b"\x01\0\0\0\0\0\0\x05early"
    assert Attachment(Hijacked(ours, early, ""), stdin=True, tty=False, detach_keys=b"").serve()
    assert os.read(piped.stdout, 100) == b"earlyquestion"
    assert os.read(piped.stderr, 100) == b"err"


def test_detaching_ends_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = Piped(monkeypatch)
    ours, theirs = socket.socketpair()
    os.write(piped.stdin, b"ls\n\x10\x11more")
    attachment = Attachment(Hijacked(ours, b"", ""), stdin=True, tty=True, detach_keys=b"\x10\x11")
    assert not attachment.serve()
    theirs.close()
