"""Sync, pure. JSON read as Go's encoding/json reads it, which every client of the Engine API has come to
rely on.

``null`` is the zero value of whatever it stands for, unknown fields are passed over, a field's name matches
in any case, and a wrong type is an error that names the field. Where the API takes a list of strings for a
command it takes one string as well.
"""

from collections.abc import Callable
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from proad.model import errors

T = TypeVar("T", bound=msgspec.Struct)
_Normalise = Callable[[Any], Any]

COMMAND_FIELDS = frozenset({"cmd", "entrypoint", "shell", "cap_add", "cap_drop"})
"""Attributes whose JSON may be a single string instead of a list."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for text that is no JSON, or too deep a one; ValidationError is among them."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The one JSON object that ``body`` holds.

    Raises:
        errors.InvalidParameter: ``body`` is empty, is not JSON, or is not an object.
    """
    if not body.strip():
        raise errors.InvalidParameter("invalid JSON: got EOF while reading request body")
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE as error:
        raise errors.InvalidParameter(f"invalid JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise errors.InvalidParameter("invalid JSON: the request body must be an object")
    return value


def convert(value: Any, kind: type[T], where: str = "") -> T:
    """``value``, as :func:`parse_object` gives it, as a struct of type ``kind``.

    ``where`` names the place in the body for the error's text (``HostConfig``).

    Raises:
        errors.InvalidParameter: a field has the wrong type or is out of its range.
    """
    try:
        return msgspec.convert(_normaliser(kind)(value), kind)
    except msgspec.ValidationError as error:
        path = f"{where}: " if where else ""
        raise errors.InvalidParameter(f"invalid JSON: {path}{error}") from error


def field(value: dict[str, Any], name: str) -> Any:
    """The member ``name`` of an object, an exact match before one in another case; ``None`` if there is
    none.
    """
    if name in value:
        return value[name]
    folded = name.casefold()
    return next((member for key, member in value.items() if key.casefold() == folded), None)


@cache
def _normaliser(kind: Any) -> _Normalise:
    """A function that makes a JSON value fit for msgspec's conversion to ``kind``."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _of_struct(kind)
    if origin is dict:
        return _of_mapping(_normaliser(arguments[1]), _zero(arguments[1]))
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return _of_list(_normaliser(arguments[0]), _zero(arguments[0]))
    if NoneType in arguments:
        return _normaliser(next(argument for argument in arguments if argument is not NoneType))
    return lambda value: value


def _of_struct(kind: type[msgspec.Struct]) -> _Normalise:
    hints = get_type_hints(kind)
    members: dict[str, tuple[str, _Normalise, bool]] = {
        encoded: (encoded, _normaliser(hints[attribute]), attribute in COMMAND_FIELDS)
        for attribute, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
    }
    folded = {encoded.casefold(): entry for encoded, entry in members.items()}

    def normalise(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        result: dict[str, Any] = {}
        for key, member in value.items():
            entry = members.get(key) or folded.get(key.casefold())
            if entry is None or member is None:
                continue
            encoded, inner, is_command = entry
            if is_command and isinstance(member, str):
                member = [member]
            result[encoded] = inner(member)
        return result

    return normalise


def _of_mapping(inner: _Normalise, zero: Any) -> _Normalise:
    def normalise(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: zero if member is None else inner(member) for key, member in value.items()}

    return normalise


def _of_list(inner: _Normalise, zero: Any) -> _Normalise:
    def normalise(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [zero if member is None else inner(member) for member in value]

    return normalise


def _zero(kind: Any) -> Any:
    """The JSON that stands for the zero value of ``kind`` inside a list or a mapping."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {}
    if get_origin(kind) is tuple:
        return []
    return "" if kind is str else None
