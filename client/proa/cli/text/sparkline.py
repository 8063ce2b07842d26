"""Sync, pure. Sparklines: a row of numbers as a row of little bars."""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def sparkline(numbers: Sequence[float], width: int, *, least_top: float = 0.0) -> str:
    """The last `width` numbers, oldest first, one bar each; shorter where there are fewer.

    The highest of them, but no less than `least_top`, has the full bar, and zero the lowest.
    """
    shown = numbers[-width:] if width > 0 else ()
    top = max((*shown, least_top))
    if top <= 0:
        return BARS[0] * len(shown)
    return "".join(BARS[min(round(number / top * (len(BARS) - 1)), len(BARS) - 1)] for number in shown)
