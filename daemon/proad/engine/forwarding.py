"""Trio-flavoured. Questions that are for others: asked of a container's servers, within bounds.

Each question has a socket of its own, with a port that the kernel chooses by chance, and an id by chance; the
socket is connected, so that nobody but the server asked can answer. A server that does not answer is asked
last for a while.
"""

import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from proad.host.dnssockets import DnsSockets, open_here
from proad.model import errors
from proad.model.dnsmessage import (
    MAX_BYTES,
    REFUSED,
    SERVFAIL,
    Query,
    answers,
    is_truncated,
    rcode_of,
    with_id,
)

PORT = 53
MAX_TRIES = 3
TRY_TIMEOUT_S = 3.0
SILENT_FOR_S = 30.0
MAX_PER_RESOLVER = 128
MAX_TOTAL = 512
SHARE = 16
"""So many questions of each resolver are asked even if others have all the rest."""
MAX_VISITS = 4
"""How many threads are in containers' namespaces at once, to open sockets there."""


@dataclass(frozen=True)
class Upstream:
    """A server that knows the rest of the world, and from whose network namespace it is asked."""

    address: str
    in_container: bool


class Forwarder:
    """Asks upstream servers, for all resolvers."""

    def __init__(self) -> None:
        self._silent_until: dict[Upstream, float] = {}
        self._asking = 0
        self._visits = trio.CapacityLimiter(MAX_VISITS)

    def admit(self, of_one_resolver: int) -> bool:
        """Make room for one more question, of a resolver that waits for so many answers already; returns
        whether there was room. Whoever has it asks, once.
        """
        allowed = MAX_PER_RESOLVER if self._asking < MAX_TOTAL else SHARE
        if of_one_resolver >= allowed:
            return False
        self._asking += 1
        return True

    async def ask(
        self,
        data: bytes,
        query: Query,
        upstreams: Sequence[Upstream],
        sockets: DnsSockets,
        *,
        over_tcp: bool,
    ) -> bytes | None:
        """Return what the first server answers that is able to; None where none is.

        ``data`` is the question as the container sent it, so that its EDNS options go through. A truncated
        answer is asked for again over TCP. ``over_tcp`` asks over TCP at once, and over UDP where a server
        does not speak it. There must be room for it (:meth:`admit`).
        """
        try:
            return await self._ask(data, query, upstreams, sockets, over_tcp=over_tcp)
        finally:
            self._asking -= 1

    async def _ask(
        self,
        data: bytes,
        query: Query,
        upstreams: Sequence[Upstream],
        sockets: DnsSockets,
        *,
        over_tcp: bool,
    ) -> bytes | None:
        refusal: bytes | None = None
        for upstream in self._in_order(upstreams):
            answer = await self._try(data, query, upstream, sockets, over_tcp=over_tcp)
            if answer is None:
                self._silent_until[upstream] = trio.current_time() + SILENT_FOR_S
                continue
            self._silent_until.pop(upstream, None)
            if rcode_of(answer) not in (SERVFAIL, REFUSED):
                return with_id(answer, query.id)
            refusal = with_id(answer, query.id)
        return refusal

    def _in_order(self, upstreams: Sequence[Upstream]) -> list[Upstream]:
        """As they are given, those that were silent lately at the end; a single one is asked twice."""
        now = trio.current_time()
        for upstream in [one for one, until in self._silent_until.items() if until <= now]:
            del self._silent_until[upstream]
        ordered = sorted(upstreams, key=lambda upstream: upstream in self._silent_until)
        return (ordered * 2 if len(ordered) == 1 else ordered)[:MAX_TRIES]

    async def _try(
        self, data: bytes, query: Query, upstream: Upstream, sockets: DnsSockets, *, over_tcp: bool
    ) -> bytes | None:
        """One server's answer, in the time that it has; None where there is none."""
        answer: bytes | None = None
        with trio.move_on_after(TRY_TIMEOUT_S):
            if not over_tcp:
                answer = await self._exchange(data, query, upstream, sockets, socket.SOCK_DGRAM)
            if over_tcp or (answer is not None and is_truncated(answer)):
                whole = await self._exchange(data, query, upstream, sockets, socket.SOCK_STREAM)
                answer = whole or answer
            if answer is None and over_tcp:
                answer = await self._exchange(data, query, upstream, sockets, socket.SOCK_DGRAM)
        return answer

    async def _exchange(
        self, data: bytes, query: Query, upstream: Upstream, sockets: DnsSockets, kind: int
    ) -> bytes | None:
        number = secrets.randbits(16)
        try:
            family, *_, where = socket.getaddrinfo(
                upstream.address, PORT, type=kind, flags=socket.AI_NUMERICHOST
            )[0]
            if upstream.in_container:
                async with self._visits:
                    opened = await sockets.open_beside(family, kind)
            else:
                opened = open_here(family, kind)
            with trio.socket.from_stdlib_socket(opened) as asking:
                await asking.connect(where)
                if kind == socket.SOCK_DGRAM:
                    return await _over_udp(asking, with_id(data, number), number, query)
                return await _over_tcp(asking, with_id(data, number), number, query)
        except (OSError, errors.System):
            return None  # it cannot be reached, or does not speak this protocol: the next one is asked


async def _over_udp(asking: trio.socket.SocketType, data: bytes, number: int, query: Query) -> bytes:
    await asking.send(data)
    while True:
        answer = await asking.recv(MAX_BYTES)
        if answers(answer, number, query):
            return answer


async def _over_tcp(asking: trio.socket.SocketType, data: bytes, number: int, query: Query) -> bytes | None:
    stream = trio.SocketStream(asking)
    await stream.send_all(len(data).to_bytes(2, "big") + data)
    head = await receive_exactly(stream, 2)
    answer = await receive_exactly(stream, int.from_bytes(head, "big"))
    return answer if answers(answer, number, query) else None


async def receive_exactly(stream: trio.SocketStream, size: int) -> bytes:
    """Return the next ``size`` bytes.

    Raises:
        ConnectionResetError: the other side has closed before.
        OSError: it has gone.
    """
    data = bytearray()
    while len(data) < size:
        try:
            more = await stream.receive_some(size - len(data))
        except trio.BrokenResourceError as error:
            raise ConnectionResetError("the connection broke") from error
        if not more:
            raise ConnectionResetError("closed before the end")
        data += more
    return bytes(data)
