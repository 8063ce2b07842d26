"""Trio-flavoured. Control groups: which layout the host has, and what is done to a container's group by file.

A cgroup is named by its path from the hierarchies' roots (``/proa/3f2a…``), the same in all of them:

- *v2*: one cgroup2 tree at ``/sys/fs/cgroup``;
- *v1*: one tree per controller, at ``/sys/fs/cgroup/<name>`` as a rule (mountinfo says);
- *hybrid*: v1, and beside it a cgroup2 tree without, or with left-over, controllers.

The runtime makes and configures a container's group. Freezing, killing and reading are files of the kernel,
and writing them takes microseconds where calling the runtime takes milliseconds.
(https://docs.kernel.org/admin-guide/cgroup-v2.html, …/cgroup-v1/freezer-subsystem.html,
…/cgroup-v1/memory.html)
"""

import errno
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from proad.host.process import send_signal
from proad.model import errors

_FREEZE_S = 10.0
_REMOVE_S = 2.0
_KILL_S = 5.0
_POLL_S = 0.001
_MAX_POLL_S = 0.05
_PROCESS_HIERARCHIES = ("pids", "freezer", "memory", "cpu")


@dataclass(frozen=True)
class Layout:
    """The cgroup hierarchies of a host.

    ``controllers`` maps each controller that v1 serves to the mount point of its hierarchy; ``named`` are the
    v1 hierarchies without a controller (systemd's). ``unified`` is the cgroup2 mount, if there is one.
    """

    kind: Literal["v2", "hybrid", "v1"]
    controllers: Mapping[str, Path]
    named: tuple[Path, ...] = ()
    unified: Path | None = None
    unified_controllers: frozenset[str] = frozenset()

    @property
    def version(self) -> Literal[1, 2]:
        """What Docker calls ``CgroupVersion``: 2 only where nothing is left in v1."""
        return 2 if self.kind == "v2" else 1

    @property
    def available(self) -> frozenset[str]:
        """The controllers that can limit a container here, by their v1 names where v1 has them."""
        return self.unified_controllers if self.kind == "v2" else frozenset(self.controllers)

    def roots(self) -> list[Path]:
        """The mount point of every hierarchy, each once."""
        found = dict.fromkeys([*self.controllers.values(), *self.named])
        if self.unified is not None:
            found[self.unified] = None
        return list(found)


def detect_layout(mountinfo: str | None = None) -> Layout:
    """Read the layout from ``/proc/self/mountinfo`` (proc(5)), or from its text as given.

    Raises:
        errors.Unavailable: no cgroup hierarchy is mounted.
    """
    if mountinfo is None:
        mountinfo = Path("/proc/self/mountinfo").read_text()
    controllers: dict[str, Path] = {}
    named: list[Path] = []
    unified: Path | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        mount_point = Path(left.split(" ")[4].encode().decode("unicode_escape"))
        if kind == "cgroup2":
            unified = unified or mount_point
        elif kind == "cgroup":
            words = options.split(",")
            names = [word for word in words if word in _V1_CONTROLLERS]
            controllers.update((name, mount_point) for name in names if name not in controllers)
            if not names:
                named.append(mount_point)
    unified_controllers = _unified_controllers(unified)
    if controllers:
        kind_: Literal["hybrid", "v1"] = "hybrid" if unified is not None else "v1"
        return Layout(kind_, controllers, tuple(named), unified, unified_controllers)
    if unified is None:
        raise errors.Unavailable("no cgroup hierarchy is mounted (looked in /proc/self/mountinfo)")
    return Layout("v2", {}, (), unified, unified_controllers)


_V1_CONTROLLERS = frozenset(
    {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls",
     "net_prio", "perf_event", "rdma", "misc"}
)  # fmt: skip


def _unified_controllers(unified: Path | None) -> frozenset[str]:
    if unified is None:
        return frozenset()
    try:
        return frozenset((unified / "cgroup.controllers").read_text().split())
    except FileNotFoundError:  # a layout given as text, of another host
        return frozenset()


