"""Many at once, and clients that go or wait: one start of many, slow readers, hang-ups, removals."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.api import steps
from tests.fault.conftest import events_of
from tests.support.daemon import Daemon
from tests.support.hijack import Hijack
from tests.support.rawhttp import Api, Stream

STARTS, CONTAINERS = 200, 64
READERS, ROUNDS = 199, 60
FILLER_BYTES = 16 << 10


def actions(daemon: Daemon, container_id: str) -> list[str]:
    return [event["Action"] for event in events_of(daemon, container_id)]


def test_200_starts_of_one_container(daemon: Daemon, api: Api, image: str) -> None:
    made = steps.create(api, image)
    gate = threading.Barrier(STARTS)

    def start(_: int) -> int:
        gate.wait(30)
        return api("POST", f"/containers/{made}/start").status

    with ThreadPoolExecutor(STARTS) as pool:
        answers = list(pool.map(start, range(STARTS)))
    assert sorted(answers) == [204] + [304] * (STARTS - 1)
    assert actions(daemon, made) == ["create", "start"]


def test_64_containers_at_once(daemon: Daemon, api: Api, image: str) -> None:
    """Created, started and removed side by side; each has its own address and the port it was given."""

    def live(number: int) -> tuple[str, str, str]:
        host_config = {"PublishAllPorts": True}
        made = steps.start(api, image, HostConfig=host_config, ExposedPorts={"80/tcp": {}}, name=f"c{number}")
        found = steps.inspect(api, made)
        assert found["State"]["Running"]
        network = found["NetworkSettings"]
        return made, network["Networks"]["bridge"]["IPAddress"], network["Ports"]["80/tcp"][0]["HostPort"]

    def remove(container_id: str) -> int:
        return api("DELETE", f"/containers/{container_id}", force=True, v=True).status

    with ThreadPoolExecutor(CONTAINERS) as pool:
        lives = list(pool.map(live, range(CONTAINERS)))
        ids, addresses, ports = (set(column) for column in zip(*lives, strict=True))
        assert len(ids) == len(addresses) == len(ports) == CONTAINERS
        assert len(api("GET", "/containers/json").json) == CONTAINERS
        assert set(pool.map(remove, ids)) == {204}
    assert daemon.settle() == []
    for container_id in ids:
        assert actions(daemon, container_id) == ["create", "start", "kill", "die", "destroy"]


# --- readers of events --------------------------------------------------------------------------------------


def memory_bytes(pid: int) -> int:
    """What the process holds of its own (proc(5), smaps_rollup: private pages)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) << 10 for kib in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.MULTILINE))


def test_one_of_200_readers_never_reads(daemon: Daemon, api: Api, image: str) -> None:
    """The others get everything at once; it gets everything when it reads at last; memory stays bounded."""
    made = steps.create(api, image, name="n0", Labels={"filler": "x" * FILLER_BYTES})
    wanted = {"event": ["rename"]}
    idle = socket.socket(socket.AF_UNIX)
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    idle.settimeout(30)
    idle.connect(str(daemon.socket))
    idle.sendall(b"GET /events?filters=%7B%22event%22:%5B%22rename%22%5D%7D HTTP/1.1\r\nHost: x\r\n\r\n")
    streams = [api.stream("GET", "/events", filters=wanted, timeout_s=60) for _ in range(READERS)]
    before = memory_bytes(daemon.pid)

    def read(stream: Stream) -> list[str]:
        lines = stream.lines()
        return [json.loads(next(lines))["Actor"]["Attributes"]["name"] for _ in range(ROUNDS)]

    with ThreadPoolExecutor(READERS) as pool:
        reading = [pool.submit(read, stream) for stream in streams]
        for number in range(1, ROUNDS + 1):
            api("POST", f"/containers/{made}/rename", name=f"n{number}").expect(204)
        told = [f"n{number}" for number in range(1, ROUNDS + 1)]
        assert all(future.result(60) == told for future in reading)
    for stream in streams:
        stream.close()
    # One buffer for each reader, and the events themselves once, not once for each.
    assert memory_bytes(daemon.pid) - before < 40 << 20
    late = b""
    while late.count(b'"name":"n') < ROUNDS or not late.endswith(b"\n"):
        late += idle.recv(1 << 20)
    idle.close()
    assert re.findall(rb'"name":"(n\d+)"', late) == [name.encode() for name in told]


