"""A pytest plugin: when all workers are done, nothing of the run may be left on the machine.

Daemons and fixtures count what they leave as soon as they are closed. This is the last look, at everything
that bears the run's mark (``tests.support.whose``), also of workers that crashed or were interrupted. What is
found is named, removed, and fails the run.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import whose
from tests.support.belongings import Belongings, cgroup_roots, mounts_below, output_of, processes_below

SETTLE_S = 2.0


class Leaks:
    """Looks once, at the end of the controller's session."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @pytest.hookimpl(wrapper=True, trylast=True)  # after workers are gone, before the summary
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        yield
        self.found = left_of_the_run()
        if self.found and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section("left behind on this machine (now removed)", red=True)
            for line in self.found:
                terminalreporter.line(line)


def left_of_the_run() -> list[str]:
    """What is left, after giving what is on its way out the time to go; removes it."""
    found: list[str] = []
    if os.geteuid() == 0 and shutil.which("nft") and shutil.which("ip"):  # others' runs can make nothing
        deadline = time.monotonic() + SETTLE_S
        while (found := _look()) and time.monotonic() < deadline:
            time.sleep(0.1)
    if found:
        _clear()
    shutil.rmtree(whose.DIRECTORY, ignore_errors=True)
    return found


def _look() -> list[str]:
    links, tables = _links(), [name for _, name in _tables()]
    found = [f"link {name}" for name in links if whose.RUN in name]
    found += [f"nft table {name}" for name in tables if whose.RUN in name]
    found += [f"cgroup {path}" for path in _cgroups()]
    for daemon in _daemons():
        found += daemon.remains(links, tables)
        found += [f"directory {daemon.directory}"] if daemon.directory.exists() else []
    for place in _other_places():
        found += [f"mount {path}" for path in mounts_below(place)]
        found += [f"process {pid}: {command}" for pid, command in processes_below(place)]
    return found


def _clear() -> None:
    for daemon in _daemons():
        daemon.clear()
    for link in _links():
        if whose.RUN in link:
            output_of("ip", "link", "delete", link)
    for family, table in _tables():
        if whose.RUN in table:
            output_of("nft", "delete", "table", family, table)
    for cgroup in _cgroups():
        with suppress(OSError):
            cgroup.rmdir()
    for place in _other_places():
        for pid, _ in processes_below(place):
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        for path in reversed(mounts_below(place)):
            output_of("umount", "--lazy", path)


def _daemons() -> list[Belongings]:
    return [Belongings(place) for place in whose.registered() if place.is_relative_to(whose.DIRECTORY)]


def _other_places() -> list[Path]:
    return [place for place in whose.registered() if not place.is_relative_to(whose.DIRECTORY)]


def _links() -> list[str]:
    return [link["ifname"] for link in json.loads(output_of("ip", "-j", "link") or "[]") if link]


def _tables() -> list[tuple[str, str]]:
    """Families and names."""
    listed = json.loads(output_of("nft", "-j", "list", "tables") or '{"nftables": []}')
    tables = [entry["table"] for entry in listed["nftables"] if "table" in entry]
    return [(table["family"], table["name"]) for table in tables]


def _cgroups() -> list[Path]:
    return [path for root in cgroup_roots() for path in root.glob(f"*{whose.RUN}*")]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Leaks(), "leaks")
