"""Sync, blocking. Networks of one's own: starts on them, ports, answers to names; few and many at once."""

import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.bench.engines import IMAGE, Engine
from tests.bench.experiments import Samples, create, kill_and_wait, milliseconds, remove
from tests.bench.http import Client, connected

NETWORK = "bench"
PORTS = 500
AT_ONCE = 64
REMOVERS = 8
CROWDS = (10, 100)
THOUSAND = 1_000
"""A bridge of Linux has room for 1,023 ports."""
ANSWERS_S = 1.0

# Asks for one name again and again, sixteen questions under way, and prints the answers a second.
ASKER = """
import socket, sys, time
question = b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6server\\0\\0\\1\\0\\1"
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wire.settimeout(2)
wire.connect(("127.0.0.11", 53))
for _ in range(16):
    wire.send(question)
count, began = 0, time.perf_counter()
while time.perf_counter() < began + float(sys.argv[1]):
    answer = wire.recv(512)
    assert answer[3] & 15 == 0 and answer[7], answer
    wire.send(question)
    count += 1
print(count / (time.perf_counter() - began))
"""


def network_rows(engine: Engine, rounds: int) -> Samples:
    """All rows on one network of driver ``bridge``, which is removed at the end."""
    with connected(engine.socket) as client:
        client.call("POST", "/networks/create", {"Name": NETWORK})
    try:
        samples = {**start_rows(engine, rounds), **crowd_rows(engine), **ports_row(engine)}
        samples.update(names_row(engine))
    finally:
        with connected(engine.socket) as client:
            client.call("DELETE", f"/networks/{NETWORK}")
    return samples


def start_rows(engine: Engine, rounds: int, beside: int = 0) -> Samples:
    """Starts on the network, beside so many containers there; and what that adds to starts without network.

    What is told of a start's steps would not do: they run side by side.
    """
    own: list[float] = []
    added: list[float] = []
    with connected(engine.socket) as client:
        for _ in range(rounds):
            without, on_it = (_start_ms(client, mode) for mode in ("none", NETWORK))
            own.append(on_it)
            added.append(on_it - without)
    suffix = f"beside_{beside}" if beside else "own"
    return {f"start_{suffix}": own, f"attach_{suffix}": added}


def _start_ms(client: Client, mode: str) -> float:
    made = create(client, ["sleep", "600"], NetworkMode=mode)
    took = milliseconds(lambda: client.call("POST", f"/containers/{made}/start"))
    kill_and_wait(client, made)
    remove(client, made)
    return took


def crowd_rows(engine: Engine) -> Samples:
    """Many starts at once, and starts while so many containers are on the network."""
    samples: Samples = {}
    there: list[str] = []
    try:
        for size in CROWDS:
            more = _make(engine, size - len(there), there)
            took_s = start_at_once(engine, more)
            if len(more) >= AT_ONCE:
                samples["starts_at_once"] = [len(more) / took_s]
            samples.update(start_rows(engine, 10, beside=size))
    finally:
        _remove_all(engine, there)
    return samples


def thousand_row(engine: Engine, rounds: int) -> Samples:
    """The same beside 1,000 containers; proa's alone, as others take many minutes for that."""
    if engine.proad is None:
        return {}
    there: list[str] = []
    with connected(engine.socket) as client:
        client.call("POST", "/networks/create", {"Name": NETWORK})
    try:
        start_at_once(engine, _make(engine, THOUSAND, there))
        return start_rows(engine, rounds, beside=THOUSAND)
    finally:
        _remove_all(engine, there)
        with connected(engine.socket) as client:
            client.call("DELETE", f"/networks/{NETWORK}")


def _make(engine: Engine, count: int, there: list[str]) -> list[str]:
    """Create so many containers on the network, noting each in ``there`` as well."""
    with connected(engine.socket) as client:
        for _ in range(count):
            there.append(create(client, ["sleep", "3600"], NetworkMode=NETWORK))
    return there[len(there) - count :]


def _remove_all(engine: Engine, container_ids: list[str]) -> None:
    def work(part: int) -> None:
        with connected(engine.socket) as client:
            for container_id in container_ids[part::REMOVERS]:
                remove(client, container_id)

    with ThreadPoolExecutor(REMOVERS) as pool:
        list(pool.map(work, range(REMOVERS)))


def start_at_once(engine: Engine, container_ids: list[str]) -> float:
    """Start all by up to 64 clients; returns how many seconds it took."""
    barrier = threading.Barrier(min(AT_ONCE, len(container_ids)) + 1)
    waiting = iter(container_ids)
    lock = threading.Lock()

    def work() -> None:
        with connected(engine.socket) as client:
            barrier.wait()
            while True:
                with lock:
                    container_id = next(waiting, None)
                if container_id is None:
                    return
                client.call("POST", f"/containers/{container_id}/start")

    with ThreadPoolExecutor(barrier.parties - 1) as pool:
        done = [pool.submit(work) for _ in range(barrier.parties - 1)]
        barrier.wait()
        began = time.perf_counter()
        for future in done:
            future.result()
        return time.perf_counter() - began


def ports_row(engine: Engine) -> Samples:
    """What each of 500 published ports adds to a start."""
    with connected(engine.socket) as client:
        one, many = (
            statistics.median(start_with_ports(client, count) for _ in range(3)) for count in (1, PORTS)
        )
    return {"port_each": [(many - one) / (PORTS - 1)]}


def start_with_ports(client: Client, count: int) -> float:
    ports: dict[str, Any] = {f"{port}/tcp": [{"HostPort": ""}] for port in range(1000, 1000 + count)}
    made = create(client, ["sleep", "600"], NetworkMode=NETWORK, PortBindings=ports)
    took = milliseconds(lambda: client.call("POST", f"/containers/{made}/start"))
    remove(client, made)
    return took


def names_row(engine: Engine) -> Samples:
    """Answers to one client inside a container, which is what limits it."""
    with connected(engine.socket) as client:
        body = {"Image": IMAGE, "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": NETWORK}}
        server, asker = (
            client.call("POST", f"/containers/create?name={name}", body)["Id"] for name in ("server", "asker")
        )
        for made in (server, asker):
            client.call("POST", f"/containers/{made}/start")
        pid = client.call("GET", f"/containers/{asker}/json")["State"]["Pid"]
        samples = [_ask(pid) for _ in range(3)]
        for made in (server, asker):
            remove(client, made)
    return {"names": samples}


def _ask(pid: int) -> float:
    argv = ["nsenter", "-t", str(pid), "-n", sys.executable, "-c", ASKER, str(ANSWERS_S)]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
