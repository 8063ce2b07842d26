"""Other hosts for tests of networking: network namespaces on a bridge that plays the local network.

with Lab() as lab:
    neighbour = lab.host("neighbour")            # has an address in the lab's network, routes by this host
    with serving(container.netns, "tcp", 80):    # answers with the address that it sees
        assert ask(neighbour.netns, "tcp", lab.address, 8080) == neighbour.address
"""

import contextlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TypeVar

import trio

from proad.host import netlink, netns, sandbox
from tests.support.whose import own_directory, own_name

T = TypeVar("T")
TIMEOUT_S = 2.0
NO_ANSWER_S = 0.4

_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def inside(namespace: str | Path | None, visit: Callable[[], T]) -> T:
    """Run ``visit`` in a thread in ``namespace``; None is this host."""
    if namespace is None:
        return visit()
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            netns.enter(Path(namespace))
            results.append(visit())
        except Exception as error:  # noqa: BLE001  told to whoever waits for the thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


class OtherHost:
    """A namespace with an address in the lab's network, and a default route by this host."""

    def __init__(self, path: Path, interface: str, address: str) -> None:
        self.netns = path
        self.interface = interface
        self.address = address


class Lab:
    """A bridge of this host that stands for its local network."""

    def __init__(self, subnet: int = 77) -> None:
        self.bridge = own_name("lab")
        self.gateway = IPv4Interface(f"10.211.{subnet}.1/24")
        self.address = str(self.gateway.ip)
        self.directory = own_directory()
        self.hosts: list[OtherHost] = []

    def __enter__(self) -> "Lab":
        netlink.create_bridge(
            self.bridge, [self.gateway], f"02:11:00:00:00:{self.gateway.ip.packed[2]:02x}", 1500
        )
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            netns.remove(host.netns)
        netlink.delete_links([*(host.interface for host in self.hosts), self.bridge])
        shutil.rmtree(self.directory)

    def host(self, name: str) -> OtherHost:
        address = self.gateway.ip + 1 + len(self.hosts)
        path = self.directory / name
        interface = sandbox.Interface(
            name="eth0",
            kind="veth",
            host_interface=own_name("lh"),
            master=self.bridge,
            mtu=1500,
            mac_address=f"02:12:00:{address.packed[2]:02x}:00:{address.packed[3]:02x}",
            addresses=(IPv4Interface((address, 24)),),
        )
        trio.run(sandbox.create_sandbox, path, [interface], sandbox.Gateways(ipv4=("eth0", self.address)))
        self.hosts.append(OtherHost(path, interface.host_interface, str(address)))
        return self.hosts[-1]


@contextmanager
def serving(
    namespace: str | Path | None, protocol: str, port: int, address: str = "0.0.0.0"
) -> Iterator[None]:
    """Answer on a port, TCP or UDP, with the address of whoever asks."""
    server = inside(namespace, lambda: _listening(protocol, address, port))
    thread = threading.Thread(target=_serve_tcp if protocol == "tcp" else _serve_udp, args=(server,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR) if protocol == "tcp" else _wake(server)
        thread.join()
        server.close()


def _listening(protocol: str, address: str, port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET, _TYPES[protocol])
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    if protocol == "tcp":
        server.listen()
    return server


def _serve_tcp(server: socket.socket) -> None:
    while True:
        try:
            connection, peer = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(peer[0].encode())


def _wake(server: socket.socket) -> None:
    """Make a blocked recvfrom return; the kernel says that the socket has no peer, and does it."""
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def _serve_udp(server: socket.socket) -> None:
    while True:
        data, peer = server.recvfrom(100)
        if not data:
            return
        server.sendto(peer[0].encode(), peer)


def client(namespace: str | Path | None, protocol: str) -> socket.socket:
    """Return an unconnected socket of a namespace."""
    made = inside(namespace, lambda: socket.socket(socket.AF_INET, _TYPES[protocol]))
    made.settimeout(TIMEOUT_S)
    return made


def ask(
    namespace: str | Path | None, protocol: str, address: str, port: int, timeout_s: float = TIMEOUT_S
) -> str:
    """Return what :func:`serving` answers: the address that the caller has in its eyes.

    Raises:
        OSError: nobody answers in time, or the port is closed.
    """
    with client(namespace, protocol) as asking:
        asking.settimeout(timeout_s)
        asking.connect((address, port))
        if protocol == "udp":
            asking.send(b"?")
        return asking.recv(100).decode()


def is_reachable(namespace: str | Path | None, protocol: str, address: str, port: int) -> bool:
    try:
        ask(namespace, protocol, address, port, NO_ANSWER_S)
    except OSError:
        return False
    return True
