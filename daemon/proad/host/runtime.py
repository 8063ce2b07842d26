"""Trio-flavoured. The OCI runtime: ``crun``, ``runc`` or any other with their command line.

``create`` is not here: the monitor calls it (see ``conmon.py``), because it must be the parent of the
container. What a runtime says in failure is turned by :func:`start_error` into Docker's words and exit codes,
on which clients match: 127 where the command was not found, 126 where it cannot be executed, else 128.

The command line is that of runc (https://github.com/opencontainers/runc/blob/main/man/); states are those of
the OCI runtime specification (https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state).
"""

import os
import re
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from proad.host.cgroup import Layout
from proad.host.process import Completed, run
from proad.host.sealed import sealed
from proad.host.trees import remove_own
from proad.model import errors

_KNOWN = ("crun", "runc")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_START_TIMEOUT_S = 60.0
_TIMEOUT_S = 30.0
_STATUS = Path("/proc/self/status")
_CAP_SYS_RESOURCE = 24  # linux/capability.h


@dataclass(frozen=True)
class Runtime:
    """One runtime program with its state directory (``--root``)."""

    name: str
    path: Path
    root: Path

    @property
    def arguments(self) -> list[str]:
        """The global arguments, before the command; also handed to the monitor for ``create``."""
        return ["--root", str(self.root)]

    @property
    def program(self) -> Path:
        """What to execute: ``path``, or a copy of it that starts faster."""
        return sealed(self.path) if self.name == "crun" else self.path

    async def start(self, container_id: str) -> None:
        """Let the created container run its command.

        Raises:
            errors.StartFailed: with the runtime's own text and Docker's exit code.
        """
        if self.name == "crun" and self._open_gate(container_id):
            return
        done = await self._run("start", container_id, timeout_s=_START_TIMEOUT_S)
        if done.exit_code != 0:
            raise start_error(self.name, "start", done.text)

    def _open_gate(self, container_id: str) -> bool:
        """Do what ``crun start`` does, without the 4 ms that it takes to begin; False: let crun try, and
        tell.

        A created container waits for one byte from the fifo ``exec.fifo`` in its state directory, whose
        absence then means that it runs. So it has been in all versions of crun
        (``libcrun_status_write_exec_fifo`` in
        https://github.com/containers/crun/blob/main/src/libcrun/status.c); hooks and notify sockets, which
        ``crun start`` would serve besides, we do not use.
        """
        fifo = self.root / container_id / "exec.fifo"
        try:
            gate = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # no such container, or nobody waits behind the gate
            return False
        try:
            fifo.unlink()
            return os.write(gate, b"\0") == 1
        except OSError:
            return False
        finally:
            os.close(gate)

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """Remove what the runtime keeps of a container, its cgroups included; nothing there is fine.

        ``force`` kills what still runs in it.

        Raises:
            errors.System: the runtime could not.
        """
        if not (self.root / container_id).exists():
            return
        done = await self._run("delete", *(["--force"] if force else []), container_id)
        if done.exit_code != 0 and (self.root / container_id).exists():
            raise errors.System(f"{self.name} delete {container_id}: {_said(done.text)}")

    async def delete_ended(self, container_id: str) -> None:
        """Like ``delete`` for a container without processes, whose cgroup and files the caller removes.

        All that is left then is the state directory. With crun its removal is the whole of ``delete``
        (libcrun, ``container_delete_internal``; there are no hooks), so no program is started.

        Raises:
            errors.System: the directory cannot be removed, or the runtime failed.
        """
        if self.name != "crun":
            await self.delete(container_id, force=True)
            return
        try:
            remove_own(self.root / container_id)
        except OSError as error:
            raise errors.System(f"remove the state of {container_id}: {error.strerror}") from error

    async def state(self, container_id: str) -> str | None:
        """``creating``, ``created``, ``running``, ``paused`` or ``stopped``; None if the runtime knows none
        such.

        Raises:
            errors.System: the runtime failed otherwise.
        """
        if not (self.root / container_id).exists():
            return None
        done = await self._run("state", container_id)
        if done.exit_code != 0:
            raise errors.System(f"{self.name} state {container_id}: {_said(done.text)}")
        return str(msgspec.json.decode(done.stdout)["status"])

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        """Set limits of a live container; ``resources`` is the OCI ``linux.resources`` object.

        Raises:
            errors.System: the runtime or the kernel refused them.
        """
        done = await self._run(
            "update", "--resources", "-", container_id, input=msgspec.json.encode(dict(resources))
        )
        if done.exit_code != 0:
            raise errors.System(f"{self.name} update failed: {_said(done.text)}")

    async def version(self) -> str:
        """The version alone, as ``1.8.1``; empty if the program does not say.

        Raises:
            errors.System: it cannot be executed.
        """
        done = await run([str(self.path), "--version"], timeout_s=_TIMEOUT_S)
        match = re.search(rb"version:?\s+(\S+)", done.stdout)
        return match[1].decode() if match else ""

    async def _run(self, *command: str, input: bytes = b"", timeout_s: float = _TIMEOUT_S) -> Completed:
        return await run([str(self.program), *self.arguments, *command], input=input, timeout_s=timeout_s)


