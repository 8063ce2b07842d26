"""Sync, pure. The options of the log drivers: which there are, what they may be, how much log is kept.

The options and the wording are those of Docker's drivers ``json-file``, ``local`` and ``journald``
(https://docs.docker.com/engine/logging/configure/). The two that write files differ here in their defaults
alone: conmon writes both, in one format.
"""

import re
from dataclasses import dataclass

from proad.model import errors
from proad.model.hostconfig import LogConfig
from proad.model.logtag import check_log_tag

JSON_FILE, LOCAL, JOURNALD, NO_LOG = "json-file", "local", "journald", "none"
LOG_DRIVERS = (JOURNALD, JSON_FILE, LOCAL, NO_LOG)

_ROTATION = {"max-size", "max-file", "compress"}
_DETAILS = {"labels", "labels-regex", "env", "env-regex", "tag"}
_DELIVERY = {"mode", "max-buffer-size"}
_KNOWN = {
    JSON_FILE: _ROTATION | _DETAILS | _DELIVERY,
    LOCAL: _ROTATION | _DETAILS | _DELIVERY,
    JOURNALD: _DETAILS | _DELIVERY,
}
_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>[kmgtp])?i?b?", re.IGNORECASE)
_EXPONENTS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_LOCAL_DEFAULTS = {"max-size": "20m", "max-file": "5", "compress": "true"}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_NOT_A_SIZE = frozenset({"", "-1"})


@dataclass(frozen=True)
class LogPolicy:
    """How much of its log a container keeps: the file that is written, and older ones beside it.

    ``file_bytes`` is where a file is full, 0 for never. ``rotated_files`` older ones are kept, packed by gzip
    if ``compress``. A ``max-file`` of 1 is kept to with two files of half the size: the newest output is
    always there, where a single file would have to begin with nothing when it is full.
    """

    file_bytes: int = 0
    rotated_files: int = 1
    compress: bool = False

    @property
    def is_bounded(self) -> bool:
        return self.file_bytes > 0


def log_driver(log_config: LogConfig) -> str:
    """The driver by name, also where none is asked for."""
    return log_config.type or JSON_FILE


def writes_file(log_config: LogConfig) -> bool:
    """Whether the log is a file of the container's."""
    return log_driver(log_config) in (JSON_FILE, LOCAL)


def check_log_options(log_config: LogConfig) -> None:
    """Refuse a driver that there is not, and options that it does not have or that make no sense.

    Raises:
        errors.InvalidParameter: says which.
    """
    driver = log_driver(log_config)
    if driver not in LOG_DRIVERS:
        raise errors.InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    if driver == NO_LOG:
        return  # Docker takes whatever there is with it, too: a default's options may be left
    options = log_config.config
    for option in options:
        if option not in _KNOWN[driver]:
            raise errors.InvalidParameter(f"unknown log opt '{option}' for {driver} log driver")
    _check_delivery(options)
    for option in ("labels-regex", "env-regex"):
        _check_regex(option, options.get(option, ""))
    check_log_tag(options.get("tag", ""))
    log_policy(log_config)


def log_policy(log_config: LogConfig) -> LogPolicy:
    """What the options say of the log's size.

    Raises:
        errors.InvalidParameter: an option's value is malformed, or two contradict each other.
    """
    if not writes_file(log_config):
        return LogPolicy()
    is_local = log_driver(log_config) == LOCAL
    options = {**_LOCAL_DEFAULTS, **log_config.config} if is_local else log_config.config
    size_text, files_text = options.get("max-size", ""), options.get("max-file", "1")
    compress = _boolean("compress", options.get("compress", "false"))
    if not files_text.isascii() or not files_text.isdigit():
        raise errors.InvalidParameter(f"LogConfig.Config.max-file: invalid number: '{files_text}'")
    files = int(files_text)
    if files < 1:
        raise errors.InvalidParameter("max-file cannot be less than 1")
    size = 0 if size_text in _NOT_A_SIZE else _bytes(size_text)
    if compress and is_local and files == 1:
        raise errors.InvalidParameter("compression cannot be enabled when max file count is 1")
    if compress and (files == 1 or not size):
        raise errors.InvalidParameter(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        )
    if files == 1:
        return LogPolicy(file_bytes=(size + 1) // 2)
    return LogPolicy(file_bytes=size, rotated_files=files - 1, compress=compress)


def _check_delivery(options: dict[str, str]) -> None:
    """``mode`` and its buffer are understood and need nothing: no log here keeps a container waiting."""
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise errors.InvalidParameter(f"logger: logging mode not supported: {mode}")
    if (buffer := options.get("max-buffer-size")) is not None:
        if mode != "non-blocking":
            raise errors.InvalidParameter(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        if _SIZE.fullmatch(buffer) is None:
            raise errors.InvalidParameter(
                f"logger: error parsing option max-buffer-size: invalid size: '{buffer}'"
            )


def _check_regex(option: str, text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise errors.InvalidParameter(f"LogConfig.Config.{option}: {error}") from error


def _boolean(option: str, text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise errors.InvalidParameter(f"LogConfig.Config.{option}: invalid boolean: '{text}'")
    return text in _TRUE


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise errors.InvalidParameter(f"LogConfig.Config.max-size: invalid size: '{text}'")
    size = int(float(match["number"]) * 1000 ** _EXPONENTS[(match["unit"] or "").lower()])
    if size <= 0:
        raise errors.InvalidParameter("max-size must be a positive number")
    return size
