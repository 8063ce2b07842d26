"""Health checks over time, on Trio's mock clock, with commands that only pretend to run."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from proad.engine.health import SPREAD_NS, HealthChecks
from proad.engine.locks import Locks
from proad.engine.probing import ProbeResult
from proad.host.process import ProcessId
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.health import MAX_OUTPUT_BYTES, Health, HealthStatus, Probed, health_at_start
from proad.model.hostconfig import ContainerConfig, Healthcheck, HostConfig
from proad.store.db import Store, open_store

SECOND = 10**9
EPOCH_NS = 1_700_000_000 * SECOND
SELF = ProcessId.of(os.getpid())
"""Stands for the containers' first process: one that lives."""
HEALTHY, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.UNHEALTHY


def now_ns() -> int:
    """The wall clock of these tests: the containers start at 0 s of the mock clock."""
    return EPOCH_NS + round(trio.current_time() * SECOND)


class Said(NamedTuple):
    """What a probe comes to, after how long."""

    exit_code: int = 0
    output: bytes = b""
    timed_out: bool = False
    takes_s: float = 0.0
    error: str = ""


class Prober:
    """Answers as it is told, by the number of the probe; the last answer is repeated."""

    def __init__(self, *answers: Said) -> None:
        self.answers = answers or (Said(),)
        self.asked_at: list[float] = []
        self.cancelled = 0

    async def probe(
        self, container: Container, argv: Sequence[str], *, timeout_s: float, max_output_bytes: int
    ) -> ProbeResult:
        self.asked_at.append(trio.current_time())
        answer = self.answers[min(len(self.asked_at), len(self.answers)) - 1]
        try:
            await trio.sleep(answer.takes_s)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if answer.error:
            raise errors.StartFailed(answer.error, exit_code=126)
        return ProbeResult(answer.exit_code, answer.output[:max_output_bytes], answer.timed_out)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "state.db", events_max_count=10_000, events_max_age_s=3600)
    yield opened
    opened.close()


def put(store: Store, id: str = "c1", health: Health | None = None, **asked: Any) -> Container:
    """A container that started at 0 s and asks for checks every 10 s, if nothing else is said."""
    asked = {"test": ("CMD", "probe"), "interval": 10, **asked}
    times: Any = {name: value * SECOND if isinstance(value, int) else value for name, value in asked.items()}
    if "retries" in asked:
        times["retries"] = asked["retries"]
    config = ContainerConfig(healthcheck=Healthcheck(**times))
    container = Container(
        id=id,
        name=f"name-{id}",
        created_ns=1,
        image_id="i",
        image_ref="busybox",
        layers=(),
        config=config,
        host_config=HostConfig(),
        status=Status.RUNNING,
        run=Run(id="r1", begun_ns=1, started_ns=EPOCH_NS, pid=SELF.pid, pid_start=SELF.start),
        started_ns=EPOCH_NS,
        health=health or health_at_start(config, None),
    )
    with store.transaction() as tx:
        tx.put_container(container)
    return container


def change(store: Store, **changes: Any) -> Container:
    container = replace(store.containers["c1"], **changes)
    with store.transaction() as tx:
        tx.put_container(container)
    return container


Later = tuple[float, Callable[[HealthChecks], object]]


def watch(store: Store, prober: Prober, for_s: float, *later: Later, at_s: float = 0.0) -> None:
    """Watch all containers from ``at_s`` on for a time; ``later`` is done at its second."""

    async def main() -> None:
        await trio.sleep(at_s)
        async with trio.open_nursery() as nursery:
            checks = HealthChecks(store, Locks(), prober, nursery, now_ns)
            for container in list(store.containers.values()):
                checks.watch(container)
            for when_s, what in later:
                await trio.sleep(when_s - trio.current_time())
                what(checks)
            await trio.sleep(at_s + for_s - trio.current_time())
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def health(store: Store) -> Health:
    known = store.containers["c1"].health
    assert known is not None
    return known


# --- when ---------------------------------------------------------------------------------------------------


