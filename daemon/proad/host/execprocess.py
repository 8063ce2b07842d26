"""Trio-flavoured. A command that the OCI runtime runs inside a container that runs already.

``<runtime> exec --process FILE CID`` is spawned by ourselves and stays: it is the command's parent, hands on
its exit code, and ends with it. (A monitor in between, as containers have one, would cost as much time
again.) Each exec has a directory, whose layout is here and nowhere else::

    <run's directory>/execs/<exec id>/
        process     the OCI process, read by the runtime
        pid         the command's pid, written by the runtime once all is set up, just before execve(2)
        log         what the runtime says of a failure
        console     socket: crun sends the terminal's master through it
        exit        of an exec in the background: its exit code, written by the shell around the runtime

One in the background outlives the daemon: a shell waits for the runtime in its stead and writes the code
down. Its terminal is a pair on the host that the runtime relays to, and whose master is read by a ``cat``.
runc relays as well where somebody is connected: it takes a console socket only to detach.

The runtime is given no descriptors but the standard ones, least of all directories of the host: a working
directory like ``/proc/self/fd/7`` could lead there (CVE-2024-21626).
"""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import trio

from proad.host.execstreams import ExecStreams, Plumbing
from proad.host.process import Child, ProcessHandle, ProcessId, spawn
from proad.host.processtree import kill_family
from proad.host.runtime import SEARCH_PATH, Runtime, exec_error
from proad.host.terminals import resize, resize_of
from proad.host.trees import remove_own
from proad.model import errors
from proad.model.exec import EXIT_KILLED

_BACKGROUND = ("/bin/sh", "-c", 'exit=$1; shift; "$@"; echo $? >"$exit"', "exec")
_BACKGROUND_TERMINAL = (
    *("/bin/sh", "-c"),
    'exit=$1; shift; exec 3<&0 0<&1; cat <&3 >/dev/null 2>&1 & exec 3<&-; "$@"; echo $? >"$exit"',
    "exec",
)
_CRUN_CANNOT_EXECUTE = re.compile(rb"[^\n]{,40}(?P<said>exec: [A-Z][\w ]{,40})(?:\x1b\[0m)?\r?\n")
_POLL_S = 0.002
_KILL_TURNS = 100
_KILL_PAUSE_S = 0.01


@dataclass(frozen=True, kw_only=True)
class ExecRequest:
    """What is to be run: ``process`` is the OCI process, ``directory`` the exec's own, not there yet.

    ``stdin``, ``stdout`` and ``stderr`` say which streams somebody is connected to; with ``joined_output``
    the last two go through one pipe.
    """

    container_id: str
    runtime: Runtime
    directory: Path
    process: dict[str, Any]
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    joined_output: bool = False
    background: bool = False

    @property
    def terminal(self) -> bool:
        return bool(self.process["terminal"])

    @property
    def console_size(self) -> tuple[int, int]:
        size = self.process.get("consoleSize", {"height": 0, "width": 0})
        return size["height"], size["width"]


@dataclass(frozen=True)
class ExecEnd:
    """How an exec ended; ``failure`` is why its command never ran."""

    exit_code: int
    failure: errors.StartFailed | None = None