def test_a_stream_is_resumed_by_a_new_daemon_where_the_old_one_died(
    make_daemon: Callable[..., Daemon],
) -> None:
    """By Last-Event-ID and by ``since``: what happened before, while none was there, and after, each once."""
    private = make_daemon().start()
    api = private.api
    image = private.import_busybox()
    running = steps.start(api, image)
    pid = steps.inspect(api, running)["State"]["Pid"]
    headers = {"Accept": "text/event-stream"}
    with api.stream("GET", "/events", headers=headers) as stream:
        first = steps.create(api, image)
        number, event = _next_server_sent(stream)
    assert event["Actor"]["ID"] == first
    second = steps.create(api, image)
    private.kill()
    _end(pid)
    private.start()
    third = steps.create(api, image)
    with api.stream("GET", "/events", headers={**headers, "Last-Event-ID": str(number)}) as stream:
        resumed: list[tuple[int, Any]] = []
        while not resumed or resumed[-1][1]["Actor"]["ID"] != third:
            resumed.append(_next_server_sent(stream))
    assert [n for n, _ in resumed] == list(range(number + 1, number + 1 + len(resumed)))
    story = [(e["Action"], e["Actor"]["ID"]) for _, e in resumed if e["Type"] == "container"]
    assert story == [("create", second), ("die", running), ("create", third)]
    cut = resumed[0][1]["timeNano"]
    since = f"{cut // 10**9}.{cut % 10**9:09d}"
    answer = api("GET", "/events", since=since, until=f"{time.time():.9f}").expect(200)
    assert [json.loads(line) for line in answer.body.splitlines()] == [event for _, event in resumed]


def _next_server_sent(stream: Stream) -> tuple[int, Any]:
    lines = stream.lines()
    number = int(next(lines).removeprefix(b"id: "))
    event = json.loads(next(lines).removeprefix(b"data: "))
    assert next(lines) == b""
    return number, event


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    steps.until(lambda: not Path(f"/proc/{pid}").exists())


# --- clients that go, and clients that wait -----------------------------------------------------------------


def test_a_client_that_hangs_up_does_not_cancel_its_start(daemon: Daemon, api: Api, image: str) -> None:
    for _ in range(5):
        made = steps.create(api, image)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(daemon.socket))
            client.sendall(f"POST /v1.51/containers/{made}/start HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            steps.until(lambda made=made: steps.status(api, made) != "created")  # type: ignore[misc]
        steps.until(lambda made=made: steps.status(api, made) == "running")  # type: ignore[misc]
        assert actions(daemon, made) == ["create", "start"]


def test_who_waits_for_a_container_is_let_go_when_it_is_removed(daemon: Daemon, api: Api, image: str) -> None:
    created, running = steps.create(api, image), steps.start(api, image)
    waits = [
        api.stream("POST", f"/containers/{made}/wait", condition=condition)
        for made in (created, running)
        for condition in ("next-exit", "removed")
    ]
    attached = [Hijack(daemon.socket, made, stream=1, stdout=1) for made in (created, running)]
    logs = api.stream("GET", f"/containers/{running}/logs", follow=True, stdout=True)
    for made in (created, running):
        api("DELETE", f"/containers/{made}", force=True).expect(204)
    codes = [json.loads(wait.read())["StatusCode"] for wait in waits]
    assert codes == [0, 0, 137, 137]
    assert [client.read() for client in attached] == [b"", b""]
    assert logs.read() == b""
    for stream in (*waits, logs):
        stream.close()
    for client in attached:
        client.close()
    assert daemon.settle() == []