@dataclass(frozen=True)
class Choice:
    """The runtime chosen, and in one sentence why."""

    runtime: Runtime
    reason: str


def choose_runtime(wanted: str, configured: Mapping[str, str] | None, root: Path, layout: Layout) -> Choice:
    """Choose the default runtime: the one asked for, else crun where it works, else runc.

    ``configured`` maps names to programs (``--add-runtime``); ``wanted`` may also be a known name or a path.

    Raises:
        errors.Unavailable: no usable runtime; the text says what is missing.
    """
    if wanted:
        return Choice(find_runtime(wanted, configured, root), f"{wanted} is configured")
    crun = _program("crun", configured)
    hindrance = crun_hindrance(layout)
    if crun is not None and not hindrance:
        return Choice(Runtime("crun", crun, root), "crun works on this host and is the fastest")
    runc = _program("runc", configured)
    if runc is not None:
        return Choice(Runtime("runc", runc, root), hindrance if crun is not None else "crun is not installed")
    raise errors.Unavailable(
        f"no usable OCI runtime: {hindrance}, and runc is not installed"
        if crun is not None
        else "no OCI runtime: install crun or runc"
    )


def find_runtime(name: str, configured: Mapping[str, str] | None, root: Path) -> Runtime:
    """The runtime that a container or the configuration names.

    Raises:
        errors.InvalidParameter: it is neither configured, nor a known one that is installed, nor a path.
    """
    path = _program(name, configured)
    if path is None:
        raise errors.InvalidParameter(f"unknown or invalid runtime name: {name}")
    return Runtime(Path(name).name, path, root)


def known_runtimes(configured: Mapping[str, str] | None) -> dict[str, Path]:
    """Every runtime that a container may ask for, by name."""
    found = {name: _program(name, configured) for name in (*_KNOWN, *(configured or {}))}
    return {name: path for name, path in found.items() if path is not None}


def containers_at(root: Path) -> set[str]:
    """Ids of the containers of which a runtime keeps state in ``root``, which may be missing.

    Newer cruns keep compiled seccomp programs there, too, in ``.cache``, and evict old ones by themselves.
    """
    if not root.exists():
        return set()
    return {entry.name for entry in root.iterdir() if not entry.name.startswith(".")}


def crun_hindrance(layout: Layout) -> str:
    """Why crun cannot work here, empty if it can.

    On a hybrid host crun insists that all controllers are in v1; one left to the cgroup2 mount stops it. On
    cgroup v2 it lifts RLIMIT_MEMLOCK to load its device filter, which takes CAP_SYS_RESOURCE.
    """
    if layout.kind == "v2" and not _may_lift_memlock():
        return "crun cannot load device filters: RLIMIT_MEMLOCK is bounded, CAP_SYS_RESOURCE not held"
    if layout.kind != "hybrid" or not layout.unified_controllers:
        return ""
    left = ", ".join(sorted(layout.unified_controllers))
    return f"crun refuses this hybrid cgroup layout while cgroup2 has controllers ({left})"


