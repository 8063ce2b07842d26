"""Sync, pure. Quotes, escapes and variables of a Dockerfile's words (moby: BuildKit's shell package).

Known are ``$x``, ``${x}``, ``${x-word}``, ``${x+word}``, ``${x?word}``, each also with a colon, by which an
empty value counts as none, ``${x#pattern}``, ``${x##pattern}``, ``${x%pattern}``, ``${x%%pattern}``,
``${x/pattern/word}`` and ``${x//pattern/word}``.
"""

from collections.abc import Mapping

from proad.model import errors
from proad.model.gotext import SPACE, quote
from proad.model.shellpattern import Pattern

MAX_EXPANDED = 2**20
"""Characters; the kernel takes far less as one variable. Without a limit a few lines could eat all memory."""
MAX_DEPTH = 100

_SPECIAL = "@*#?-$!0"
_NO_CHARACTER = "\ufffd"


def expand_word(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """A word with variables put in, without quotes and escapes.

    Raises:
        errors.InvalidParameter: a quote or brace is not closed, a substitution unknown, or a variable that
            must be set is not.
    """
    return _process(word, variables, escape)[0]


def expand_words(word: str, variables: Mapping[str, str], escape: str = "\\") -> tuple[str, ...]:
    """The same, and cut at blanks that were not quoted, also those that came with a variable."""
    return _process(word, variables, escape)[1]


def _process(word: str, variables: Mapping[str, str], escape: str) -> tuple[str, tuple[str, ...]]:
    try:
        return _Lexer(word, variables, escape).until(None, raw_escapes=False)
    except errors.InvalidParameter as error:
        raise errors.InvalidParameter(f"failed to process {quote(word)}: {error.message}") from None


class _Words:
    """Text as it grows, whole and cut into words."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._words: list[str] = []
        self._word: list[str] = []
        self._length = 0

    def add(self, text: str) -> None:
        """Add what a blank cuts."""
        self._grow(text)
        for character in text:
            if character not in SPACE:
                self._word.append(character)
            elif self._word:
                self._end_word()

    def add_whole(self, text: str) -> None:
        """Add what nothing cuts."""
        self._grow(text)
        if text:
            self._word.append(text)

    def finish(self) -> tuple[str, tuple[str, ...]]:
        if self._word:
            self._end_word()
        return "".join(self._text), tuple(self._words)

    def _end_word(self) -> None:
        self._words.append("".join(self._word))
        self._word = []

    def _grow(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)
        if self._length > MAX_EXPANDED:
            raise errors.InvalidParameter(f"expands to more than {MAX_EXPANDED} characters")


class _Lexer:
    """Goes through one text once."""

    def __init__(self, text: str, variables: Mapping[str, str], escape: str) -> None:
        self._text = text
        self._position = 0
        self._variables = variables
        self._escape = escape
        self._depth = 0

    def until(self, stop: str | None, *, raw_escapes: bool) -> tuple[str, tuple[str, ...]]:
        """Read up to and with the character ``stop``, or all; escapes stay in if they are to be raw."""
        words = _Words()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise errors.InvalidParameter("syntax error: substitutions are nested too deeply")
        while (character := self._peek()) is not None:
            if character == stop:
                self._position += 1
                self._depth -= 1
                return words.finish()
            if character == "'":
                words.add_whole(self._single_quoted())
            elif character == '"':
                words.add_whole(self._double_quoted(raw_escapes=raw_escapes))
            elif character == "$":
                words.add(self._dollar())
            elif character == self._escape:
                self._position += 1
                if raw_escapes:
                    words.add_whole(character)
                words.add_whole(self._next() or "")
            else:
                self._position += 1
                words.add(character)
        if stop is not None:
            raise errors.InvalidParameter(f"unexpected end of statement while looking for matching {stop}")
        self._depth -= 1
        return words.finish()

    def _peek(self) -> str | None:
        return self._text[self._position] if self._position < len(self._text) else None

    def _next(self) -> str | None:
        character = self._peek()
        if character is not None:
            self._position += 1
        return character

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position + 1)
        if end < 0:
            self._position = len(self._text)
            raise errors.InvalidParameter(
                "unexpected end of statement while looking for matching single-quote"
            )
        quoted = self._text[self._position + 1 : end]
        self._position = end + 1
        return quoted

    def _double_quoted(self, *, raw_escapes: bool) -> str:
        """The text between; only a quote, a dollar and the escape character itself are escaped in it."""
        words = _Words()
        self._position += 1
        while (character := self._peek()) is not None:
            if character == "$":
                words.add_whole(self._dollar())
                continue
            self._position += 1
            if character == '"':
                return words.finish()[0]
            if character == self._escape:
                if raw_escapes:
                    words.add_whole(character)
                escaped = self._peek()
                if escaped is None:
                    break
                if escaped in ('"', "$", self._escape):
                    self._position += 1
                    character = escaped
            words.add_whole(character)
        raise errors.InvalidParameter("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self._position += 1
        if self._peek() != "{":
            name = self._name()
            return self._variables.get(name, "") if name else "$"
        self._position += 1
        following = self._peek()
        if following is None:
            raise errors.InvalidParameter("syntax error: missing '}'")
        if following in "{}:":
            raise errors.InvalidParameter("syntax error: bad substitution")
        name = self._name()
        modifier = self._next() or _NO_CHARACTER
        if modifier == "}":
            return self._variables.get(name, "")
        if modifier == "/":
            return self._replace(name)
        colon = ""
        if modifier == ":":
            colon, modifier = modifier, self._next() or _NO_CHARACTER
        elif modifier not in "+-?#%":
            raise errors.InvalidParameter(f"unsupported modifier ({modifier}) in substitution")
        word = self._operand("}", "syntax error: missing '}'", raw_escapes=modifier in "#%")
        return self._substitute(name, colon, modifier, word)

    def _name(self) -> str:
        """A name, a number, or the one character of a special parameter."""
        start = self._position
        first = self._peek()
        if first is None:
            return ""
        if first.isdecimal():
            while (character := self._peek()) is not None and character.isdecimal():
                self._position += 1
        elif first in _SPECIAL:
            self._position += 1
        else:
            while (character := self._peek()) is not None and (
                character.isalpha() or character.isdecimal() or character == "_"
            ):
                self._position += 1
        return self._text[start : self._position]

    def _operand(self, stop: str, missing: str, *, raw_escapes: bool) -> str:
        try:
            return self.until(stop, raw_escapes=raw_escapes)[0]
        except errors.InvalidParameter:
            if self._peek() is None:
                raise errors.InvalidParameter(missing) from None
            raise

    def _substitute(self, name: str, colon: str, modifier: str, word: str) -> str:
        value = self._variables.get(name)
        is_set = value is not None and not (colon and not value)
        value = value or ""
        if modifier == "-":
            return value if is_set else word
        if modifier == "+":
            return word if is_set else ""
        if modifier == "?":
            if is_set:
                return value
            lack = "empty" if name in self._variables else "unset"
            raise errors.InvalidParameter(f"{name}: {word or f'is not allowed to be {lack}'}")
        if modifier not in "#%":
            raise errors.InvalidParameter(f"unsupported modifier ({colon}{modifier}) in substitution")
        longest = word.startswith(modifier)
        pattern = Pattern(word[1:] if longest else word)
        if modifier == "#":
            return pattern.without_prefix(value, longest=longest)
        return pattern.without_suffix(value, longest=longest)

    def _replace(self, name: str) -> str:
        every = self._peek() == "/"
        if every:
            self._position += 1
        pattern = self._operand("/", "syntax error: missing '/' in ${}", raw_escapes=True)
        replacement = self._operand("}", "syntax error: missing '}'", raw_escapes=True)
        value = self._variables.get(name, "")
        if len(replacement) * (len(value) + 1) > MAX_EXPANDED and every:
            raise errors.InvalidParameter(f"expands to more than {MAX_EXPANDED} characters")
        return Pattern(pattern).replaced(value, replacement, every=every)
