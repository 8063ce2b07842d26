"""Trio-flavoured. Tells when somebody else changes nftables: ``iptables -F``, a firewall loaded again.

The kernel multicasts every change, with the number of the socket that it came by. Most are our own doing,
each start of a container; a filter in the kernel (https://docs.kernel.org/networking/filter.html) drops the
news of these, so that nobody is woken. iptables-legacy tells nothing; a timer has to look.
"""

import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Collection

import trio
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES

from proad.host.netlinksocket import attributes_between
from proad.host.nftmessages import (
    DELETE_ELEMENT,
    FAMILY_HEADER_BYTES,
    NETLINK_NETFILTER,
    NEW_ELEMENT,
    NEW_GENERATION,
    TABLE,
    text_in,
)

SETTLE_S = 0.2
"""A firewall that is loaded again changes many things, one after the other, in about that time."""

REST_S = 1.0
"""How long nothing more is told: some programs change a rule every few moments."""

_NFTABLES_GROUP = 7
_NETLINK_ADD_MEMBERSHIP = 1
_SOL_NETLINK = 270
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_RECEIVE_BUFFER_BYTES = 1 << 20
_RECEIVE_BYTES = 1 << 16
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_PORT_OFFSET = 12
_PORT = struct.Struct("=I")
_MOST_AT_ONCE = 200

# Classic BPF, as in linux/filter.h: code, two jumps, constant.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_PROGRAM = struct.Struct("@HP")  # sock_fprog
_ALL = 0xFFFFFFFF


class NftWatch:
    """Watches the network namespace of the thread that makes it, for the daemon with these tables.

    ``ours`` says which sockets our own changes come by. Those there are at the beginning never wake the loop.
    """

    def __init__(
        self,
        table: str,
        ours: Callable[[], Collection[int]],
        *,
        settle_s: float = SETTLE_S,
        rest_s: float = REST_S,
    ) -> None:
        """
        Raises:
            OSError: the kernel has no nftables, or does not let us watch.
        """
        self._table = table
        self._ours = ours
        self._settle_s, self._rest_s = settle_s, rest_s
        self._told_at = -rest_s
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self._kernel = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        _drop_news_of(self._kernel, ours())
        with contextlib.suppress(PermissionError):  # in a user namespace: less room means a look more often
            self._kernel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        self._kernel.bind((0, 0))
        self._kernel.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFTABLES_GROUP)

    def close(self) -> None:
        self._kernel.close()

    async def changes(self) -> bool:
        """Wait until somebody else has changed chains or rules, or anything in our tables.

        What comes together is told once. Returns whether our tables were concerned; true as well where more
        happened than the kernel could keep.
        """
        while True:
            await trio.lowlevel.wait_readable(self._kernel)
            rest_s = self._told_at + self._rest_s - trio.current_time()
            await trio.sleep(max(self._settle_s, rest_s))
            found = await self._take()
            if found:
                self._told_at = trio.current_time()
                return self._table in found

    async def _take(self) -> set[str]:
        """The names of the tables that the news there are speak of; ours for news that were lost."""
        ours, found = self._ours(), set[str]()
        while True:
            for _ in range(_MOST_AT_ONCE):
                try:
                    found |= self._tables_in(self._kernel.recv(_RECEIVE_BYTES), ours)
                except BlockingIOError:
                    return found
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    found.add(self._table)
            await trio.lowlevel.checkpoint()

    def _tables_in(self, data: bytes, ours: Collection[int]) -> set[str]:
        found: set[str] = set()
        start = 0
        while start + _HEADER.size <= len(data):
            length, kind, _, _, port = _HEADER.unpack_from(data, start)
            subsystem, kind = kind >> 8, kind & 0xFF
            if subsystem == NFNL_SUBSYS_NFTABLES and kind != NEW_GENERATION and port not in ours:
                body = start + _HEADER.size + FAMILY_HEADER_BYTES
                name = text_in(dict(attributes_between(data, body, start + length)).get(TABLE, b""))
                if name == self._table or kind not in (NEW_ELEMENT, DELETE_ELEMENT):
                    found.add(name)
            start += (length + 3) & ~3
        return found


def _drop_news_of(kernel: socket.socket, ports: Collection[int]) -> None:
    """Of news that come by ``ports``, let nothing through. The kernel loads big-endian."""
    count = len(ports)
    program = [(_LOAD_WORD, 0, 0, _PORT_OFFSET)]
    for number, port in enumerate(ports):
        constant = int.from_bytes(_PORT.pack(port), "big")
        program.append((_JUMP_IF_EQUAL, count - number, 0, constant))
    program += [(_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*line) for line in program))
    option = _PROGRAM.pack(len(program), ctypes.addressof(code))
    kernel.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
