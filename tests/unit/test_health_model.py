"""Health checks as rules: what is asked for, defaults put in; what a probe changes; when the next is due."""

import pytest

from proad.model import errors
from proad.model.container import Container, Status
from proad.model.durations import format_duration, parse_duration_ns
from proad.model.health import Check, Health, HealthStatus, Probed, check_of, health_at_start
from proad.model.hostconfig import ContainerConfig, Healthcheck, HostConfig

SECOND = 10**9
STARTED_NS = 1_700_000_000 * SECOND

STARTING, HEALTHY, UNHEALTHY = HealthStatus.STARTING, HealthStatus.HEALTHY, HealthStatus.UNHEALTHY


def check(test: tuple[str, ...] = ("CMD", "probe"), **asked: int) -> Check:
    made = check_of(ContainerConfig(healthcheck=Healthcheck(test=test, **asked)))
    assert made is not None
    return made


def probed(exit_code: int, at_s: float = 0, output: str = "") -> Probed:
    start_ns = STARTED_NS + round(at_s * SECOND)
    return Probed(start_ns, start_ns + SECOND, exit_code, output)


def after(how: Check, *results: tuple[int, float], health: Health | None = None) -> Health:
    """After probes, each with its exit code and its seconds since the start."""
    health = health or Health()
    for exit_code, at_s in results:
        health = health.after(probed(exit_code, at_s), how, started_ns=STARTED_NS)
    return health


# --- what is asked for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "shell", "argv"),
    [
        (("CMD", "a", "b c"), None, ("a", "b c")),
        (("CMD-SHELL", "a | b"), None, ("/bin/sh", "-c", "a | b")),
        (("CMD-SHELL", "a | b"), ("/bin/bash", "-ec"), ("/bin/bash", "-ec", "a | b")),
    ],
)
def test_what_is_run(test: tuple[str, ...], shell: tuple[str, ...] | None, argv: tuple[str, ...]) -> None:
    made = check_of(ContainerConfig(healthcheck=Healthcheck(test=test), shell=shell))
    assert made is not None
    assert made.argv == argv


@pytest.mark.parametrize("test", [(), ("NONE",), ("CMD",), ("OTHER", "x")])
def test_no_check(test: tuple[str, ...]) -> None:
    assert check_of(ContainerConfig(healthcheck=Healthcheck(test=test, interval=SECOND))) is None
    assert check_of(ContainerConfig()) is None


def test_what_is_not_asked_for_is_dockers_default() -> None:
    made = check()
    assert (made.interval_ns, made.timeout_ns, made.retries) == (30 * SECOND, 30 * SECOND, 3)
    assert (made.start_period_ns, made.start_interval_ns) == (0, 5 * SECOND)


def test_an_image_cannot_ask_for_probes_without_a_pause() -> None:
    made = check(interval=1, timeout=-5, retries=-1, start_period=-1)
    assert (made.interval_ns, made.timeout_ns, made.retries) == (10**6, 30 * SECOND, 3)
    assert made.start_period_ns == 0


# --- what probes lead to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "status", "streak"),
    [
        ([], STARTING, 0),
        ([0], HEALTHY, 0),
        ([1], STARTING, 1),
        ([1, 2, 125], UNHEALTHY, 3),
        ([1, 1, 0], HEALTHY, 0),
        ([0, -1, 1], HEALTHY, 2),
        ([0, 1, 1, 1, 1], UNHEALTHY, 4),
        ([1, 1, 1, 0], HEALTHY, 0),
    ],
)
def test_one_success_heals_and_failures_in_a_row_do_not(
    codes: list[int], status: HealthStatus, streak: int
) -> None:
    health = after(check(), *((code, 30 * (n + 1)) for n, code in enumerate(codes)))
    assert (health.status, health.failing_streak) == (status, streak)


def test_failures_of_the_start_period_do_not_count() -> None:
    how = check(start_period=10 * SECOND, retries=1)
    early = after(how, (1, 1), (1, 9.9))
    assert (early.status, early.failing_streak, len(early.log)) == (STARTING, 0, 2)
    assert after(how, (1, 10), health=early).status is UNHEALTHY


