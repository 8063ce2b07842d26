"""Sync, blocking. The body of a request on its way, which may be answered before it is there."""

from __future__ import annotations

import socket
from contextlib import suppress

from proa.errors import Lost
from proa.http1 import Connection, Readable


class Upload:
    """Sends a body: `run` here and now, `start` in a thread while the answer is read."""

    def __init__(self, connection: Connection, body: Readable) -> None:
        self._connection = connection
        self._body = body
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin, and do not wait. The thread ends with the body, with the connection or with this process."""
        from threading import Thread

        Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Send it all. A daemon that hangs up has answered already; any other failure ends the connection, so
        that whoever waits for the answer hears of it, and is kept for `raise_error`."""
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.send_body(self._body)
        except TimeoutError:
            self._fail(Lost("the daemon did not take the request in time"))
        except Exception as error:  # noqa: BLE001 - raised where somebody is who can handle it
            self._fail(error)

    def raise_error(self) -> None:
        """Raise what went wrong on this side, if anything did."""
        if self._error is not None:
            raise self._error

    def _fail(self, error: Exception) -> None:
        self._error = error
        with suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
