"""Sync, blocking. Ports of the host, kept from others by sockets that are bound and never listen.

Packets to a published port are sent on by the packet filter before any socket sees them; the socket is there
so that no other program gets the port, and so that a port another program has is refused. It is handed to the
container's monitor, which keeps it open while the daemon is away. A socket that listened would take
connections in the moment between its birth and the rule's.
"""

import errno
import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from proad.host.filterelements import Source
from proad.host.mounts import describe_errno
from proad.model.ports import ANY_IPV4, ANY_IPV6, PortRequest, PublishedPort

_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_NO_SCTP = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)


class PortTaken(Exception):
    """No port that a request allows is free; the text says why, in Docker's words."""


class _Refused(Exception):
    """One port is not free. ``is_final``: nor will another be, for the same reason. ``is_allocated``: a
    container has it."""

    def __init__(self, message: str, *, is_final: bool = False, is_allocated: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final
        self.is_allocated = is_allocated


@dataclass(frozen=True)
class ReservedPorts:
    """Ports that nobody else can bind while the sockets are open; close them once the monitor has copies."""

    ports: tuple[PublishedPort, ...]
    sockets: tuple[socket.socket, ...]

    def fds(self) -> list[int]:
        return [held.fileno() for held in self.sockets]

    def close(self) -> None:
        """Close the daemon's copies; closing twice is no error."""
        _close(self.sockets)

    def __enter__(self) -> "ReservedPorts":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PortReserver:
    """Reserves ports; asked for any, it goes round its range, so that a released port rests for long."""

    def __init__(self, port_range: tuple[int, int]) -> None:
        self._range = port_range
        self._next = port_range[0]

    def reserve(self, requests: Sequence[PortRequest], taken: Collection[Source] = ()) -> ReservedPorts:
        """Bind sockets for each request, in order, or none at all.

        ``taken`` is what containers have, best as a set or a mapping: the kernel refuses that as well, but
        only as long as it knows the protocol, and not in words that a user understands.

        Raises:
            PortTaken: nothing that a request allows is free.
        """
        own: set[Source] = set()
        ports: list[PublishedPort] = []
        sockets: list[socket.socket] = []
        try:
            for request in requests:
                port, held = self._reserve_one(request, taken, own)
                sockets += held
                own.update(Source(request.protocol, host_ip, port) for host_ip in request.host_ips)
                ports += [_published(request, host_ip, port) for host_ip in request.host_ips]
        except BaseException:
            _close(sockets)
            raise
        return ReservedPorts(tuple(ports), tuple(sockets))

    def _reserve_one(
        self, request: PortRequest, *taken: Collection[Source]
    ) -> tuple[int, list[socket.socket]]:
        """The first port that is free on all addresses of the request, and the sockets that keep it."""
        refusals: list[_Refused] = []
        for port in self._candidates(request):
            try:
                held = _bind_all(request, port, taken)
            except _Refused as error:
                refusals.append(error)
                if error.is_final:
                    break
                continue
            if not request.first:
                self._next = port + 1
            return port, held
        if len(refusals) > 1 and all(refusal.is_allocated for refusal in refusals):
            raise PortTaken("all ports are allocated")
        raise PortTaken(str(refusals[-1]))

    def _candidates(self, request: PortRequest) -> Iterable[int]:
        if request.first:
            return range(request.first, request.last + 1)
        first, last = self._range
        start = self._next if first <= self._next <= last else first
        return chain(range(start, last + 1), range(first, start))


def _published(request: PortRequest, host_ip: str, port: int) -> PublishedPort:
    return PublishedPort(
        container_port=request.container_port, protocol=request.protocol, host_ip=host_ip, host_port=port
    )


def _bind_all(request: PortRequest, port: int, taken: Iterable[Collection[Source]]) -> list[socket.socket]:
    """Bind a port on all addresses of a request, or on none.

    Raises:
        _Refused: it is not free on one of them.
    """
    held: list[socket.socket] = []
    for host_ip in request.host_ips:
        where = Source(request.protocol, host_ip, port)
        try:
            if any(_is_taken(where, found) for found in taken):
                raise _Refused(f"Bind for {where} failed: port is already allocated", is_allocated=True)
            try:
                bound = bind(request.protocol, host_ip, port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and any(_is_met(where, found) for found in taken):
                    raise _Refused(
                        f"Bind for {where} failed: port is already allocated", is_allocated=True
                    ) from error
                reason = describe_errno(error.errno or 0)
                raise _Refused(
                    f"failed to bind host port {where}/{request.protocol}: {reason}",
                    is_final=error.errno not in (errno.EADDRINUSE, errno.EACCES),
                ) from error
        except _Refused:
            _close(held)
            raise
        held += [bound] if bound is not None else []
    return held


def _is_taken(where: Source, taken: Collection[Source]) -> bool:
    """Whether a container has the port at this address, or at all addresses.

    For all addresses those at single ones matter, too; the kernel knows them, but for a protocol that it has
    no sockets of.
    """
    everywhere = Source(where.protocol, ANY_IPV6 if ":" in where.address else ANY_IPV4, where.port)
    if where in taken or everywhere in taken:
        return True
    return where.protocol == "sctp" and _is_met(where, taken)


def _is_met(where: Source, taken: Iterable[Source]) -> bool:
    """Whether all addresses are wanted, and a container has the port at one of them; looks through all."""
    return where.address in (ANY_IPV4, ANY_IPV6) and any(
        (other.protocol, other.port) == (where.protocol, where.port)
        and (":" in other.address) == (":" in where.address)
        for other in taken
    )


def _close(sockets: Iterable[socket.socket]) -> None:
    for held in sockets:
        held.close()


def bind(protocol: str, address: str, port: int) -> socket.socket | None:
    """Return a bound socket; None for SCTP where the kernel has no sockets of it: nobody can take it then.

    Raises:
        OSError: the port is taken, or the address is not one of this host's.
    """
    try:
        held = socket.socket(_family(address), _TYPES[protocol], _NUMBERS[protocol])
    except OSError as error:
        if protocol == "sctp" and error.errno in _NO_SCTP:
            return None
        raise
    try:
        _keep_to_family(held)
        held.bind((address, port))
    except OSError as error:
        held.close()
        if protocol == "tcp" and error.errno == errno.EADDRINUSE:
            return _bind_over_closed_connections(address, port)
        raise
    return held


def _bind_over_closed_connections(address: str, port: int) -> socket.socket:
    """Bind a TCP port that only connections in TIME_WAIT still use.

    That takes SO_REUSEADDR, which also lets several sockets share a port that none listens on: only who could
    listen has it alone, and only until others may reuse it. The shutdown ends the listening and keeps the
    port.
    """
    held = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        _keep_to_family(held)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, port))
        held.listen(0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.shutdown(socket.SHUT_RDWR)
    except OSError:
        held.close()
        raise
    return held


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _keep_to_family(held: socket.socket) -> None:
    """All addresses of IPv6 are not those of IPv4: these have a socket of their own, or none."""
    if held.family == socket.AF_INET6:
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
