"""Sync, pure. Query values: what can be meant is taken, the rest is a 400."""

import pytest

from proad.api import params
from proad.model import errors


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", True),
        ("true", True),
        ("True", True),
        ("yes", True),
        ("0", False),
        ("False", False),
        ("", False),
        ("none", False),
    ],
)
def test_boolean(text: str, value: bool) -> None:
    assert params.boolean({"all": text}, "all") is value


def test_boolean_defaults() -> None:
    assert params.boolean({}, "all") is False
    assert params.boolean({}, "all", default=True) is True


@pytest.mark.parametrize("text", ["2", "tru", "ja", "on off", "\x00"])
def test_boolean_refuses(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match='for "all"'):
        params.boolean({"all": text}, "all")


def test_integer() -> None:
    assert params.integer({"t": "10"}, "t") == 10
    assert params.integer({"t": "-1"}, "t") == -1
    assert params.integer({"t": ""}, "t") is None
    assert params.integer({}, "t") is None


@pytest.mark.parametrize("text", ["x", "1.5", "0x10", "1e3", "٣", " 1", str(2**31), "9" * 30, "--1"])
def test_integer_refuses(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match='for "t"'):
        params.integer({"t": text}, "t")


def test_required_integer() -> None:
    with pytest.raises(errors.InvalidParameter, match='missing parameter "h"'):
        params.required_integer({}, "h", minimum=0, maximum=10)


@pytest.mark.parametrize(
    ("content_type", "has_body", "ok"),
    [
        ("application/json", True, True),
        ("application/json; charset=utf-8", True, True),
        ("APPLICATION/JSON", False, True),
        ("", False, True),
        ("", True, False),
        ("text/plain", True, False),
        ("text/plain", False, False),
    ],
)
def test_require_json(content_type: str, has_body: bool, ok: bool) -> None:
    if ok:
        params.require_json(content_type, has_body)
    else:
        with pytest.raises(errors.InvalidParameter, match="Content-Type"):
            params.require_json(content_type, has_body)
