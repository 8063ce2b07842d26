"""Sync, pure. A Dockerfile cut into statements: lines joined, comments and parser directives taken out, and
each parted into keyword, flags and arguments, which keep their quotes (moby: BuildKit's parser package).
"""

import re
from collections.abc import Callable, Iterator

import msgspec

from proad.model import errors
from proad.model.gotext import SPACE, quote

MAX_LINE_BYTES = 65535

_BLANKS = re.compile(r"[\t\v\f\r ]+")
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S(?:.*\S)?)\s*", re.ASCII)
_CONTINUED = {
    escape: re.compile(rf"(?:(?<=[^{re.escape(escape)}])|^){re.escape(escape)}[ \t]*\Z") for escape in "\\`"
}
_DIRECTIVES = ("syntax", "escape", "check")


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One instruction, not understood yet.

    ``keyword`` is as it was written. For ONBUILD the arguments are keyword and arguments of what it triggers,
    and ``is_json`` is said of that.
    """

    keyword: str
    original: str
    line: int
    end_line: int
    flags: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    is_json: bool = False


class Statements(msgspec.Struct, frozen=True):
    """All of a file, its escape character, and what to warn of, line by line."""

    statements: tuple[Statement, ...]
    escape: str
    warnings: tuple[str, ...]


def read_statements(content: bytes) -> Statements:
    """Cut a Dockerfile into statements.

    Raises:
        errors.InvalidParameter: a line is too long, a directive or the arguments of an instruction are wrong,
            or there is no instruction.
    """
    reader = _Reader(content)
    statements = tuple(
        _parse_statement(text, reader.escape, line, end_line)
        for text, line, end_line in reader.logical_lines()
    )
    if not statements:
        raise errors.InvalidParameter("file with no instructions")
    if reader.is_cut:
        raise errors.InvalidParameter(f"dockerfile line greater than max allowed size of {MAX_LINE_BYTES}")
    return Statements(statements, reader.escape, reader.warnings)


class _Reader:
    """Goes through the lines of a file once."""

    def __init__(self, content: bytes) -> None:
        self._lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        if not self._lines[-1]:
            self._lines.pop()
        self._next = 0
        self._seen: set[str] = set()
        self._may_be_directive = True
        self._gaps: list[str] = []
        self.escape = "\\"
        self.is_cut = False

    @property
    def warnings(self) -> tuple[str, ...]:
        if not self._gaps:
            return ()
        return (
            *(f"[WARNING]: Empty continuation line found in: {text}" for text in self._gaps),
            "[WARNING]: Empty continuation lines will become errors in a future release.",
        )

    def logical_lines(self) -> Iterator[tuple[str, int, int]]:
        """Each line with all that continues it, and the numbers of its first and its last line."""
        while (line := self._take()) is not None:
            first = self._next
            line = line.lstrip(SPACE)
            self._read_directive(line)
            text, continues = self._without_continuation("" if line.startswith("#") else line)
            if not text and not continues:
                continue
            pieces, has_gap = [text], False
            while continues and (line := self._take()) is not None:
                bare = line.lstrip(SPACE)
                if not bare:
                    has_gap = True
                elif not bare.startswith("#"):
                    text, continues = self._without_continuation(line)
                    pieces.append(text)
            whole = "".join(pieces)
            if has_gap:
                self._gaps.append(whole)
            yield whole, first, self._next

    def _take(self) -> str | None:
        if self._next >= len(self._lines) or self.is_cut:
            return None
        line = self._lines[self._next]
        if len(line) > MAX_LINE_BYTES:
            self.is_cut = True
            return None
        self._next += 1
        return line.rstrip(b"\r").decode(errors="replace")

    def _without_continuation(self, line: str) -> tuple[str, bool]:
        found = _CONTINUED[self.escape].search(line)
        return (line[: found.start()], True) if found else (line, False)

    def _read_directive(self, line: str) -> None:
        if not self._may_be_directive:
            return
        found = _DIRECTIVE.fullmatch(line)
        name = found[1].lower() if found else ""
        if not found or name not in _DIRECTIVES:
            self._may_be_directive = False
            return
        if name in self._seen:
            raise errors.InvalidParameter(f"only one {name} parser directive can be used")
        self._seen.add(name)
        if name == "escape":
            if found[2] not in _CONTINUED:
                raise errors.InvalidParameter(f"invalid escape token '{found[2]}' does not match ` or \\")
            self.escape = found[2]


# --- one statement ------------------------------------------------------------------------------------------


def _parse_statement(text: str, escape: str, line: int, end_line: int, depth: int = 0) -> Statement:
    keyword, *rest = _BLANKS.split(text.strip(SPACE), maxsplit=1)
    flags, remainder = _cut_flags(rest[0]) if rest else ((), "")
    remainder = remainder.strip(SPACE)
    is_json = False
    if keyword.upper() == "ONBUILD":
        # a chain of them is refused later, so how it goes on is of no interest
        if remainder and depth < 2:
            inner = _parse_statement(remainder, escape, line, end_line, depth + 1)
            arguments, is_json = (inner.keyword, *inner.arguments), inner.is_json
        else:
            arguments = (remainder,) if remainder else ()
    elif parse := _ARGUMENTS.get(keyword.upper()):
        arguments, is_json = parse(remainder, escape)
    else:
        arguments = ()
    return Statement(
        keyword=keyword,
        original=text,
        line=line,
        end_line=end_line,
        flags=flags,
        arguments=arguments,
        is_json=is_json,
    )


def _cut_flags(text: str) -> tuple[tuple[str, ...], str]:
    """The words in front that begin with ``--``, without quotes, and what follows them."""
    flags: list[str] = []
    position, length = 0, len(text)
    while True:
        while position < length and text[position] in SPACE:
            position += 1
        if not text.startswith("--", position):
            return tuple(flags), text[position:]
        word, position = _flag_word(text, position)
        if word == "--":
            return tuple(flags), text[position:]
        flags.append(word)


def _flag_word(text: str, position: int) -> tuple[str, int]:
    """One word from there on, without its quotes, and where it ends. The backslash escapes, whatever the
    file's own escape character.
    """
    word: list[str] = []
    quotes, length = "", len(text)
    while position < length:
        character = text[position]
        if not quotes and character in SPACE:
            break
        position += 1
        if character == quotes:
            quotes = ""
        elif not quotes and character in "'\"":
            quotes = character
        elif character == "\\":
            word.append(text[position : position + 1])
            position += 1
        else:
            word.append(character)
    return "".join(word), position


# --- arguments ----------------------------------------------------------------------------------------------

Arguments = tuple[tuple[str, ...], bool]
"""The words, and whether they were written as JSON."""


def split_words(text: str, escape: str) -> list[str]:
    """Cut at blanks outside of quotes; quotes and escapes stay in the words."""
    words: list[str] = []
    word: list[str] = []
    quotes, position, length = "", 0, len(text)
    while position < length:
        character = text[position]
        position += 1
        if not quotes and character in SPACE:
            if word:
                words.append("".join(word))
                word = []
            continue
        if character == escape and quotes != "'":
            if position == length:
                break  # one at the very end escapes nothing
            word.append(character)
            character = text[position]
            position += 1
        elif character == quotes:
            quotes = ""
        elif not quotes and character in "'\"":
            quotes = character
        word.append(character)
    return [*words, "".join(word)] if word else words


def _nothing_or(text: str, escape: str) -> Arguments:
    return ((text,) if text else ()), False


def _blank_separated(text: str, escape: str) -> Arguments:
    return (tuple(_BLANKS.split(text)) if text else ()), False


def _words(text: str, escape: str) -> Arguments:
    return tuple(split_words(text, escape)), False


def _json_or_text(text: str, escape: str) -> Arguments:
    words = _json_words(text)
    return _nothing_or(text, escape) if words is None else (words, True)


def _json_or_blank_separated(text: str, escape: str) -> Arguments:
    words = _json_words(text)
    return _blank_separated(text, escape) if words is None else (words, True)


def _type_and_json_or_text(text: str, escape: str) -> Arguments:
    """HEALTHCHECK: one word, then as for CMD."""
    kind = re.split(f"[{SPACE}]", text, maxsplit=1)[0]
    if not kind:
        return (), False
    words, is_json = _json_or_text(text[len(kind) :].strip(SPACE), escape)
    return (kind, *words), is_json


def _json_words(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None where it is none."""
    if not text.startswith("["):
        return None
    try:
        words = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in words):
        raise errors.InvalidParameter(
            "when using JSON array syntax, arrays must be comprised of strings only"
        )
    return tuple(words)


