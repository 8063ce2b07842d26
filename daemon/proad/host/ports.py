"""Sync, blocking. Ports of the host, kept from others by sockets that are bound and never listen.

Packets to a published port are sent on by the packet filter before any socket sees them; the socket is there
so that no other program gets the port, and so that a port another program has is refused. It is handed to the
container's monitor, which keeps it open while the daemon is away. A socket that listened would take
connections in the moment between its birth and the rule's.
"""

import errno
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from proad.host.mounts import describe_errno
from proad.model.ports import PortRequest, PublishedPort

_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_NO_SCTP = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)


class PortTaken(Exception):
    """No port that a request allows is free; the text tells of the last that was tried, in Docker's words."""


@dataclass(frozen=True)
class ReservedPorts:
    """Ports that nobody else can bind while the sockets are open; close them once the monitor has copies."""

    endpoint_id: str
    ports: tuple[PublishedPort, ...]
    sockets: tuple[socket.socket, ...]

    def fds(self) -> list[int]:
        return [held.fileno() for held in self.sockets]

    def close(self) -> None:
        """Close the daemon's copies; closing twice is no error."""
        for held in self.sockets:
            held.close()

    def __enter__(self) -> "ReservedPorts":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PortReserver:
    """Reserves ports; asked for any, it goes round its range, so that a released port rests for long."""

    def __init__(self, port_range: tuple[int, int]) -> None:
        self._range = port_range
        self._next = port_range[0]

    def reserve(
        self, endpoint_id: str, requests: Sequence[PortRequest], taken: Iterable[tuple[str, str, int]] = ()
    ) -> ReservedPorts:
        """Bind a socket for each request, in order, or none at all.

        ``taken`` are protocol, address and port of what containers have: the kernel refuses those as well,
        but only as long as it knows the protocol, and not in words that a user understands.

        Raises:
            PortTaken: nothing that a request allows is free.
        """
        known = set(taken)
        ports: list[PublishedPort] = []
        sockets: list[socket.socket] = []
        try:
            for request in requests:
                port, held = self._reserve_one(request, known)
                known.add((request.protocol, request.host_ip, port))
                ports.append(_published(request, port))
                sockets += [held] if held else []
        except BaseException:
            for held in sockets:
                held.close()
            raise
        return ReservedPorts(endpoint_id, tuple(ports), tuple(sockets))

    def _reserve_one(
        self, request: PortRequest, known: set[tuple[str, str, int]]
    ) -> tuple[int, socket.socket | None]:
        refusal = ""
        for port in self._candidates(request):
            if _is_known(request, port, known):
                refusal = f"Bind for {request.host_ip}:{port} failed: port is already allocated"
                continue
            try:
                held = bind(request.protocol, request.host_ip, port)
            except OSError as error:
                reason = describe_errno(error.errno or 0)
                refusal = f"failed to bind host port {request.host_ip}:{port}/{request.protocol}: {reason}"
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    break
                continue
            if not request.first:
                self._next = port + 1
            return port, held
        raise PortTaken(refusal)

    def _candidates(self, request: PortRequest) -> Iterable[int]:
        if request.first:
            return range(request.first, request.last + 1)
        first, last = self._range
        start = self._next if first <= self._next <= last else first
        return chain(range(start, last + 1), range(first, start))


def _published(request: PortRequest, port: int) -> PublishedPort:
    return PublishedPort(
        container_port=request.container_port,
        protocol=request.protocol,
        host_ip=request.host_ip,
        host_port=port,
    )


def _is_known(request: PortRequest, port: int, known: set[tuple[str, str, int]]) -> bool:
    """Whether a container has the port on this address, on all addresses, or, if we want all, on any."""
    if request.host_ip == "0.0.0.0":
        return any(protocol == request.protocol and number == port for protocol, _, number in known)
    return not known.isdisjoint({(request.protocol, ip, port) for ip in (request.host_ip, "0.0.0.0")})


def bind(protocol: str, address: str, port: int) -> socket.socket | None:
    """Return a bound socket; None for SCTP where the kernel has no sockets of it: nobody can take it then.

    Raises:
        OSError: the port is taken, or the address is not one of this host's.
    """
    try:
        held = socket.socket(socket.AF_INET, _TYPES[protocol], _NUMBERS[protocol])
    except OSError as error:
        if protocol == "sctp" and error.errno in _NO_SCTP:
            return None
        raise
    try:
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
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, port))
        held.listen(0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.shutdown(socket.SHUT_RDWR)
    except OSError:
        held.close()
        raise
    return held