class Cgroups:
    """What is done to containers' groups; one object for the host's layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._prepaying = False

    def directories(self, cgroup: str) -> list[Path]:
        """The group's directory in every hierarchy, whether it exists or not.

        Raises:
            errors.System: the path is not below the root; acting on that would hit the whole host.
        """
        relative = Path(cgroup.lstrip("/"))
        if not relative.parts or ".." in relative.parts:
            raise errors.System(f"{cgroup!r} is not the path of a container's cgroup")
        return [root / relative for root in self.layout.roots()]

    def processes(self, cgroup: str) -> list[int]:
        """The pids in the group and all below it, ascending; empty if it is gone."""
        pids: set[int] = set()
        for directory in self._subtree(self._process_directory(cgroup)):
            pids.update(int(word) for word in _read(directory / "cgroup.procs").split())
        return sorted(pids - {0})  # 0 stands for a process outside our pid namespace

    async def freeze(self, cgroup: str) -> None:
        """Stop every process of the group and return when all stand still.

        Raises:
            errors.System: the group is gone, or did not come to rest in 10 s; then it runs again.
        """
        control, stop, _ = self._freezer(cgroup)
        _write(control, stop)
        with trio.move_on_after(_FREEZE_S):
            delay = _POLL_S
            while not self.is_frozen(cgroup):
                await trio.sleep(delay)
                delay = min(delay * 2, _MAX_POLL_S)
                if self.layout.kind != "v2":
                    _write(control, stop)  # v1: a fork during the freeze is only caught by asking again
            return
        self.thaw(cgroup)
        raise errors.System(f"the processes of cgroup {cgroup} could not be frozen within {_FREEZE_S:g} s")

    def thaw(self, cgroup: str) -> None:
        """Let the group run again; nothing to do if it does.

        Raises:
            errors.System: the group is gone.
        """
        control, _, go = self._freezer(cgroup)
        _write(control, go)

    def is_frozen(self, cgroup: str) -> bool:
        """Whether all processes of the group stand still; False if the group is gone."""
        if self.layout.kind == "v2":
            return "frozen 1" in _read(self._unified(cgroup) / "cgroup.events").splitlines()
        return _read(self._controller("freezer", cgroup) / "freezer.state").strip() == "FROZEN"

    async def kill(self, cgroup: str) -> None:
        """SIGKILL everything in the group and return when it is empty; fine if it is gone.

        Raises:
            errors.System: something survived for 5 s (a task in an uninterruptible sleep).
        """
        with trio.move_on_after(_KILL_S):
            delay = _POLL_S
            while pids := self.processes(cgroup):
                self._kill_once(cgroup, pids)
                await trio.sleep(delay)
                delay = min(delay * 2, _MAX_POLL_S)
            return
        raise errors.System(f"cgroup {cgroup} still has processes {self.processes(cgroup)} after SIGKILL")

    async def remove(self, cgroup: str) -> None:
        """Remove the empty group and the groups below it from every hierarchy; fine if it is gone.

        Raises:
            errors.System: the kernel held on to it (it has processes).
        """
        for directory in self.directories(cgroup):
            with trio.move_on_after(_REMOVE_S):
                while not _remove_tree(directory):
                    await trio.sleep(_POLL_S)  # EBUSY until the last zombie's exit is complete
                continue
            raise errors.System(f"cgroup {directory} cannot be removed: it is busy")

    def remove_empty(self, cgroup: str) -> bool:
        """Remove the group if nothing is in it, as most that ended leave theirs; False if any is left.

        Raises:
            errors.System: the path is not below the root.
        """
        for directory in self.directories(cgroup):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                continue
            except OSError:  # processes or groups in it, or worse: the thorough ways find out and tell
                return False
        return True

    async def prepay_migration(self) -> None:
        """Have the kernel do now the wait that moving a process into another group will cost soon.

        Such a move takes a lock whose readers must first be made to notice it: an RCU grace period, 6 to 15
        ms at 250 Hz, unless another move was just made (kernel/rcu/sync.c). The runtime would wait for it
        while a container is being started; here it passes while other things are prepared. Our own pid is
        written to the group that we are in already: nothing moves.
        """
        if not self._prepaying:
            self._prepaying = True
            try:
                await trio.to_thread.run_sync(self._move_to_own_group)
            finally:
                self._prepaying = False

    def _move_to_own_group(self) -> None:
        try:
            _write(self._own_directory() / "cgroup.procs", str(os.getpid()))
        except errors.System:
            return  # a group that may not be written to (a threaded domain): it only costs time

    def _own_directory(self) -> Path:
        """The directory of the group that this process is in (cgroups(7), /proc/PID/cgroup)."""
        own = {}
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
        if self.layout.kind == "v2":
            return self._unified(own[""])
        name = next((n for n in _PROCESS_HIERARCHIES if n in self.layout.controllers and n in own), None)
        return self._controller(name, own[name]) if name else self._unified(own[""])

    def oom_kills(self, cgroup: str) -> int:
        """How many processes the kernel's out-of-memory killer took from the group; 0 if it is gone."""
        if self.layout.kind == "v2":
            return _field(self._unified(cgroup) / "memory.events", "oom_kill")
        if "memory" not in self.layout.controllers:
            return 0
        return _field(self._controller("memory", cgroup) / "memory.oom_control", "oom_kill")

    def memory_bytes(self, cgroup: str) -> int:
        """Memory charged to the group now, page cache included; 0 if unknown."""
        if self.layout.kind == "v2":
            return _number(self._unified(cgroup) / "memory.current")
        return _number(self._controller("memory", cgroup) / "memory.usage_in_bytes")

    def pid_count(self, cgroup: str) -> int:
        """Tasks in the group now; 0 if unknown."""
        if self.layout.kind == "v2":
            return _number(self._unified(cgroup) / "pids.current")
        return _number(self._controller("pids", cgroup) / "pids.current")

    def exists(self, cgroup: str) -> bool:
        """Whether any hierarchy has the group."""
        return any(directory.is_dir() for directory in self.directories(cgroup))

    def children(self, parent: str) -> set[str]:
        """Names of the groups directly below ``parent`` in any hierarchy: what recovery compares."""
        found: set[str] = set()
        for directory in self.directories(parent):
            if directory.is_dir():
                found.update(entry.name for entry in os.scandir(directory) if entry.is_dir())
        return found

    def _kill_once(self, cgroup: str, pids: list[int]) -> None:
        if self.layout.kind == "v2" and (self._unified(cgroup) / "cgroup.kill").exists():  # since Linux 5.14
            _write(self._unified(cgroup) / "cgroup.kill", "1")
            return
        for pid in pids:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if pid in self.processes(cgroup):  # read again: the pid may have passed on before the open
                    send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)
        control, _, go = self._freezer(cgroup)
        if control.exists():
            _write(control, go)  # v1: a frozen task dies only when thawed

    def _freezer(self, cgroup: str) -> tuple[Path, str, str]:
        """The file that freezes, what stops, what lets go."""
        if self.layout.kind == "v2":
            return self._unified(cgroup) / "cgroup.freeze", "1", "0"
        return self._controller("freezer", cgroup) / "freezer.state", "FROZEN", "THAWED"

    def _process_directory(self, cgroup: str) -> Path:
        if self.layout.kind == "v2":
            return self._unified(cgroup)
        name = next((n for n in _PROCESS_HIERARCHIES if n in self.layout.controllers), None)
        return self._controller(name, cgroup) if name else self.directories(cgroup)[0]

    def _unified(self, cgroup: str) -> Path:
        assert self.layout.unified is not None
        return self.layout.unified / cgroup.lstrip("/")

    def _controller(self, name: str, cgroup: str) -> Path:
        try:
            return self.layout.controllers[name] / cgroup.lstrip("/")
        except KeyError:
            raise errors.System(f"this host has no {name} cgroup controller") from None

    def _subtree(self, top: Path) -> Iterator[Path]:
        for directory, _, _ in os.walk(top):
            yield Path(directory)


def _read(path: Path) -> str:
    """The file's text, empty if the group is gone (ENODEV: it went between open and read)."""
    try:
        return path.read_text()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return ""
        raise errors.System(f"{path}: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise errors.System(f"{path}: {error.strerror}") from error


def _number(path: Path) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _field(path: Path, name: str) -> int:
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _remove_tree(top: Path) -> bool:
    """Remove the directories bottom-up (their files are the kernel's); False while one is busy."""
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise errors.System(f"{directory}: {error.strerror}") from error
    return True
