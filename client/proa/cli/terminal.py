"""Sync, blocking. The user's terminal: raw mode, its size, and the keys that detach from a container."""

from __future__ import annotations

import os
import termios
import tty
from types import TracebackType

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class RawTerminal:
    """While entered, a terminal that passes every key on and prints every byte as it is; then as it was."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[object] = []

    def __enter__(self) -> RawTerminal:
        self._before = termios.tcgetattr(self._fd)
        tty.setraw(self._fd, termios.TCSANOW)  # the default would throw away what was typed ahead
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]


def size(fd: int) -> tuple[int, int]:
    """Rows and columns of the terminal at a descriptor; (0, 0) when it is none."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return rows, columns


def parse_detach_keys(text: str) -> bytes:
    """The bytes of a key sequence such as "ctrl-p,ctrl-q" or "a,ctrl-@". Raises ValueError."""
    keys = bytearray()
    for name in text.split(","):
        control = name.removeprefix("ctrl-")
        if control == name and len(name.encode()) == 1:
            keys += name.encode()
        elif control != name and len(control) == 1 and control.isascii() and control.isalpha():
            keys.append(ord(control.lower()) - ord("a") + 1)
        elif control != name and control in _CONTROL:
            keys.append(_CONTROL[control])
        else:
            raise ValueError(f"unknown character: '{name}' in the detach keys; give such as ctrl-p,ctrl-q")
    return bytes(keys)


class DetachKeys:
    """Watches what is typed for the detach sequence, which is kept back until it is complete or disproved."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the sequence is complete (what follows it is dropped)."""
        data = self._held + typed
        self._held = b""
        if not self._keys:
            return data, False
        found = data.find(self._keys)
        if found >= 0:
            return data[:found], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if self._keys.startswith(data[-length:]):
                self._held = data[-length:]
                return data[:-length], False
        return data, False
