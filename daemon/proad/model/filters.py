"""Sync, pure. The ``filters`` parameter that lists, prunes and the event stream take.

It is a JSON object of lists, ``{"status": ["running"]}``; clients older than API 1.22 send objects of
booleans, ``{"status": {"running": true}}``, and some newer ones still do.
"""

import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from proad.model import errors
from proad.model.durations import parse_timestamp_ns
from proad.model.gojson import UNREADABLE

Filters = dict[str, list[str]]
"""By the filter's name, the values of which one must match (all of them for ``label``)."""


def parse(text: str, allowed: Collection[str] | None = None) -> Filters:
    """Read the parameter; an empty one filters nothing.

    Raises:
        errors.InvalidParameter: it is not such a JSON object, or a filter's name is not in ``allowed``.
    """
    if not text:
        return {}
    try:
        fields = msgspec.json.decode(text.encode(), type=dict[str, list[str] | dict[str, bool]] | None)
    except UNREADABLE as error:
        raise errors.InvalidParameter(f"invalid filter: {error}") from error
    filters: Filters = {}
    for name, values in (fields or {}).items():
        wanted = values if isinstance(values, list) else [value for value, is_set in values.items() if is_set]
        if allowed is not None and name not in allowed:
            raise errors.InvalidParameter(f"invalid filter '{name}'")
        if wanted:
            filters[name] = wanted
    return filters


def parse_boolean(filters: Filters, name: str) -> bool | None:
    """The truth that the filter ``name`` asks for, ``None`` if it is not there.

    Raises:
        errors.InvalidParameter: its values are not booleans, or contradict each other.
    """
    values = filters.get(name)
    if values is None:
        return None
    truths = {_TRUTH.get(value) for value in values}
    if len(truths) != 1 or None in truths:
        raise errors.InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return truths.pop()


_TRUTH = {"1": True, "true": True, "True": True, "0": False, "false": False, "False": False}


def parse_time_ns(filters: Mapping[str, Sequence[str]], name: str) -> int | None:
    """The point in time that the filter ``name`` tells, in nanoseconds since the epoch; ``None`` if it is not
    there. Durations are before now.

    Raises:
        errors.InvalidParameter: it has several values, or one that is no time.
    """
    values = filters.get(name)
    if values is None:
        return None
    if len(values) != 1:
        raise errors.InvalidParameter(f"more than one {name} filter specified")
    return parse_timestamp_ns(values[0], now_ns=time.time_ns())


def is_before(filters: Mapping[str, Sequence[str]], name: str, created_ns: int) -> bool:
    """Whether the filter is absent or what was made at ``created_ns`` is older than it says.

    Raises:
        errors.InvalidParameter: as with :func:`parse_time_ns`.
    """
    limit_ns = parse_time_ns(filters, name)
    return limit_ns is None or created_ns < limit_ns


def match_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether all of ``wanted``, each ``key`` or ``key=value``, are among the labels."""
    for wish in wanted:
        key, separator, value = wish.partition("=")
        if key not in labels or (separator and labels[key] != value):
            return False
    return True


def match_exact(filters: Filters, name: str, value: str) -> bool:
    """Whether the filter is absent or one of its values is ``value``."""
    return name not in filters or value in filters[name]


def match_prefix(filters: Filters, name: str, value: str) -> bool:
    """Whether the filter is absent or ``value`` begins with one of its values."""
    return name not in filters or value.startswith(tuple(filters[name]))


def match_pattern(filters: Filters, name: str, *candidates: str) -> bool:
    """Whether the filter is absent or one of its values, as a regular expression, is found in a candidate.

    A value that is no regular expression is taken as plain text.
    """
    if name not in filters:
        return True
    return any(_searches(pattern, candidate) for pattern in filters[name] for candidate in candidates)


def _searches(pattern: str, candidate: str) -> bool:
    if pattern == candidate:
        return True
    try:
        return re.search(pattern, candidate) is not None
    except re.error:
        return pattern in candidate