def test_what_was_healthy_once_has_no_start_period_any_more() -> None:
    how = check(start_period=10 * SECOND, retries=1)
    assert after(how, (0, 1), (1, 2)).status is UNHEALTHY


def test_the_last_five_probes_are_kept() -> None:
    health = after(check(), *((n, n) for n in range(1, 8)))
    assert [each.exit_code for each in health.log] == [3, 4, 5, 6, 7]


def test_a_new_run_begins_anew_and_keeps_what_was_told() -> None:
    config = ContainerConfig(healthcheck=Healthcheck(test=("CMD", "probe")))
    before = after(check(), (1, 1), (1, 2), (1, 3))
    assert health_at_start(config, before) == Health(STARTING, 0, before.log)
    assert health_at_start(config, None) == Health(STARTING, 0, ())
    assert health_at_start(ContainerConfig(), None) is None


@pytest.mark.parametrize(
    ("status", "up_s", "delay_s"),
    [(STARTING, 0, 2), (STARTING, 19.9, 2), (STARTING, 20, 30), (HEALTHY, 5, 30), (UNHEALTHY, 5, 30)],
)
def test_probes_come_at_the_start_interval_until_one_succeeds(
    status: HealthStatus, up_s: float, delay_s: int
) -> None:
    how = check(start_period=20 * SECOND, start_interval=2 * SECOND)
    assert how.delay_ns(Health(status), up_ns=round(up_s * SECOND)) == delay_s * SECOND


def test_a_probe_that_was_killed_says_after_what_time() -> None:
    assert check(timeout=1500 * 10**6).timed_out("") == "Health check exceeded timeout (1.5s)"
    assert check(timeout=90 * SECOND).timed_out("x\n") == "Health check exceeded timeout (1m30s): x\n"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"), (1, "1ns"), (1500, "1.5µs"), (10**6, "1ms"), (10**6 + 1, "1.000001ms"),
        (SECOND, "1s"), (SECOND + 1, "1.000000001s"), (59 * SECOND, "59s"), (60 * SECOND, "1m0s"),
        (3600 * SECOND, "1h0m0s"), (3661 * SECOND + 5 * 10**8, "1h1m1.5s"), (100 * 10**6, "100ms"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_does(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0), ("0s", 0), ("1h2m3s", 3723 * 10**9), (".5s", 5 * 10**8), ("1.s", 10**9), ("1.5us", 1500),
        ("2µs", 2000), ("2μs", 2000), ("2562047h", 2562047 * 3600 * 10**9),
    ],
)  # fmt: skip
def test_durations_are_read_as_go_does(text: str, nanoseconds: int) -> None:
    assert parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "s", ".s", "1 s", "-1s", "2562048h", "9" * 400 + "h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        parse_duration_ns(text)
    assert caught.value.message == f'time: invalid duration "{text}"'


# --- how a container is -------------------------------------------------------------------------------------


def container(status: Status, health: Health | None) -> Container:
    return Container(
        id="c1", name="one", created_ns=1, image_id="i", image_ref="i", layers=(),
        config=ContainerConfig(), host_config=HostConfig(), status=status, health=health,
    )  # fmt: skip


@pytest.mark.parametrize("status", [Status.PAUSED, Status.EXITED, Status.RESTARTING])
def test_what_runs_no_more_or_is_frozen_is_not_healthy(status: Status) -> None:
    before = after(check(), (0, 1), (1, 2))
    moved = container(Status.RUNNING, before).with_status(status)
    assert moved.health == Health(UNHEALTHY, 1, before.log)


def test_what_thaws_is_healthy_when_a_probe_says_so() -> None:
    thawed = container(Status.PAUSED, Health(UNHEALTHY)).with_status(Status.RUNNING)
    assert thawed.health_status is UNHEALTHY


def test_without_probes_there_is_no_health() -> None:
    moved = container(Status.RUNNING, None).with_status(Status.EXITED)
    assert (moved.health, moved.health_status) == (None, HealthStatus.NONE)
