"""The daemon goes and comes while traffic flows: nobody in a container or outside notices."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.net.conftest import Net
from tests.support.daemon import Daemon
from tests.support.nethosts import Hosts, Place, answering, ask, connect, inside, reaches

CHUNK = b"x" * 4096
PATIENCE_S = 5.0


class Stream:
    """A connection on which one side sends without end and the other counts what comes."""

    def __init__(self, listener: socket.socket, sending: socket.socket) -> None:
        self._sending = sending
        self._receiving, _ = listener.accept()
        self._receiving.settimeout(PATIENCE_S)
        self._sending.settimeout(PATIENCE_S)
        self._over = False
        self.received = 0
        self.failures: list[OSError] = []
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        try:
            while not self._over:
                self._sending.sendall(CHUNK)
            self._sending.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.failures.append(error)

    def _receive(self) -> None:
        try:
            while data := self._receiving.recv(1 << 16):
                self.received += len(data)
        except OSError as error:
            self.failures.append(error)

    def flows(self) -> bool:
        """Whether more comes while one watches."""
        before = self.received
        for _ in range(100):
            if self.received > before + 100 * len(CHUNK) or self.failures:
                break
            threading.Event().wait(0.02)
        return self.received > before and not self.failures

    def close(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()
        self._sending.close()
        self._receiving.close()


@contextmanager
def streaming(server: Place, port: int, client: Place, address: str, published: int) -> Iterator[Stream]:
    listener = inside(server, lambda: socket.create_server(("", port)))
    with listener:
        listener.settimeout(PATIENCE_S)
        stream = Stream(listener, connect(client, "tcp", address, published))
        try:
            yield stream
        finally:
            stream.close()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_streams_go_on(net: Net, hosts: Hosts, ours: Daemon, how: str) -> None:
    net.network("red")
    server = net.run("server", "--network", "red", "-p", "80")
    peer = net.run("peer", "--network", "red")
    outside = hosts.add("outside")
    port = server.port("80/tcp")
    with (
        streaming(server.netns, 80, outside.netns, outside.router, port) as inward,
        streaming(server.netns, 81, peer.netns, server.address("red"), 81) as between,
        streaming(outside.netns, 82, peer.netns, outside.address, 82) as outward,
    ):
        streams = (inward, between, outward)
        assert all(stream.flows() for stream in streams)
        getattr(ours, how)()
        assert all(stream.flows() for stream in streams), "while it is down"
        ours.start()
        assert all(stream.flows() for stream in streams), "when it is back"
        assert not any(stream.failures for stream in streams)


def test_everything_is_as_it_was(net: Net, hosts: Hosts, ours: Daemon) -> None:
    net.network("red", "--subnet", "10.225.1.0/24", "--label", "a=b", "--internal")
    net.network("blue", "-o", "com.docker.network.bridge.enable_icc=false", "--ipv6")
    server = net.run("server", "--network", "red", "-p", "80", "--network-alias", "www")
    net.connect("blue", server, "--alias", "both")
    shown = {name: net.inspect(name) for name in ("red", "blue")}
    settings = server.inspect()["NetworkSettings"]
    ours.kill()
    ours.start()
    assert {name: net.inspect(name) for name in ("red", "blue")} == shown
    assert server.inspect()["NetworkSettings"] == settings
    # And what was promised is still held.
    other = net.run("other", "--network", "blue")
    outside = hosts.add("outside")
    with answering(server.netns, "tcp", 80):
        assert not reaches(other.netns, "tcp", server.address("blue"), 80)
        assert ask(outside.netns, "tcp", outside.router, server.port("80/tcp")) == outside.address
    assert other.look_up("both") == {server.address("blue")}
    later = net.run("later", "--network", "red")
    assert later.address("red") != server.address("red")


def test_what_was_made_can_be_removed(net: Net, ours: Daemon) -> None:
    net.network("red")
    server = net.run("server", "--network", "red", "-p", "80")
    ours.kill()
    ours.start()
    net.disconnect("red", server)
    net.connect("red", server)
    assert server.interfaces() != set()
    ours.remove_containers()
    ours.remove_networks()
    assert ours.settle() == []
