"""Sync, blocking. What it costs an engine that many clients watch what its containers use."""

import os
import selectors
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.bench.engines import Engine
from tests.bench.experiments import Samples, create, remove
from tests.bench.http import RECEIVE_BYTES, connected
from tests.bench.processes import PROC, engine_processes

STARTERS = 8
SETTLE_S = 3.0
MEASURED_S = 10.0
LEAST_READINGS = 0.5
"""Of one a second from each stream; an engine that sends fewer is not doing what is measured."""


def stats_row(engine: Engine, containers: int = 200) -> Samples:
    """CPU time of the engine, in percent of one core, while each container's stream is read."""
    made: list[str] = []

    def start_some(count: int) -> None:
        with connected(engine.socket) as client:
            for _ in range(count):
                made.append(create(client, ["sleep", "600"]))
                client.call("POST", f"/containers/{made[-1]}/start")

    with ThreadPoolExecutor(STARTERS) as pool:
        list(pool.map(start_some, [containers // STARTERS] * STARTERS))
    percent = _watched(engine, made)
    with connected(engine.socket) as client:
        for container_id in made:
            remove(client, container_id)
    return {"stats": [percent]}


def _watched(engine: Engine, ids: list[str]) -> float:
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for container_id in ids:
            stream = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            stream.connect(engine.socket)
            stream.sendall(f"GET /containers/{container_id}/stats HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
            selector.register(stream, selectors.EVENT_READ)
        _read(selector, SETTLE_S)
        processes = engine_processes(engine.pid, ids)
        before_s, began_s = _cpu_s(processes), time.monotonic()
        readings = _read(selector, MEASURED_S)
        used_s, passed_s = _cpu_s(processes) - before_s, time.monotonic() - began_s
    if readings < LEAST_READINGS * len(ids) * passed_s:
        raise RuntimeError(f"{engine.name} sent only {readings} readings of {len(ids)} containers")
    return used_s / passed_s * 100


def _read(selector: selectors.BaseSelector, duration_s: float) -> int:
    """Take what comes for a time; returns how many readings that was."""
    until_s, readings = time.monotonic() + duration_s, 0
    while (left_s := until_s - time.monotonic()) > 0:
        for key, _ in selector.select(left_s):
            data = os.read(key.fd, RECEIVE_BYTES)
            if not data:
                raise ConnectionError("a stream of statistics ended")
            readings += data.count(b'"preread"')
    return readings


def _cpu_s(pids: Iterable[int]) -> float:
    """CPU time of processes together (proc(5), ``stat``: utime and stime); one that has ended counts none."""
    ticks = 0
    for pid in pids:
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
