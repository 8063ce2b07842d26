"""How progress is drawn, against what docker drew of the same messages."""

import io
import os
import pty
import termios
from contextlib import suppress

import pytest

from proa.cli.messages import Messages, bar

PULL: list[dict[str, object]] = [
    {"status": "Pulling from bb", "id": "1"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "99135b4fd85b"},
    {"status": "Downloading", "progressDetail": {"current": 32768, "total": 1063945}, "id": "99135b4fd85b"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "aaaaaaaaaaaa"},
    {"status": "Download complete", "progressDetail": {}, "id": "99135b4fd85b"},
    {"status": "Digest: sha256:b47a"},
    {"status": "Status: Downloaded newer image for bb:1"},
    {"status": "again", "progressDetail": {}, "id": "99135b4fd85b"},
    {"aux": {"Digest": "x"}},
]


def drawn(messages: list[dict[str, object]], columns: int) -> str:
    """What a terminal of so many columns gets."""
    above, below = pty.openpty()
    attributes = termios.tcgetattr(below)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(below, termios.TCSANOW, attributes)
    termios.tcsetwinsize(below, (24, columns))
    with os.fdopen(below, "w") as out:
        shown = Messages(out)
        for message in messages:
            shown.show(message)
    text = b""
    with suppress(OSError):  # how a terminal says that its other side has gone
        while piece := os.read(above, 1 << 16):
            text += piece
    os.close(above)
    return text.decode()


def test_on_a_terminal_layers_have_lines() -> None:
    empty = " " * 49
    assert drawn(PULL, 120) == (
        "1: Pulling from bb\n"
        "\n\x1b[1A\x1b[2K\r99135b4fd85b: Pulling fs layer \r\x1b[1B"
        f"\x1b[1A\x1b[2K\r99135b4fd85b: Downloading [=>{empty}]  32.77kB/1.064MB\r\x1b[1B"
        "\n\x1b[1A\x1b[2K\raaaaaaaaaaaa: Pulling fs layer \r\x1b[1B"
        "\x1b[2A\x1b[2K\r99135b4fd85b: Download complete \r\x1b[2B"
        "Digest: sha256:b47a\n"
        "Status: Downloaded newer image for bb:1\n"
        "\n\x1b[1A\x1b[2K\r99135b4fd85b: again \r\x1b[1B"
    )
    assert "Downloading  32.77kB/1.064MB\r" in drawn(PULL, 110)


def test_elsewhere_numbers_are_left_out() -> None:
    out = io.StringIO()
    shown = Messages(out)
    for message in [
        *PULL,
        {"stream": "Step 1/2 : FROM x\n"},
        {"errorDetail": {"message": "no"}, "error": "no"},
    ]:
        shown.show(message)
    assert out.getvalue() == (
        "1: Pulling from bb\n"
        "99135b4fd85b: Pulling fs layer\n"
        "aaaaaaaaaaaa: Pulling fs layer\n"
        "99135b4fd85b: Download complete\n"
        "Digest: sha256:b47a\n"
        "Status: Downloaded newer image for bb:1\n"
        "99135b4fd85b: again\n"
        "Step 1/2 : FROM x\n"
    )


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        ({}, ""),
        ({"current": 1}, "      1B"),
        ({"current": 1000, "total": 0}, "     1kB"),
        ({"current": 3, "units": "layers"}, "3 layers"),
        ({"current": 0, "total": 10}, f"[>{' ' * 50}]       0B/10B"),
        ({"current": 10, "total": 10}, f"[{'=' * 50}>]      10B/10B"),
        ({"current": 20, "total": 10}, f"[{'=' * 50}>]      20B"),
        ({"current": 5, "total": 10, "units": "files"}, f"[{'=' * 25}>{' ' * 25}] 5/10 files"),
        ({"current": 5, "total": 10, "hidecounts": True}, f"[{'=' * 25}>{' ' * 25}] "),
    ],
)
def test_bars(progress: dict[str, object], text: str) -> None:
    assert bar(progress, 200) == text
