"""Sync, blocking. The daemon's messages about work in progress, printed as docker prints them.

On a terminal each part of the work has a line of its own, that is written over as it goes on; elsewhere only
what is not a number is printed, line by line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TextIO

from proa.cli.text.units import human_size

BAR_WIDTH = 50
NARROW = 110
"""Terminals of no more columns have no room for bars."""
UNKNOWN_WIDTH = 200


class Messages:
    """Where messages are printed. Hand `show` over as `progress`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._lines: dict[str, int] = {}
        """Which line, from the top, each part of the work has."""

    def show(self, message: Mapping[str, Any]) -> None:
        """Print one; those that are for programs (`aux`) and errors are not."""
        if message.get("aux") is not None or message.get("errorDetail") or message.get("error"):
            return
        part = message.get("id") or ""
        progress = message.get("progressDetail")
        up = self._lines_up(part) if part and (progress is not None or message.get("progress")) else 0
        if up == 0:
            self._lines.clear()  # what is printed now moves them all
        if not self._is_terminal:
            if not bar(progress or {}, UNKNOWN_WIDTH):
                self._out.write(_line(message))
        else:
            text = self._placed(message, progress)
            self._out.write(f"\x1b[{up}A{text}\x1b[{up}B" if up else text)
        self._out.flush()

    def _lines_up(self, part: str) -> int:
        if part not in self._lines:
            self._lines[part] = len(self._lines)
            if self._is_terminal:
                self._out.write("\n")
        return len(self._lines) - self._lines[part]

    def _placed(self, message: Mapping[str, Any], progress: Mapping[str, Any] | None) -> str:
        if progress is None or message.get("stream"):
            return _line(message)
        status = f"{message.get('status', '')} {bar(progress, self._width())}"
        return f"\x1b[2K\r{_prefix(message)}{status}\r"

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._out.fileno()).columns
        except OSError:
            return UNKNOWN_WIDTH


def bar(progress: Mapping[str, Any], width: int) -> str:
    """How far the work has come, for a terminal of so many columns; empty where nothing is known of it."""
    current, total = progress.get("current") or 0, progress.get("total") or 0
    units = progress.get("units") or ""
    if current <= 0 and total <= 0:
        return ""
    done = f"{current} {units}" if units else f"{human_size(current):>8}"
    if total <= 0:
        return done
    filled = min(int(current / total * 100) // 2, BAR_WIDTH)
    drawn = f"[{'=' * filled}>{' ' * (BAR_WIDTH - filled)}] " if width > NARROW else ""
    if progress.get("hidecounts"):
        return drawn
    if current > total:
        return drawn + done
    if units:
        return f"{drawn}{current}/{total} {units}"
    return f"{drawn}{human_size(current):>8}/{human_size(total)}"


def _line(message: Mapping[str, Any]) -> str:
    if message.get("progress"):  # of daemons that draw bars themselves
        return f"{_prefix(message)}{message.get('status', '')} {message['progress']}"
    if message.get("stream"):
        return f"{_prefix(message)}{message['stream']}"
    return f"{_prefix(message)}{message.get('status', '')}\n"


def _prefix(message: Mapping[str, Any]) -> str:
    part, origin = message.get("id"), message.get("from")
    return (f"{part}: " if part else "") + (f"(from {origin}) " if origin else "")
