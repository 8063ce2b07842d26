"""Trio-flavoured. Tells when somebody takes away what our links had: the link itself, its bridge, an address.

The kernel multicasts every change of links and addresses (rtnetlink(7)). Most of them are our own doing, so a
filter in the kernel (https://docs.kernel.org/networking/filter.html) lets only losses wake the loop, and of
those only the ones of names that the caller knows at that time are told.
"""

import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Callable

import trio
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWLINK,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
)

from proad.host.linkmessages import IFF_UP, IFLA_IFNAME

SETTLE_S = 0.1
"""What belongs together, like the many changes when a network service restarts, comes in about that time."""

RECEIVE_BUFFER_BYTES = 1 << 20
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33

_TYPE_OFFSET, _FLAGS_OFFSET = 4, 24
_HEADER_BYTES = 32  # nlmsghdr and ifinfomsg; an ifaddrmsg is shorter, and its index at another place
_TYPE, _INDEX = struct.Struct("=H"), struct.Struct("=I")
_ATTRIBUTE = struct.Struct("=HH")
_NAME_AND_HEADER_BYTES = 64  # of each message; the name is its first attribute

# Classic BPF, as in linux/filter.h: code, two jumps, constant.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_HALF, _LOAD_WORD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x28, 0x20, 0x15, 0x45, 0x06
_PROGRAM = struct.Struct("@HP")  # sock_fprog


class LinkWatch:
    """Watches the network namespace of the thread that makes it.

    ``concerns`` says whether a name is one of ours now; what we delete ourselves is none any more by the time
    that it is asked, a moment after the event.
    """

    def __init__(self, concerns: Callable[[str], bool], *, settle_s: float = SETTLE_S) -> None:
        self._concerns = concerns
        self._settle_s = settle_s
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self._kernel = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        _attach_filter(self._kernel)
        with contextlib.suppress(
            PermissionError
        ):  # in another user namespace: less room is a hint more often
            self._kernel.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        self._kernel.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))

    def close(self) -> None:
        self._kernel.close()

    async def losses(self) -> frozenset[str]:
        """Wait until links are deleted, leave their bridge, are set down or lose an address; return which.

        Nothing is returned where more happened than the kernel could keep: anything may be lost.
        """
        while True:
            await trio.lowlevel.wait_readable(self._kernel)
            await trio.sleep(self._settle_s)
            try:
                lost = self._take()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return frozenset()
            if found := frozenset(filter(self._concerns, lost)):
                return found

    def _take(self) -> set[str]:
        names: set[str] = set()
        while True:
            try:
                message = self._kernel.recv(_NAME_AND_HEADER_BYTES)
            except BlockingIOError:
                return names
            if name := _name_in(message):
                names.add(name)


def _name_in(message: bytes) -> str | None:
    """The name of the link that a message is about; None where it has no name any more."""
    (kind,) = _TYPE.unpack_from(message, _TYPE_OFFSET)
    if kind == RTM_DELADDR:
        (index,) = _INDEX.unpack_from(message, 20)
        try:
            return socket.if_indextoname(index)
        except OSError:  # the link has gone too, and has a message of its own
            return None
    length, attribute = _ATTRIBUTE.unpack_from(message, _HEADER_BYTES)
    if attribute != IFLA_IFNAME:
        return None
    start = _HEADER_BYTES + _ATTRIBUTE.size
    return message[start : _HEADER_BYTES + length].rstrip(b"\0").decode(errors="replace")


def _attach_filter(kernel: socket.socket) -> None:
    """Let pass what is deleted, and links that are not up. The kernel loads big-endian."""
    program = [
        (_LOAD_HALF, 0, 0, _TYPE_OFFSET),
        (_JUMP_IF_EQUAL, 4, 0, socket.htons(RTM_DELLINK)),
        (_JUMP_IF_EQUAL, 3, 0, socket.htons(RTM_DELADDR)),
        (_JUMP_IF_EQUAL, 0, 3, socket.htons(RTM_NEWLINK)),
        (_LOAD_WORD, 0, 0, _FLAGS_OFFSET),
        (_JUMP_IF_SET, 1, 0, socket.htonl(IFF_UP)),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*line) for line in program))
    option = _PROGRAM.pack(len(program), ctypes.addressof(code))
    kernel.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)
