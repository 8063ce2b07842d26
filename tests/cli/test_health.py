"""Health checks from the command line: asked for, seen in lists and in inspect, told as events."""

from tests.api import steps
from tests.cli.conftest import Proa


def test_a_check_is_asked_for_and_seen(proa: Proa, image: str) -> None:
    made = proa(
        "run", "-d", "--name", "web", "--network", "none", "--health-cmd", "echo well",
        "--health-interval", "100ms", "--health-timeout", "2s", image, "sleep", "1000",
    )  # fmt: skip
    assert made.code == 0, made.err
    steps.until(lambda: "(healthy)" in proa("ps").out)
    shown = proa("inspect", "-f", "{{.State.Health.Status}} {{(index .State.Health.Log 0).Output}}", "web")
    assert shown.out == "healthy well\n\n"
    assert proa("ps", "-q", "--filter", "health=healthy").out.strip() in made.out
    assert proa("ps", "-q", "--filter", "health=unhealthy").out == ""
    told = proa("events", "--since", "1m", "--until", "0s", "--filter", "event=health_status")
    assert "health_status: healthy" in told.out


def test_a_check_is_switched_off(proa: Proa, image: str) -> None:
    proa("create", "--name", "quiet", "--no-healthcheck", image, "true")
    assert proa("inspect", "-f", "{{json .Config.Healthcheck}}", "quiet").out == '{"Test":["NONE"]}\n'


def test_a_time_that_is_too_short_is_refused_by_the_daemon(proa: Proa, image: str) -> None:
    said = proa("create", "--health-cmd", "true", "--health-interval", "1us", image)
    assert said.code == 1
    assert "Interval in Healthcheck cannot be less than 1ms" in said.err
