"""Sync, pure. Patterns in variables of Dockerfiles: ``${x#pattern}``, ``${x%pattern}``, ``${x/pattern/}``.

``*`` is any text and ``?`` any character, neither across lines; there are no sets. No pattern makes it try
again and again: the work is at most the lengths of pattern and text multiplied (moby: BuildKit's ``shell``).
"""

import re

from proad.model import errors

MAX_WORK = 2**26
"""Length of pattern times length of text: up to about a tenth of a second."""

Piece = tuple[str | None, ...]
"""What lies between two stars: characters, None for any one."""


class Pattern:
    """A pattern made ready for use.

    Raises:
        errors.InvalidParameter: an escape in it is none.
    """

    def __init__(self, text: str) -> None:
        self._length = len(text)
        self._pieces = _parse(text)

    def without_prefix(self, value: str, *, longest: bool) -> str:
        """What is left of a value when the shortest or longest prefix that matches is taken off."""
        self._limit(value)
        line = value.split("\n", 1)[0] if not self._has_newline else value
        end = _match_prefix(line, self._pieces, longest=longest)
        return value if end is None else value[end:]

    def without_suffix(self, value: str, *, longest: bool) -> str:
        """The same at the other end."""
        self._limit(value)
        line = value.rsplit("\n", 1)[-1] if not self._has_newline else value
        mirrored = [piece[::-1] for piece in reversed(self._pieces)]
        end = _match_prefix(line[::-1], mirrored, longest=longest)
        return value if end is None else value[: len(value) - end]

    def replaced(self, value: str, replacement: str, *, every: bool) -> str:
        """With the first match, or every one, replaced; of those that begin at one place the longest."""
        self._limit(value)
        done: list[str] = []
        lines = [value] if self._has_newline else value.split("\n")
        for index, line in enumerate(lines):
            text, found = _replace(line, self._pieces, replacement, every=every)
            done.append(text)
            if found and not every:
                return "\n".join([*done, *lines[index + 1 :]])
        return "\n".join(done)

    @property
    def _has_newline(self) -> bool:
        return any("\n" in piece for piece in self._pieces)

    def _limit(self, value: str) -> None:
        if self._length * len(value) > MAX_WORK:
            raise errors.InvalidParameter("pattern and value of a substitution are too long")


def _parse(text: str) -> list[Piece]:
    pieces: list[list[str | None]] = [[]]
    characters = iter(text)
    for character in characters:
        if character == "*":
            pieces.append([])
        elif character == "?":
            pieces[-1].append(None)
        elif character != "\\":
            pieces[-1].append(character)
        else:
            escaped = next(characters, "\ufffd")
            if escaped not in "*?\\}/":
                raise errors.InvalidParameter(
                    rf"invalid pattern ({text}) in substitution: invalid escape '\{escaped}'"
                )
            pieces[-1].append(escaped)
    return [tuple(piece) for piece in pieces]


def _compiled(piece: Piece) -> re.Pattern[str]:
    return re.compile("".join("." if character is None else re.escape(character) for character in piece))


def _match_prefix(text: str, pieces: list[Piece], *, longest: bool) -> int | None:
    """Where a match that begins at the front ends."""
    head = _compiled(pieces[0]).match(text)
    if head is None:
        return None
    return head.end() if len(pieces) == 1 else _match_rest(text, head.end(), pieces[1:], longest=longest)


def _match_rest(text: str, position: int, pieces: list[Piece], *, longest: bool) -> int | None:
    """Where a match goes on to that has come to a star at ``position``."""
    *between, last = pieces
    for piece in between:
        found = _compiled(piece).search(text, position)
        if found is None:
            return None
        position = found.end()
    if not longest:
        found = _compiled(last).search(text, position)
        return found.end() if found else None
    found = _compiled(last[::-1]).search(text[position:][::-1])
    return len(text) - found.start() if found else None


def _replace(text: str, pieces: list[Piece], replacement: str, *, every: bool) -> tuple[str, bool]:
    head = _compiled(pieces[0])
    done: list[str] = []
    copied, position, has_match = 0, 0, False
    while position <= len(text) and (found := head.search(text, position)):
        end = found.end() if len(pieces) == 1 else _match_rest(text, found.end(), pieces[1:], longest=True)
        if end is None:
            break
        done.append(text[copied : found.start()])
        if end > copied or not has_match:  # nothing matches again right behind a match
            done.append(replacement)
        copied, position, has_match = end, max(end, position + 1), True
        if not every:
            break
    return "".join([*done, text[copied:]]), has_match
