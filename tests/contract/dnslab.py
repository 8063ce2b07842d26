"""Servers that know the rest of the world, and programs in containers that ask.

with Upstream("127.84.0.1") as upstream:                       # on port 53, UDP and TCP, of this host
    upstream.records["www.example."] = ["192.0.2.1"]
    async with resolving(path, upstreams=[by_host(upstream)]) as lab:
        assert addresses(await lab.ask("www.example.")) == ["192.0.2.1"]
"""

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import trio

from proad.engine.names import Names
from proad.engine.resolvers import Resolvers, View
from proad.engine.resolvers import Upstream as Server
from proad.host import netns, sandbox
from proad.host.dnssockets import DnsSockets, lay_resolver

from .netlab import TIMEOUT_S, client, inside

RESOLVER = ("127.0.0.11", 53)
NETWORK = "network-id"
RUN = "run-id"

_numbers = itertools.count(1)


def fresh_loopback() -> str:
    """Return an address of loopback that no other run of the tests uses."""
    return f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.{next(_numbers) % 250}"


class Upstream:
    """A DNS server with ``records``, each asked-for name to its addresses; it tells what it was asked."""

    def __init__(self, address: str = "", *, namespace: Path | None = None) -> None:
        self.address = address or fresh_loopback()
        self.records: dict[str, list[str]] = {}
        self.asked: list[tuple[str, dns.message.Message]] = []
        self.clients: list[tuple[str, int]] = []
        self.silent = False
        self.rcode = dns.rcode.NOERROR
        self.udp_limit = 512
        self.spoil: Callable[[bytes], list[bytes]] = lambda answer: [answer]
        self._sockets = inside(namespace, self._bind)
        self._threads = [
            threading.Thread(target=self._serve_udp, args=(self._sockets[0],)),
            threading.Thread(target=self._serve_tcp, args=(self._sockets[1],)),
        ]

    def _bind(self) -> tuple[socket.socket, socket.socket]:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in (udp, tcp):
            one.bind((self.address, 53))
        tcp.listen()
        return udp, tcp

    def __enter__(self) -> "Upstream":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    @property
    def names(self) -> list[str]:
        return [str(query.question[0].name) for _, query in self.asked]

    @property
    def protocols(self) -> list[str]:
        return [protocol for protocol, _ in self.asked]

    def _serve_udp(self, server: socket.socket) -> None:
        while True:
            data, peer = server.recvfrom(5000)
            if not data:
                return
            self.clients.append(peer)
            if answer := self._answer("udp", data):
                for one in self.spoil(answer):
                    server.sendto(one, peer)

    def _serve_tcp(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(TIMEOUT_S)
                size = int.from_bytes(connection.recv(2), "big")
                if answer := self._answer("tcp", connection.recv(size)):
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, protocol: str, data: bytes) -> bytes | None:
        query = dns.message.from_wire(data)
        self.asked.append((protocol, query))
        if self.silent:
            return None
        response = dns.message.make_response(query)
        question = query.question[0]
        found = self.records.get(str(question.name))
        if self.rcode or found is None:
            response.set_rcode(self.rcode or dns.rcode.NXDOMAIN)
        elif dns.rdatatype.to_text(question.rdtype) == "A":
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", *found))
        limit = 65_535 if protocol == "tcp" else max(self.udp_limit, query.payload)
        whole = response.to_wire(max_size=65_535)
        if len(whole) <= limit:
            return whole
        response.answer.clear()
        response.flags |= dns.flags.TC
        return response.to_wire()


def by_host(upstream: Upstream) -> Server:
    return Server(upstream.address, in_container=False)


def by_container(upstream: Upstream) -> Server:
    return Server(upstream.address, in_container=True)


@dataclass
class Resolving:
    """A namespace with a resolver, and who is known to it."""

    path: Path
    names: Names
    resolvers: Resolvers
    sockets: DnsSockets
    run: str = RUN
    others: list["Resolving"] = field(default_factory=list)

    async def add(self, path: Path, upstreams: Iterable[Server]) -> "Resolving":
        """Another namespace with a resolver, of the same daemon."""
        run = f"run-{len(self.others) + 2}"
        sockets = await sandbox.create_sandbox(path, (), sandbox.Gateways(), prepare=lay_resolver)
        assert sockets is not None
        self.resolvers.open(run, sockets, view(upstreams))
        self.others.append(Resolving(path, self.names, self.resolvers, sockets, run))
        return self.others[-1]

    def join(self, endpoint: str, names: list[str], *addresses: str) -> None:
        self.names.join(
            NETWORK,
            endpoint,
            network_name="back",
            names=names,
            canonical=names[0],
            addresses=[ip_address(address) for address in addresses],
        )

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False, **edns: Any) -> dns.message.Message:
        """Return what a program in the namespace is answered.

        Raises:
            TimeoutError: nothing, in time.
        """
        query = dns.message.make_query(name, kind, **edns)
        answer = dns.message.from_wire(await self.send(query.to_wire(), tcp=tcp))
        assert query.is_response(answer)
        return answer

    async def send(self, data: bytes, *, tcp: bool = False, timeout_s: float = TIMEOUT_S) -> bytes:
        return await trio.to_thread.run_sync(lambda: _exchange(self.path, data, tcp, timeout_s))


def _exchange(path: Path, data: bytes, tcp: bool, timeout_s: float) -> bytes:
    with client(path, "tcp" if tcp else "udp") as asking:
        asking.settimeout(timeout_s)
        asking.connect(RESOLVER)
        if not tcp:
            asking.send(data)
            return asking.recv(65_535)
        asking.sendall(len(data).to_bytes(2, "big") + data)
        with asking.makefile("rb") as stream:
            return stream.read(int.from_bytes(stream.read(2), "big"))


def view(
    upstreams: Iterable[Server] = (), links: Mapping[str, str] | None = None, *, forwards: bool = True
) -> View:
    return View(networks=(NETWORK,), links=links or {}, upstreams=tuple(upstreams), forwards=forwards)


@asynccontextmanager
async def resolving(
    path: Path, upstreams: Iterable[Server] = (), *, forwards: bool = True
) -> AsyncIterator[Resolving]:
    """A new namespace at ``path`` with a resolver that answers; both go at the end."""
    names = Names()
    async with trio.open_nursery() as nursery:
        resolvers = Resolvers(names, nursery)
        sockets = await sandbox.create_sandbox(path, (), sandbox.Gateways(), prepare=lay_resolver)
        assert sockets is not None
        resolvers.open(RUN, sockets, view(upstreams, forwards=forwards))
        lab = Resolving(path, names, resolvers, sockets)
        try:
            yield lab
        finally:
            for each in (lab, *lab.others):
                resolvers.close(each.run)
                netns.remove(each.path)
            nursery.cancel_scope.cancel()


def addresses(answer: dns.message.Message) -> list[str]:
    return sorted(str(item) for rrset in answer.answer for item in rrset)


def rcode(answer: dns.message.Message) -> str:
    return dns.rcode.to_text(answer.rcode())
