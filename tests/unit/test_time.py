"""What depends on time, on Trio's mock clock: delays of restarts, stop timeouts, escalation to SIGKILL."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from proad.engine.control import Control
from proad.engine.locks import Locks
from proad.engine.supervise import Supervisor
from proad.engine.waiting import Waiters, WaitResult
from proad.host.conmon import ExitReport
from proad.host.process import ProcessId
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.hostconfig import ContainerConfig, HostConfig, RestartPolicy
from proad.store.db import Store, open_store

AUTOJUMP_S = 0.2
"""Real idleness after which mock time jumps: longer than a signal takes to end a process."""


class NothingHeld:
    """Stands for the run's resources and streams: there is nothing on the host in these tests."""

    async def release(self, container: Container, run: Run) -> None:
        await trio.lowlevel.checkpoint()

    def finish_later(self, container: Container, run: Run) -> None:
        pass

    async def output_ended(self, container_id: str) -> None:
        await trio.lowlevel.checkpoint()

    def run_ended(self, container_id: str) -> None:
        pass

    def unwatch(self, which: object) -> None:
        pass


class NoExecs:
    """Stands for the commands that run beside the first process: there are none."""

    async def run_ended(self, container: Container, run: Run) -> None:
        await trio.lowlevel.checkpoint()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "state.db", events_max_count=1000, events_max_age_s=3600)
    yield opened
    opened.close()


def put(store: Store, policy: RestartPolicy, *, pid: ProcessId | None = None, **config: Any) -> Container:
    run = Run(id="r1", begun_ns=1, started_ns=time.time_ns())
    if pid is not None:
        run = replace(run, pid=pid.pid, pid_start=pid.start)
    container = Container(
        id="c1",
        name="one",
        created_ns=1,
        image_id="i",
        image_ref="busybox",
        layers=(),
        config=ContainerConfig(**config),
        host_config=HostConfig(restart_policy=policy),
        status=Status.RUNNING,
        run=run,
        has_been_started=True,
    )
    with store.transaction() as tx:
        tx.put_container(container)
    return container


def supervisor(store: Store, nursery: trio.Nursery, waiters: Waiters | None = None) -> Supervisor:
    nothing, no_execs = cast(Any, NothingHeld()), cast(Any, NoExecs())
    return Supervisor(
        store, Locks(), waiters or Waiters(), nothing, nothing, nothing, no_execs, nothing, nothing, nothing,
        nursery,
    )  # fmt: skip


def run_failing_container(store: Store, policy: RestartPolicy, runs: int, ran_s: float = 0.5) -> list[float]:
    """Let a container end ``runs`` times after ``ran_s`` seconds; the delays before its restarts."""
    put(store, policy)
    delays: list[float] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            watched = supervisor(store, nursery)

            async def end_once(began: int) -> None:
                container = store.containers["c1"]
                assert container.run is not None
                finished_ns = container.run.started_ns + int(ran_s * 1e9)
                await watched.end_run_locked(container, container.run, ExitReport(1, False, finished_ns))
                ended_at.append(trio.current_time())

            async def start_again(container_id: str, run_id: str) -> None:
                delays.append(trio.current_time() - ended_at[-1])
                container = store.containers[container_id]
                run = Run(id=f"r{len(delays) + 1}", begun_ns=1, started_ns=time.time_ns())
                container = replace(container, run=run, restart_count=container.restart_count + 1)
                container = container.with_status(Status.STARTING).with_status(Status.RUNNING)
                with store.transaction(durable=False) as tx:
                    tx.put_container(container)
                if len(delays) < runs:
                    await end_once(len(delays))

            ended_at: list[float] = []
            watched.start_again = start_again
            await end_once(0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return [round(delay, 3) for delay in delays]


def test_restarts_wait_longer_each_time(store: Store) -> None:
    delays = run_failing_container(store, RestartPolicy(name="always"), 12)
    assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == 60.0


def test_a_run_of_ten_seconds_starts_the_delays_over(store: Store) -> None:
    assert run_failing_container(store, RestartPolicy(name="always"), 4, ran_s=10.0) == [0.1] * 4


def test_on_failure_gives_up_after_its_tries(store: Store) -> None:
    policy = RestartPolicy(name="on-failure", maximum_retry_count=3)
    assert run_failing_container(store, policy, 99) == [0.1, 0.2, 0.4]
    assert store.containers["c1"].status is Status.EXITED
    assert store.containers["c1"].restart_count == 3


class Process:
    """A real process in the place of a container's, watched as the supervisor would."""

    def __init__(self, script: str) -> None:
        self.popen = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
        assert self.popen.stdout is not None
        self.popen.stdout.readline()  # its trap is set
        self.id = ProcessId.of(self.popen.pid)

    async def report_end(self, waiters: Waiters) -> None:
        handle = self.id.open()
        assert handle is not None
        await handle.wait()
        handle.close()
        waiters.run_ended("c1", WaitResult(abs(self.popen.wait())))


def stop(store: Store, script: str, *, timeout_s: int | None, **config: Any) -> tuple[float, list[str]]:
    """Stop a container whose process runs ``script``; how long it took, and which signals it was sent."""
    process = Process(script)
    put(store, RestartPolicy(), pid=process.id, **config)
    cursor = store.journal.cursor(None, None, lambda event: event.action == "kill")

    async def main() -> float:
        waiters = Waiters()
        nothing = cast(Any, NothingHeld())
        control = Control(store, Locks(), waiters, nothing, nothing, nothing, nothing)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.report_end, waiters)
            began = trio.current_time()
            await control.stop("one", timeout_s=timeout_s)
            return trio.current_time() - began

    try:
        took_s = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=AUTOJUMP_S))
    finally:
        process.popen.kill()
        process.popen.wait()
    return took_s, [event.attributes["signal"] for event in cursor.take()]


OBEYS = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done"
IGNORES = "trap '' TERM; echo ready; while :; do sleep 0.01; done"


def test_a_process_that_obeys_is_not_killed(store: Store) -> None:
    took_s, signals = stop(store, OBEYS, timeout_s=100)
    assert (took_s, signals) == (0.0, [str(int(signal.SIGTERM))])


@pytest.mark.parametrize(
    ("timeout_s", "config", "expected_s"), [(None, {}, 10), (3, {}, 3), (None, {"stop_timeout": 77}, 77)]
)
def test_a_process_that_does_not_is_killed_when_its_time_is_up(
    store: Store, timeout_s: int | None, config: dict[str, int], expected_s: int
) -> None:
    took_s, signals = stop(store, IGNORES, timeout_s=timeout_s, **config)
    assert took_s == pytest.approx(expected_s)
    assert signals == [str(int(signal.SIGTERM)), str(int(signal.SIGKILL))]


def test_the_containers_own_stop_signal_is_used(store: Store) -> None:
    script = "trap 'exit 0' USR1; trap '' TERM; echo ready; while :; do sleep 0.01; done"
    _, signals = stop(store, script, timeout_s=5, stop_signal="SIGUSR1")
    assert signals == [str(int(signal.SIGUSR1))]


def test_stopping_what_is_stopped_changes_nothing(store: Store) -> None:
    container = put(store, RestartPolicy(), pid=ProcessId.of(os.getpid()))
    with store.transaction() as tx:
        tx.put_container(container.with_status(Status.EXITED))

    async def main() -> None:
        nothing = cast(Any, NothingHeld())
        control = Control(store, Locks(), Waiters(), nothing, nothing, nothing, nothing)
        with pytest.raises(errors.NotModified):
            await control.stop("one")

    trio.run(main)
