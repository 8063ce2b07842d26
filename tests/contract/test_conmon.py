"""The monitor and the runtimes, for real: a container's whole life without a daemon."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import trio

from proad.engine.streams import connect_attach, write_control
from proad.host.conmon import find_monitors
from proad.host.process import ProcessId
from proad.host.runtime import find_runtime
from proad.model import errors
from tests.contract.conftest import Yard
from tests.support.bundles import open_descriptors


def receive_all(connection: socket.socket) -> dict[int, bytes]:
    """All packets until the end, by their stream's mark."""
    connection.setblocking(True)
    connection.settimeout(20)
    received = {2: b"", 3: b""}
    while packet := connection.recv(65536):
        received[packet[0]] += packet[1:]
    return received


CLOCK_REALTIME_COARSE = 5
"""clock_gettime(2): what files' times are taken from, a tick of the kernel behind at most."""


def test_a_life(yard: Yard) -> None:
    async def main() -> None:
        request = yard.request("sh", "-c", "echo out; echo err >&2; printf last; exit 7")
        monitored = await yard.conmon.create(yard.conmon.launch(request))
        assert await yard.runtime.state(request.container_id) == "created"
        assert monitored.monitor.is_alive()
        assert monitored.init.is_alive()
        assert find_monitors(yard.path) == {request.bundle: monitored.monitor}
        before_start = time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
        await yard.runtime.start(request.container_id)
        report = await monitored.exited()
        assert (report.exit_code, report.oom_killed) == (7, False)
        assert before_start <= report.finished_ns <= time.time_ns()
        assert await monitored.exited() == report or report.exit_code == 7
        monitored.close()
        await yard.runtime.delete(request.container_id)
        assert await yard.runtime.state(request.container_id) is None
        assert request.log_path is not None
        lines = [line.split(" ", 3) for line in request.log_path.read_text().splitlines()]
        assert sorted((line[1], line[2], line[3]) for line in lines) == [
            ("stderr", "F", "err"),
            ("stdout", "F", "out"),
            ("stdout", "P", "last"),
        ]
        assert all(line[0].endswith("+00:00") for line in lines)
        assert not Path("oom").exists()

    before = open_descriptors()
    trio.run(main)
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["/nosuch"], 127, "no such file or directory"),
        (["/notexec"], 126, "permission denied"),
        (["/etc"], 126, "exec:"),
    ],
)
def test_a_command_that_cannot_run_fails_the_create(
    yard: Yard, command: list[str], code: int, words: str
) -> None:
    async def main() -> None:
        with pytest.raises(errors.StartFailed) as caught:
            await yard.conmon.create(yard.conmon.launch(yard.request(*command)))
        assert caught.value.exit_code == code
        assert caught.value.message.startswith("OCI runtime create failed: ")
        assert words in caught.value.message

    before = open_descriptors()
    trio.run(main)
    assert open_descriptors() == before


def test_a_runtime_that_is_missing_or_dies_silently(yard: Yard, tmp_path: Path) -> None:
    async def main() -> None:
        request = yard.request("true")
        for script, words in (("", "not valid|No such file"), ("#!/bin/sh\nkill -9 $$\n", "no reason")):
            program = tmp_path / "runtime-program"
            program.unlink(missing_ok=True)
            if script:
                program.write_text(script)
                program.chmod(0o755)
            broken = find_runtime(request.runtime.name, None, yard.runtime.root)
            broken = type(broken)(broken.name, program, broken.root)
            with pytest.raises(errors.ProaError, match=words):
                await yard.conmon.create(
                    yard.conmon.launch(type(request)(**{**vars(request), "runtime": broken}))
                )

    trio.run(main)


def test_a_cancelled_create_leaves_nothing(yard: Yard) -> None:
    async def main() -> None:
        for delay_s in (0, 0.002, 0.008, 0.015, 0.03):
            request = yard.request("sleep", "60")
            with trio.move_on_after(delay_s) as scope:
                monitored = await yard.conmon.create(yard.conmon.launch(request))
                await trio.sleep_forever()
            assert scope.cancelled_caught
            if "monitored" in locals():
                await yard.conmon.discard(monitored, yard.runtime, request.container_id)
                monitored.close()
                del monitored
            assert find_monitors(yard.path) == {}
            assert await yard.runtime.state(request.container_id) is None
            assert yard.cgroups.processes(yard.cgroup(request.container_id)) == []

    before = open_descriptors()
    trio.run(main)
    assert open_descriptors() == before


