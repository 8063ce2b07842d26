"""Sync, blocking. libnftables in the process: commands in nft's language, listings in its JSON."""

import contextlib
import json
import os
import socket
from typing import Any

import nftables

from proad.model import errors


class Nftables:
    """A context of the library. Use by one thread at a time.

    Its socket, and so what it works on, is in the network namespace of the thread that makes it.
    """

    def __init__(self) -> None:
        """
        Raises:
            errors.Unavailable: the library is not installed.
        """
        before = _sockets()
        try:
            self._library = nftables.Nftables()
        except OSError as error:
            raise errors.Unavailable(f"libnftables is missing ({error}); install libnftables1") from error
        self._descriptors = {number for number, _ in _sockets() - before}
        for descriptor in self._descriptors:
            # The library opens its socket without close-on-exec, for all programs that we start.
            os.set_inheritable(descriptor, False)

    @property
    def port_ids(self) -> set[int]:
        """The numbers that the kernel knows the library's sockets by, and names in its news of changes.

        A socket has none before it is used; 0 is the kernel itself.
        """
        return {number for number in map(_port_id, self._descriptors) if number}

    def run(self, commands: str) -> None:
        """Carry out ``commands``, one a line, in one transaction.

        Raises:
            errors.System: the kernel refused; nothing has been carried out.
        """
        code, _, error = self._library.cmd(commands)
        if code != 0:
            raise errors.System(f"nftables: {error.strip().partition(chr(10))[0]}")

    def listing(self, what: str) -> list[dict[str, Any]]:
        """Return the objects that ``list`` and ``what`` show, as in libnftables-json(5); none where there is
        no such thing.

        Raises:
            errors.System: the kernel refused.
        """
        self._library.set_json_output(True)
        self._library.set_handle_output(True)
        try:
            code, output, error = self._library.cmd(f"list {what}")
        finally:
            self._library.set_json_output(False)
            self._library.set_handle_output(False)
        if code != 0:
            if "No such file or directory" in error:
                return []
            raise errors.System(f"nftables: {error.strip().partition(chr(10))[0]}")
        objects: list[dict[str, Any]] = json.loads(output)["nftables"]
        return objects


def _sockets() -> set[tuple[int, str]]:
    """Number and identity of each socket that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself, whose number the next may get
            if (what := os.readlink(f"/proc/self/fd/{name}")).startswith("socket:"):
                found.add((int(name), what))
    return found


def _port_id(descriptor: int) -> int | None:
    try:
        twin = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None
    with twin:
        if twin.family != socket.AF_NETLINK:
            return None
        number: int = twin.getsockname()[0]
        return number
