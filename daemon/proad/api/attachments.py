"""asyncio-flavoured. One attached client of a container's streams: what it reads and what it types.

All clients of a container hang on one hub (``attachhub.py``), which has the connection to its monitor. A
client that keeps up is written to at once; for one that does not, its output waits in its backlog.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from proad.api.backlog import Backlog
from proad.model.stdstreams import DetachScanner, frame

if TYPE_CHECKING:
    from proad.api.attachhub import Hub

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a client attaches to and how it reads; ``detach_keys`` None where there is no terminal."""

    stdin: bool
    stdout: bool
    stderr: bool
    multiplexed: bool
    detach_keys: bytes | None = None

    def form(self, stream: int, data: bytes) -> bytes:
        """``data`` as this client reads it; empty if it does not want that stream."""
        if not (self.stdout, self.stderr)[stream - 1]:
            return b""
        return frame(stream, data) if self.multiplexed else data


class Outlet(Protocol):
    """A client's connection as an attachment needs it."""

    def write(self, data: bytes) -> None:
        """Send; whether it can take more is told by :meth:`Attachment.set_writable`."""

    def set_reading(self, reading: bool) -> None:
        """Read the client's input, or leave it unread."""

    def finish(self) -> None:
        """All has been written: end the connection."""


class Attachment:
    """One client of a container's streams."""

    def __init__(self, wanted: Wanted, outlet: Outlet, spool_directory: Path) -> None:
        self.wanted = wanted
        self.detached = False
        """It ended by the detach keys."""
        self._outlet = outlet
        self._backlog = Backlog(spool_directory)
        self._writable = True
        self._ending = False
        self._scanner = DetachScanner(wanted.detach_keys) if wanted.detach_keys else None
        self._hub: Hub | None = None

    # --- output ---------------------------------------------------------------------------------------------

    def deliver(self, stream: int, data: bytes) -> None:
        """Output of the container."""
        if formed := self.wanted.form(stream, data):
            self.send(formed)

    def send(self, data: bytes) -> None:
        """Bytes for the client, as they shall arrive."""
        if self._ending:
            return
        if self._writable and not self._backlog.size:
            self._outlet.write(data)
            return
        try:
            self._backlog.put(data)
        except OSError as error:
            self._cut_off(f"its backlog cannot be kept: {error.strerror}")

    def set_writable(self, writable: bool) -> None:
        """The connection takes more, or does not for the moment."""
        self._writable = writable
        while self._writable and self._backlog.size:
            self._outlet.write(self._backlog.take())
        if self._hub is not None:
            self._hub.backlog_changed()
        if self._ending and not self._backlog.size:
            self._outlet.finish()

    @property
    def is_too_far_behind(self) -> bool:
        return self._backlog.is_full

    def end(self) -> None:
        """No more will come; the connection ends when the client has taken what waits."""
        if not self._ending:
            self._ending = True
            if not self._backlog.size:
                self._outlet.finish()

    def cut_off_laggard(self) -> None:
        """Give up on a client that is too far behind while others want to go on."""
        self._cut_off("it is too far behind, and others are reading")

    def _cut_off(self, reason: str) -> None:
        log.warning("an attached client is cut off", reason=reason)
        self._backlog.close()
        self._ending = True
        self._outlet.finish()

    # --- input ----------------------------------------------------------------------------------------------

    def join(self, hub: "Hub") -> None:
        self._hub = hub
        hub.join(self)

    def type(self, data: bytes) -> None:
        """Input from the client; dropped where the container has no open stdin."""
        if self._ending or self._hub is None or not (self.wanted.stdin and self._hub.takes_input):
            return
        if self._scanner is not None:
            data, self.detached = self._scanner.feed(data)
        if data:
            self._hub.feed(data)
        if self.detached:
            self._hub.leave(self)
            self.end()

    def end_input(self) -> None:
        """The client has ended its side.

        With ``StdinOnce`` and no terminal the container's stdin ends; else, as in Docker, the attachment
        does.
        """
        if self._hub is None or not (self.wanted.stdin and self._hub.takes_input):
            return
        if self._hub.stdin_once:
            self._hub.end_input()
        else:
            self._hub.leave(self)
            self.end()

    def set_reading(self, reading: bool) -> None:
        self._outlet.set_reading(reading)

    def lost(self) -> None:
        """The client's connection is gone."""
        self._ending = True
        self._backlog.close()
        if (hub := self._hub) is not None:
            self._hub = None
            if self.wanted.stdin and hub.takes_input and hub.stdin_once:
                hub.end_input()
            hub.leave(self)
