"""Sync, pure. The live table of `proa stats`: rows with sparklines, fitted to a terminal's size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import ClassVar

from proa.cli.rows.stats import HISTORY, StatsRow, Tracked
from proa.cli.text.listing import MIN_COLUMN, PADDING, Painter, print_columns
from proa.cli.text.sparkline import sparkline

COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
LEAST_SPARKS = MIN_COLUMN - PADDING
"""A sparkline of fewer readings tells nothing, and its column would be as wide."""
LEAST_TOP_PERCENT = 10.0
"""Else the noise of an idle container would look like a load."""
CYAN, YELLOW, RED, BOLD = "36", "33", "31", "1"

HOME = "\x1b[H"
CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"


class LiveRow(StatsRow):
    """A row with the histories of its last readings, `width` readings each."""

    HEADERS: ClassVar[dict[str, str]] = {
        **StatsRow.HEADERS,
        "CPUHistory": "CPU HISTORY",
        "MemHistory": "MEM HISTORY",
    }

    def __init__(self, tracked: Tracked, width: int, no_trunc: bool) -> None:
        super().__init__(tracked.asked, tracked.usage, no_trunc)
        self._tracked = tracked
        self._width = width

    def CPUHistory(self) -> str:
        return sparkline(tuple(self._tracked.cpu_history), self._width, least_top=LEAST_TOP_PERCENT)

    def MemHistory(self) -> str:
        return sparkline(tuple(self._tracked.memory_history), self._width)


def render(
    tracked: Sequence[Tracked], *, rows: int, columns: int, no_trunc: bool = False, colourful: bool = False
) -> str:
    """One picture of the table, which takes the place of the one before.

    Sparklines get the width that the rest leaves; what does not fit on the terminal is counted below.
    """
    shown, hidden = _fitting(tracked, rows)
    width = _history_width(shown, columns, no_trunc)
    names = _with_histories() if width else COLUMNS
    table = [LiveRow(each, width, no_trunc) for each in shown]
    lines = [[LiveRow.HEADERS[name] for name in names]]
    lines += [[str(getattr(row, name)()) for name in names] for row in table]
    fits = len(max(_print(lines), key=len)) <= columns
    printed = _print(lines, _paint if colourful and fits else None, names)
    if not fits:
        printed = [line[:columns] for line in printed]
    if hidden:
        printed.append(f"… and {hidden} more"[:columns])
    return HOME + f"{CLEAR_LINE}\n".join(printed) + CLEAR_LINE + CLEAR_BELOW


def _fitting(tracked: Sequence[Tracked], rows: int) -> tuple[Sequence[Tracked], int]:
    """Those that there are lines for beside the titles, and how many are left over."""
    room = max(rows - 1, 1)
    if len(tracked) <= room:
        return tracked, 0
    return tracked[: room - 1], len(tracked) - room + 1


def _history_width(tracked: Sequence[Tracked], columns: int, no_trunc: bool) -> int:
    """How many readings fit into each of the two histories; 0 if there is no room for them."""
    rows = [StatsRow(each.asked, each.usage, no_trunc) for each in tracked]
    lines = [[StatsRow.HEADERS[name] for name in COLUMNS]]
    lines += [[str(getattr(row, name)()) for name in COLUMNS] for row in rows]
    width = (columns - len(max(_print(lines), key=len))) // 2 - PADDING
    title = len(LiveRow.HEADERS["CPUHistory"])
    return min(width, HISTORY) if width >= max(LEAST_SPARKS, title) else 0


def _with_histories() -> tuple[str, ...]:
    names: list[str] = []
    for name in COLUMNS:
        names.append(name)
        if name == "CPUPerc":
            names.append("CPUHistory")
        elif name == "MemPerc":
            names.append("MemHistory")
    return tuple(names)


def _print(
    lines: Sequence[Sequence[str]], painter: Painter | None = None, names: Sequence[str] = ()
) -> list[str]:
    out = io.StringIO()
    print_columns(out, lines, painter=painter, names=names)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def _paint(name: str, text: str) -> str:
    colour = {"": BOLD, "CPUHistory": CYAN, "MemHistory": CYAN}.get(name, "")
    if name in ("CPUPerc", "MemPerc") and text.endswith("%"):
        share = float(text.removesuffix("%"))
        colour = RED if share >= 90 else YELLOW if share >= 50 else ""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and text else text
