"""Sync, blocking. What is measured: each experiment runs on any engine and returns samples by the row's key.

An experiment leaves nothing behind but what :meth:`Engine.clean` removes.
"""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL
from typing import Any

from tests.bench.engines import IMAGE, LINES_BYTES, Engine
from tests.bench.http import Client, connected
from tests.bench.processes import engine_processes, pss_bytes

Samples = dict[str, list[float]]
ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 1_000_000
TYPING_PAUSE_S = 0.02
"""Between two keys, so that each is typed at an engine that waits."""


def milliseconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def create(client: Client, command: list[str], **host_config: Any) -> str:
    body = {"Image": IMAGE, "Cmd": command, "HostConfig": host_config}
    container_id: str = client.call("POST", "/containers/create", body)["Id"]
    return container_id


def kill_and_wait(client: Client, container_id: str) -> None:
    client.call("POST", f"/containers/{container_id}/kill")
    client.call("POST", f"/containers/{container_id}/wait")


def remove(client: Client, container_id: str) -> None:
    client.call("DELETE", f"/containers/{container_id}?force=1&v=1")


def start_rows(engine: Engine, rounds: int) -> Samples:
    """create, start and kill + wait of a sleeping container, in each network mode."""
    modes: dict[str, dict[str, Any]] = {
        "start_bridge": {"NetworkMode": "bridge"},
        "start_port": {"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostPort": ""}]}},
        "start_none": {"NetworkMode": "none"},
    }
    samples: Samples = {key: [] for key in (*modes, "create", "kill_wait")}
    with connected(engine.socket) as client:
        for _ in range(rounds):
            for key, host_config in modes.items():
                made: list[str] = []
                took = milliseconds(lambda: made.append(create(client, ["sleep", "600"], **host_config)))  # noqa: B023
                samples["create"].append(took)
                started = milliseconds(lambda: client.call("POST", f"/containers/{made[0]}/start"))  # noqa: B023
                samples[key].append(started)
                samples["kill_wait"].append(milliseconds(lambda: kill_and_wait(client, made[0])))  # noqa: B023
                remove(client, made[0])
    return samples


def cycle(client: Client) -> None:
    """Run ``true`` from its creation to its removal."""
    container_id = create(client, ["true"])
    client.call("POST", f"/containers/{container_id}/start")
    answer = client.call("POST", f"/containers/{container_id}/wait")
    if answer["StatusCode"] != 0:
        raise RuntimeError(f"`true` ended with {answer}")
    client.call("DELETE", f"/containers/{container_id}")


def cycle_row(engine: Engine, rounds: int) -> Samples:
    with connected(engine.socket) as client:
        return {"cycle": [milliseconds(lambda: cycle(client)) for _ in range(rounds)]}


def crowd_row(engine: Engine, rounds: int, clients: int = 16) -> Samples:
    """The same cycle by 16 clients at once; ``rounds`` cycles each."""
    barrier = threading.Barrier(clients + 1)

    def work() -> None:
        with connected(engine.socket) as client:
            barrier.wait()
            for _ in range(rounds):
                cycle(client)

    with ThreadPoolExecutor(clients) as pool:
        done = [pool.submit(work) for _ in range(clients)]
        barrier.wait()
        began = time.perf_counter()
        for future in done:
            future.result()
        return {"crowd": [clients * rounds / (time.perf_counter() - began)]}


def exec_row(engine: Engine, rounds: int) -> Samples:
    """From the request to run a command in a running container to the first byte of its output."""
    body = {"Cmd": ["echo", "hello"], "AttachStdout": True, "AttachStderr": True}
    samples = []
    with connected(engine.socket) as client:
        container_id = create(client, ["sleep", "600"], NetworkMode="none")
        client.call("POST", f"/containers/{container_id}/start")
        for _ in range(rounds):
            began = time.perf_counter()
            exec_id = client.call("POST", f"/containers/{container_id}/exec", body)["Id"]
            at = client.first_byte(f"/exec/{exec_id}/start", {"Detach": False, "Tty": False})
            samples.append((at - began) * 1000)
        remove(client, container_id)
    return {"exec": samples}


def echo_row(engine: Engine, rounds: int) -> Samples:
    """From a key typed at an attached terminal to its echo."""
    with connected(engine.socket) as client:
        body = {"Image": IMAGE, "Cmd": ["cat"], "Tty": True, "OpenStdin": True}
        container_id = client.call(
            "POST", "/containers/create", {**body, "HostConfig": {"NetworkMode": "none"}}
        )["Id"]
        with client.hijacked(f"/containers/{container_id}/attach?stream=1&stdin=1&stdout=1") as terminal:
            client.call("POST", f"/containers/{container_id}/start")

            def type_a_key() -> None:
                terminal.sendall(b"x")
                if terminal.recv(1) != b"x":
                    raise RuntimeError(f"{engine.name} echoed something else")

            type_a_key()
            samples = []
            for _ in range(rounds):
                time.sleep(TYPING_PAUSE_S)
                samples.append(milliseconds(type_a_key))
        remove(client, container_id)
    return {"echo": samples}


