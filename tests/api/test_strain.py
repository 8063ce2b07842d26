"""Streams under strain: much data, byte for byte, and readers that do not read.

With the marker ``soak`` the same with a gigabyte.
"""

import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.support.daemon import Daemon
from tests.support.framesum import FrameSum
from tests.support.hijack import Hijack
from tests.support.rawhttp import Api

pytestmark = pytest.mark.alone  # they bound what a daemon holds while it can hardly keep up

MB = 1 << 20
SIZES = [48 * MB, pytest.param(1 << 30, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])]
ALL: dict[str, Any] = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
MOST_GROWTH_MB = 24
"""What the daemon may need for a handful of readers, each of which it keeps a MB for."""
PATIENCE_S = 900.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Files of random bytes by their size."""
    directory = tmp_path_factory.mktemp("data")

    def make(size: int) -> Path:
        path = directory / str(size)
        if not path.exists():
            source = random.Random(size)
            with path.open("wb") as file:
                for _ in range(size // MB):
                    file.write(source.randbytes(MB))
        return path

    return make


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create_printer(api: Api, image: str, path: Path, *, before: str = "", **host_config: Any) -> str:
    """A container that prints a file."""
    config = {"NetworkMode": "none", "Binds": [f"{path}:/data:ro"], **host_config}
    return steps.create(api, image, "sh", "-c", f"{before} cat /data", HostConfig=config, OpenStdin=True)


def start(api: Api, container: str) -> None:
    api("POST", f"/containers/{container}/start").expect(204)


def attach(daemon: Daemon, container: str) -> Hijack:
    return Hijack(daemon.socket, container, timeout_s=PATIENCE_S, **ALL)


def follow(daemon: Daemon, container: str) -> socket.socket:
    """A request for the log, followed, up to where the frames begin."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE_S)
    connection.connect(str(daemon.socket))
    query = "stdout=1&stderr=1&follow=1"
    connection.sendall(f"GET /v1.51/containers/{container}/logs?{query} HTTP/1.0\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    return connection


def summed(connection: socket.socket, rest: bytes = b"") -> FrameSum:
    """All that comes, to the end."""
    total = FrameSum()
    total.feed(rest)
    while block := connection.recv(MB):
        total.feed(block)
    return total


def memory_mb(daemon: Daemon) -> float:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def bounded_memory(daemon: Daemon) -> Iterator[None]:
    """Look at the daemon's memory all the time."""
    before = most = memory_mb(daemon)
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.05):
            most = max(most, memory_mb(daemon))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert most - before < MOST_GROWTH_MB


def answers_quickly(api: Api) -> None:
    began = time.monotonic()
    api("GET", "/containers/json").expect(200)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("size", SIZES)
def test_output_arrives_exactly_at_whoever_is_attached(
    daemon: Daemon, api: Api, image: str, data: Callable[[int], Path], size: int
) -> None:
    container = create_printer(api, image, data(size))
    with bounded_memory(daemon), attach(daemon, container) as stream:
        start(api, container)
        total = summed(stream.socket, stream.rest)
    assert total.sizes == {1: size, 2: 0}
    assert total.hexdigest(1) == digest(data(size))


@pytest.mark.parametrize("size", SIZES)
def test_output_arrives_exactly_at_who_follows_the_log(
    daemon: Daemon, api: Api, image: str, data: Callable[[int], Path], size: int
) -> None:
    container = create_printer(api, image, data(size))
    start(api, container)
    with bounded_memory(daemon), follow(daemon, container) as connection:
        total = summed(connection)
    assert total.sizes == {1: size, 2: 0}
    assert total.hexdigest(1) == digest(data(size))


@pytest.mark.parametrize("size", SIZES)
def test_input_arrives_exactly_through_dockers_client(
    daemon: Daemon, docker: DockerCli, image: str, data: Callable[[int], Path], size: int
) -> None:
    with bounded_memory(daemon):
        done = docker(
            "run", "--rm", "-i", "--network", "none", image, "sha256sum",
            input=data(size).read_bytes(), timeout_s=PATIENCE_S,
        )  # fmt: skip
    assert done.stdout.split()[0].decode() == digest(data(size)), done.stderr


