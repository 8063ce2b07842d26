"""Sync, pure. Sizes, spans of time and CPU counts as people type them. All raise ValueError."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgtp])i?)?b?", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse_bytes(text: str) -> int:
    """ "64m", "1.5g", "1024", "10KiB" in powers of 1024, as bytes."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    return int(Decimal(match[1]) * 1024 ** _POWER[(match[2] or "").lower()])


def parse_swap_bytes(text: str) -> int:
    """Like `parse_bytes`, and -1 for no limit."""
    return -1 if text == "-1" else parse_bytes(text)


def parse_nano_cpus(text: str) -> int:
    """ "1.5" CPUs as 1500000000 billionths."""
    try:
        nano = Decimal(text) * 10**9
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a number of CPUs") from None
    if not nano.is_finite() or nano != int(nano):
        raise ValueError("value is too precise" if nano.is_finite() else f"{text!r} is not a number of CPUs")
    return int(nano)


def parse_duration_ns(text: str) -> int:
    """Go's durations ("1m30s", "1.5h", "300ms", "0") as nanoseconds."""
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    parts = _DURATION.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError(f"invalid duration {text!r}; give one such as 90s, 1m30s or 500ms")
    return sign * sum(int(Decimal(number) * _UNIT_NS[unit]) for number, unit in parts)
