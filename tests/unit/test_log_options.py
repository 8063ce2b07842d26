"""Sync, pure. Which log drivers there are, what their options may be, and how large a log may become."""

import pytest

from proad.model import errors
from proad.model.hostconfig import LogConfig
from proad.model.logoptions import LogPolicy, check_log_options, log_policy


@pytest.mark.parametrize(
    ("driver", "options", "policy"),
    [
        ("", {}, LogPolicy()), ("json-file", {}, LogPolicy()), ("none", {}, LogPolicy()),
        ("journald", {}, LogPolicy()), ("json-file", {"max-size": "-1"}, LogPolicy()),
        ("json-file", {"max-size": "10m"}, LogPolicy(5_000_000)),
        ("json-file", {"max-size": "1.5k", "max-file": "2"}, LogPolicy(1_500, 1)),
        ("json-file", {"max-size": "2 KiB", "max-file": "3", "compress": "true"}, LogPolicy(2_000, 2, True)),
        ("", {"max-size": "7"}, LogPolicy(4)),
        ("local", {}, LogPolicy(20_000_000, 4, True)),
        ("local", {"max-size": "1G", "max-file": "2", "compress": "F"}, LogPolicy(1_000_000_000, 1)),
    ],
)  # fmt: skip
def test_sizes(driver: str, options: dict[str, str], policy: LogPolicy) -> None:
    assert log_policy(LogConfig(type=driver, config=options)) == policy


@pytest.mark.parametrize(
    ("driver", "options", "said"),
    [
        ("json-file", {"max-size": "bad"}, "invalid size: 'bad'"),
        ("json-file", {"max-size": "1q"}, "invalid size: '1q'"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max-file": "two"}, "invalid number: 'two'"),
        ("json-file", {"max-file": "-1"}, "invalid number: '-1'"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"compress": "no"}, "invalid boolean: 'no'"),
        ("json-file", {"compress": "true"}, "compress cannot be true when max-file is less than 2"),
        ("json-file", {"compress": "true", "max-file": "3"}, "or max-size is not set"),
        ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("json-file", {"mode": "fast"}, "logger: logging mode not supported: fast"),
        ("local", {"max-buffer-size": "4m"}, "only supported with 'mode=non-blocking'"),
        ("local", {"mode": "non-blocking", "max-buffer-size": "x"}, "option max-buffer-size: invalid size"),
        ("json-file", {"labels-regex": "("}, "LogConfig.Config.labels-regex: missing"),
        ("journald", {"max-size": "1m"}, "unknown log opt 'max-size' for journald log driver"),
        ("json-file", {"frob": "1"}, "unknown log opt 'frob' for json-file log driver"),
        ("syslog", {}, "logger: no log driver named 'syslog' is registered"),
    ],
)
def test_what_makes_no_sense(driver: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(errors.InvalidParameter, match=said.replace("(", "[(]")):
        check_log_options(LogConfig(type=driver, config=options))


def test_what_is_understood() -> None:
    for driver in ("json-file", "local", "journald"):
        delivery = {"mode": "non-blocking", "max-buffer-size": "4m", "tag": "{{.ID}}", "labels": "a,b"}
        check_log_options(LogConfig(type=driver, config=delivery))
    check_log_options(LogConfig(type="none", config={"max-size": "left over"}))
