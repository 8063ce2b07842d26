"""Processes: real ones."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from proad.host.process import ProcessId, end, run, send_signal, spawn
from proad.model import errors
from tests.api.steps import until
from tests.support.bundles import open_descriptors


def test_the_whole_dialogue_with_a_tool() -> None:
    async def main() -> None:
        done = await run(["/bin/sh", "-c", "cat; echo oops >&2; exit 3"], input=b"in")
        assert (done.exit_code, done.stdout, done.stderr, done.text) == (3, b"in", b"oops\n", "oops")
        assert (await run(["/bin/sh", "-c", "kill -9 $$"])).exit_code == -signal.SIGKILL
        assert (await run(["/bin/true"])).text == "exit status 0"

    before = open_descriptors()
    trio.run(main)
    assert open_descriptors() == before


def test_output_larger_than_any_pipe_does_not_block() -> None:
    done = trio.run(run, ["/bin/sh", "-c", "head -c 3000000 /dev/zero"])
    assert len(done.stdout) == 3_000_000


@pytest.mark.alone
def test_a_grandchild_that_keeps_stdout_open_delays_nothing() -> None:
    began = time.monotonic()
    done = trio.run(run, ["/bin/sh", "-c", "sleep 5 & echo $!"])
    assert time.monotonic() - began < 3
    os.kill(int(done.stdout), signal.SIGKILL)


def test_what_cannot_be_executed_is_named() -> None:
    with pytest.raises(errors.System, match="/no/such/program: No such file or directory"):
        spawn(["/no/such/program"])


def test_a_tool_that_hangs_is_killed_and_reaped() -> None:
    async def main() -> None:
        with pytest.raises(errors.System, match="did not end within"):
            await run(["/bin/sleep", "60"], timeout_s=0.05)
        with trio.move_on_after(0.05):
            await run(["/bin/sleep", "60"])

    before = open_descriptors(), children()
    trio.run(main)
    assert (open_descriptors(), children()) == before


def children() -> set[int]:
    """Our child processes, those that have ended and were not reaped included."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(status.parent.name))
    return found


def test_many_wait_for_one_end() -> None:
    async def main() -> None:
        child = spawn(["/bin/sleep", "1000"])
        codes: list[int] = []

        async def wait() -> None:
            codes.append(await child.wait())

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                with trio.move_on_after(0):
                    await wait()
                for _ in range(3):
                    nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                child.kill()
        assert codes == [-signal.SIGKILL] * 3
        child.close()

    trio.run(main)


def test_who_waits_hears_of_an_end_that_another_saw_first() -> None:
    async def main() -> None:
        child = spawn(["/bin/sleep", "1000"])
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.wait)
                await trio.testing.wait_all_tasks_blocked()
                child.kill()
                until(lambda: child.poll() is not None)  # without giving the other task its turn
                child.close()

    trio.run(main)


def test_inherited_descriptors_keep_their_numbers_and_others_are_closed(tmp_path: Path) -> None:
    async def main() -> bytes:
        kept, other = os.memfd_create("kept"), os.memfd_create("other")
        out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
        child = spawn(["/bin/ls", "/proc/self/fd"], stdout=out, inherit=[kept], cwd=Path("/"))
        assert await child.wait() == 0
        assert await child.wait() == 0
        await end(child)
        listed = (tmp_path / "out").read_text().split()
        assert str(kept) in listed
        assert str(other) not in listed
        for descriptor in (kept, other, out):
            os.close(descriptor)
        return b""

    cwd = os.getcwd()
    trio.run(main)
    assert os.getcwd() == cwd


def test_a_child_does_not_inherit_ignored_signals() -> None:
    done = trio.run(run, ["/bin/sh", "-c", "grep SigIgn /proc/self/status"])
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))


def test_identity_outlives_the_pid() -> None:
    process = subprocess.Popen(["/bin/sleep", "60"])
    found = ProcessId.of(process.pid)
    assert found.is_alive()
    assert not ProcessId(found.pid, found.start + 1).is_alive()
    assert ProcessId(found.pid, found.start + 1).open() is None
    handle = found.open()
    assert handle is not None
    assert handle.signal(signal.SIGTERM)
    trio.run(handle.wait)
    assert not found.is_alive()  # a zombie
    process.wait()
    assert not handle.signal(signal.SIGTERM)
    assert not send_signal(handle.pidfd, 0)
    handle.close()
    assert found.open() is None
    with pytest.raises(ProcessLookupError):
        ProcessId.of(found.pid)
    assert ProcessId(0, 0).open() is None


def test_what_ends_and_what_does_not() -> None:
    process = subprocess.Popen(["sleep", "60"])
    named = ProcessId.of(process.pid)
    assert not named.is_ending()
    assert ProcessId(named.pid, named.start + 1).is_ending()  # another one has that number now
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert named.is_ending()  # a zombie
    process.wait()
    assert named.is_ending()
