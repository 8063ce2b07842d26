"""Sync, pure. How large a log may become."""

import pytest

from proad.model import errors
from proad.model.hostconfig import LogConfig
from proad.model.logoptions import log_size_limit


@pytest.mark.parametrize(
    ("driver", "options", "size_bytes"),
    [
        ("", {}, 0), ("json-file", {}, 0), ("json-file", {"max-file": "100"}, 0),
        ("json-file", {"max-size": "-1"}, 0),
        ("json-file", {"max-size": "10m"}, 10_000_000), ("json-file", {"max-size": "1.5k"}, 1_500),
        ("json-file", {"max-size": "2 KiB", "max-file": "3"}, 6_000), ("", {"max-size": "7"}, 7),
        ("local", {}, 100_000_000), ("local", {"max-size": "1G", "max-file": "2"}, 2_000_000_000),
    ],
)  # fmt: skip
def test_sizes(driver: str, options: dict[str, str], size_bytes: int) -> None:
    assert log_size_limit(LogConfig(type=driver, config=options)) == size_bytes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max-size": "bad"}, "invalid size: 'bad'"), ({"max-size": "1q"}, "invalid size: '1q'"),
        ({"max-size": "0"}, "max-size must be a positive number"),
        ({"max-file": "two"}, "invalid number: 'two'"), ({"max-file": "-1"}, "invalid number: '-1'"),
        ({"max-file": "0"}, "max-file cannot be less than 1"), ({"compress": "no"}, "invalid boolean: 'no'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(options: dict[str, str], said: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=said):
        log_size_limit(LogConfig(type="json-file", config=options))
