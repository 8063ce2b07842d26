"""Sync, pure. The state of a container as the API shows it: ``State`` of inspect, and the words of a list."""

from typing import Any

from proad.model.container import Container, Status
from proad.model.durations import format_rfc3339_ns
from proad.model.health import Health, HealthStatus

Json = dict[str, Any]

_SECOND_NS = 1_000_000_000


def shown_status(container: Container) -> str:
    """The status as the API knows it; it has no "starting": what was before shows until the container
    runs."""
    if container.status is Status.STARTING:
        return "exited" if container.has_been_started else "created"
    return container.status.value


def status_text(container: Container, now_ns: int) -> str:
    """The status as a list tells it to people: ``Up 5 minutes``, ``Exited (0) 2 days ago``."""
    match shown_status(container):
        case "running":
            return f"Up {human_duration(now_ns - container.started_ns)}{_health_text(container)}"
        case "paused":
            return f"Up {human_duration(now_ns - container.started_ns)} (Paused)"
        case "restarting":
            return f"Restarting ({container.exit_code}) {human_duration(now_ns - container.finished_ns)} ago"
        case "removing":
            return "Removal In Progress"
        case "dead":
            return "Dead"
        case "exited" if container.finished_ns:
            return f"Exited ({container.exit_code}) {human_duration(now_ns - container.finished_ns)} ago"
    return "Created"


def _health_text(container: Container) -> str:
    match container.health_status:
        case HealthStatus.NONE:
            return ""
        case HealthStatus.STARTING:
            return " (health: starting)"
        case status:
            return f" ({status})"


def human_duration(nanoseconds: int) -> str:
    """A length of time in the words that ``docker ps`` uses."""
    seconds = max(nanoseconds, 0) // _SECOND_NS
    minutes, hours = seconds // 60, (seconds + 1800) // 3600
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{seconds // 3600 // 24 // 365} years"


def state(container: Container) -> Json:
    """The ``State`` of inspect. Times are RFC 3339, the year 1 for "never"."""
    status = shown_status(container)
    run = container.run
    shown: Json = {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": container.oom_killed,
        "Dead": status == "dead",
        "Pid": run.pid if run and container.status.has_process else 0,
        "ExitCode": container.exit_code,
        "Error": container.error,
        "StartedAt": format_rfc3339_ns(container.started_ns),
        "FinishedAt": format_rfc3339_ns(container.finished_ns),
    }
    if container.health is not None:
        shown["Health"] = _health(container.health)
    return shown


def _health(health: Health) -> Json:
    """``State.Health``; containers without checks have none."""
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": format_rfc3339_ns(probed.start_ns),
                "End": format_rfc3339_ns(probed.end_ns),
                "ExitCode": probed.exit_code,
                "Output": probed.output,
            }
            for probed in health.log
        ],
    }
