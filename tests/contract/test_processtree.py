"""Killing a process with all that it started, on processes that try to get away."""

import os
import subprocess
import time

import pytest

from proad.host.processtree import kill_family
from tests.api import steps


def start(script: str) -> "subprocess.Popen[bytes]":
    """A shell that leads a session; returns when its script has said that it is ready."""
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def marked(mark: str) -> list[int]:
    """The processes that sleep for ``mark`` seconds."""
    found = subprocess.run(["pgrep", "-f", f"^sleep {mark}$"], capture_output=True, check=False).stdout
    return [int(word) for word in found.split()]


@pytest.mark.parametrize(
    "script",
    [
        "sleep MARK & sleep MARK & echo ready; wait",
        "setsid sleep MARK & sh -c 'setsid sleep MARK & wait' & echo ready; wait",
        "(sleep MARK & ) ; echo ready; sleep MARK",  # without a parent, but in the session
    ],
    ids=["children", "sessions of their own", "orphans"],
)
def test_the_whole_family(script: str) -> None:
    mark = f"1000.{os.getpid()}"
    process = start(script.replace("MARK", mark))
    steps.until(lambda: len(marked(mark)) == 2)  # they are the shell's copies until they execute sleep
    everyone = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    while kill_family({process.pid}, everyone):
        time.sleep(0.01)
    assert marked(mark) == []
    assert process.wait() == -9


def test_others_are_left_alone() -> None:
    victim, other = start("echo ready; sleep 1000"), start("echo ready; sleep 1000")
    try:
        everyone = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        assert kill_family({victim.pid}, everyone) == 2
        victim.wait()
        assert kill_family(set(), everyone) == 0
        assert kill_family({2**22 - 1}, everyone) == 0
        assert other.poll() is None
    finally:
        kill_family({other.pid}, [])
        other.wait()
