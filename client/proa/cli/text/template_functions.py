"""Sync, pure. The functions that templates may call: Go's own and those Docker adds (json, join, upper …)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proa.cli.text.go_values import encode_json, is_true, show, sprintf
from proa.cli.text.template_syntax import TemplateError


def _json(value: Any) -> str:
    if value is not None and not value and type(value) not in (list, dict, str, int, float, bool):
        return "null"  # an empty list or map that stands for null
    to_json = getattr(value, "template_json", None)
    return encode_json(to_json() if to_json else value)


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | dict):
        return len(value)
    raise TemplateError(f"len of {show(value)}")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            raise TemplateError("index of untyped nil")
        if isinstance(value, dict):
            # The zero value stands for a missing key, and these maps mostly hold texts.
            value = value.get(str(key), "" if all(isinstance(item, str) for item in value.values()) else None)
        elif isinstance(value, list):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TemplateError(f"cannot index a list with {show(key)}")
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = value[key]
        else:
            raise TemplateError(f"can't index {show(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    if not isinstance(value, str | list) or len(bounds) > 2:
        raise TemplateError(f"can't slice {show(value)}")
    whole: Any = value.encode() if isinstance(value, str) else value
    begin, end = (*bounds, *(0, len(whole))[len(bounds) :]) if len(bounds) != 1 else (bounds[0], len(whole))
    if not 0 <= begin <= end <= len(whole):
        raise TemplateError(f"index out of range: {begin}:{end}")
    return whole[begin:end].decode(errors="replace") if isinstance(value, str) else whole[begin:end]


def _join(values: Any, separator: str) -> str:
    if values is None:
        return ""
    if not isinstance(values, list):
        raise TemplateError(f"expected a list, got {show(values)}")
    return separator.join(show(item) for item in values)


def _pad(text: str, before: int, after: int) -> str:
    return text if text == "" else " " * before + text + " " * after


def _println(*values: Any) -> str:
    return " ".join(show(value, nil="<nil>") for value in values) + "\n"


def _print(*values: Any) -> str:
    text = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            text += " "
        text += show(value, nil="<nil>")
    return text


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    return any(_comparable(first, other) and first == other for other in others)


def _comparable(first: Any, second: Any) -> bool:
    numbers = (int, float)
    if type(first) is type(second) or first is None or second is None:
        return True
    if isinstance(first, numbers) and isinstance(second, numbers) and bool not in (type(first), type(second)):
        return True
    raise TemplateError("incompatible types for comparison")


def _less(first: Any, second: Any) -> bool:
    if first is None or second is None or isinstance(first, bool | dict | list):
        raise TemplateError("invalid type for comparison")
    _comparable(first, second)
    return bool(first < second)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "len": _len,
    "index": _index,
    "slice": _slice,
    "join": _join,
    "split": lambda text, separator: text.split(separator),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "title": lambda text: "".join(
        char.upper() if not text[index - 1 : index].strip() else char for index, char in enumerate(text)
    ),
    "pad": _pad,
    "truncate": lambda text, width: text[:width],
    "print": _print,
    "println": _println,
    "printf": sprintf,
    "not": lambda value: not is_true(value),
    "eq": _eq,
    "ne": lambda first, second: not _eq(first, second),
    "lt": _less,
    "le": lambda first, second: _less(first, second) or _eq(first, second),
    "gt": lambda first, second: not (_less(first, second) or _eq(first, second)),
    "ge": lambda first, second: not _less(first, second),
}
