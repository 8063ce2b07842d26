"""Sync, pure. How Go sees and prints values: truth, `%v`, quoting, `Printf`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import re

_VERB = r"%(?P<flags>[-+ #0]*)(?P<width>\d*)(?:\.(?P<precision>\d+))?(?P<verb>[a-zA-Z%])"


def is_true(value: Any) -> bool:
    """Go's truth: everything but false, zero, nil and the empty."""
    return bool(value)


def show(value: Any, *, nil: str = "<no value>") -> str:
    """The text Go prints for a value with `%v`."""
    if isinstance(value, str):
        return value
    if value is None:
        return nil
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, float):
        return _show_float(value)
    if isinstance(value, list | tuple):
        return f"[{' '.join(show(item, nil='<nil>') for item in value)}]"
    if isinstance(value, dict):
        pairs = (f"{key}:{show(value[key], nil='<nil>')}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    return str(value)


def quote(text: str) -> str:
    """A Go string literal of the text (strconv.Quote)."""
    short = {
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\\": "\\\\",
        '"': '\\"',
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
    }
    short["\v"] = "\\v"
    return (
        '"'
        + "".join(short.get(char) or (char if char.isprintable() else _escape(char)) for char in text)
        + '"'
    )


def encode_json(value: Any) -> str:
    """Compact JSON, as Go's encoder writes it (without escaping HTML)."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def sprintf(form: str, *arguments: Any) -> str:
    """Go's fmt.Sprintf for the verbs v s d q t f g e x X c and %%, with Go's marks for wrong arguments."""
    import re

    left = list(arguments)

    def replace(match: re.Match[str]) -> str:
        verb = match["verb"]
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        return _pad(_format(verb, match, left.pop(0)), match["flags"], int(match["width"] or 0))

    text = re.sub(_VERB, replace, form)
    if left:
        text += f"%!(EXTRA {', '.join(f'{_type_name(item)}={show(item)}' for item in left)})"
    return text


def _format(verb: str, match: re.Match[str], value: Any) -> str:
    precision = match["precision"]
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if verb in "vs" or (verb == "t" and isinstance(value, bool)):
        text = show(value, nil="<nil>" if verb == "v" else "%!s(<nil>)")
        return text[: int(precision)] if precision and verb == "s" else text
    if verb == "q":
        return quote(show(value))
    if verb == "d" and isinstance(value, int):
        return f"{value:+d}" if "+" in match["flags"] else str(value)
    if verb in "feEgG" and numeric:
        return f"{float(value):.{precision or 6}{verb}}"
    if verb in "xX" and isinstance(value, int):
        return f"{value:{verb}}"
    if verb in "xX" and isinstance(value, str):
        digits = value.encode().hex()
        return digits.upper() if verb == "X" else digits
    if verb == "c" and isinstance(value, int):
        return chr(value)
    if verb in "vsdqtfgeExXc":
        return f"%!{verb}({_type_name(value)}={show(value)})"
    raise ValueError(f" %{verb} is not supported")


def _pad(text: str, flags: str, width: int) -> str:
    if "-" in flags:
        return text.ljust(width)
    return text.zfill(width) if "0" in flags else text.rjust(width)


def _type_name(value: Any) -> str:
    names = {bool: "bool", int: "int", float: "float64", str: "string", type(None): "<nil>"}
    return names.get(type(value), "map" if isinstance(value, dict) else "slice")


def _show_float(value: float) -> str:
    """The shortest digits that mean the value; with an exponent below 1e-04 and from 1e+06 on."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[str(value)]
    magnitude = abs(value)
    if magnitude and not 1e-4 <= magnitude < 1e6:
        digits = len(repr(magnitude).partition("e")[0].replace(".", "").strip("0")) or 1
        return f"{value:.{max(digits - 1, 0)}e}"
    return str(int(value)) if value == int(value) else repr(value)


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