def test_the_interval_lies_between_the_end_of_a_probe_and_the_next(store: Store) -> None:
    put(store)
    prober = Prober(Said(takes_s=2))
    watch(store, prober, 40)
    assert prober.asked_at == [10, 22, 34]
    assert [(each.start_ns - EPOCH_NS, each.end_ns - EPOCH_NS) for each in health(store).log] == [
        (10 * SECOND, 12 * SECOND), (22 * SECOND, 24 * SECOND), (34 * SECOND, 36 * SECOND),
    ]  # fmt: skip


def test_the_first_success_ends_the_short_intervals_of_the_start(store: Store) -> None:
    put(store, interval=30, start_period=20, start_interval=2)
    prober = Prober(Said(1), Said(1), Said(0))
    watch(store, prober, 70)
    assert prober.asked_at == [2, 4, 6, 36, 66]


def test_the_end_of_the_start_period_ends_them_as_well(store: Store) -> None:
    put(store, interval=30, start_period=5, start_interval=2, retries=2)
    prober = Prober(Said(1))
    watch(store, prober, 70)
    assert prober.asked_at == [2, 4, 6, 36, 66]
    assert (health(store).status, health(store).failing_streak) == (UNHEALTHY, 3)


def test_nothing_is_probed_where_nobody_asks(store: Store) -> None:
    put(store, test=("NONE",))
    prober = Prober()
    watch(store, prober, 100)
    assert not prober.asked_at


def test_an_idle_crowd_wakes_the_loop_no_more_than_its_intervals_ask(store: Store) -> None:
    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.count += 1

    for number in range(200):
        put(store, f"c{number}", interval=30)
    prober, steps = Prober(), Steps()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            checks = HealthChecks(store, Locks(), prober, nursery, now_ns)
            for container in list(store.containers.values()):
                checks.watch(container)
            await trio.sleep(20)
            trio.lowlevel.add_instrument(steps)
            await trio.sleep(9)
            asleep = steps.count
            await trio.sleep(600)
            assert asleep <= 2, "tasks woke between probes"
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(prober.asked_at) == 200 * 20
    assert steps.count < 4 * len(prober.asked_at)


# --- what is told -------------------------------------------------------------------------------------------


def test_changes_are_told_once(store: Store) -> None:
    cursor = store.journal.cursor(None, None, lambda event: True)
    put(store, retries=2)
    codes = [0, 0, 1, 0, 1, 1, 1, 1, 0]
    watch(store, Prober(*map(Said, codes)), 95)
    changes = [event.action.removeprefix("health_status: ") for event in cursor.take()]
    assert changes == ["healthy", "unhealthy", "healthy"]
    assert [each.exit_code for each in health(store).log] == codes[-5:]


def test_an_event_bears_what_events_of_containers_bear(store: Store) -> None:
    cursor = store.journal.cursor(None, None, lambda event: True)
    put(store)
    watch(store, Prober(), 11)
    [event] = cursor.take()
    assert (event.type, event.actor_id) == ("container", "c1")
    assert event.attributes == {"image": "busybox", "name": "name-c1"}


def test_failures_of_the_start_are_told_by_nobody(store: Store) -> None:
    cursor = store.journal.cursor(None, None, lambda event: True)
    put(store, start_period=60, start_interval=1, retries=1)
    watch(store, Prober(Said(1)), 60)
    assert cursor.take() == []
    assert (health(store).status, health(store).failing_streak) == (HealthStatus.STARTING, 0)


# --- what comes of a probe ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "exit_code", "output"),
    [
        (Said(0, b"fine\n"), 0, "fine\n"),
        (Said(3, b"\xff bad"), 3, "\ufffd bad"),
        (Said(0, b"x" * MAX_OUTPUT_BYTES), 0, "x" * MAX_OUTPUT_BYTES),
        (Said(0, b"x" * MAX_OUTPUT_BYTES + b"y"), 0, "x" * MAX_OUTPUT_BYTES + "..."),
        (Said(137, b"", timed_out=True), -1, "Health check exceeded timeout (30s)"),
        (Said(137, b"so far", timed_out=True), -1, "Health check exceeded timeout (30s): so far"),
        (Said(error="OCI runtime exec failed: no such file"), -1, "OCI runtime exec failed: no such file"),
    ],
)
def test_the_outcome_of_a_probe(store: Store, said: Said, exit_code: int, output: str) -> None:
    put(store)
    watch(store, Prober(said), 11)
    [probed] = health(store).log
    assert (probed.exit_code, probed.output) == (exit_code, output)


