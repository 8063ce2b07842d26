"""The hub between a container's monitor and its clients: who waits for whom. Without a container."""

import asyncio
import socket
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proad.api import backlog
from proad.api.attachhub import Hub
from proad.api.attachments import Attachment, Wanted

LIMIT_BYTES = 500_000
PACKET = b"\x02" + b"x" * 8000
PLAIN = Wanted(stdin=True, stdout=True, stderr=True, multiplexed=False)


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MEMORY_BYTES", 100_000)
    monkeypatch.setattr(backlog, "LIMIT_BYTES", LIMIT_BYTES)


@dataclass
class Outlet:
    """A client's connection that takes everything it is given."""

    received: int = 0
    finished: bool = False

    def write(self, data: bytes) -> None:
        self.received += len(data)

    def set_reading(self, reading: bool) -> None:
        pass

    def finish(self) -> None:
        self.finished = True


@dataclass
class Scene:
    """A hub with the monitor's end of its connection; it is also what surrounds the hub."""

    directory: Path
    followed: bool = False
    ended: bool = False
    idle: bool = False
    sent: int = 0
    clients: list[tuple[Attachment, Outlet]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.monitor, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)

        def is_idle(_: Hub) -> None:
            self.idle = True

        self.hub = Hub(takes_input=True, stdin_once=False, surroundings=self, on_idle=is_idle)
        self.hub.connect(ours)

    def others_read(self) -> bool:
        return self.followed

    def has_ended(self) -> bool:
        return self.ended

    def attach(self, *, reads: bool) -> tuple[Attachment, Outlet]:
        outlet = Outlet()
        client = Attachment(PLAIN, outlet, self.directory)
        client.join(self.hub)
        client.set_writable(reads)
        self.clients.append((client, outlet))
        return client, outlet

    async def print_for(self, seconds: float, most: int) -> int:
        """Have the container print until it is made to wait, or has printed ``most``; returns how much it
        did.
        """
        begin = self.sent
        deadline = asyncio.get_running_loop().time() + seconds
        while self.sent - begin < most and asyncio.get_running_loop().time() < deadline:
            try:
                self.monitor.send(PACKET)
                self.sent += len(PACKET) - 1
            except BlockingIOError:
                await asyncio.sleep(0.002)
        await asyncio.sleep(0.02)
        return self.sent - begin

    def close(self) -> None:
        for client, _ in self.clients:
            client.lost()
        self.monitor.close()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def play(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))


def test_the_only_client_is_waited_for_and_loses_nothing(directory: Path) -> None:
    async def main() -> None:
        scene = Scene(directory)
        client, outlet = scene.attach(reads=False)
        assert LIMIT_BYTES <= await scene.print_for(0.5, 50_000_000) < LIMIT_BYTES + 2_000_000
        assert await scene.print_for(0.3, 1) == 0
        client.set_writable(True)
        await scene.print_for(5, 3_000_000)
        assert outlet.received == scene.sent
        assert not outlet.finished
        scene.close()
        assert scene.idle

    play(main())


def test_it_is_cut_off_when_somebody_else_comes(directory: Path) -> None:
    async def main() -> None:
        scene = Scene(directory)
        _, lazy = scene.attach(reads=False)
        await scene.print_for(0.5, 50_000_000)
        _, eager = scene.attach(reads=True)
        assert await scene.print_for(5, 3_000_000) >= 3_000_000
        assert lazy.finished
        assert eager.received >= 3_000_000
        scene.close()

    play(main())


def test_it_is_cut_off_when_somebody_follows_the_log(directory: Path) -> None:
    async def main() -> None:
        scene = Scene(directory)
        _, lazy = scene.attach(reads=False)
        await scene.print_for(0.5, 50_000_000)
        scene.followed = True
        assert await scene.print_for(5, 3_000_000) >= 3_000_000
        assert lazy.finished
        scene.close()

    play(main())


def test_the_last_output_of_what_has_ended_is_kept_for_it(directory: Path) -> None:
    async def main() -> None:
        scene = Scene(directory)
        client, outlet = scene.attach(reads=False)
        await scene.print_for(0.5, 50_000_000)
        scene.ended = True
        assert await scene.print_for(5, 1_000_000) >= 1_000_000
        scene.monitor.close()
        scene.hub.finish()
        client.set_writable(True)
        assert outlet.received == scene.sent
        assert outlet.finished
        scene.close()

    play(main())


def test_who_leaves_is_not_waited_for(directory: Path) -> None:
    async def main() -> None:
        scene = Scene(directory)
        client, _ = scene.attach(reads=False)
        await scene.print_for(0.5, 50_000_000)
        scene.attach(reads=True)
        client.lost()
        assert await scene.print_for(5, 1_000_000) >= 1_000_000
        scene.close()

    play(main())
