"""Sync, blocking. What a task of the warm helper says to the daemon and hears from it, packet by packet."""

import array
import json
import socket
from typing import Any, Literal

MAX_PACKET_BYTES = 128 << 10

RefusalKind = Literal["missing", "invalid", "unread", "system"]


class Refusal(Exception):
    """The task cannot be done; ``kind`` says whose fault that is, the text is for the client."""

    def __init__(self, kind: RefusalKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Channel:
    """The task's end of a SOCK_SEQPACKET pair."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def tell(self, message: dict[str, Any], *descriptors: int) -> None:
        """Send a JSON object, with descriptors if there are any.

        Raises:
            OSError: the daemon does not listen any more.
        """
        passed = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        self._connection.sendmsg([json.dumps(message).encode()], passed)

    def hear(self) -> bytes:
        """The daemon's next packet; empty if there will be none."""
        return self._connection.recv(MAX_PACKET_BYTES)
