"""Sync, pure. Times as Docker writes them: points (Unix times, dates, durations before now) and lengths."""

import re
from datetime import UTC, datetime

from proad.model import errors
from proad.model.gotext import quote

_UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_UNITS_NS |= {"µs": 10**3, "μs": 10**3}  # the micro sign and the Greek letter
_LONGEST_NS = 2**63
_PIECE = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(f"0|(?:{_PIECE})+")
_DURATION_PIECE = re.compile(_PIECE)
_UNIX = re.compile(r"(-?[0-9]{1,18})(?:\.([0-9]{1,9}))?")
_FRACTION = re.compile(r"\.([0-9]+)")


def parse_duration_ns(text: str) -> int:
    """Go's duration (``1h30m``, ``1.5s``) in nanoseconds.

    Raises:
        errors.InvalidParameter: it is none, or longer than Go can say (292 years).
    """
    if not _DURATION.fullmatch(text):
        raise errors.InvalidParameter(f"time: invalid duration {quote(text)}")
    pieces = [float(number) * _UNITS_NS[unit] for number, unit in _DURATION_PIECE.findall(text)]
    if sum(pieces) >= _LONGEST_NS:
        raise errors.InvalidParameter(f"time: invalid duration {quote(text)}")
    return sum(map(round, pieces))


def format_duration(nanoseconds: int) -> str:
    """A length of time, not negative, as Go prints it: ``1m30s``, ``1.5s``, ``100ms``, ``0s``."""
    for unit_ns, unit in ((10**3, "ns"), (10**6, "µs"), (10**9, "ms")):
        if 0 < nanoseconds < unit_ns:
            return f"{_decimal(nanoseconds, unit_ns // 10**3)}{unit}"
    minutes, rest = divmod(nanoseconds, _UNITS_NS["m"])
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{before}{_decimal(rest, _UNITS_NS['s'])}s"


def _decimal(nanoseconds: int, unit_ns: int) -> str:
    """So many of a unit (a power of ten), exactly and without zeros at the end."""
    whole, rest = divmod(nanoseconds, unit_ns)
    return f"{whole}.{rest:0{len(str(unit_ns)) - 1}d}".rstrip("0") if rest else str(whole)


def parse_timestamp_ns(text: str, *, now_ns: int) -> int:
    """Nanoseconds since the epoch of a Unix time (``1700000000.5``), a date or time of RFC 3339 (zone and
    parts from the right may be missing), or a duration before ``now_ns``.

    Raises:
        errors.InvalidParameter: it is none of these.
    """
    if match := _UNIX.fullmatch(text):
        return int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0"))
    if _DURATION.fullmatch(text):
        return now_ns - parse_duration_ns(text)
    fraction = _FRACTION.search(text)
    whole = _FRACTION.sub("", text, count=1) if fraction else text
    try:
        moment = datetime.fromisoformat(whole)
    except ValueError:
        raise errors.InvalidParameter(f"invalid timestamp {text!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds * 10**9 + int((fraction[1] if fraction else "")[:9].ljust(9, "0"))


def format_rfc3339_ns(time_ns: int) -> str:
    """``2024-01-02T03:04:05.000000006Z`` as Go prints it: trailing zeros of the fraction are dropped.

    0 is Go's zero time, ``0001-01-01T00:00:00Z``.
    """
    if time_ns == 0:
        return "0001-01-01T00:00:00Z"
    seconds, nanoseconds = divmod(time_ns, 10**9)
    base = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{base}{fraction}Z"
