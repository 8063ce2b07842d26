"""Sync, blocking. A context that lies on a web server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from proa.errors import ContextFailed

TIMEOUT_S = 60.0
"""How long a server may say nothing."""


@contextmanager
def opened(url: str) -> Iterator[tuple[Download, int | None]]:
    """The content of a URL as it comes, and its size where the server tells it. The
    environment names proxies. Raises ContextFailed.
    """
    try:
        answer = cast("HTTPResponse", urlopen(url, timeout=TIMEOUT_S))
    except HTTPError as error:
        with error:
            words = error.read(1 << 16).decode(errors="replace").strip()
        raise _failed(url, f"failed to GET {url} with status {error.code} {error.reason}: {words}") from None
    except URLError as error:
        raise _failed(url, str(error.reason)) from None
    except (OSError, HTTPException, ValueError) as error:
        raise _failed(url, str(error)) from None
    with answer:
        yield Download(url, answer), answer.length


class Download:
    """Reads like a file; what breaks it off is a ContextFailed."""

    def __init__(self, url: str, answer: HTTPResponse) -> None:
        self._url = url
        self._answer = answer

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes as they come, none at the end."""
        try:
            piece = self._answer.read1(size)
        except (OSError, HTTPException) as error:
            raise _failed(self._url, str(error)) from None
        if not piece and self._answer.length:
            raise _failed(self._url, f"{self._answer.length} bytes are missing at its end")
        return piece


def _failed(url: str, why: str) -> ContextFailed:
    return ContextFailed(f"unable to download remote context {url}: {why}")