def _may_lift_memlock() -> bool:
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY:
        return True
    held = next(line for line in _STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(held.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)


def _program(name: str, configured: Mapping[str, str] | None) -> Path | None:
    given = (configured or {}).get(name) or (name if name.startswith("/") or name in _KNOWN else "")
    found = shutil.which(given, path=SEARCH_PATH + ":" + os.environ.get("PATH", "")) if given else None
    return Path(found).absolute() if found else None


def start_error(name: str, verb: str, text: str, program: str = "") -> errors.StartFailed:
    """Turn what a runtime said into the error that a start fails with.

    The classes are those of Docker (moby, ``daemon/errors.go``); crun's wording is put into that of runc,
    which clients search for "executable file not found", "no such file or directory" and "permission denied".
    ``program`` is what was to be executed, which crun does not always say.
    """
    said = _in_docker_words(_said(text), program)
    return _classified(f"OCI runtime {verb} failed: {name} {verb} failed: {said}: unknown", said)


def exec_error(text: str, program: str) -> errors.StartFailed:
    """Like :func:`start_error`, for what a runtime said of an exec of ``program``."""
    said = _in_docker_words(_said(text), program).removeprefix("exec failed: ")
    return _classified(f"OCI runtime exec failed: exec failed: {said}: unknown", said)


def _classified(message: str, said: str) -> errors.StartFailed:
    if "executable file not found" in said or "no such file or directory" in said:
        return errors.StartFailed(message, 127)
    if "permission denied" in said or "is a directory" in said or "exec format error" in said:
        return errors.StartFailed(message, 126)
    if "not a directory" in said:
        return errors.StartFailed(
            f"{message}: Are you trying to mount a directory onto a file (or vice-versa)? Check if the "
            "specified host path exists and is the expected type",
            127,
        )
    return errors.StartFailed(message, 128)


_CRUN_NOT_FOUND = re.compile(r"executable file `(?P<name>[^`]*)` not found.*")
_CRUN_CANNOT_ENTER = re.compile(r"chdir (?:to )?`(?P<name>[^`]*)`: (?P<why>.*)")
# in the words of crun 1.8, and of 1.21
_CRUN_CANNOT_EXECUTE = re.compile(
    r"(?:open executable"
    r"|the path `(?P<name>[^`]*)` (?:exists but it is not executable|is not a regular file)"
    r"): (?:Operation not permitted|Permission denied)"
)
_ERRNO_TEXT = re.compile(
    r"No such file or directory|Permission denied|Is a directory|Not a directory|Exec format error|"
    r"Operation not permitted|Invalid argument|Device or resource busy|No space left on device|File exists"
)
_PREFIX = "unable to start container process: "


def _in_docker_words(said: str, program: str) -> str:
    if match := _CRUN_NOT_FOUND.fullmatch(said):
        program = match["name"] or program
        how = (
            f"stat {program}: no such file or directory"
            if "/" in program
            else "executable file not found in $PATH"
        )
        return f'{_PREFIX}exec: "{program}": {how}'
    if match := _CRUN_CANNOT_ENTER.fullmatch(said):
        said = f'{_PREFIX}chdir to cwd ("{match["name"]}") set in config.json failed: {match["why"]}'
    if said == "exec: Exec format error" and program:
        said = f"{_PREFIX}exec {program}: exec format error"
    if match := _CRUN_CANNOT_EXECUTE.fullmatch(said):
        program = match["name"] or program
        return (
            f'{_PREFIX}exec: "{program}": permission denied'
            if program
            else f"{_PREFIX}exec: permission denied"
        )
    said = _ERRNO_TEXT.sub(lambda match: match[0].lower(), said)
    return re.sub(r"^runc (?:create|start) failed: ", "", said)


_LOGFMT = re.compile(r'msg=(?P<quoted>"(?:[^"\\]|\\.)*")')


def _said(text: str) -> str:
    """The error itself: crun writes a plain line, runc and others ``time=… level=error msg="…"``."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "the runtime gave no reason"
    marked = [line for line in lines if "level=error" in line or "level=fatal" in line]
    line = (marked or lines)[-1]
    if match := _LOGFMT.search(line):
        try:
            return str(msgspec.json.decode(match["quoted"]))
        except msgspec.DecodeError:  # Go quotes more than JSON knows (\x1b)
            return match["quoted"][1:-1]
    return line
