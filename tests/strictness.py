"""A pytest plugin: on CI an unexpected skip is a failure.

A skip is expected where its reason says what this machine lacks and a user's machine may lack too. Such a
test says so with :func:`skip_for_lack_of`, or with a reason that begins with ``needs ``. With ``CI=true`` any
other skip fails the run, which names it at its end. Without it nothing changes.

Enable it from a conftest: ``pytest_plugins = ["tests.strictness"]``.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from typing import NoReturn

import pytest

EXPECTED = "needs "


def skip_for_lack_of(what: str) -> NoReturn:
    """Skip the running test, saying what is lacking: ``skip_for_lack_of("the docker CLI")``."""
    pytest.skip(EXPECTED + what)


def skip_for_older_docker(major: int) -> None:
    """Skip the running test where the docker CLI is older than that, or is not there; Debian 13 has 26."""
    version = subprocess.run(["docker", "--version"], check=False, capture_output=True, text=True).stdout
    found = re.search(r"version (\d+)\.", version)
    if found is None or int(found[1]) < major:
        skip_for_lack_of(f"a docker CLI of version {major} or newer")


def on_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the text given to ``skip``, without pytest's own words around it."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").strip()


class Strictness:
    """Counts the skips that nobody foresaw, and fails the run that had any."""

    def __init__(self) -> None:
        self.unexpected: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._judge(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._judge(report)

    def _judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = reason_of(report)
        if not reason.startswith(EXPECTED):
            self.unexpected.append((report.nodeid, reason))

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        if self.unexpected and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.unexpected:
            return
        terminalreporter.section("unexpected skips (failures on CI)", red=True)
        for nodeid, reason in self.unexpected:
            terminalreporter.line(f"{nodeid}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    if on_ci():
        config.pluginmanager.register(Strictness(), "strictness")