def list_row(engine: Engine, rounds: int, containers: int = 200) -> Samples:
    with connected(engine.socket) as client:
        made = [create(client, ["true"]) for _ in range(containers)]

        def read() -> None:
            if len(client.call("GET", "/containers/json?all=1")) < containers:
                raise RuntimeError(f"{engine.name} listed fewer than the {containers} containers there are")

        read()
        samples = [milliseconds(read) for _ in range(rounds)]
        for container_id in made:
            remove(client, container_id)
    return {"list": samples}


def events_row(engine: Engine, events: int, subscribers: int = 200, makers: int = 4) -> Samples:
    """Deliveries a second while images are tagged as fast as ``makers`` connections can."""
    command = [sys.executable, "-m", "tests.bench.subscribers", engine.socket, str(subscribers), str(events)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None
        if crowd.stdout.readline() != "ready\n":
            raise RuntimeError("the subscribers could not subscribe; their error is above")
        time.sleep(0.2)

        def make(maker: int) -> None:
            with connected(engine.socket) as client:
                for number in range(maker, events, makers):
                    client.call("POST", f"/images/{IMAGE}/tag?repo={IMAGE}-tag&tag={number % 8}")

        began = time.monotonic()
        with ThreadPoolExecutor(makers) as pool:
            list(pool.map(make, range(makers)))
        made_s = time.monotonic() - began
        last = crowd.stdout.readline()
        if not last:
            raise RuntimeError("the subscribers ended early; their error is above")
    return {"events": [events * subscribers / (float(last) - began)], "events_made": [events / made_s]}


def logs_row(engine: Engine, megabytes: int) -> Samples:
    """Write many lines of 128 bytes to stdout, then read all of them back."""
    mebibytes = max(1, megabytes * MEGABYTE // LINES_BYTES)
    size = mebibytes * LINES_BYTES / MEGABYTE
    script = f"i=0; while [ $i -lt {mebibytes} ]; do cat /lines; i=$((i+1)); done"
    with connected(engine.socket) as client:
        container_id = create(client, ["sh", "-c", script], NetworkMode="none")
        began = time.perf_counter()
        client.call("POST", f"/containers/{container_id}/start")
        client.call("POST", f"/containers/{container_id}/wait")
        written_s = time.perf_counter() - began
        began = time.perf_counter()
        received = client.drain(f"/containers/{container_id}/logs?stdout=1")
        read_s = time.perf_counter() - began
        if received < mebibytes * LINES_BYTES:
            raise RuntimeError(f"{engine.name} returned {received} bytes of a log of {mebibytes} MiB")
        remove(client, container_id)
    return {"log_write": [size / written_s], "log_read": [size / read_s]}


def idle_memory_row(engine: Engine) -> Samples:
    return {"idle_memory": [pss_bytes(engine_processes(engine.pid)) / MEGABYTE]}


def container_memory_row(engine: Engine, containers: int = 20) -> Samples:
    """What each running container adds to the memory of the engine's own processes, its monitor included."""
    with connected(engine.socket) as client:
        cycle(client)
        before = pss_bytes(engine_processes(engine.pid))
        made = [create(client, ["sleep", "600"]) for _ in range(containers)]
        for container_id in made:
            client.call("POST", f"/containers/{container_id}/start")
        after = pss_bytes(engine_processes(engine.pid, made))
        for container_id in made:
            remove(client, container_id)
    return {"container_memory": [(after - before) / containers / MEGABYTE]}


def ps_row(engine: Engine, rounds: int) -> Samples:
    """The client's ``ps`` as a whole process, from fork to exit."""
    if engine.ps_command is None:
        return {}
    command = [*engine.ps_command, "-H", f"unix://{engine.socket}", "ps"]

    def run() -> None:
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    run()
    return {"ps": [milliseconds(run) for _ in range(rounds)]}


def ready_rows(engine: Engine, containers: int = 200) -> Samples:
    """Seconds from exec to an answered list, with nothing and with 200 running containers to adopt."""
    if engine.proad is None:
        return {}
    samples: Samples = {"ready_empty": [], "ready_full": []}
    for _ in range(3):
        engine.proad.stop()
        samples["ready_empty"].append(engine.proad.start())
    made: list[str] = []

    def run_some(count: int) -> None:
        with connected(engine.socket) as client:
            for _ in range(count):
                made.append(create(client, ["sleep", "600"]))
                client.call("POST", f"/containers/{made[-1]}/start")

    def remove_some(ids: Iterable[str]) -> None:
        with connected(engine.socket) as client:
            for container_id in ids:
                remove(client, container_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run_some, [containers // 8] * 8))
        engine.proad.stop(SIGKILL)
        samples["ready_full"].append(engine.proad.start())
        with connected(engine.socket) as client:
            running = len(client.call("GET", "/containers/json"))
        if running != len(made):
            raise RuntimeError(f"{running} of {len(made)} containers are running after the daemon was killed")
        list(pool.map(remove_some, [made[part::8] for part in range(8)]))
    assert engine.proad.process is not None
    engine.pid = engine.proad.process.pid
    return samples


def floor_ms() -> float:
    """Return what the least Python process costs on this machine, to hold the ``ps`` row against."""
    command = [sys.executable, "-c", "pass"]
    return statistics.median(milliseconds(lambda: subprocess.run(command, check=True)) for _ in range(11))