class ExecProcess:
    """One exec under way. Close it when its end has been dealt with.

    ``streams`` are our ends of the command's; whoever uses them closes them.
    """

    def __init__(self, directory: Path, parent: ProcessId, program: str = "") -> None:
        self._directory = directory
        self._parent = parent
        self._program = program
        self._child: Child | None = None
        self._handle: ProcessHandle | None = None
        self._plumbing: Plumbing | None = None
        self._master: int | None = None
        """Of the terminal, for its size; our own, whatever becomes of the one in ``streams``."""
        self.streams = ExecStreams()

    # --- begin ----------------------------------------------------------------------------------------------

    @classmethod
    def spawn(cls, request: ExecRequest) -> "ExecProcess":
        """Have the runtime run the command; returns at once.

        Raises:
            errors.System: there is no room for its files, or the runtime cannot be executed.
        """
        with contextlib.ExitStack() as undo:
            try:
                request.directory.parent.mkdir(mode=0o700, exist_ok=True)
                request.directory.mkdir(mode=0o700)
                undo.callback(remove_own, request.directory)
                (request.directory / "process").write_bytes(msgspec.json.encode(request.process))
                plumbing = Plumbing(request.directory)
                undo.callback(plumbing.close)
                _lay(plumbing, request)
            except OSError as error:
                raise errors.System(f"exec in {request.container_id}: {error.strerror}") from error
            stdin, stdout, stderr = plumbing.theirs
            child = spawn(
                _argv(request, plumbing.console_address),
                env={"PATH": SEARCH_PATH},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                new_session=True,
            )
            plumbing.close_theirs()
            undo.pop_all()
        exec_ = cls(request.directory, ProcessId.of(child.pid), str(request.process["args"][0]))
        exec_._child = child
        exec_._plumbing = plumbing
        exec_.streams = plumbing.streams
        exec_.streams.is_runtimes = exec_.speaks_runtime
        return exec_

    @classmethod
    def adopt(cls, directory: Path, parent: ProcessId | None) -> "ExecProcess":
        """Take up an exec that an earlier daemon started; one that has gone meanwhile reports at once."""
        exec_ = cls(directory, parent or ProcessId(0, 0))
        exec_._handle = exec_._parent.open()
        return exec_

    @property
    def awaits_terminal(self) -> bool:
        """Whether the terminal is yet to come, by :meth:`terminal`."""
        return self._plumbing is not None and self._plumbing.console is not None

    async def terminal(self) -> bool:
        """Wait for the terminal's master, which then is in ``streams``; False: the runtime ended without."""
        assert self._plumbing is not None
        assert self._plumbing.console is not None
        console = self._plumbing.console
        async with trio.open_nursery() as either:

            async def give_up_with_the_runtime() -> None:
                await self._wait()
                if not console.has_come():  # what a short command's runtime had sent is there to be received
                    either.cancel_scope.cancel()

            either.start_soon(give_up_with_the_runtime)
            self.streams.terminal = await console.receive()
            self._master = os.dup(self.streams.terminal)
            either.cancel_scope.cancel()
        return self.streams.terminal is not None

    async def began(self) -> bool:
        """Wait until the command runs; False: the runtime has ended without."""
        while not self.pid:
            if not self.is_alive:
                return bool(self.pid)
            await trio.sleep(_POLL_S)
        return True

    # --- life -----------------------------------------------------------------------------------------------

    @property
    def is_alive(self) -> bool:
        return self._parent.is_alive()

    @property
    def pid(self) -> int:
        """The command's pid on the host; 0 until it runs."""
        return _number(self._directory / "pid") or 0

    def speaks_runtime(self, said: bytes) -> bool:
        """Whether what stderr gave, ``said``, is the runtime's own complaint, which the end tells better.

        crun complains on stderr before it does so in its log, so its words count as well.
        """
        return not self.pid or bool(self._complaint()) or bool(_CRUN_CANNOT_EXECUTE.fullmatch(said))

    def resize(self, height: int, width: int) -> None:
        """Set the size of the terminal; the command gets SIGWINCH. A terminal is looked for where we have no
        master.

        Raises:
            errors.System: the kernel refused it.
        """
        if self._master is not None:
            resize(self._master, height, width)
        else:
            resize_of(self.pid, height, width)

    async def ended(self) -> ExecEnd:
        """Wait until the command has ended, and report."""
        code = await self._wait()
        written = _number(self._directory / "exit")
        if written is not None:
            code = written
        if complaint := self._complaint():
            failure = exec_error(complaint, self._program)
            return ExecEnd(failure.exit_code, failure)
        if code is None:
            code = EXIT_KILLED
        return ExecEnd(code if code >= 0 else 128 - code)

    def judged(self, end: ExecEnd, last_words: bytes) -> ExecEnd:
        """``end``, in the light of all that came from stderr or the terminal.

        Newer cruns have closed their log by the time that the kernel refuses the command: they say so on
        stderr alone, and end with 1.
        """
        refusal = _CRUN_CANNOT_EXECUTE.fullmatch(last_words)
        if refusal is None or end != ExecEnd(1):
            return end
        failure = exec_error(refusal["said"].decode(), self._program)
        return ExecEnd(failure.exit_code, failure)

    async def kill(self, candidates: Callable[[], Iterable[int]]) -> None:
        """Kill the command and what it started, and return when they are gone.

        ``candidates`` gives the pids in the container; see ``processtree`` for who is not found.
        """
        self._signal_all(signal.SIGSTOP)  # the runtime shall not start it just now
        for _ in range(_KILL_TURNS):
            inside = set(candidates())
            roots = {self.pid} & inside  # in an old file the number may be another's by now
            if self.is_alive:
                roots.add(self._parent.pid)
            if not kill_family(roots, inside):
                break
            await trio.sleep(_KILL_PAUSE_S)

    def close(self) -> None:
        """Give back descriptors and files."""
        if self._child is not None:
            self._child.close()
        if self._handle is not None:
            self._handle.close()
        if self._plumbing is not None:
            self._plumbing.close_rest()
        if self._master is not None:
            os.close(self._master)
            self._master = None
        with contextlib.suppress(OSError):  # what resists goes with the run's directory
            remove_own(self._directory)

    async def _wait(self) -> int | None:
        """The code that the spawned process ended with; None: it is not ours to know."""
        if self._child is not None:
            return await self._child.wait()
        if self._handle is not None:
            await self._handle.wait()
        return None

    def _signal_all(self, number: int) -> None:
        """Signal the process group that the spawned process leads."""
        if self._parent.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._parent.pid, number)

    def _complaint(self) -> str:
        """Why the runtime could not run the command, in its words; empty where it did not say so."""
        try:
            lines = (self._directory / "log").read_bytes().splitlines()
        except FileNotFoundError:
            return ""
        for line in lines:
            try:
                said = msgspec.json.decode(line)
            except msgspec.DecodeError:  # the runtime was killed while it wrote
                continue
            if said.get("level") in ("error", "fatal"):
                return str(said.get("msg", ""))
        return ""


