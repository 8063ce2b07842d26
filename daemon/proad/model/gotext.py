"""Sync, pure. Texts as Go reads and prints them, where Docker's answers depend on it."""

from collections.abc import Iterable

SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go's ``unicode.IsSpace`` takes for blank; Python's ``isspace`` has four control characters more."""

_ESCAPES = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v",
    "\\": r"\\", '"': r"\"",
}  # fmt: skip


def quote(text: str) -> str:
    """A text as ``%q`` prints it."""
    return f'"{"".join(map(_quoted, text))}"'


def quote_all(texts: Iterable[str]) -> str:
    """A slice of strings as ``%q`` prints it: ``["a" "b"]``."""
    return f"[{' '.join(map(quote, texts))}]"


def quote_rune(number: int) -> str:
    """A number as ``%q`` prints it, which is the character of that number: ``'\\x03'``."""
    character = chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "\ufffd"
    return (
        f"'{character}'"
        if character == '"'
        else rf"'\{character}'"
        if character == "'"
        else (f"'{_quoted(character)}'")
    )


def _quoted(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return rf"\x{code:02x}" if code < 0x80 else rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"
