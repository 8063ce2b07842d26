"""Sync, pure. What aiohttp says of requests that are no HTTP and of clients that go: nothing, it is their own
affair.
"""

import logging

from aiohttp.http_exceptions import HttpProcessingError

_THE_CLIENTS = (HttpProcessingError, ConnectionError)
"""The answer 400 says what is wrong with a request. Where an answer broke off for a reason of the engine's
own, that has been logged before."""


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record tells of anything but the client's doing: no one can fill a log by sending junk."""
    return not (record.exc_info and isinstance(record.exc_info[1], _THE_CLIENTS))


AIOHTTP_LOGGER = logging.getLogger("proad.http")
AIOHTTP_LOGGER.addFilter(_is_ours)
