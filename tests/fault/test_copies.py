"""Copies while everything moves: processes that swap directories for symlinks, clients and daemons that
vanish, containers that stop, start and go away. Nothing of the host is reached, and nothing stays behind.
"""

import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.api import steps
from tests.support.archives import Item, directory, make_tar
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api, UnixConnection

Begun = socket.socket | HTTPResponse
ROUNDS = 100
SWAPS = 20
"""How often at least a directory is swapped and back, on average, while one round of four copies goes on."""
SECRET = b"of the host"
PREPARING = """
mkdir -p /swap/dir /swap/deep/a/b; echo inside >/swap/dir/file; echo inside >/swap/deep/a/b/file
exec sleep 1000
"""
SWAPPING = """
import os, shutil, signal, sys
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
swap, outside, climbing = sys.argv[1:]
swaps = 0
while not ended:
    for directory, target in ((f"{swap}/dir", outside), (f"{swap}/deep/a", climbing)):
        os.rename(directory, f"{directory}.was")
        try:
            os.symlink(target, directory)
            os.unlink(directory)
            os.rename(f"{directory}.was", directory)
            swaps += 1
        except OSError:  # a copy made the directory in the meantime, and may be at it still
            while os.path.lexists(f"{directory}.was"):
                shutil.rmtree(directory, ignore_errors=True)
                try:
                    os.rename(f"{directory}.was", directory)
                except OSError:
                    pass
print(swaps)
"""
BIG = 64 << 20


def archive_of(api: Api, ref: str, path: str) -> bytes:
    answer = api("GET", f"/containers/{ref}/archive", path=path)
    return answer.body if answer.status == 200 else b""


@pytest.fixture
def big(api: Api, image: str) -> str:
    """A container that runs and has a large file."""
    script = f"dd if=/dev/zero of=/big bs=1M count={BIG >> 20} 2>/dev/null; touch /ready; sleep 1000"
    made = steps.start(api, image, "sh", "-c", script, HostConfig={"NetworkMode": "none"})
    steps.until(lambda: api("HEAD", f"/containers/{made}/archive", path="/ready").status == 200, 30)
    return made


def begin_get(daemon: Daemon, ref: str, path: str = "/big") -> HTTPResponse:
    """Ask for an archive, read its beginning and no more."""
    connection = UnixConnection(daemon.socket)
    connection.request("GET", f"/v1.51/containers/{ref}/archive?path={path}")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read(512)
    return answer


def begin_put(daemon: Daemon, ref: str, path: str = "/tmp") -> socket.socket:
    """Begin to send an archive of a large file, and send no more."""
    entry = tarfile.TarInfo("half")
    entry.size = BIG
    connection = UnixConnection(daemon.socket)
    connection.connect()
    sock: socket.socket = connection.sock
    head = (
        f"PUT /v1.51/containers/{ref}/archive?path={path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked"
    )
    body = entry.tobuf() + b"x" * (1 << 20)
    sock.sendall(head.encode() + b"\r\n\r\n%x\r\n" % len(body) + body + b"\r\n")
    return sock


def helpers_at_work(daemon: Daemon) -> list[int]:
    """Processes that copy for this daemon."""
    servers = _children(daemon.pid, "proad.host.helperserver")
    return [child for server in servers for child in _children(server, "proad.host.helperserver")]


