"""Sync, blocking. Netlink sockets: batches of requests out, acknowledgements and dumps in (netlink(7)).

pyroute2 encodes and decodes the messages. They go through plain sockets, because there is nothing to wait
for: the kernel carries a request out inside ``send``, and the answer is there when it returns.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    nlmsg,
)

from proad.host import mounts
from proad.model import errors

CHANGE = NLM_F_REQUEST | NLM_F_ACK
CREATE = CHANGE | NLM_F_CREATE | NLM_F_EXCL
DUMP = NLM_F_REQUEST | NLM_F_DUMP

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_SEQUENCE_OFFSET = 8
_RECEIVE_BYTES = 1 << 18
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python does not name it
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12  # linux/socket.h, linux/netlink.h
_KIND = 0x3FFF  # the rest of an attribute's type are flags


class NetlinkFailed(errors.System):
    """The kernel refused a request; ``errno`` is its reason."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"{what}: {mounts.describe_errno(number)}")
        self.errno = number


@dataclass(frozen=True)
class Request:
    """One encoded message; ``what`` says it in words for the error text."""

    what: str
    message: type[nlmsg]
    data: bytes


@dataclass(frozen=True)
class Envelope:
    """What stands around a batch that the kernel shall carry out as one; neither is acknowledged."""

    begin: Request
    end: Request


class NetlinkSocket:
    """A socket to one family (``NETLINK_ROUTE``), in the network namespace of the thread that opens it."""

    def __init__(self, family: int, *, send_buffer_bytes: int = 0, filters: bool = False) -> None:
        """``send_buffer_bytes`` allows for longer batches than the host's default, some 200 kB.

        With ``filters`` a dump has what the request's fields ask for; it has all there is otherwise, and with
        kernels before 4.20.
        """
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        if filters:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        if send_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, send_buffer_bytes)
        self._socket.bind((0, 0))

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def port_id(self) -> int:
        """The number that the kernel knows the socket by among those of its family."""
        number: int = self._socket.getsockname()[0]
        return number

    def change(self, requests: Sequence[Request], *, envelope: Envelope | None = None) -> None:
        """Carry out ``requests`` in order, in one send.

        Those after a failed one are carried out as well; in an ``envelope``, none of them is then.

        Raises:
            NetlinkFailed: the first that was refused.
        """
        batch = bytearray()
        around = ([envelope.begin], [envelope.end]) if envelope else ([], [])
        for number, request in enumerate([*around[0], *requests, *around[1]]):
            start = len(batch)
            batch += request.data
            struct.pack_into("=I", batch, start + _SEQUENCE_OFFSET, number - len(around[0]) & 0xFFFFFFFF)
        self._socket.send(batch)
        failed: NetlinkFailed | None = None
        awaited = len(requests)
        while awaited > 0:
            for kind, sequence, start, data in self._receive():
                if kind != NLMSG_ERROR:
                    continue
                code = struct.unpack_from("=i", data, start + _HEADER.size)[0]
                if envelope and sequence >= len(requests):
                    # The commit failed. What answers there are to requests must not be taken for others'.
                    self._drain()
                    raise NetlinkFailed(envelope.end.what, -code)
                awaited -= 1
                if code and failed is None:
                    failed = NetlinkFailed(requests[sequence].what, -code)
        if failed is not None:
            raise failed

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)

    def dump(self, request: Request) -> list[Any]:
        """Return all of the kernel's objects that ``request`` asks for, as decoded messages.

        Raises:
            NetlinkFailed: refused.
        """
        found = []
        for start, data in self._dumped(request):
            message = request.message(data, offset=start)
            message.decode()
            found.append(message)
        return found

    def get(self, request: Request) -> Any:
        """Return the one object that ``request`` asks for, as a decoded message.

        Raises:
            NetlinkFailed: refused, or there is none.
        """
        self._socket.send(request.data)
        kind, _, start, data = next(self._receive())
        if kind == NLMSG_ERROR:
            raise self._refused(request, start, data)
        message = request.message(data, offset=start)
        message.decode()
        return message

    def get_attributes(self, request: Request, header_bytes: int) -> dict[int, bytes]:
        """Return the attributes of the one object that ``request`` asks for; see :meth:`dump_attributes`.

        Raises:
            NetlinkFailed: refused, or there is none.
        """
        self._socket.send(request.data)
        kind, _, start, data = next(self._receive())
        if kind == NLMSG_ERROR:
            raise self._refused(request, start, data)
        return dict(_attributes(data, start, header_bytes))

    def dump_attributes(self, request: Request, header_bytes: int) -> Iterator[dict[int, bytes]]:
        """Yield the attributes of each object by number, not decoded, which takes a hundredth of the time.

        ``header_bytes`` is the length of the family's own header, which stands before the attributes.

        Raises:
            NetlinkFailed: refused.
        """
        for start, data in self._dumped(request):
            yield dict(_attributes(data, start, header_bytes))

    def dump_with_headers(
        self, request: Request, header: struct.Struct
    ) -> Iterator[tuple[tuple[int, ...], dict[int, bytes]]]:
        """Yield the same with the fields of each object's ``header``.

        Raises:
            NetlinkFailed: refused.
        """
        for start, data in self._dumped(request):
            fields = header.unpack_from(data, start + _HEADER.size)
            yield fields, dict(_attributes(data, start, header.size))

    def _dumped(self, request: Request) -> Iterator[tuple[int, bytes]]:
        self._socket.send(request.data)
        while True:
            for kind, _, start, data in self._receive():
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise self._refused(request, start, data)
                yield start, data

    def _refused(self, request: Request, start: int, data: bytes) -> NetlinkFailed:
        return NetlinkFailed(request.what, -struct.unpack_from("=i", data, start + _HEADER.size)[0])

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield type, sequence number, offset and buffer of each message of the next datagram."""
        data = self._socket.recv(_RECEIVE_BYTES)
        start = 0
        while start < len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, start)
            yield kind, sequence, start, data
            start += (length + 3) & ~3


def _attributes(data: bytes, start: int, header_bytes: int) -> Iterator[tuple[int, bytes]]:
    end = start + _HEADER.unpack_from(data, start)[0]
    return attributes_between(data, start + _HEADER.size + header_bytes, end)


def attributes_between(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield number and value of each attribute that lies in ``data``, from ``at`` to ``end``."""
    end = len(data) if end is None else end
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & _KIND, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def encode(what: str, kind: int, flags: int, message: type[nlmsg], fields: dict[str, Any]) -> Request:
    """Return a message of type ``kind``; ``fields`` are pyroute2's: header fields, and ``attrs`` as pairs."""
    encoder = message()
    encoder.setvalue(fields)
    encoder["header"] = {"type": kind, "flags": flags, "sequence_number": 0, "pid": 0}
    encoder.encode()
    return Request(what, message, bytes(encoder.data))
