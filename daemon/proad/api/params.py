"""Sync, pure. What comes in a request's query and headers, checked: a value that cannot be meant is a 400."""

import re
from collections.abc import Mapping

import msgspec

from proad.model import errors
from proad.model.durations import parse_timestamp_ns
from proad.model.gojson import UNREADABLE
from proad.model.imagearchive import Platform, parse_platform

_TRUE = frozenset({"1", "true", "yes"})
_FALSE = frozenset({"", "0", "false", "no", "none"})

Query = Mapping[str, str]


def boolean(query: Query, name: str, default: bool = False) -> bool:
    """Return a flag; absent is ``default``.

    Raises:
        errors.InvalidParameter: neither a yes nor a no.
    """
    text = query.get(name)
    if text is None:
        return default
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise errors.InvalidParameter(f'invalid value "{text}" for "{name}": must be a boolean')


def integer(query: Query, name: str, *, minimum: int = -(2**31), maximum: int = 2**31 - 1) -> int | None:
    """Return a whole number, None where it is absent or empty.

    Raises:
        errors.InvalidParameter: no whole number, or outside of ``minimum`` to ``maximum``.
    """
    text = query.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
        raise errors.InvalidParameter(f'invalid value "{text}" for "{name}": must be a whole number')
    number = int(text)
    if not minimum <= number <= maximum:
        raise errors.InvalidParameter(
            f'invalid value "{text}" for "{name}": must be from {minimum} to {maximum}'
        )
    return number


def required_integer(query: Query, name: str, *, minimum: int, maximum: int) -> int:
    """Like :func:`integer`, for a parameter that must be there."""
    number = integer(query, name, minimum=minimum, maximum=maximum)
    if number is None:
        raise errors.InvalidParameter(f'missing parameter "{name}": must be a whole number')
    return number


def timestamp_ns(query: Query, name: str, *, now_ns: int) -> int | None:
    """Return a time as nanoseconds since the epoch, None where it is absent or empty.

    Raises:
        errors.InvalidParameter: not one of the forms of :func:`proad.model.durations.parse_timestamp_ns`.
    """
    text = query.get(name, "")
    return parse_timestamp_ns(text, now_ns=now_ns) if text else None


def platform(query: Query) -> Platform | None:
    """Return the platform, None where it is absent: ``linux/amd64``, or the JSON object of newer clients.

    Raises:
        errors.InvalidParameter: neither.
    """
    text = query.get("platform", "")
    if not text.startswith("{"):
        return parse_platform(text)
    try:
        fields = msgspec.json.decode(text.encode(), type=dict[str, str])
    except UNREADABLE as error:
        raise errors.InvalidParameter(f"failed to parse platform: {error}") from error
    return parse_platform("/".join(filter(None, map(fields.get, ("os", "architecture", "variant")))))


def require_json(content_type: str, has_body: bool) -> None:
    """Check the ``Content-Type`` of a request whose body is JSON.

    Raises:
        errors.InvalidParameter: it is another one; none at all is allowed only without a body.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type:
        if has_body:
            raise errors.InvalidParameter(
                f"malformed Content-Type header ({content_type}): mime: no media type"
            )
    elif media_type != "application/json":
        raise errors.InvalidParameter(
            f"unsupported Content-Type header ({content_type}): must be 'application/json'"
        )