def _pairs_of(keyword: str) -> Callable[[str, str], Arguments]:
    """Names and values in turn, of ``name=value …`` or the old form ``name rest of the line``."""

    def pairs(text: str, escape: str) -> Arguments:
        words = split_words(text, escape)
        if not words:
            return (), False
        if "=" not in words[0]:
            name, *value = _BLANKS.split(text, maxsplit=1)
            if not value:
                raise errors.InvalidParameter(f"{keyword} must have two arguments")
            return (name, value[0]), False
        arguments: list[str] = []
        for word in words:
            name, equals, rest = word.partition("=")
            if not equals:
                raise errors.InvalidParameter(
                    f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value"
                )
            arguments += (name, rest)
        return tuple(arguments), False

    return pairs


_ARGUMENTS: dict[str, Callable[[str, str], Arguments]] = {
    "ADD": _json_or_blank_separated,
    "ARG": _words,
    "CMD": _json_or_text,
    "COPY": _json_or_blank_separated,
    "ENTRYPOINT": _json_or_text,
    "ENV": _pairs_of("ENV"),
    "EXPOSE": _blank_separated,
    "FROM": _blank_separated,
    "HEALTHCHECK": _type_and_json_or_text,
    "LABEL": _pairs_of("LABEL"),
    "MAINTAINER": _nothing_or,
    "RUN": _json_or_text,
    "SHELL": _json_or_text,
    "STOPSIGNAL": _nothing_or,
    "USER": _nothing_or,
    "VOLUME": _json_or_blank_separated,
    "WORKDIR": _nothing_or,
}

KEYWORDS = (*_ARGUMENTS, "ONBUILD")
