"""Sync, pure. What a ``.dockerignore`` keeps out of a build's context (moby: ``patternmatcher``).

Each line is a pattern as in :mod:`proad.model.gopath`, and ``**`` is any number of directories. The last line
that matches a path, or a directory above it, decides; one that begins with ``!`` lets it in again. Clients
apply the file before they send a context, but for ``.dockerignore`` itself and the Dockerfile: these two are
always sent, and the builder takes away those that are excluded.
"""

from enum import Enum

import msgspec

from proad.model import errors
from proad.model.gopath import Set, clean, parse_pattern
from proad.model.gotext import SPACE


class _Star(Enum):
    """What matches more than one character."""

    NAME = "[^/]*"
    TREE = ".*"
    DIRECTORIES = "(.*/)?"
    INSIDE = "second half of DIRECTORIES"


_Token = str | Set | _Star


class Pattern(msgspec.Struct, frozen=True):
    """One line. ``tokens`` has DIRECTORIES always followed by INSIDE."""

    tokens: tuple[_Token, ...]
    is_exception: bool

    def matches(self, path: str) -> bool:
        """Whether a path, or a directory above it, is matched; each character is looked at once, whatever the
        pattern.
        """
        states = self._reach({0})
        for character in path:
            if character == "/" and len(self.tokens) in states:
                return True
            following: set[int] = set()
            for state in states:
                if state < len(self.tokens):
                    following |= _step(self.tokens[state], state, character)
            states = self._reach(following)
            if not states:
                return False
        return len(self.tokens) in states

    def _reach(self, states: set[int]) -> set[int]:
        """With the states that are reached without another character."""
        reached: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in reached:
                continue
            reached.add(state)
            token = self.tokens[state] if state < len(self.tokens) else None
            if token in (_Star.NAME, _Star.TREE):
                waiting.append(state + 1)
            elif token is _Star.DIRECTORIES:
                waiting += (state + 1, state + 2)
        return reached


def _step(token: _Token, state: int, character: str) -> set[int]:
    """The states that a character leads to."""
    match token:
        case str():
            return {state + 1} if character == token else set()
        case Set():
            return {state + 1} if character in token else set()
        case _Star.NAME:
            return {state} if character != "/" else set()
        case _Star.TREE:
            return {state}
        case _Star.INSIDE:
            return {state, state + 1} if character == "/" else {state}
        case _:
            return set()


class Patterns(msgspec.Struct, frozen=True):
    """All lines of a file, in order."""

    patterns: tuple[Pattern, ...] = ()

    def excludes(self, path: str) -> bool:
        """Whether a path, relative to the context, is kept out; the context itself never is."""
        cleaned = clean(path)
        if cleaned == ".":
            return False
        excluded = False
        for pattern in self.patterns:
            if pattern.is_exception == excluded and pattern.matches(cleaned):
                excluded = not pattern.is_exception
        return excluded


def parse_dockerignore(content: bytes) -> Patterns:
    """Read a file. Blank lines and those that begin with ``#`` do not count, nor does a slash in front.

    Raises:
        errors.InvalidParameter: a pattern is none.
    """
    patterns: list[Pattern] = []
    for line in content.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").split("\n"):
        text = line.strip(SPACE)
        if not text or line.startswith("#"):
            continue
        is_exception = text.startswith("!")
        text = text.removeprefix("!").strip(SPACE)
        if not text:
            raise errors.InvalidParameter('illegal exclusion pattern: "!"')
        text = clean(text)
        text = text[1:] if len(text) > 1 and text.startswith("/") else text
        parse_pattern(text)
        patterns.append(Pattern(_tokens(text), is_exception))
    return Patterns(tuple(patterns))


def _tokens(text: str) -> tuple[_Token, ...]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        if text.startswith("**", position):
            after = position + 2
            after += text.startswith("/", after)
            if after == len(text) or (position == 0 and text[2:3] != "/" and _is_literal(text[2:])):
                tokens.append(_Star.TREE)
            else:
                tokens += (_Star.DIRECTORIES, _Star.INSIDE)
            position = after
        elif text[position] == "*":
            tokens.append(_Star.NAME)
            position += 1
        else:
            end = _end_of_one(text, position)
            tokens += parse_pattern(text[position:end])[0]
            position = end
    return tuple(tokens)


def _is_literal(text: str) -> bool:
    return not any(special in text for special in "*?[]\\")


def _end_of_one(text: str, position: int) -> int:
    """Where the character, the escape or the set ends that begins there."""
    if text[position] == "\\":
        return position + 2
    if text[position] != "[":
        return position + 1
    position += 1
    position += text.startswith("^", position)
    while position < len(text) and text[position] != "]":
        position += 2 if text[position] == "\\" else 1
    return position + 1
