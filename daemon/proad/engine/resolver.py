"""Trio-flavoured. The resolver of one run: answers its questions from memory, or has them asked elsewhere.

What containers ask for all the time is answered in the loop that reads it, many questions at a time; after
each full batch the rest of the daemon has its turn (:class:`Turns`). A name with a single label is a
container's name or nobody's: it never leaves this host.
"""

import contextlib
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
import trio

from proad.engine.forwarding import Forwarder, Upstream, receive_exactly
from proad.engine.names import Names
from proad.host.dnssockets import ADDRESS, DnsSockets
from proad.model.dnsmessage import (
    AAAA,
    DNSKEY,
    DS,
    IN,
    MAX_BYTES,
    NS,
    NSEC,
    NXDOMAIN,
    PTR,
    REFUSED,
    RRSIG,
    SERVFAIL,
    SOA,
    A,
    Query,
    read_plain,
    reply,
    truncated,
    wire_name,
)

BATCH = 32
BATCH_S = 0.002
"""No batch takes much longer, however hard its questions are."""
REST = 0.5
"""After a full batch the daemon has at least so much time for others, as a part of what the batch took."""
FORWARD_S = 0.0005
"""What a question that is asked of others takes of the daemon's time besides, about."""

MAX_CLIENTS = 64
CLIENT_TIMEOUT_S = 10.0
ACCEPT_PAUSE_S = 0.1
WARN_EVERY_S = 30.0

Address = tuple[str, int]

_FAMILY = {A: 4, AAAA: 6}
_OF_THE_ROOT = frozenset((NS, SOA, DS, RRSIG, NSEC, DNSKEY))
"""What is rightly asked about top-level domains, which have a single label too."""

_LOCALHOST = wire_name("localhost")
_LOOPBACK = {A: (b"\x7f\0\0\1",), AAAA: (b"\0" * 15 + b"\1",)}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class View:
    """What a run sees: its networks in the order in which they are searched, and its servers.

    ``links`` are aliases that only it knows, and the names that they stand for. ``forwards`` is False where
    nothing may leave the host by way of the host's own namespace.
    """

    networks: tuple[str, ...]
    links: Mapping[str, str]
    upstreams: tuple[Upstream, ...]
    forwards: bool


class Turns:
    """Sees to it that those who have much to answer leave time to the rest of the daemon.

    Resolvers take turns, so that many of them together take no more of the loop than a single one.
    """

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def rest(self, worked_s: float) -> None:
        async with self._lock:
            await trio.sleep(worked_s * REST)