def test_attached_before_the_start_nothing_is_missed(yard: Yard) -> None:
    async def main() -> None:
        for terminal in (False, True):
            request = yard.request("sh", "-c", "echo first; echo -n last", terminal=terminal)
            monitored = await yard.conmon.create(yard.conmon.launch(request))
            connection = connect_attach(monitored.attach_path)
            assert connection is not None
            await yard.runtime.start(request.container_id)
            received = await trio.to_thread.run_sync(receive_all, connection)
            assert received[2] == (b"first\r\nlast" if terminal else b"first\nlast")
            assert (await monitored.exited()).exit_code == 0
            connection.close()
            monitored.close()
            assert connect_attach(monitored.attach_path) is None

    trio.run(main)


def test_half_closed_input_ends_the_containers_stdin(yard: Yard) -> None:
    async def main() -> None:
        request = yard.request("cat", open_stdin=True, stdin_once=True)
        monitored = await yard.start(request)
        connection = connect_attach(monitored.attach_path)
        assert connection is not None
        connection.setblocking(True)
        sent = os.urandom(300_000)

        def send() -> dict[int, bytes]:
            for begin in range(0, len(sent), 32767):
                connection.send(sent[begin : begin + 32767])
            connection.shutdown(socket.SHUT_WR)
            return receive_all(connection)

        received = await trio.to_thread.run_sync(send)
        assert received[2] == sent
        assert (await monitored.exited()).exit_code == 0
        connection.close()
        monitored.close()

    trio.run(main)


def test_the_terminals_size(yard: Yard) -> None:
    async def main() -> None:
        script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
        request = yard.request("sh", "-c", script, terminal=True, open_stdin=True)
        monitored = await yard.conmon.create(yard.conmon.launch(request))
        connection = connect_attach(monitored.attach_path)
        assert connection is not None
        await yard.runtime.start(request.container_id)
        seen = b""
        while not seen.endswith(b"ready\r\n"):
            await trio.lowlevel.wait_readable(connection)
            seen += connection.recv(65536)[1:]
        write_control(monitored.control_path, "1 41 132\n", request.container_id)
        received = await trio.to_thread.run_sync(receive_all, connection)
        assert received[2] == b"41 132\r\n"
        connection.close()
        await monitored.exited()
        monitored.close()
        with pytest.raises(errors.Conflict):
            write_control(monitored.control_path, "1 1 1\n", request.container_id)

    trio.run(main)


def test_signals_and_the_code_of_a_killed_container(yard: Yard) -> None:
    async def main() -> None:
        monitored = await yard.start(yard.request("sleep", "60"))
        assert monitored.signal(signal.SIGKILL)
        assert (await monitored.exited()).exit_code == 137
        assert not monitored.signal(signal.SIGKILL)
        monitored.close()

    trio.run(main)


def test_a_killed_monitor_is_told_from_an_exit(yard: Yard) -> None:
    async def main() -> None:
        request = yard.request("sleep", "60")
        monitored = await yard.start(request)
        monitored.kill_monitor()
        assert (await monitored.exited()).exit_code is None
        cgroup = yard.cgroup(request.container_id)
        assert yard.cgroups.processes(cgroup) == [monitored.init.pid]
        await yard.cgroups.kill(cgroup)
        assert yard.cgroups.processes(cgroup) == []
        monitored.close()

    trio.run(main)


def test_adopted_by_another_daemon(yard: Yard) -> None:
    """What was started once is found again by pid and start time, also when it ended meanwhile."""

    async def main() -> None:
        request = yard.request("sh", "-c", "sleep 0.2; exit 5")
        monitored = await yard.start(request)
        again = yard.conmon.adopt(request.bundle, "run1", monitored.monitor, monitored.init)
        assert (await again.exited()).exit_code == 5
        again.close()
        await monitored.exited()
        late = yard.conmon.adopt(request.bundle, "run1", monitored.monitor, monitored.init)
        assert (await late.exited()).exit_code == 5
        other_run = yard.conmon.adopt(request.bundle, "run2", ProcessId(0, 0), ProcessId(0, 0))
        assert (await other_run.exited()).exit_code is None
        for each in (monitored, late, other_run):
            each.close()

    trio.run(main)


def test_inherited_sockets_stay_bound_while_the_container_lives(yard: Yard) -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        monitored = await yard.start(yard.request("sleep", "60", inherit_fds=[listener.fileno()]))
        listener.close()
        with pytest.raises(OSError, match="in use"), socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
        monitored.signal(signal.SIGKILL)
        await monitored.exited()
        monitored.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", port))

    trio.run(main)


def test_killed_for_lack_of_memory(yard: Yard) -> None:
    async def main() -> None:
        request = yard.request(
            "sh",
            "-c",
            "x=$(yes | head -c 200000000); echo not reached",
            resources={"memory": {"limit": 20_000_000, "swap": 20_000_000}},
        )
        monitored = await yard.start(request)
        report = await monitored.exited()
        kills = yard.cgroups.oom_kills(yard.cgroup(request.container_id))
        assert report.oom_killed or kills
        monitored.close()

    trio.run(main)
