"""Sync, pure. `.dockerignore`: which paths of a context stay behind.

Source: github.com/moby/patternmatcher. Patterns are Go's filepath.Match with `**` for any number of
directories; what matches a directory holds for all below it, `!` makes an exception, and the last pattern
that matches decides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple

from proa.errors import ContextFailed

_BOM = "\ufeff"
BAD_PATTERN = "syntax error in pattern"


class Verdict(NamedTuple):
    """What was found out about a path; needed to judge what lies below it."""

    is_excluded: bool
    matched: tuple[bool, ...] = ()
    """For each pattern, whether it matched this path or one above."""


ROOT = Verdict(False)
"""What lies at the top is judged with this one."""


class _Pattern:
    """One line: the path it means, with wildcards, and whether it makes an exception."""

    def __init__(self, text: str) -> None:
        self.is_exception = text.startswith("!")
        self.text = text[1:] if self.is_exception else text
        if not self.text:
            raise ContextFailed('illegal exclusion pattern: "!"')
        _check(self.text)
        try:
            self._expression = _expression(self.text)
        except re.error:  # a range from high to low, which Go's filepath.Match lets pass, and Docker does not
            raise ContextFailed(BAD_PATTERN) from None

    def matches(self, path: str) -> bool:
        if self._expression is None:
            return path == self.text
        return self._expression.fullmatch(path) is not None


class Patterns:
    """The patterns of a file, in its order."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Raises ContextFailed for a pattern that is none."""
        cleaned = [_clean(line.strip()) for line in lines if line.strip()]
        self._patterns = [_Pattern(line) for line in cleaned]
        self._exceptions = [f"{pattern.text}/" for pattern in self._patterns if pattern.is_exception]

    def judge(self, path: str, parent: Verdict) -> Verdict:
        """Whether a path stays behind, given the verdict on the directory that it lies in."""
        excluded = False
        matched: list[bool] = []
        for index, pattern in enumerate(self._patterns):
            match = bool(parent.matched) and parent.matched[index]
            if not match and pattern.is_exception == excluded:
                match = pattern.matches(path)
            matched.append(match)
            if match:
                excluded = not pattern.is_exception
        return Verdict(excluded, tuple(matched))

    def excludes(self, path: str) -> bool:
        """Whether a path stays behind, by what all directories above it are."""
        verdict = ROOT
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            verdict = self.judge("/".join(parts[:count]), verdict)
        return verdict.is_excluded

    def may_keep_below(self, directory: str) -> bool:
        """Whether an exception names something below a directory that stays behind itself.

        As with Docker, one with a wildcard in front (`!**/README`) does not.
        """
        return any(exception.startswith(f"{directory}/") for exception in self._exceptions)


def parse_ignore(text: str) -> list[str]:
    """The patterns of a file, without comments and blank lines."""
    patterns: list[str] = []
    for line in text.removeprefix(_BOM).split("\n"):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        mark = "!" if pattern.startswith("!") else ""
        path = pattern.removeprefix("!").strip() if mark else pattern
        if path:
            path = _clean(path)
            path = path[1:] if len(path) > 1 and path.startswith("/") else path
        patterns.append(mark + path)
    return patterns


def _clean(path: str) -> str:
    """Go's filepath.Clean: POSIX's double slash at the front means nothing to it."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _expression(pattern: str) -> re.Pattern[str] | None:
    """What a pattern matches; None for one without wildcards, that matches itself."""
    if not any(char in pattern for char in "*?[\\"):
        return None
    if pattern.startswith("**") and not any(char in pattern[2:] for char in "*?[\\"):
        # Docker looks at the end of the path alone: `**file` is also `another-file`.
        ending = pattern[2:]
        front = "(.*/)?" if ending.startswith("/") else ".*"
        return re.compile(front + re.escape(ending.removeprefix("/")), re.DOTALL)
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if pattern.startswith("*", at) and char == "*":
            at += 1
            if pattern.startswith("/", at):
                at += 1
            parts.append("(.*/)?" if at < len(pattern) else ".*")
        elif char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[":
            end = _class_end(pattern, at)
            parts.append("[" + _class(pattern[at : end - 1]) + "]")
            at = end
        elif char == "\\":
            parts.append(re.escape(pattern[at]))
            at += 1
        else:
            parts.append(re.escape(char))
    return re.compile("".join(parts), re.DOTALL)


def _class(content: str) -> str:
    """The inside of a character class, with what only Python's expressions would take for more escaped."""
    negation = "^" if content.startswith("^") else ""

    def escaped(match: re.Match[str]) -> str:
        return "-" if match[2] == "-" else re.escape(match[1] or match[2])

    return negation + re.sub(r"\\(.)|(.)", escaped, content[len(negation) :], flags=re.DOTALL)


def _check(pattern: str) -> None:
    """Raises ContextFailed where Go's filepath.Match finds a syntax error."""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "[":
            at = _class_end(pattern, at)
        elif char == "\\":
            if at == len(pattern):
                raise ContextFailed(BAD_PATTERN)
            at += 1


def _class_end(pattern: str, at: int) -> int:
    """Where the character class ends whose content begins at `at`. Raises ContextFailed."""
    if pattern.startswith("^", at):
        at += 1
    is_empty = True
    while is_empty or not pattern.startswith("]", at):
        at = _class_char(pattern, at)
        if pattern.startswith("-", at):
            at = _class_char(pattern, at + 1)
        is_empty = False
    return at + 1


def _class_char(pattern: str, at: int) -> int:
    """The end of one character of a class; something must follow it, if only the bracket."""
    if at >= len(pattern) or pattern[at] in "-]":
        raise ContextFailed(BAD_PATTERN)
    at += 2 if pattern[at] == "\\" else 1
    if at >= len(pattern):
        raise ContextFailed(BAD_PATTERN)
    return at