def test_a_full_disk_delays_the_news_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store)
    commit = store._commit

    def full(*arguments: Any, **more: Any) -> None:
        raise errors.System("state database: database or disk is full")

    def fill(checks: HealthChecks) -> None:
        monkeypatch.setattr(store, "_commit", full)

    def empty(checks: HealthChecks) -> None:
        monkeypatch.setattr(store, "_commit", commit)

    cursor = store.journal.cursor(None, None, lambda event: True)
    watch(store, Prober(), 26, (1, fill), (15, empty))
    assert (health(store).status, len(health(store).log)) == (HEALTHY, 1)
    assert [event.action for event in cursor.take()] == ["health_status: healthy"]


# --- pauses and ends ----------------------------------------------------------------------------------------


def test_a_probe_under_way_is_cancelled_with_the_watch_and_tells_nothing(store: Store) -> None:
    put(store)
    prober = Prober(Said(1, takes_s=100))
    watch(store, prober, 300, (15, lambda checks: checks.unwatch("c1")))
    assert (prober.asked_at, prober.cancelled) == ([10], 1)
    assert health(store) == Health()


def test_the_end_of_the_run_ends_the_watch_even_if_nobody_says_so(store: Store) -> None:
    put(store)
    prober = Prober(Said(takes_s=3))
    watch(store, prober, 100, (11, lambda checks: change(store, run=Run(id="r2", begun_ns=1))))
    assert prober.asked_at == [10]
    assert health(store) == Health()


def test_a_probe_that_goes_with_its_container_does_not_count(store: Store) -> None:
    container = put(store, retries=1)
    assert container.run is not None
    change(store, run=replace(container.run, pid_start=SELF.start + 1))
    watch(store, Prober(Said(137)), 11)
    assert health(store) == Health()


def test_what_is_frozen_is_not_probed_and_what_was_asked_does_not_count(store: Store) -> None:
    put(store)
    prober = Prober(Said(1, takes_s=3))
    watch(
        store,
        prober,
        50,
        (11, lambda checks: change(store, status=Status.PAUSED)),
        (35, lambda checks: change(store, status=Status.RUNNING)),
    )
    assert prober.asked_at == [10, 43]
    assert len(health(store).log) == 1


def test_a_thawed_one_has_its_whole_interval_before_it(store: Store) -> None:
    put(store)
    prober = Prober()

    def thaw(checks: HealthChecks) -> None:
        checks.watch(store.containers["c1"], thawed=True)

    watch(store, prober, 100, (15, lambda checks: checks.unwatch("c1")), (77, thaw))
    assert prober.asked_at == [10, 87, 97]


# --- a new daemon -------------------------------------------------------------------------------------------


def known(*ends_s: float) -> Health:
    """Healthy, by probes that ended then."""
    log = tuple(
        Probed(EPOCH_NS + round((end_s - 1) * SECOND), EPOCH_NS + round(end_s * SECOND), 0, "")
        for end_s in ends_s
    )
    return Health(HEALTHY, 0, log)


def test_a_new_daemon_goes_on_where_the_old_one_ended(store: Store) -> None:
    put(store, interval=30, health=known(31, 62))
    prober = Prober()
    watch(store, prober, 60, at_s=70)
    assert prober.asked_at == [92, 122]


def test_probes_of_an_earlier_run_do_not_put_off_the_first(store: Store) -> None:
    put(store, interval=30, health=known(-20))
    prober = Prober()
    watch(store, prober, 40, at_s=5)
    assert prober.asked_at == [30]


def test_a_clock_that_was_set_back_does_not_put_off_the_next(store: Store) -> None:
    put(store, interval=30, health=known(100_000))
    prober = Prober()
    watch(store, prober, 40, at_s=5)
    assert prober.asked_at == [35]


def test_what_fell_due_without_a_daemon_does_not_come_all_at_once(store: Store) -> None:
    for number in range(5):
        put(store, f"c{number}", health=known(10))
    prober = Prober()
    watch(store, prober, 5, at_s=500)
    assert prober.asked_at == pytest.approx([500 + n * SPREAD_NS / SECOND for n in range(5)])