def _children(pid: int, mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid and mark in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def names_in(api: Api, ref: str, path: str) -> list[str]:
    body = api("GET", f"/containers/{ref}/archive", path=path).expect(200).body
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return tar.getnames()


@contextmanager
def swapping(pid: int, outside: Path) -> Iterator[None]:
    """Swap directories of the container with that process for symlinks, as fast as one processor can."""
    targets = [str(outside), f"{'../' * 20}{outside}"]
    command = [sys.executable, "-c", SWAPPING, f"/proc/{pid}/root/swap", *targets]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.terminate()
        assert process.stdout is not None
        assert int(process.stdout.read()) > ROUNDS * SWAPS


@pytest.mark.timeout(400)
def test_a_process_that_swaps_a_directory_for_a_symlink_gets_nothing(
    api: Api, image: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    for place in (outside, outside / "b"):
        (place / "file").write_bytes(SECRET)
    before = sorted(outside.rglob("*"))
    made = steps.start(api, image, "sh", "-c", PREPARING, HostConfig={"NetworkMode": "none"})
    paths = ("/swap/dir", "/swap/deep/a/b")
    steps.until(lambda: archive_of(api, made, f"{paths[1]}/file"))
    body = make_tar([directory("new"), Item("new/planted", b"planted"), Item("file", b"inside")])
    from_the_root = make_tar([Item("swap/dir/planted"), Item("swap/deep/a/b/planted")])
    outcomes: dict[str, int] = {}
    with swapping(steps.inspect(api, made)["State"]["Pid"], outside):
        for number in range(ROUNDS):
            path = paths[number % 2]
            seen = [archive_of(api, made, f"{path}/file"), archive_of(api, made, "/swap")]
            put = api("PUT", f"/containers/{made}/archive", path=path, body=body)
            api("PUT", f"/containers/{made}/archive", path="/", body=from_the_root)
            assert all(SECRET not in each for each in seen)
            assert put.status in (200, 400, 404), put.body
            outcomes[str(put.status)] = outcomes.get(str(put.status), 0) + 1
    assert outcomes.get("200"), outcomes
    assert sorted(outside.rglob("*")) == before
    assert all(path.read_bytes() == SECRET for path in before if path.is_file())


def test_a_fifo_or_a_device_holds_nobody_up(api: Api, image: str) -> None:
    script = "mkdir /d; mkfifo /d/fifo; mknod /d/null c 1 3; touch /d/ready; sleep 1000"
    made = steps.start(api, image, "sh", "-c", script, HostConfig={"NetworkMode": "none"})
    steps.until(lambda: api("HEAD", f"/containers/{made}/archive", path="/d/ready").status == 200)
    assert names_in(api, made, "/d") == ["d", "d/fifo", "d/null", "d/ready"]
    api("PUT", f"/containers/{made}/archive", path="/d", body=make_tar([Item("fifo", b"now a file")])).expect(
        200
    )
    api("PUT", f"/containers/{made}/archive", path="/d/fifo", body=b"").expect(400)


@pytest.mark.parametrize("begin", [begin_get, begin_put])
def test_a_client_that_vanishes_leaves_nothing(
    daemon: Daemon, api: Api, big: str, begin: Callable[[Daemon, str], Begun]
) -> None:
    begun = [begin(daemon, big) for _ in range(4)]
    steps.until(lambda: len(helpers_at_work(daemon)) == 4)
    for each in begun:
        each.close()
    steps.until(lambda: not helpers_at_work(daemon))
    assert names_in(api, big, "/tmp") == ["tmp"]
    api("DELETE", f"/containers/{big}", force=True).expect(204)
    assert not daemon.settle()


@pytest.mark.alone
def test_a_client_that_does_not_read_holds_up_nobody(daemon: Daemon, api: Api, big: str) -> None:
    begun = [begin_get(daemon, big) for _ in range(4)]
    try:
        for _ in range(20):
            began = time.monotonic()
            api("GET", "/_ping", version="").expect(200)
            assert time.monotonic() - began < 1
        assert archive_of(api, big, "/etc/passwd")
        api("POST", f"/containers/{big}/kill").expect(204)
        steps.wait_exit(api, big)
        api("POST", f"/containers/{big}/start").expect(204)
    finally:
        for each in begun:
            each.close()


def test_stop_and_start_go_on_beside_a_copy(daemon: Daemon, api: Api, big: str) -> None:
    connection = UnixConnection(daemon.socket)
    connection.request("GET", f"/v1.51/containers/{big}/archive?path=/big")
    answer = connection.getresponse()
    got = len(answer.read(1 << 20))
    for _ in range(2):
        api("POST", f"/containers/{big}/kill").expect(204)
        steps.wait_exit(api, big)
        put = api("PUT", f"/containers/{big}/archive", path="/tmp", body=make_tar([Item("x", b"1")]))
        assert put.status == 200, put.body
        api("POST", f"/containers/{big}/start").expect(204)
        assert names_in(api, big, "/tmp") == ["tmp", "tmp/x"]
    got += len(answer.read())
    assert got >= BIG + 1024
    connection.close()
    api("POST", f"/containers/{big}/kill").expect(204)
    steps.wait_exit(api, big)
    assert not daemon.settle(big)


@pytest.mark.parametrize("begin", [begin_get, begin_put])
def test_a_removal_ends_copies(
    daemon: Daemon, api: Api, big: str, begin: Callable[[Daemon, str], Begun]
) -> None:
    begun = begin(daemon, big)
    steps.until(lambda: helpers_at_work(daemon))
    api("DELETE", f"/containers/{big}", force=True).expect(204)
    assert not helpers_at_work(daemon)
    assert not daemon.settle()
    begun.close()


@pytest.mark.parametrize("begin", [begin_get, begin_put])
def test_a_daemon_that_is_killed_takes_its_copies_along(
    make_daemon: Callable[..., Daemon],
    begin: Callable[[Daemon, str], Begun],
) -> None:
    daemon = make_daemon().start()
    image, api = daemon.import_busybox(), daemon.api
    made = steps.create(api, image, HostConfig={"NetworkMode": "none"})
    api(
        "PUT", f"/containers/{made}/archive", path="/", body=make_tar([Item("big", b"x" * (8 << 20))])
    ).expect(200)
    begun = begin(daemon, made)
    steps.until(lambda: helpers_at_work(daemon))
    [helper] = helpers_at_work(daemon)
    daemon.kill()
    steps.until(lambda: not Path(f"/proc/{helper}").exists())
    begun.close()
    daemon.start()
    assert not daemon.settle(made)
    assert names_in(api, made, "/tmp") == ["tmp"]
    api("POST", f"/containers/{made}/start").expect(204)
    api("DELETE", f"/containers/{made}", force=True).expect(204)


def test_a_helper_that_is_killed_is_told_and_replaced(daemon: Daemon, api: Api, image: str) -> None:
    made = steps.create(api, image, HostConfig={"NetworkMode": "none"})
    begun = begin_put(daemon, made)
    steps.until(lambda: helpers_at_work(daemon))
    for server in _children(daemon.pid, "proad.host.helperserver"):
        os.kill(server, 9)
    begun.settimeout(10)
    assert begun.recv(1000).startswith(b"HTTP/1.1 500")
    begun.close()
    assert archive_of(api, made, "/etc/passwd")
    assert names_in(api, made, "/tmp") == ["tmp"]


def test_many_copies_at_once(daemon: Daemon, api: Api, image: str) -> None:
    made = steps.start(api, image, HostConfig={"NetworkMode": "none"})
    failures: list[str] = []

    def copy(number: int) -> None:
        for turn in range(5):
            name, content = f"{number}-{turn}", b"%d" % number * 1000
            put = api("PUT", f"/containers/{made}/archive", path="/tmp", body=make_tar([Item(name, content)]))
            if put.status != 200 or content not in archive_of(api, made, f"/tmp/{name}"):
                failures.append(name)

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(names_in(api, made, "/tmp")) == 1 + 16 * 5
    steps.until(lambda: not helpers_at_work(daemon))
