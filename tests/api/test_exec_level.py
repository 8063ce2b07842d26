"""Many execs one after the other leave memory, descriptors, processes and files where they were."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api import steps
from tests.support import execs
from tests.support.daemon import Daemon
from tests.support.execs import ExecStream
from tests.support.rawhttp import Api

KEPT_BYTES = 8 << 10
"""Of one exec, while neither the events in memory nor the execs that have ended are at their bounds."""
SETTLE_S = 2.0


class Holdings:
    """What the daemon holds: resident memory in bytes, descriptors, children, files of execs."""

    def __init__(self, daemon: Daemon) -> None:
        proc = Path(f"/proc/{daemon.pid}")
        fields = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        self.rss = int(fields["VmRSS"].split()[0]) * 1024
        self.descriptors = len(os.listdir(proc / "fd"))
        self.children = len((proc / f"task/{daemon.pid}/children").read_text().split())
        self.files = len(list((daemon.exec_root / "runs").glob("*/execs/*")))

    def __repr__(self) -> str:
        return f"{self.rss >> 20} MiB, {self.descriptors} fds, {self.children} children, {self.files} files"


def run_many(daemon: Daemon, container: str, count: int, clients: int = 4) -> None:
    """Run ``count`` execs, some with a terminal, some with input, some that fail."""

    def work(number: int) -> None:
        tty = number % 10 == 0
        command = ("nope",) if number % 10 == 1 else ("cat",) if number % 10 == 2 else ("true",)
        exec_id = execs.create(daemon.api, container, *command, Tty=tty, AttachStdin=number % 10 == 2)
        with ExecStream(daemon.socket, exec_id, Tty=tty, timeout_s=120) as stream:
            stream.half_close()
            stream.read()

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(count)))


def check_level(daemon: Daemon, container: str, warm_up: int, count: int, growth_bytes: int) -> None:
    run_many(daemon, container, warm_up)
    time.sleep(SETTLE_S)
    before = Holdings(daemon)
    run_many(daemon, container, count)
    time.sleep(SETTLE_S)
    after = Holdings(daemon)
    assert after.descriptors <= before.descriptors + 2, (before, after)
    assert (after.children, after.files) == (before.children, before.files), (before, after)
    assert after.rss <= before.rss + growth_bytes, (before, after)


@pytest.mark.alone
@pytest.mark.timeout(400)
def test_some_thousands(daemon: Daemon, api: Api, image: str) -> None:
    container = steps.start(api, image, HostConfig={"NetworkMode": "none"})
    check_level(daemon, container, 500, 1500, 1500 * KEPT_BYTES)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_thousand(daemon: Daemon, api: Api, image: str) -> None:
    container = steps.start(api, image, "sleep", "86400", HostConfig={"NetworkMode": "none"})
    check_level(daemon, container, 10_000, 100_000, 8 << 20)
