"""Trio-flavoured. What builds fetch from the network: files for ADD, and contexts.

    downloads.get("https://…/x.tar.gz", destination)     a file of that name, as ADD wants it

Each file lies in a directory of its own in the build's workspace, and goes with that.
"""

import os
import posixpath
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from proad.engine.buildoutput import BuildOutput
from proad.model import errors

_UNNAMED = "__unnamed__"
_STEP_BYTES = 512 << 10
"""Progress is told about so often, as Docker does."""


class Downloaded(Protocol):
    """What is known of a download: the URL that it came from in the end, and what the server said of it."""

    url: str
    last_modified: str
    content_type: str
    content_disposition: str
    size_bytes: int


Progress = Callable[[int, int], None]
"""Called with the bytes that have come, and how many there will be, 0 if nobody knows."""

Fetch = Callable[[str, int, Progress], Awaitable[Downloaded]]
"""Writes what is at a URL into a descriptor.

Raises:
    errors.ProaError: it cannot be had.
"""


@dataclass
class Downloads:
    """The downloads of one build, into ``workspace``."""

    workspace: Path
    fetch: Fetch
    output: BuildOutput
    count: int = 0

    async def get(self, url: str, destination: str) -> Path:
        """Download a file for ADD: root's alone, with the time that the server tells.

        Raises:
            errors.InvalidParameter: neither the URL nor the server says what it is called, and ``destination`` is
            a directory.
            errors.ProaError: it cannot be had.
        """
        path, told = await self._download(url, "Downloading")
        name = _name_of(url, told.content_disposition)
        if not name and destination.endswith("/"):
            raise errors.InvalidParameter(f"cannot determine filename for source {url}")
        named = path.with_name(name or _UNNAMED)
        path.rename(named)
        modified_s = _seconds(told.last_modified)
        os.utime(named, (modified_s, modified_s))
        self.output.say("\n")
        return named

    async def context(self, url: str) -> tuple[Path, Downloaded]:
        """Download a build's context, or its Dockerfile.

        Raises:
            errors.ProaError: it cannot be had.
        """
        try:
            return await self._download(url, "Downloading context")
        except errors.ProaError as error:
            raise type(error)(f"error downloading remote context {url}: {error.message}") from error

    async def _download(self, url: str, status: str) -> tuple[Path, Downloaded]:
        self.count += 1
        directory = self.workspace / f"download{self.count}"
        directory.mkdir(mode=0o755)
        path = directory / ".download"
        told_at = -_STEP_BYTES

        def progress(current: int, total: int) -> None:
            nonlocal told_at
            if current - told_at >= _STEP_BYTES or current == total:
                told_at = current
                detail = {"current": current, "total": total} if total else {"current": current}
                self.output.put({"status": status, "progressDetail": detail})

        sink = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return path, await self.fetch(url, sink, progress)
        finally:
            os.close(sink)


def _name_of(url: str, disposition: str) -> str:
    """What a download is called: by its URL, else by its server; empty if neither says."""
    path = unquote(urlsplit(url).path)
    if path and not path.endswith("/"):
        return _safe(posixpath.basename(path))
    message = Message()
    message["Content-Disposition"] = disposition
    name = message.get_filename("")
    return _safe(posixpath.basename(name)) if not name.endswith("/") else ""


def _safe(name: str) -> str:
    return "" if name in (".", "..") or "\0" in name else name


def _seconds(last_modified: str) -> int:
    """Since the epoch; 0 for what is no time."""
    if not re.search(r"\d", last_modified):
        return 0
    try:
        return max(0, int(parsedate_to_datetime(last_modified).timestamp()))
    except (ValueError, TypeError, OverflowError):
        return 0
