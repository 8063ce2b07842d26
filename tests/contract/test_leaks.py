"""The last look at the machine, on suites that leave things behind: named, removed, and a failure."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.belongings import output_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROOT = Path(__file__).resolve().parents[2]

UNTIDY = """
import os, signal, subprocess, sys, time
from tests.support.belongings import Belongings, cgroup_roots
from tests.support.whose import RUN, own_directory, own_name

def leave():
    own = Belongings(own_directory())
    own.data_root.mkdir()
    for command in (
        f"ip link add {own.config.bridge} type bridge",
        f"ip link add {own_name('un')} type bridge",
        f"nft add table ip {own.config.table}",
        f"nft add table inet {own_name('un')}",
        f"mount -t tmpfs tmpfs {own.data_root}",
    ):
        subprocess.run(command.split(), check=True)
    subprocess.Popen(["sh", "-c", "sleep 1000; exit", f"{own.data_root}/x"], start_new_session=True)
    for root in cgroup_roots():
        if (root / "cgroup.procs").exists():
            (root / own_name("un")).mkdir()
            break
    with open("run", "w") as run:
        run.write(RUN)
"""
LEAVING = UNTIDY + "def test_it(): leave()\n"
DYING = UNTIDY + "def test_it():\n    leave()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
STAYING = UNTIDY + "def test_it():\n    leave()\n    time.sleep(1000)\n"
KINDS = (
    "link proa",
    "link un",
    "nft table proa",
    "nft table un",
    "mount ",
    "process ",
    "cgroup ",
    "directory ",
)


def start(directory: Path, suite: str, *arguments: str) -> subprocess.Popen[str]:
    (directory / "test_suite.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-p", "tests.leaks", "-p", "no:cacheprovider"]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT}/daemon", "PATH": os.environ["PATH"]}
    return subprocess.Popen(
        [*command, "--rootdir", ".", *arguments], cwd=directory, env=environment, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def is_clean(directory: Path) -> bool:
    """Nothing that bears the run's mark is there."""
    run = (directory / "run").read_text()
    listed = output_of("ip", "-o", "link") + output_of("nft", "list", "tables")
    return run not in listed + Path("/proc/mounts").read_text() and not Path(f"/tmp/proa-{run}").exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_is_left_is_told_and_removed(tmp_path: Path, workers: str) -> None:
    said, _ = (process := start(tmp_path, LEAVING, "-n", workers)).communicate(timeout=60)
    assert process.returncode == 1, said
    assert "1 passed" in said
    _, _, left = said.partition("left behind on this machine")
    assert [kind for kind in KINDS if f"\n{kind}" not in left] == []
    assert is_clean(tmp_path)


def test_a_worker_that_died_is_cleared_up_after(tmp_path: Path) -> None:
    said, _ = (process := start(tmp_path, DYING, "-n", "2")).communicate(timeout=60)
    assert process.returncode == 1, said
    assert [kind for kind in KINDS if f"\n{kind}" not in said] == []
    assert is_clean(tmp_path)


def test_so_is_a_run_that_was_interrupted(tmp_path: Path) -> None:
    process = start(tmp_path, STAYING, "-n", "2")
    deadline = time.monotonic() + 30
    while not (tmp_path / "run").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, said
    assert is_clean(tmp_path)
