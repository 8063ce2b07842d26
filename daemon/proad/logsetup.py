"""Sync, pure. How the daemon's log looks: text for people on a terminal, JSON lines otherwise.

Under systemd each line begins with the journal's priority (sd-daemon(3)), so that journalctl can filter by
level.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2, "exception": 3}


def set_up_logging(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Configure structlog; may be called again for a new level (a reload).

    ``log_format`` is ``text``, ``json`` or empty: text where ``stream`` (standard error) is a terminal.
    """
    out = stream or sys.stderr
    text = log_format == "text" or (not log_format and out.isatty())
    under_journal = "JOURNAL_STREAM" in os.environ and not out.isatty()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if text:
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty()))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if under_journal:
            processors.insert(-1, _take_priority)
            processors.append(_put_priority)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    # Libraries that speak through the standard module are heard from warnings on, in the same form.
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[_Forward()], force=True)


class _Forward(logging.Handler):
    """Makes a record of the standard module a line of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        bound = structlog.get_logger().bind(logger=record.name)
        bound.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


_current = {"priority": 6}


def _take_priority(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    _current["priority"] = _PRIORITIES.get(method, 6)
    return event


def _put_priority(_: Any, __: str, line: Any) -> str:
    return f"<{_current['priority']}>{line}"