def find_parents(root: Path) -> dict[str, ProcessId]:
    """The processes that run execs for containers whose runs are below ``root``, by the exec's id.

    Found in ``/proc``, for recovery: the runtimes, or the shells around them.
    """
    found: dict[str, ProcessId] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            if b"--process" not in words:
                continue
            path = Path(os.fsdecode(words[words.index(b"--process") + 1]))
            process = ProcessId.of(int(entry.name))
            is_shell = words[0] == _BACKGROUND[0].encode()
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue
        if path.is_relative_to(root) and (is_shell or path.parent.name not in found):
            found[path.parent.name] = process
    return found


def _lay(plumbing: Plumbing, request: ExecRequest) -> None:
    """Make the streams that the exec needs."""
    if request.terminal:
        if request.background or request.runtime.name != "crun":
            plumbing.lay_relay(*request.console_size, keep=not request.background)
        else:
            plumbing.lay_console()
    elif not request.background:
        if request.stdin:
            plumbing.lay_input()
        plumbing.lay_outputs(stdout=request.stdout, stderr=request.stderr, joined=request.joined_output)


def _argv(request: ExecRequest, console_address: str) -> list[str]:
    log = str(request.directory / "log")
    argv = [
        str(request.runtime.program),
        *request.runtime.arguments,
        "--log", f"file:{log}" if request.runtime.name == "crun" else log,
        "--log-format", "json",
        "exec",
        "--process", str(request.directory / "process"),
        "--pid-file", str(request.directory / "pid"),
    ]  # fmt: skip
    if console_address:
        argv += ["--console-socket", console_address]
    argv.append(request.container_id)
    if request.background:
        shell = _BACKGROUND_TERMINAL if request.terminal else _BACKGROUND
        argv = [*shell, str(request.directory / "exit"), *argv]
    return argv


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, or not yet."""
    try:
        return int(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
