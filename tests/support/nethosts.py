"""Sync. Other hosts for tests of networking: network namespaces, each on a link of its own to this host.

    with Hosts() as hosts:
        neighbour = hosts.add("neighbour")               # has this host for its router
        with answering(container.netns, "tcp", 80):      # answers with the address that it sees
            assert ask(neighbour.netns, "tcp", neighbour.router, 8080) == neighbour.address

A place is a network namespace by the path of its file, or None for this host.
"""

import contextlib
import ipaddress
import json
import random
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from proad.host import netns
from tests.strictness import skip_for_lack_of
from tests.support.whose import own_directory, own_name

T = TypeVar("T")
Place = Path | None

TIMEOUT_S = 3.0
NO_ANSWER_S = 0.5
"""How long silence takes to count as one: a packet that is let through takes less than a millisecond."""

_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


def inside(place: Place, visit: Callable[[], T]) -> T:
    """Run ``visit`` in a place: in a thread that is thrown away, for it can never quite come back."""
    if place is None:
        return visit()
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            netns.enter(place)
            results.append(visit())
        except Exception as error:  # noqa: BLE001  told to whoever waits for the thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def in_place(place: Place, *argv: str) -> str:
    """Run a program of this host in a place; returns what it wrote."""
    prefix = [] if place is None else ["nsenter", f"--net={place}"]
    done = subprocess.run([*prefix, *argv], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


def need_links_of(kind: str) -> None:
    """Skip the running test where the kernel has no links of that kind."""
    lower, upper = own_name("pa"), own_name("pb")
    on = ["link", lower] if kind in ("ipvlan", "macvlan", "vlan") else []
    options = ["id", "7"] if kind == "vlan" else []
    subprocess.run(["ip", "link", "add", lower, "type", "bridge"], check=True)
    try:
        add = ["ip", "link", "add", *on, "name", upper, "type", kind, *options]
        if subprocess.run(add, check=False, capture_output=True).returncode:
            skip_for_lack_of(f"a kernel with links of kind {kind}")
        subprocess.run(["ip", "link", "delete", upper], check=True)
    finally:
        subprocess.run(["ip", "link", "delete", lower], check=True)


# --- hosts ------------------------------------------------------------------------------------------------


class OtherHost:
    """A host whose only link leads to this one, its router. ``…6`` are the addresses of IPv6."""

    def __init__(self, path: Path, link: str, network: ipaddress.IPv4Network) -> None:
        self.netns = path
        self.link = link
        self.router, self.address = str(network[1]), str(network[2])
        prefix = f"fd4e:{network[0].packed[1]:x}:{network[0].packed[2]:x}:"
        self.router6, self.address6 = f"{prefix}:1", f"{prefix}:2"

    def run(self, *argv: str) -> str:
        return in_place(self.netns, *argv)

    def build(self) -> None:
        thread = threading.Thread(target=netns.unshare_into, args=(self.netns,))
        thread.start()
        thread.join()
        peer = ("peer", "name", "eth0", "netns", str(self.netns))
        in_place(None, "ip", "link", "add", self.link, "type", "veth", *peer)
        self._address(None, self.link, self.router, self.router6)
        self.run("ip", "link", "set", "lo", "up")
        self._address(self.netns, "eth0", self.address, self.address6)
        self.run("ip", "route", "add", "default", "via", self.router)
        self.run("ip", "-6", "route", "add", "default", "via", self.router6)

    def _address(self, place: Place, link: str, address: str, address6: str) -> None:
        in_place(place, "ip", "address", "add", f"{address}/24", "dev", link)
        in_place(place, "ip", "address", "add", f"{address6}/64", "dev", link, "nodad")
        in_place(place, "ip", "link", "set", link, "up")

    def remove(self) -> None:
        subprocess.run(["ip", "link", "delete", self.link], check=False, capture_output=True)
        netns.remove(self.netns)


class Hosts:
    """The other hosts of one test; gone at its end."""

    def __init__(self) -> None:
        self._directory = own_directory()
        self._hosts: list[OtherHost] = []

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts:
            host.remove()
        shutil.rmtree(self._directory)

    def add(self, name: str) -> OtherHost:
        link = own_name("nh")
        host = OtherHost(self._directory / name, link, _free_network())
        self._hosts.append(host)
        host.build()
        return host


def _free_network() -> ipaddress.IPv4Network:
    """One that nobody here has, of the range that is shared by carriers and their customers (RFC 6598)."""
    shown = json.loads(in_place(None, "ip", "-j", "-4", "address"))
    used = {entry["local"].rpartition(".")[0] for link in shown for entry in link.get("addr_info", [])}
    while True:
        stem = f"100.{random.randrange(64, 128)}.{random.randrange(256)}"
        if stem not in used:
            return ipaddress.IPv4Network(f"{stem}.0/24")


# --- talk -------------------------------------------------------------------------------------------------


def _socket(protocol: str, address: str) -> socket.socket:
    """One for addresses of that family."""
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, *_KINDS[protocol])


@contextmanager
def answering(place: Place, protocol: str, port: int, address: str = "0.0.0.0") -> Iterator[None]:
    """Answer on a port, TCP, UDP or SCTP, with the address of whoever asks. ``::`` takes IPv6 alone."""
    server = inside(place, lambda: _listening(protocol, address, port))
    over, end = socket.socketpair()
    answer = _answer_datagram if protocol == "udp" else _answer_connection
    thread = threading.Thread(target=_serve, args=(server, over, answer))
    thread.start()
    try:
        yield
    finally:
        end.close()
        thread.join()
        over.close()
        server.close()


def _serve(server: socket.socket, over: socket.socket, answer: Callable[[socket.socket], None]) -> None:
    """Answer until ``over`` can be read: shutting the server down does not wake who waits on SCTP."""
    while over not in select.select([server, over], [], [])[0]:
        with contextlib.suppress(OSError):
            answer(server)


def _listening(protocol: str, address: str, port: int) -> socket.socket:
    server = _socket(protocol, address)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if server.family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind((address, port))
    if protocol != "udp":
        server.listen()
    server.setblocking(False)  # who has asked may have given up before it is heard
    return server


def _answer_connection(server: socket.socket) -> None:
    connection, peer = server.accept()
    with connection:
        connection.sendall(peer[0].encode())


def _answer_datagram(server: socket.socket) -> None:
    _, peer = server.recvfrom(100)
    server.sendto(peer[0].encode(), peer)


def connect(
    place: Place, protocol: str, address: str, port: int, timeout_s: float = TIMEOUT_S
) -> socket.socket:
    """A connected socket of a place. Raises OSError."""
    made = inside(place, lambda: _socket(protocol, address))
    made.settimeout(timeout_s)
    try:
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made


def ask(place: Place, protocol: str, address: str, port: int, timeout_s: float = TIMEOUT_S) -> str:
    """What :func:`answering` says: the address that the asker has in its eyes.

    Raises:
        OSError: nobody answers in time, or the port is closed.
    """
    with connect(place, protocol, address, port, timeout_s) as asking:
        if protocol == "udp":
            asking.send(b"?")
        return asking.recv(100).decode()


def reaches(place: Place, protocol: str, address: str, port: int) -> bool:
    """Whether somebody answers."""
    try:
        return ask(place, protocol, address, port, NO_ANSWER_S) != ""
    except OSError:
        return False
