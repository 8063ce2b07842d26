"""Trio-flavoured. conmon, the monitor of one container: it outlives the daemon.

conmon spawns ``runtime create``, stays the container's parent, owns its stdio, writes its log and, at the
end, its exit code. It talks through a run's directory, whose layout is here and nowhere else::

    <bundle>/                     config.json, made by the caller
        pidfile                   the container's first process, written by the runtime
        attach                    SOCK_SEQPACKET: see engine/streams.py for what is said on it
        ctl                       fifo: "1 HEIGHT WIDTH" resizes the terminal, "2 0 0" reopens the log
        <run id>/exit             the exit code in decimal, written when all output is in the log
        <run id>/oom              exists if the kernel's out-of-memory killer was at work
        <run id>/box              where sockets can be put for it to keep (socketbox.py); only if asked for

A start is three dialogues. ``Conmon.launch`` starts a monitor that waits while the bundle is made.
``Conmon.create`` returns when the runtime has built the container, its command not yet running: everything on
the attach socket from then on misses nothing. Then ``Runtime.start``. The end is a pidfd:
``Monitored.exited`` wakes when conmon has gone and reads what it left; no exit file means it was killed.

conmon --sync does not fork a second time, so the pid that is spawned is the monitor: our child until the
daemon restarts, init's afterwards, and found again by pid and start time. (Verified with conmon 2.1.6; the
sources are https://github.com/containers/conmon/blob/v2.1.6/src/conmon.c and its neighbours.)
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import trio

from proad.host import filters
from proad.host.process import Child, ProcessHandle, ProcessId, end, read_memfd, reap, spawn
from proad.host.runtime import SEARCH_PATH, Runtime, start_error
from proad.host.socketbox import make_box, put_in_box
from proad.model import errors

CREATE_TIMEOUT_S = 120.0
_END_S = 10.0
_SOCKET_PATH_MAX = 107  # sun_path of unix(7), without its final NUL
_CONSOLE_NAME = "/conmon-term.XXXXXX"
_BOX = "box"


@dataclass(frozen=True, kw_only=True)
class MonitorRequest:
    """What a container's monitor is told.

    ``bundle`` is the run's directory, with its ``config.json``. The log goes to the file ``log_path``, or
    under the name ``journal_tag`` to the journal, or nowhere.
    ``inherit_fds`` are descriptors, bound sockets of published ports, that stay open as long as the container
    lives; with ``keeps_more``, so do those that :func:`keep_sockets` gives it later.
    """

    container_id: str
    run_id: str
    name: str
    bundle: Path
    runtime: Runtime
    log_path: Path | None
    journal_tag: str | None = None
    terminal: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    inherit_fds: Sequence[int] = ()
    keeps_more: bool = False


@dataclass(frozen=True)
class ExitReport:
    """How a run ended. ``exit_code`` None: the monitor was killed, and nobody knows."""

    exit_code: int | None
    oom_killed: bool
    finished_ns: int


class _Answer(msgspec.Struct):
    data: int
    message: str = ""


class Monitored:
    """A container under its monitor. Close it when its end has been dealt with.

    ``monitor`` and ``init`` name the two processes for good; ``init_handle`` signals the container's first
    one.
    """

    def __init__(
        self,
        *,
        bundle: Path,
        run_id: str,
        monitor: ProcessId,
        init: ProcessId,
        monitor_handle: ProcessHandle | None,
        init_handle: ProcessHandle | None,
    ) -> None:
        self.bundle = bundle
        self.run_id = run_id
        self.monitor = monitor
        self.init = init
        self._monitor_handle = monitor_handle
        self._init_handle = init_handle

    @property
    def attach_path(self) -> Path:
        return self.bundle / "attach"

    @property
    def control_path(self) -> Path:
        return self.bundle / "ctl"

    def signal(self, number: int) -> bool:
        """Signal the container's first process; False if it is gone.

        Raises:
            errors.System: the kernel refused it.
        """
        return self._init_handle is not None and self._init_handle.signal(number)

    async def exited(self) -> ExitReport:
        """Wait until the monitor has gone, and report. May be called again, and after ``adopt``."""
        if self._monitor_handle is None or not self.monitor.is_alive():
            self._reap()
            return read_exit(self.bundle, self.run_id)
        await self._monitor_handle.wait()
        now_ns = time.time_ns()  # we saw it end; a file's time is up to a tick (4 ms) early
        self._reap()
        return replace(read_exit(self.bundle, self.run_id), finished_ns=now_ns)

    def _reap(self) -> None:
        if self._monitor_handle is not None:
            # ChildProcessError: not our child (adopted after a restart of the daemon), or reaped already.
            with contextlib.suppress(ChildProcessError):
                reap(self._monitor_handle.pidfd)

    def kill_monitor(self) -> None:
        """SIGKILL the monitor itself; the container's processes are then nobody's."""
        if self._monitor_handle is not None:
            self._monitor_handle.signal(signal.SIGKILL)

    def close(self) -> None:
        """Give back the descriptors. What runs, runs on."""
        for handle in (self._monitor_handle, self._init_handle):
            if handle is not None:
                handle.close()
        self._monitor_handle = self._init_handle = None


class Launched:
    """A monitor that waits for the word to create its container: so much is done while the bundle is made.

    ``answer_fd`` is our end of its sync pipe, ``said_fd`` catches its standard error; it reads the word from
    its start pipe, and would take that pipe's end for the word as well.
    """

    def __init__(self, request: MonitorRequest) -> None:
        self.request = request
        self.child: Child | None = None
        self.answer_fd, self.sync_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.wait_fd, self._word_fd = os.pipe2(os.O_CLOEXEC)
        self.said_fd = os.memfd_create("conmon")
        os.set_blocking(self.sync_fd, True)
        self._open = {self.answer_fd, self.sync_fd, self.wait_fd, self._word_fd, self.said_fd}

    def taken(self) -> Child:
        """The process, which is the caller's to deal with from now on."""
        child = self.child
        assert child is not None
        self.child = None
        return child

    def give_word(self) -> None:
        # One that has ended already left its reason on standard error, and no answer.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._word_fd, b"\n")

    def close_childs_ends(self) -> None:
        self._close({self.sync_fd, self.wait_fd})

    def close(self) -> None:
        self._close(set(self._open))

    def _close(self, descriptors: set[int]) -> None:
        for descriptor in descriptors & self._open:
            os.close(descriptor)
        self._open -= descriptors


