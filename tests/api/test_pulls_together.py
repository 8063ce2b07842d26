"""Pulls side by side, and clients that leave: what several want is fetched once, what nobody wants is not."""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.pulls import LOW, NOISE, PLAIN, files, pull
from tests.support.archives import Item, make_tar
from tests.support.daemon import Daemon
from tests.support.registry import Registry, make_image
from tests.support.rogue import Rogue, Stall, Status

pytestmark = pytest.mark.usefixtures("no_images")


# --- several at once, and clients that leave ----------------------------------------------------------------


class Client:
    """A pull that goes on in the background; its client can hang up."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.lines: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(daemon.socket))
        request = f"POST /images/create?fromImage={name} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        self._socket.sendall(request.encode())
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self._socket.makefile("rb") as file:
            for line in file:
                if line.startswith(b"{"):
                    self.lines.append(json.loads(line))
                if line == b"0\r\n":
                    return

    def wait_for(self, status: str) -> None:
        deadline = time.monotonic() + 20
        while not any(line.get("status") == status for line in self.lines):
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.01)

    def leave(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def finish(self) -> list[dict[str, Any]]:
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._socket.close()
        return self.lines


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_two_want_is_fetched_once(daemon: Daemon, registry: Registry, rogue: Rogue) -> None:
    image = make_image([NOISE], packed=PLAIN)
    stall = Stall(200_000)
    registry.put("shared", "1", image)
    registry.put("shared", "2", image)
    rogue.on("GET", image.layers[0], stall, times=1)
    first = Client(daemon, f"{rogue.host}/shared:1")
    assert stall.reached.wait(20)
    first.wait_for("Downloading")
    second = Client(daemon, f"{rogue.host}/shared:2")
    second.wait_for("Downloading")  # hears at once how far it is
    first.leave()  # and the work goes on without the one who began it
    stall.released.set()
    assert second.finish()[-1]["status"] == f"Status: Downloaded newer image for {rogue.host}/shared:2"
    asked = [ask.header("Range") for ask in rogue.asked("GET", image.layers[0])]
    assert asked[0] == ""
    assert all(range_.startswith("bytes=") for range_ in asked[1:])  # of the same download, resumed


def test_the_last_to_leave_ends_the_work(daemon: Daemon, registry: Registry, rogue: Rogue) -> None:
    image = make_image([LOW, NOISE], packed=[("", LOW), ("", NOISE)])
    registry.put("left", "1", image)
    stall = Stall(200_000)
    rogue.on("GET", image.layers[1], stall, times=2)
    clients = [Client(daemon, f"{rogue.host}/left:1") for _ in range(2)]
    for client in clients:
        client.wait_for("Downloading")
        client.wait_for("Pull complete")
    clients[0].leave()
    assert any("image-" in path for path in files(daemon))
    clients[1].leave()
    wait_until(lambda: files(daemon) == set())
    stall.released.set()
    pull(daemon.api, f"{rogue.host}/left:1")


def test_an_error_is_everybodys(daemon: Daemon, registry: Registry, rogue: Rogue) -> None:
    image = make_image([NOISE], packed=PLAIN)
    registry.put("both", "1", image)
    stall = Stall(200_000)
    rogue.on("GET", image.layers[0], stall, times=1)
    rogue.on("GET", image.layers[0], Status(403, b""))
    clients = [Client(daemon, f"{rogue.host}/both:1") for _ in range(2)]
    for client in clients:
        client.wait_for("Downloading")
    stall.released.set()
    for client in clients:
        assert "denied: requested access to the resource is denied" in client.finish()[-1]["error"]


def test_no_more_downloads_at_once_than_allowed(
    registry: Registry, make_daemon: Callable[..., Daemon]
) -> None:
    rogue = Rogue(registry.port).start()
    try:
        plain = [("", make_tar([Item(f"file{number}", b"x" * 300_000)])) for number in range(3)]
        image = make_image([layer for _, layer in plain], packed=plain)
        registry.put("queue", "1", image)
        stalls = [Stall(100_000) for _ in plain]
        for layer, stall in zip(image.layers, stalls, strict=True):
            rogue.on("GET", layer, stall, times=1)
        daemon = make_daemon("--max-concurrent-downloads", "2").start()
        client = Client(daemon, f"{rogue.host}/queue:1")
        client.wait_for("Waiting")
        wait_until(lambda: sum(stall.reached.is_set() for stall in stalls) == 2)
        waiting = {line["id"] for line in client.lines if line["status"] == "Waiting"}
        assert len(waiting) == 1
        for stall in stalls:
            stall.released.set()
        assert client.finish()[-1]["status"].startswith("Status: Downloaded newer image")
    finally:
        rogue.close()
