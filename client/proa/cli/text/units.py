"""Sync, pure. Sizes, spans of time and instants as Docker's command line prints them."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def human_size(size_bytes: float, digits: int = 4) -> str:
    """Powers of 1000, `digits` significant digits: 1982234 -> "1.982MB"."""
    return _scaled(size_bytes, 1000.0, _DECIMAL, digits)


def human_binary_size(size_bytes: float) -> str:
    """Powers of 1024: 25276383232 -> "23.54GiB"."""
    return _scaled(size_bytes, 1024.0, _BINARY, 4)


def _scaled(size: float, base: float, names: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(names) - 1:
        size /= base
        index += 1
    return f"{size:.{digits}g}{names[index]}"


def human_duration(seconds: float) -> str:
    """A span in one unit: "Less than a second", "About a minute", "3 hours", "2 weeks"."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit_days, unit_days, name in ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months")):
        if hours < 24 * limit_days:
            return f"{hours // 24 // unit_days} {name}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def human_since(epoch_s: float) -> str:
    """How long ago an instant was, by this machine's clock: "5 minutes ago"."""
    return f"{human_duration(time.time() - epoch_s)} ago"


def local_time(epoch_s: float) -> str:
    """An instant in local time: "2006-01-02 15:04:05 -0700 MST"."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(epoch_s))


def local_rfc3339(epoch_ns: int) -> str:
    """An instant in local time with all nine digits: "2006-01-02T15:04:05.000000000-07:00"."""
    seconds, nanoseconds = divmod(epoch_ns, 1_000_000_000)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    zone = "Z" if zone in ("+0000", "") else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{nanoseconds:09d}{zone}"


def ellipsis(text: str, width: int) -> str:
    """The text, or as much of it as fits into `width` with a "…" at its end."""
    return text if len(text) <= width else text[: width - 1] + "…"


def short_id(full: str) -> str:
    """The first twelve digits of an id, without its "sha256:"."""
    return full.removeprefix("sha256:")[:12]
