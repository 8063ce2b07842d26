"""Trio-flavoured. Processes: spawned without a thread hop, named for good, waited for and signalled by pidfd.

    child = spawn(["/usr/bin/true"])            # posix_spawn; a descriptor for the child, no fork of the heap
    code = await child.wait()                   # wakes on the pidfd, reaps
    done = await run(["crun", "--version"])     # the whole dialogue: exit code, stdout, stderr

A pid is reused, a :class:`ProcessId` (pid and start time) is not: it is what records keep across restarts of
the daemon, and :meth:`ProcessId.open` gives the pidfd of exactly that process or says that it is gone.

Output is caught in memfds, not pipes: nobody has to read while the tool runs, it never blocks on us, and a
grandchild that keeps the descriptor open cannot delay the answer.
"""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from proad.model import errors

_DEFAULT_SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ]  # CPython ignores these; a child must not inherit that
_STDIO = (0, 1, 2)
_REAP_S = 5.0
_PF_EXITING = 0x4  # include/linux/sched.h; the ninth field of /proc/PID/stat has the flags


@dataclass(frozen=True)
class ProcessId:
    """A process by pid and start time (clock ticks since boot: field 22 of ``/proc/PID/stat``, proc(5))."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Name the process that has ``pid`` now.

        Raises:
            ProcessLookupError: there is none.
        """
        stat = _read_stat(pid)
        if stat is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, stat[1])

    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        stat = _read_stat(self.pid)
        return stat is not None and stat[1] == self.start and stat[0] not in "ZX"

    def is_ending(self) -> bool:
        """Whether it is on its way out or has gone. The first process of a pid namespace takes all others
        along (pid_namespaces(7)), and is no zombie before they have been waited for.
        """
        stat = _read_stat(self.pid)
        return stat is None or stat[1] != self.start or bool(stat[2] & _PF_EXITING)

    def open(self) -> "ProcessHandle | None":
        """Return a handle on exactly this process, or None if it is gone (a zombie still has a handle)."""
        if self.pid <= 0:
            return None
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        stat = _read_stat(self.pid)  # read after the open: the pidfd pins what the stat line then describes
        if stat is None or stat[1] != self.start:
            os.close(pidfd)
            return None
        return ProcessHandle(self, pidfd)


def _read_stat(pid: int) -> tuple[str, int, int] | None:
    """State letter, start time and the kernel's flags of a process, None if there is no such process."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = line[line.rindex(b")") + 2 :].split()  # the command's name may hold spaces and parentheses
    return fields[0].decode(), int(fields[19]), int(fields[6])


@dataclass(frozen=True)
class ProcessHandle:
    """A process held by its pidfd: signals and waiting cannot hit another one. Close it when done."""

    id: ProcessId
    pidfd: int

    def signal(self, number: int) -> bool:
        """Send a signal; False if the process is gone.

        Raises:
            errors.System: the kernel refused it (EPERM).
        """
        return send_signal(self.pidfd, number)

    async def wait(self) -> None:
        """Return when the process has ended; its exit status stays with its parent."""
        await wait_pidfd(self.pidfd)

    def close(self) -> None:
        os.close(self.pidfd)


async def wait_pidfd(pidfd: int) -> None:
    """Return when the process behind ``pidfd`` has ended (pidfd_open(2): it becomes readable)."""
    await trio.lowlevel.wait_readable(pidfd)


def reap(pidfd: int) -> os.waitid_result | None:
    """Collect the exit status of a child of ours that has ended; None while it runs.

    Raises:
        ChildProcessError: it is not our child, or was collected before.
    """
    return os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


def send_signal(pidfd: int, number: int) -> bool:
    """Signal the process behind ``pidfd``; False if it is gone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise errors.System(f"signal {number}: {error.strerror}") from error
    return True


