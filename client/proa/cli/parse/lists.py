"""Sync, pure. Flags that take several values at once, parted by commas: `--subnet 10.0.0.0/24,fd00::/64`."""

from __future__ import annotations

import csv
from collections.abc import Iterable


def fields(flag: str) -> list[str]:
    """The values of one flag; one in double quotes may have commas itself. Raises ValueError."""
    try:
        rows = list(csv.reader([flag], strict=True))
    except csv.Error as error:
        raise ValueError(f"{flag!r}: {error}") from None
    return rows[0] if rows else []


def parse_list(flags: Iterable[str]) -> list[str]:
    """The values of a flag that may also be repeated. Raises ValueError."""
    return [value for flag in flags for value in fields(flag)]
