"""Sync, pure. Paths as Go's ``path/filepath`` cleans, joins and matches them on Linux."""

import posixpath
from functools import lru_cache

from proad.model import errors

BAD_PATTERN = "syntax error in pattern"


class Set:
    """``[a-c]`` or ``[^a-c]`` of a pattern."""

    def __init__(self, ranges: tuple[tuple[str, str], ...], *, is_negated: bool) -> None:
        self._ranges = ranges
        self._is_negated = is_negated

    def __contains__(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self._ranges) != self._is_negated


ANY = Set((("/", "/"),), is_negated=True)
"""What ``?`` matches: all but the separator."""

Chunk = tuple[str | Set, ...]
"""What lies between two stars."""


def clean(path: str) -> str:
    """The shortest name of the same path: ``.`` for nothing, ``a/c`` for ``a//b/../c/``."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def join(*parts: str) -> str:
    """The parts with separators between them, cleaned; empty ones do not count."""
    given = [part for part in parts if part]
    return clean("/".join(given)) if given else ""


def match(pattern: str, name: str) -> bool:
    """Whether all of a name is matched by a pattern of ``*``, ``?``, ``[a-c]``, ``[^a-c]`` and ``\\x``. A
    star or a question mark stops at a separator; a set does not.

    Raises:
        errors.InvalidParameter: the pattern is none.
    """
    head, *rest = parse_pattern(pattern)
    position = _match_chunk(head, name, 0)
    if position is None:
        return False
    for index, chunk in enumerate(rest):
        position = _match_after_star(chunk, name, position, is_last=index == len(rest) - 1)
        if position is None:
            return False
    return position == len(name)


@lru_cache(maxsize=64)
def parse_pattern(pattern: str) -> tuple[Chunk, ...]:
    """The chunks of a pattern, cut at its stars.

    Raises:
        errors.InvalidParameter: a set is empty or not closed, or nothing follows a backslash.
    """
    chunks: list[list[str | Set]] = [[]]
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "[":
            found, position = _parse_set(pattern, position + 1)
            chunks[-1].append(found)
            continue
        position += 1
        if character == "*":
            chunks.append([])
        elif character == "?":
            chunks[-1].append(ANY)
        elif character != "\\":
            chunks[-1].append(character)
        elif position < len(pattern):
            chunks[-1].append(pattern[position])
            position += 1
        else:
            raise errors.InvalidParameter(BAD_PATTERN)
    return tuple(map(tuple, chunks))


def _parse_set(pattern: str, position: int) -> tuple[Set, int]:
    is_negated = pattern.startswith("^", position)
    position += is_negated
    ranges: list[tuple[str, str]] = []
    while not ranges or not pattern.startswith("]", position):
        low, position = _parse_bound(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _parse_bound(pattern, position + 1)
        ranges.append((low, high))
    return Set(tuple(ranges), is_negated=is_negated), position + 1


def _parse_bound(pattern: str, position: int) -> tuple[str, int]:
    is_escaped = pattern.startswith("\\", position)
    position += is_escaped
    # a bound is never the last of a pattern, as a bracket must follow
    if position + 1 >= len(pattern) or (not is_escaped and pattern[position] in "-]"):
        raise errors.InvalidParameter(BAD_PATTERN)
    return pattern[position], position + 1


def _match_chunk(chunk: Chunk, name: str, position: int) -> int | None:
    """Where the chunk ends that begins there."""
    if position + len(chunk) > len(name):
        return None
    for wanted in chunk:
        character = name[position]
        if character != wanted if isinstance(wanted, str) else character not in wanted:
            return None
        position += 1
    return position


def _match_after_star(chunk: Chunk, name: str, position: int, *, is_last: bool) -> int | None:
    """Where the first chunk ends that a star can reach from there; the last one must end with the name."""
    while True:
        end = _match_chunk(chunk, name, position)
        if end is not None and (not is_last or end == len(name)):
            return end
        if position >= len(name) or name[position] == "/":
            return None
        position += 1