class Resolver:
    """Answers on the sockets of one run until it is closed."""

    def __init__(
        self, sockets: DnsSockets, view: View, names: Names, forwarder: Forwarder, turns: Turns
    ) -> None:
        self._sockets = sockets
        self._names = names
        self._forwarder = forwarder
        self._turns = turns
        self._scope = trio.CancelScope()
        self._closed = False
        self._pending: set[tuple[Address, int]] = set()
        self._asking = 0
        self._clients = 0
        self._one_at_a_time = trio.Lock()
        self._worked_s = 0.0
        self._warned_at = -WARN_EVERY_S
        self.show(view)

    def show(self, view: View) -> None:
        """Answer by another view from now on."""
        self._networks = view.networks
        self._upstreams = tuple(
            one
            for one in view.upstreams
            if (view.forwards or one.in_container) and not _is_itself(one)  # it would go round for ever
        )
        wired = ((wire_name(alias), wire_name(name)) for alias, name in view.links.items())
        self._links = {alias: name for alias, name in wired if alias is not None and name is not None}

    def close(self) -> None:
        """Stop at once; the sockets, which keep the network namespace, are closed when this returns."""
        self._closed = True
        self._scope.cancel()  # nobody waits for a socket any more
        self._sockets.close()

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def serve(self) -> None:
        """Answer until it is closed."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve_tcp, nursery)
                await self._serve_udp(nursery)

    # --- what is known ----------------------------------------------------------------------------------

    def answer(self, query: Query, limit: int) -> bytes | None:
        """Return the answer to what is known here, no longer than ``limit`` bytes; None for all the rest."""
        if query.class_ != IN:
            return None
        family = _FAMILY.get(query.type)
        found = self._names.addresses(self._networks, self._links, query.name, family or 4)
        if found is not None:
            # Other types are empty, so that mail for a container goes to its address (RFC 5321, section 5.1).
            records = _shuffled(found) if family else ()
            return reply(query, kind=query.type, records=records, limit=limit)
        if query.type == PTR and (name := self._names.name_of(self._networks, query.name)) is not None:
            return reply(query, kind=PTR, records=(name,), limit=limit)
        if not query.is_single_label or query.type in _OF_THE_ROOT:
            return None
        if query.name == _LOCALHOST:  # RFC 6761, section 6.3
            return reply(query, kind=query.type, records=_LOOPBACK.get(query.type, ()), limit=limit)
        return reply(query, NXDOMAIN)

    def _read(self, data: bytes) -> Query | bytes | None:
        """The question of a message, or the answer that refuses it, or None where silence is right."""
        if (plain := read_plain(data)) is not None:
            return plain
        from proad.model.dnsodd import read_odd

        return read_odd(data)

    # --- UDP --------------------------------------------------------------------------------------------

    async def _serve_udp(self, nursery: trio.Nursery) -> None:
        while not self._closed:
            await trio.lowlevel.wait_readable(self._sockets.udp)
            began = time.perf_counter()
            before = len(self._pending)
            if self._answer_batch(nursery, began + BATCH_S):
                worked_s = time.perf_counter() - began
                await self._turns.rest(worked_s + (len(self._pending) - before) * FORWARD_S)

    def _answer_batch(self, nursery: trio.Nursery, deadline: float) -> bool:
        """Answer what has come; returns whether there may be more."""
        udp = self._sockets.udp
        for _ in range(BATCH):
            try:
                data, client = udp.recvfrom(MAX_BYTES)
            except OSError:  # mostly: there is nothing more
                return False
            query = self._read(data)
            if not isinstance(query, Query):
                if query is not None:
                    self._send(query, client)
            elif (answer := self.answer(query, query.udp_bytes)) is not None:
                self._send(answer, client)
            elif (client, query.id) not in self._pending:  # else it is asked again while we wait
                self._forward(data, query, client, nursery)
            if time.perf_counter() > deadline:
                break
        return True

    def _send(self, data: bytes, client: Address) -> None:
        # One that cannot be sent is like one that is lost on its way: whoever waits for it asks again.
        with contextlib.suppress(OSError):
            self._sockets.udp.sendto(data, client)

    def _forward(self, data: bytes, query: Query, client: Address, nursery: trio.Nursery) -> None:
        if self._admit():
            self._pending.add((client, query.id))
            nursery.start_soon(self._forward_for, data, query, client)
        else:
            self._send(reply(query, REFUSED), client)

    async def _forward_for(self, data: bytes, query: Query, client: Address) -> None:
        try:
            answer = await self._ask(data, query, over_tcp=False)
        finally:
            self._pending.discard((client, query.id))
        self._send(answer if len(answer) <= query.udp_bytes else truncated(query), client)

    async def _ask(self, data: bytes, query: Query, *, over_tcp: bool) -> bytes:
        upstreams = self._upstreams
        try:
            answer = await self._forwarder.ask(data, query, upstreams, self._sockets, over_tcp=over_tcp)
        finally:
            self._asking -= 1
        return answer if answer is not None else reply(query, SERVFAIL)

    def _admit(self) -> bool:
        """Make room for a question that is asked of others, if there is any."""
        if self._forwarder.admit(self._asking):
            self._asking += 1
            return True
        now = trio.current_time()
        if now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            log.warning("too many names asked for at once", waiting=self._asking)
        return False

    # --- TCP --------------------------------------------------------------------------------------------

    async def _serve_tcp(self, nursery: trio.Nursery) -> None:
        while not self._closed:
            await trio.lowlevel.wait_readable(self._sockets.tcp)
            try:
                client, _ = self._sockets.tcp.accept()
            except BlockingIOError:
                continue
            except OSError as error:  # it has gone already, there are no descriptors left, or all is over
                if not self._closed:
                    log.warning("a resolver's client not accepted", error=str(error))
                await trio.sleep(ACCEPT_PAUSE_S)
                continue
            client.setblocking(False)
            if self._clients < MAX_CLIENTS:
                self._clients += 1
                nursery.start_soon(self._serve_client, trio.socket.from_stdlib_socket(client))
            else:
                client.close()

    async def _serve_client(self, client: trio.socket.SocketType) -> None:
        try:
            async with trio.SocketStream(client) as stream:
                with trio.move_on_after(CLIENT_TIMEOUT_S) as idle:
                    while (answer := await self._answer_stream(stream)) is not None:
                        await stream.send_all(len(answer).to_bytes(2, "big") + answer)
                        idle.deadline = trio.current_time() + CLIENT_TIMEOUT_S
        except (OSError, trio.BrokenResourceError):
            pass  # it has closed, or died
        finally:
            self._clients -= 1

    async def _answer_stream(self, stream: trio.SocketStream) -> bytes | None:
        """The answer to the next question on a connection; None for one that ends it."""
        head = await receive_exactly(stream, 2)
        data = await receive_exactly(stream, int.from_bytes(head, "big"))
        async with self._one_at_a_time:  # else all connections would have theirs in one turn of the loop
            began = time.perf_counter()
            query = self._read(data)
            if not isinstance(query, Query):
                return query
            answer = self.answer(query, MAX_BYTES)
            self._worked_s += time.perf_counter() - began
            if self._worked_s > BATCH_S:
                await self._turns.rest(self._worked_s)
                self._worked_s = 0.0
        if answer is None:
            answer = await self._ask(data, query, over_tcp=True) if self._admit() else reply(query, REFUSED)
        return answer


def _is_itself(upstream: Upstream) -> bool:
    """Whether a server in the container is the resolver, also by its address in IPv6's form."""
    return upstream.in_container and upstream.address.lower().removeprefix("::ffff:") == ADDRESS


def _shuffled(addresses: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Those who share a name share the work."""
    return tuple(random.sample(addresses, len(addresses))) if len(addresses) > 1 else addresses