class Conmon:
    """The program ``conmon``, by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def launch(self, request: MonitorRequest) -> "Launched":
        """Start a monitor that waits for the word to create; ``request.bundle`` need not be complete yet.

        Raises:
            errors.System: conmon cannot be executed.
        """
        directory = request.bundle / request.run_id
        directory.mkdir(exist_ok=True)
        _pidfile(request.bundle).unlink(missing_ok=True)  # of an earlier run: the pid is another's by now
        launched = Launched(request)
        try:
            with _box(request, directory) as box_fds:
                launched.child = spawn(
                    self._argv(request, directory),
                    env=_environment(request.bundle, launched.sync_fd, launched.wait_fd),
                    cwd=request.bundle,  # it also writes a file "oom" into its working directory
                    stderr=launched.said_fd,
                    inherit=[launched.sync_fd, launched.wait_fd, *request.inherit_fds, *box_fds],
                )
        except BaseException:
            launched.close()
            raise
        launched.close_childs_ends()
        return launched

    async def create(self, launched: "Launched") -> Monitored:
        """Have a monitor create the container; its command does not run yet.

        On failure and on cancellation nothing is left: monitor and container are killed, the runtime's state
        is deleted.

        Raises:
            errors.StartFailed: the runtime refused the container; text and exit code as Docker's.
            errors.System: conmon failed itself; the text is its own.
        """
        request, child = launched.request, launched.taken()
        try:
            launched.give_word()
            with trio.move_on_after(CREATE_TIMEOUT_S):
                answer = await _read_answer(launched.answer_fd)
                monitored = self._monitored(request, child, _checked(answer, request, launched.said_fd))
                filters.learn(request.runtime, request.container_id)
                return monitored
            raise errors.System(f"{request.runtime.name} create did not end within {CREATE_TIMEOUT_S:g} s")
        except BaseException:
            filters.forget(request.container_id)
            with trio.CancelScope(shield=True):
                await self._undo_create(request, child, launched.answer_fd)
            raise
        finally:
            launched.close()

    async def withdraw(self, launched: "Launched") -> None:
        """Undo of ``launch``: end a monitor that was not told to create anything."""
        if launched.child is not None:
            filters.forget(launched.request.container_id)
            await end(launched.taken())
            launched.close()

    def adopt(self, bundle: Path, run_id: str, monitor: ProcessId, init: ProcessId) -> Monitored:
        """Take up a monitor that an earlier daemon started; one that has gone meanwhile reports at once."""
        return Monitored(
            bundle=bundle,
            run_id=run_id,
            monitor=monitor,
            init=init,
            monitor_handle=monitor.open(),
            init_handle=init.open(),
        )

    async def discard(self, monitored: Monitored, runtime: Runtime, container_id: str) -> None:
        """Undo a ``create``: kill the container, see the monitor off, delete the runtime's state.

        Raises:
            errors.System: the runtime could not delete it.
        """
        monitored.signal(signal.SIGKILL)
        with trio.move_on_after(_END_S) as scope:
            await monitored.exited()
        if scope.cancelled_caught:
            monitored.kill_monitor()
            await monitored.exited()
        await runtime.delete(container_id, force=True)

    def _argv(self, request: MonitorRequest, directory: Path) -> list[str]:
        argv = [
            str(self.path),
            "--api-version", "1",
            "--sync",
            "--cid", request.container_id,
            "--cuuid", request.container_id,
            "--name", request.name,
            "--runtime", str(request.runtime.program),
            "--bundle", str(request.bundle),
            "--container-pidfile", str(_pidfile(request.bundle)),
            "--persist-dir", str(directory),
            "--log-path", _log_target(request),
            "--full-attach",
            "--no-sync-log",  # an fsync of the log before every exit; dockerd does none either
            "--log-level", "error",
        ]  # fmt: skip
        for argument in request.runtime.arguments:
            argv += ["--runtime-arg", argument]
        if request.journal_tag is not None:
            argv += ["--log-tag", request.journal_tag]
        if request.terminal:
            argv.append("--terminal")
        if request.open_stdin:
            argv.append("--stdin")
            if not request.stdin_once:
                argv.append("--leave-stdin-open")
        return argv

    def _monitored(self, request: MonitorRequest, child: Child, pid: int) -> Monitored:
        monitor = ProcessId.of(child.pid)
        try:
            init = ProcessId.of(pid)
        except ProcessLookupError:  # dead and reaped by the monitor, which will say how
            init = ProcessId(pid, 0)
        return Monitored(
            bundle=request.bundle,
            run_id=request.run_id,
            monitor=monitor,
            init=init,
            monitor_handle=ProcessHandle(monitor, child.pidfd),
            init_handle=init.open(),
        )

    async def _undo_create(self, request: MonitorRequest, child: Child, answer_fd: int) -> None:
        """Let a create that is under way come to its end, then take back what it made.

        Killed in the middle, the runtime would leave a container that its own ``delete`` does not know yet.
        """
        with trio.move_on_after(_END_S):
            if not _pidfile(request.bundle).exists():
                await _read_answer(answer_fd)
            _kill_init(request.bundle)
            await child.wait()
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # conmon leads a session, its runtime is in it
        await end(child)
        _kill_init(request.bundle)
        # What failed first is what the caller reads; state that stays behind is found by recovery.
        with contextlib.suppress(errors.System):
            await request.runtime.delete(request.container_id, force=True)


def read_exit(bundle: Path, run_id: str) -> ExitReport:
    """What the monitor of that run left behind; ``finished_ns`` is when it wrote it, else now."""
    directory = bundle / run_id
    exit_file = directory / "exit"
    oom_killed = (directory / "oom").exists()
    try:
        text = exit_file.read_text().strip()
        finished_ns = exit_file.stat().st_mtime_ns
    except FileNotFoundError:
        return ExitReport(None, oom_killed, time.time_ns())
    code = int(text)
    return ExitReport(code if code >= 0 else None, oom_killed, finished_ns)


def keep_sockets(bundle: Path, run_id: str, sockets: Sequence[socket.socket]) -> None:
    """Have the monitor of that run, which was launched to keep more, keep copies of ``sockets`` as well.

    Raises:
        errors.System: it has ended, or was launched to keep no more.
    """
    put_in_box(bundle / run_id / _BOX, sockets)


@contextlib.contextmanager
def _box(request: MonitorRequest, directory: Path) -> Iterator[list[int]]:
    """What a monitor inherits to keep more."""
    if not request.keeps_more:
        yield []
        return
    with make_box(directory / _BOX) as box:
        yield [box.fileno()]


def find_monitors(exec_root: Path) -> dict[Path, ProcessId]:
    """The monitors that run for bundles below ``exec_root``, by bundle: found in ``/proc``, for recovery."""
    found: dict[Path, ProcessId] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            if not words[0].endswith(b"conmon") or b"--bundle" not in words:
                continue
            bundle = Path(os.fsdecode(words[words.index(b"--bundle") + 1]))
            if bundle.is_relative_to(exec_root):
                found[bundle] = ProcessId.of(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _environment(bundle: Path, sync_fd: int, wait_fd: int) -> dict[str, str]:
    env = {"PATH": SEARCH_PATH, "TZ": "UTC"}  # the log's times are in TZ
    env |= {"_OCI_SYNCPIPE": str(sync_fd), "_OCI_STARTPIPE": str(wait_fd)}
    if len(str(bundle)) + len(_CONSOLE_NAME) <= _SOCKET_PATH_MAX:
        env["TMPDIR"] = str(bundle)  # the console socket of a terminal; what a crash leaves goes with the run
    return env


async def _read_answer(descriptor: int) -> bytes:
    """One line from the sync pipe, or what came before its end."""
    answer = b""
    while b"\n" not in answer:
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(descriptor)
            continue
        if not chunk:
            break
        answer += chunk
    return answer


def _checked(answer: bytes, request: MonitorRequest, said_fd: int) -> int:
    """The pid in the monitor's answer, or the error that it stands for."""
    if not answer:
        said = read_memfd(said_fd).decode(errors="replace").strip()
        if said:
            raise errors.System(f"conmon: {said.splitlines()[-1]}")
        raise start_error(request.runtime.name, "create", "")
    decoded = msgspec.json.decode(answer.decode(errors="replace").encode(), type=_Answer)
    if decoded.data <= 0:
        raise start_error(request.runtime.name, "create", decoded.message, _program(request.bundle))
    return decoded.data


def _program(bundle: Path) -> str:
    """What the container was to execute, by its OCI config."""
    arguments = msgspec.json.decode((bundle / "config.json").read_bytes())["process"]["args"]
    return str(arguments[0])


def _log_target(request: MonitorRequest) -> str:
    if request.journal_tag is not None:
        return "journald:"
    return f"k8s-file:{request.log_path}" if request.log_path else "none"


def _pidfile(bundle: Path) -> Path:
    return bundle / "pidfile"


def _kill_init(bundle: Path) -> None:
    """SIGKILL the container's first process, if the runtime has named one."""
    try:
        handle = ProcessId.of(int(_pidfile(bundle).read_text())).open()
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return
    if handle is not None:
        handle.signal(signal.SIGKILL)
        handle.close()