class Child:
    """A process of ours, not yet reaped. ``wait`` may be called by many, and again after the end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)  # safe: only this object reaps the pid
        self.returncode: int | None = None
        self._watched: trio.Event | None = None

    async def wait(self) -> int:
        """Return the exit code, or minus the signal that killed it."""
        while self.returncode is None:
            if self._watched is not None:  # only one task can wait for a descriptor
                await self._watched.wait()
                continue
            self._watched = trio.Event()
            try:
                await wait_pidfd(self.pidfd)
                self._reap()
            except trio.ClosedResourceError:
                if self.returncode is None:
                    raise
            finally:
                self._watched.set()
                self._watched = None
        return self.returncode

    def poll(self) -> int | None:
        """The exit code if it has ended, without waiting."""
        if self.returncode is None:
            self._reap()
        return self.returncode

    def _reap(self) -> None:
        try:
            result = reap(self.pidfd)
        except ChildProcessError:  # somebody waits for all children (a debugger, a test runner)
            self.returncode = 0
        else:
            if result is None:
                return
            self.returncode = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        # The descriptor stays open until close(): another task may be waiting on it.

    def kill(self) -> None:
        if self.returncode is None:
            send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        if self.pidfd >= 0:
            if self._watched is not None:
                trio.lowlevel.notify_closing(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1


def spawn(
    argv: list[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    inherit: Sequence[int] = (),
    new_session: bool = False,
) -> Child:
    """Start ``argv`` (``argv[0]`` an absolute path) and return at once.

    ``stdin``, ``stdout``, ``stderr`` are descriptors, None is ``/dev/null``; those of ``inherit`` keep their
    numbers in the child, every other one is closed by its close-on-exec flag. ``env`` None passes ours on.
    ``cwd`` None is our own; another one is seen by all threads for the length of the call, so the daemon uses
    absolute paths only. With ``new_session`` it leads a session of its own (setsid(2)).

    Raises:
        errors.System: the program cannot be executed; the text names it.
    """
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        given = (stdin, stdout, stderr)
        actions = [
            (os.POSIX_SPAWN_DUP2, null if descriptor is None else descriptor, number)
            for number, descriptor in zip(_STDIO, given, strict=True)
        ]
        # dup2 onto itself clears close-on-exec in the child alone (glibc 2.29); setting the flag here would
        # race with other spawns.
        actions += [(os.POSIX_SPAWN_DUP2, descriptor, descriptor) for descriptor in inherit]
        with _inside(cwd):
            pid = os.posix_spawn(
                argv[0],
                argv,
                os.environ if env is None else env,
                file_actions=actions,
                setsid=new_session,
                setsigmask=[],
                setsigdef=_DEFAULT_SIGNALS,
            )
    except OSError as error:
        raise errors.System(f"{argv[0]}: {error.strerror}") from error
    finally:
        os.close(null)
    return Child(pid)


@contextmanager
def _inside(directory: Path | None) -> Iterator[None]:
    """Have another working directory for a moment: posix_spawn(3) cannot set one for the child alone."""
    if directory is None:
        yield
        return
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


@dataclass(frozen=True)
class Completed:
    """How a tool ended. ``exit_code`` is minus the signal's number if one killed it."""

    argv: Sequence[str]
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """What it said of its failure, for people: stderr, else stdout, else the code."""
        said = self.stderr.strip() or self.stdout.strip()
        return said.decode(errors="replace") or f"exit status {self.exit_code}"


async def run(
    argv: list[str],
    *,
    input: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> Completed:
    """Run a tool to its end; cancelled or timed out, it is killed and reaped before this returns.

    Raises:
        errors.System: it cannot be executed, or did not end within ``timeout_s``.
    """
    descriptors: list[int] = []
    try:
        descriptors += [os.memfd_create("stdout"), os.memfd_create("stderr")]
        stdin = None
        if input:
            stdin = os.memfd_create("stdin")
            descriptors.append(stdin)
            os.write(stdin, input)
            os.lseek(stdin, 0, os.SEEK_SET)
        child = spawn(argv, env=env, stdin=stdin, stdout=descriptors[0], stderr=descriptors[1])
        try:
            with trio.move_on_after(timeout_s) as scope:
                await child.wait()
        finally:
            await end(child)
        if scope.cancelled_caught:
            raise errors.System(f"{argv[0]} did not end within {timeout_s:g} s")
        code = child.returncode
        assert code is not None
        return Completed(argv, code, read_memfd(descriptors[0]), read_memfd(descriptors[1]))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


async def end(child: Child) -> None:
    """See a child off: kill it if it still runs, reap it, close its descriptor. Never cancelled."""
    try:
        if child.poll() is None:
            child.kill()
            with trio.move_on_after(_REAP_S, shield=True):  # SIGKILL may wait for a syscall that does not end
                await child.wait()
    finally:
        child.close()


def read_memfd(descriptor: int) -> bytes:
    """All that was written into a memfd."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