def test_ten_see_the_same(daemon: Daemon, api: Api, image: str, data: Callable[[int], Path]) -> None:
    container = create_printer(api, image, data(16 * MB), before="cat /data >&2;")
    totals: list[FrameSum] = []
    with ExitStack() as stack, bounded_memory(daemon):
        streams = [stack.enter_context(attach(daemon, container)) for _ in range(10)]
        readers = [
            threading.Thread(target=lambda s=stream: totals.append(summed(s.socket, s.rest)))
            for stream in streams
        ]
        for reader in readers:
            reader.start()
        start(api, container)
        for reader in readers:
            reader.join(120)
    assert [total.sizes for total in totals] == [{1: 16 * MB, 2: 16 * MB}] * 10
    wanted = digest(data(16 * MB))
    assert {total.hexdigest(number) for total in totals for number in (1, 2)} == {wanted}


def test_who_does_not_read_holds_up_nobody(
    daemon: Daemon, api: Api, image: str, data: Callable[[int], Path]
) -> None:
    """One attached, one following the log: others, the container and the daemon do not notice."""
    size = 48 * MB
    container = create_printer(api, image, data(size), before="read go;")
    start(api, container)
    with (
        bounded_memory(daemon),
        attach(daemon, container) as lazy,
        follow(daemon, container) as lazy_follower,
        attach(daemon, container) as eager,
        follow(daemon, container) as eager_follower,
    ):
        eager.send(b"go\n")
        answers_quickly(api)
        for total in (summed(eager.socket, eager.rest), summed(eager_follower)):
            assert (total.sizes[1], total.hexdigest(1)) == (size, digest(data(size)))
        answers_quickly(api)
        assert steps.wait_exit(api, container) == 0
        for total in (summed(lazy.socket, lazy.rest), summed(lazy_follower)):  # it all waited for them
            assert (total.sizes[1], total.hexdigest(1)) == (size, digest(data(size)))


def test_an_exec_that_nobody_reads_holds_up_nobody(daemon: Daemon, api: Api, image: str) -> None:
    container = steps.start(api, image, HostConfig={"NetworkMode": "none"})
    body = {"Cmd": ["sh", "-c", "head -c 64000000 /dev/zero"], "AttachStdout": True}
    made = api("POST", f"/containers/{container}/exec", json_body=body).expect(201).json["Id"]
    with bounded_memory(daemon), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(daemon.socket))
        start_body = b'{"Detach": false, "Tty": false}'
        connection.sendall(
            f"POST /v1.51/exec/{made}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(start_body)}\r\n\r\n".encode()
            + start_body
        )
        steps.until(lambda: api("GET", f"/exec/{made}/json").expect(200).json["Running"])
        time.sleep(0.5)
        answers_quickly(api)
        api("POST", f"/containers/{container}/kill").expect(204)
        assert steps.wait_exit(api, container) == 137


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_container_that_waits_for_its_only_reader_can_be_killed(
    daemon: Daemon, api: Api, image: str
) -> None:
    container = create_endless(api, image)
    with attach(daemon, container):
        start(api, container)
        wait_until_held(api, container)
        answers_quickly(api)
        began = time.monotonic()
        api("POST", f"/containers/{container}/kill").expect(204)
        assert steps.wait_exit(api, container) == 137
        assert time.monotonic() - began < 10


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_who_follows_the_log_does_not_wait_for_who_does_not_read(
    daemon: Daemon, api: Api, image: str
) -> None:
    container = create_endless(api, image)
    with attach(daemon, container):
        start(api, container)
        wait_until_held(api, container)
        written = log_size(api, container)
        with follow(daemon, container) as connection:
            received = 0
            while received < written + 64 * MB:
                received += len(connection.recv(MB))
        api("POST", f"/containers/{container}/kill").expect(204)


def create_endless(api: Api, image: str) -> str:
    config = {"NetworkMode": "none", "LogConfig": {"Type": "json-file", "Config": {}}}
    return steps.create(api, image, "sh", "-c", f"yes {'x' * 4000}", HostConfig=config)


def log_size(api: Api, container: str) -> int:
    return Path(steps.inspect(api, container)["LogPath"]).stat().st_size


def wait_until_held(api: Api, container: str) -> None:
    """Wait until it writes no more, and has written as much as a client may be behind."""
    before, deadline = -1, time.monotonic() + 600
    while (size := log_size(api, container)) != before or size < 1 << 30:
        assert time.monotonic() < deadline
        before = size
        time.sleep(1)
