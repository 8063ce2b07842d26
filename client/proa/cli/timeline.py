"""Sync, pure. The measured steps of a start as a waterfall: what took how long, what ran side by side."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, TextIO

from proa.cli.session import is_colourful

if TYPE_CHECKING:
    from proa.types import ContainerDetails, TimelineStep

MIN_BAR, MAX_BAR = 20, 80
_EIGHTHS = " ▏▎▍▌▋▊▉█"
CYAN, DIM = "\x1b[36m", "\x1b[2m"


def print_timeline(out: TextIO, details: ContainerDetails) -> None:
    """Print the waterfall of a container's latest start, or say that there is none."""
    timeline = details.get("ProaTimeline")
    name = details.get("Name", "").removeprefix("/")
    if not timeline or not timeline.get("Steps"):
        out.write(f"{name}: no measured start (it has not run yet, or the daemon does not measure)\n")
        return
    steps = sorted(timeline["Steps"], key=lambda step: (step["BeginMs"], step["EndMs"]))
    end_ms = max(step["EndMs"] for step in steps)
    label = max(len(step["Name"]) for step in steps)
    width = max(MIN_BAR, min(MAX_BAR, shutil.get_terminal_size().columns - label - 24))
    out.write(f"{name}: started in {end_ms:.1f} ms (run {timeline.get('RunID', '')[:12]})\n")
    out.write(f"{'STEP':<{label}}  {'FROM':>8}  {'TOOK':>8}\n")
    for step in steps:
        out.write(f"{_line(step, label, end_ms, width, is_colourful(out))}\n")


def _line(step: TimelineStep, label: int, end_ms: float, width: int, colourful: bool) -> str:
    begin, took = step["BeginMs"], step["EndMs"] - step["BeginMs"]
    bar = _bar(begin / end_ms, step["EndMs"] / end_ms, width) if end_ms > 0 else ""
    if colourful:
        bar = f"{CYAN}{bar}\x1b[0m"
    return f"{step['Name']:<{label}}  {begin:>5.1f} ms  {took:>5.1f} ms  {bar}".rstrip()


def _bar(begin: float, end: float, width: int) -> str:
    """A bar from one fraction of the width to another; the shortest is still to be seen."""
    first = int(begin * width)
    eighths = max(1, round((end - first / width) * width * 8))
    whole, rest = divmod(eighths, 8)
    return " " * first + _EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")
