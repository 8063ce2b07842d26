"""Trio-flavoured. The sockets of a container's resolver, and the rules that lead its port 53 to them.

A program in the container asks 127.0.0.11, port 53. The sockets sit on high ports of that address, so that a
server of the container's own may have port 53 of all addresses. A small table inside the container's network
namespace writes the one port over the other: on the way there before connection tracking sees the packet, on
the way back after it. Nothing is tracked and nothing has state, so neither a flood of questions nor a new
daemon with other ports is a matter to the kernel.

The sockets keep their namespace alive until they are closed.
"""

import fcntl
import os
import random
import socket
from dataclasses import dataclass
from pathlib import Path

from proad.host import netns
from proad.host.dnsredirect import redirect, redirected
from proad.model import errors

ADDRESS = "127.0.0.11"
PORTS = range(61_001, 65_536)
"""Above those that the kernel gives out by itself, where hardly a program has a fixed one."""

BIND_TRIES = 64
BACKLOG = 64
SIOCGSKNS = 0x894C


@dataclass(frozen=True)
class ResolverPorts:
    """Where a resolver really listens."""

    udp: int
    tcp: int


@dataclass(frozen=True)
class DnsSockets:
    """Sockets in the network namespace of a container; none of them blocks."""

    udp: socket.socket
    tcp: socket.socket
    ports: ResolverPorts

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()

    async def open_beside(self, family: int, kind: int) -> socket.socket:
        """Return a new socket of the same namespace, that does not block.

        Raises:
            errors.System: the namespace cannot be entered, or the sockets are closed.
            OSError: no socket of that kind is to be had.
        """
        if self.udp.fileno() < 0:
            raise errors.System("the resolver is closed")
        namespace = fcntl.ioctl(self.udp, SIOCGSKNS)

        def open_there() -> socket.socket:
            netns.enter(Path(f"/proc/self/fd/{namespace}"))
            return _socket(family, kind)

        try:
            return await netns.in_own_thread(open_there)
        finally:
            os.close(namespace)


def open_here(family: int, kind: int) -> socket.socket:
    """Return a new socket of the daemon's own namespace, that does not block."""
    return _socket(family, kind)


def lay_resolver(ports: ResolverPorts | None = None) -> DnsSockets:
    """Open sockets in the calling thread's network namespace and lead the resolver's address to them.

    The thread must be a throw-away one, and ``lo`` up. What an earlier daemon led elsewhere is led here.

    Raises:
        errors.System: the kernel refused; no socket is left open.
    """
    sockets = _open(ports)
    try:
        redirect(ADDRESS, udp=sockets.ports.udp, tcp=sockets.ports.tcp)
    except BaseException:
        sockets.close()
        raise
    return sockets


async def lay_resolver_in(path: Path, ports: ResolverPorts | None = None) -> DnsSockets:
    """Do :func:`lay_resolver` in the namespace that ``path`` keeps.

    Without a wish for ``ports`` they are those of an earlier daemon, so that the rules stay as they are.

    Raises:
        errors.System: it cannot be entered, or the kernel refused.
    """

    def visit() -> DnsSockets:
        netns.enter(path)
        earlier = _open_earlier() if ports is None else None
        return earlier or lay_resolver(ports)

    return await netns.in_own_thread(visit)


def _open_earlier() -> DnsSockets | None:
    """Sockets where those of an earlier daemon were; None where nothing leads there, or one is taken."""
    ports = redirected()
    if ports is None:
        return None
    try:
        return _open(ResolverPorts(*ports))
    except errors.System:
        return None


def _open(ports: ResolverPorts | None) -> DnsSockets:
    udp = _bound(socket.SOCK_DGRAM, ports.udp if ports else None)
    try:
        tcp = _bound(socket.SOCK_STREAM, ports.tcp if ports else None)
    except BaseException:
        udp.close()
        raise
    return DnsSockets(udp, tcp, ResolverPorts(udp.getsockname()[1], tcp.getsockname()[1]))


def _bound(kind: int, port: int | None) -> socket.socket:
    made = _socket(socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(made, [port] if port else _some_ports())
        if kind == socket.SOCK_STREAM:
            made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _bind(made: socket.socket, ports: list[int]) -> None:
    refusal: OSError | None = None
    for port in ports:
        try:
            made.bind((ADDRESS, port))
        except OSError as error:
            refusal = error
        else:
            return
    raise errors.System(f"resolver at {ADDRESS}: {refusal and refusal.strerror}") from refusal


def _some_ports() -> list[int]:
    return random.sample(PORTS, BIND_TRIES)


def _socket(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
