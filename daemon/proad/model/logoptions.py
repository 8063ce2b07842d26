"""Sync, pure. How much log a container keeps, by the options of its log driver.

The options and the wording are those of Docker's drivers ``json-file`` and ``local``
(https://docs.docker.com/engine/logging/drivers/json-file/). There is one log file here, begun anew when it
is full, where Docker rotates several: it may become as large as all of those together.
"""

import re

from proad.model import errors
from proad.model.hostconfig import LogConfig

_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?) ?(?P<unit>[kmgtp])?i?b?", re.IGNORECASE)
_EXPONENTS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_LOCAL_SIZE, _LOCAL_FILES = "20m", "5"
_BOOLEANS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"})


def log_size_limit(log_config: LogConfig) -> int:
    """The largest size of the log in bytes; 0 for no limit.

    Raises:
        errors.InvalidParameter: an option's value is malformed.
    """
    options, is_local = log_config.config, log_config.type == "local"
    size = options.get("max-size", _LOCAL_SIZE if is_local else "")
    files = options.get("max-file", _LOCAL_FILES if is_local else "1")
    if options.get("compress", "true") not in _BOOLEANS:
        raise errors.InvalidParameter(f"LogConfig.Config.compress: invalid boolean: '{options['compress']}'")
    if not files.isascii() or not files.isdigit():
        raise errors.InvalidParameter(f"LogConfig.Config.max-file: invalid number: '{files}'")
    if int(files) < 1:
        raise errors.InvalidParameter("max-file cannot be less than 1")
    return _bytes(size) * int(files) if size and size != "-1" else 0


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise errors.InvalidParameter(f"LogConfig.Config.max-size: invalid size: '{text}'")
    size = int(float(match["number"]) * 1000 ** _EXPONENTS[(match["unit"] or "").lower()])
    if size <= 0:
        raise errors.InvalidParameter("max-size must be a positive number")
    return size
