"""Sync, pure. The instants that --since and --until take, as the API wants them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from proa.cli.parse.quantities import parse_duration_ns

_SECONDS = re.compile(r"-?\d+(\.\d+)?")
_DATE = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})(?:T(?P<hour>\d{2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2})"
    r"(?:\.(?P<fraction>\d{1,9}))?)?)?)?(?P<zone>Z|[+-]\d{2}:\d{2})?"
)


def parse_instant(text: str, now_ns: int) -> str:
    """Seconds since the epoch as text, with up to nine decimals.

    Takes seconds as they are, a span before `now_ns` ("10m", "1h30m"), or a date with or without time,
    fraction and zone ("2006-01-02T15:04:05.123Z"; without a zone it is local time). Raises ValueError.
    """
    if not text or _SECONDS.fullmatch(text):
        return text
    match = _DATE.fullmatch(text)
    if match is not None:
        return _seconds(_date_ns(match))
    try:
        return _seconds(now_ns - parse_duration_ns(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time: give seconds since the epoch, a span such as 10m, "
            "or a date such as 2006-01-02T15:04:05"
        ) from None


def _date_ns(match: re.Match[str]) -> int:
    clock = f"{match['hour'] or '00'}:{match['minute'] or '00'}:{match['second'] or '00'}"
    moment = datetime.fromisoformat(f"{match['date']}T{clock}")
    zone = match["zone"]
    if zone == "Z":
        moment = moment.replace(tzinfo=UTC)
    elif zone:
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        moment = moment.replace(tzinfo=timezone(-offset if zone[0] == "-" else offset))
    return int(moment.timestamp()) * 10**9 + int((match["fraction"] or "0").ljust(9, "0"))


def _seconds(epoch_ns: int) -> str:
    seconds, nanoseconds = divmod(epoch_ns, 10**9)
    return f"{seconds}.{nanoseconds:09d}"
