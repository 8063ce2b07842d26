"""Trio-flavoured. What builds fetch from the network: files for ADD, and contexts.

    downloads.get("https://…/x.tar.gz", destination)     a file of that name, as ADD wants it

Each file lies in a directory of its own in the build's workspace, and goes with that.
"""

import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from proad.engine.buildoutput import BuildOutput
from proad.model import errors, progress

_UNNAMED = "__unnamed__"
_STEP_BYTES = 512 << 10
"""Progress is told about so often, as Docker does."""


MAX_DOWNLOAD_BYTES = 1 << 40


class Downloaded(Protocol):
    """What a server said of a file; see ``host.registry``."""

    @property
    def last_modified(self) -> str: ...
    @property
    def content_type(self) -> str: ...


class Fetch(Protocol):
    """Writes what is at a URL into a descriptor; see ``host.registry``."""

    async def __call__(
        self, url: str, sink: int, *, max_bytes: int, progress: Callable[[int, int], None]
    ) -> Downloaded: ...


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
            errors.InvalidParameter: neither the URL nor the server says what it is called, and
            ``destination`` is a directory. errors.ProaError: it cannot be had.
        """
        path, told = await self._download(url, "Downloading")
        name = _name_of(url)
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

        def report(current: int, total: int) -> None:
            nonlocal told_at
            if current - told_at >= _STEP_BYTES or current == total:
                told_at = current
                self.output.put(progress.progress("", status, current, total))

        sink = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return path, await self.fetch(url, sink, max_bytes=MAX_DOWNLOAD_BYTES, progress=report)
        finally:
            os.close(sink)


def _name_of(url: str) -> str:
    """What a download is called; empty if its URL does not say."""
    name = posixpath.basename(unquote(urlsplit(url).path))
    return "" if name in (".", "..") or "\0" in name else name


def _seconds(last_modified: str) -> int:
    """Since the epoch; 0 for what is no time."""
    if not re.search(r"\d", last_modified):
        return 0
    try:
        return max(0, int(parsedate_to_datetime(last_modified).timestamp()))
    except (ValueError, TypeError, OverflowError):
        return 0
