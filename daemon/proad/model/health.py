"""Sync, pure. Health checks: what is asked for, with Docker's defaults put in; what is known; what follows.

The rules are Docker's (moby: ``daemon/health.go``): a probe that exits with 0 makes healthy, ``retries``
failures in a row make unhealthy, and while a container that was never healthy is within its start period,
failures do not count. The defaults hold for what neither the request nor the image says.
"""

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from proad.model.durations import format_duration
from proad.model.errors import InvalidParameter
from proad.model.hostconfig import ContainerConfig, Healthcheck

_SECOND_NS = 10**9
DEFAULT_INTERVAL_NS = 30 * _SECOND_NS
DEFAULT_TIMEOUT_NS = 30 * _SECOND_NS
DEFAULT_START_INTERVAL_NS = 5 * _SECOND_NS
DEFAULT_RETRIES = 3
SHORTEST_NS = 10**6
"""What a request may ask for at least; an image that asks for less gets this."""
DEFAULT_SHELL = ("/bin/sh", "-c")

LOG_LENGTH = 5
"""How many probes are remembered."""
MAX_OUTPUT_BYTES = 4096
"""How much of a probe's output is remembered."""
NOT_RUN = -1
"""The exit code of a probe that could not be run, or was killed for its time."""


class HealthStatus(StrEnum):
    """How a container is; ``NONE`` where nobody asked for checks, or it never ran."""

    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Probed(msgspec.Struct, frozen=True):
    """One probe that ended. Times are nanoseconds since the epoch."""

    start_ns: int
    end_ns: int
    exit_code: int
    output: str


class Health(msgspec.Struct, frozen=True):
    """What the probes of a container said; ``log`` has the last of them, oldest first, across its runs."""

    status: HealthStatus = HealthStatus.STARTING
    failing_streak: int = 0
    log: tuple[Probed, ...] = ()

    def after(self, probed: Probed, check: "Check", *, started_ns: int) -> "Health":
        """With one more probe, of a run that started at ``started_ns``."""
        log = (*self.log, probed)[-LOG_LENGTH:]
        if probed.exit_code == 0:
            return Health(HealthStatus.HEALTHY, 0, log)
        in_start_period = probed.start_ns - started_ns < check.start_period_ns
        if self.status is HealthStatus.STARTING and in_start_period:
            return replace(self, log=log)
        streak = self.failing_streak + 1
        status = HealthStatus.UNHEALTHY if streak >= check.retries else self.status
        return Health(status, streak, log)


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """How a container's health is checked. ``argv`` is run in the container; intervals lie between the end
    of a probe, or the start of the container, and the next probe.
    """

    argv: tuple[str, ...]
    interval_ns: int
    timeout_ns: int
    start_period_ns: int
    start_interval_ns: int
    retries: int

    def delay_ns(self, health: Health, *, up_ns: int) -> int:
        """How long to wait before the next probe, when the container has run for ``up_ns``."""
        is_starting = health.status is HealthStatus.STARTING and up_ns < self.start_period_ns
        return self.start_interval_ns if is_starting else self.interval_ns

    def timed_out(self, output: str) -> str:
        """What is told of a probe that was killed when its time was up."""
        told = f"Health check exceeded timeout ({format_duration(self.timeout_ns)})"
        return f"{told}: {output}" if output else told


def check_of(config: ContainerConfig) -> Check | None:
    """The check that a container asks for, its image's wishes included; None if it asks for none."""
    asked = config.healthcheck
    argv = _argv(asked.test, config.shell or DEFAULT_SHELL) if asked is not None else ()
    if asked is None or not argv:
        return None
    return Check(
        argv=argv,
        interval_ns=_duration(asked.interval, DEFAULT_INTERVAL_NS),
        timeout_ns=_duration(asked.timeout, DEFAULT_TIMEOUT_NS),
        start_period_ns=max(asked.start_period, 0),
        start_interval_ns=_duration(asked.start_interval, DEFAULT_START_INTERVAL_NS),
        retries=asked.retries if asked.retries > 0 else DEFAULT_RETRIES,
    )


def health_at_start(config: ContainerConfig, before: Health | None) -> Health | None:
    """What is known as a new run begins: nothing yet, but what the probes of runs before it said."""
    if check_of(config) is None:
        return before
    return Health(log=before.log if before is not None else ())


def _argv(test: tuple[str, ...], shell: tuple[str, ...]) -> tuple[str, ...]:
    """A test of an unknown kind is none, as with Docker."""
    match test[:1]:
        case ("CMD",):
            return test[1:]
        case ("CMD-SHELL",):
            return (*shell, *test[1:])
    return ()


def _duration(asked_ns: int, default_ns: int) -> int:
    return max(asked_ns, SHORTEST_NS) if asked_ns > 0 else default_ns


def refuse_healthcheck(asked: Healthcheck) -> None:
    """Raise InvalidParameter if it makes no sense; in Docker's words where Docker refuses it."""
    for name, value in (
        ("Interval", asked.interval),
        ("Timeout", asked.timeout),
        ("StartPeriod", asked.start_period),
        ("StartInterval", asked.start_interval),
    ):
        if value != 0 and value < SHORTEST_NS:
            raise InvalidParameter(
                f"{name} in Healthcheck cannot be less than {format_duration(SHORTEST_NS)}"
            )
    if asked.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
    if asked.test == ("CMD",):
        raise InvalidParameter("Test in Healthcheck names no command after CMD")
    for word in asked.test:
        if "\0" in word:
            raise InvalidParameter(f"invalid null byte in {word!r}")
