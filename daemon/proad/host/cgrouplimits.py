"""Sync, blocking. Limits of a control group taken away by file: a runtime sets them, but cannot lift all.

(crun 1.8 writes -1 where the kernel wants ``max``, and as an unsigned number where it wants -1.)
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from proad.host.cgroup import Layout
from proad.model import errors


class _Unlimited(NamedTuple):
    """What to write where. ``value`` None: what the group above has."""

    controller: str
    file: str
    value: str | None


_V1 = {
    "swap": _Unlimited("memory", "memory.memsw.limit_in_bytes", "-1"),  # before memory, whose limit it bounds
    "memory": _Unlimited("memory", "memory.limit_in_bytes", "-1"),
    "reservation": _Unlimited("memory", "memory.soft_limit_in_bytes", "-1"),
    "quota": _Unlimited("cpu", "cpu.cfs_quota_us", "-1"),
    "shares": _Unlimited("cpu", "cpu.shares", "1024"),
    "cpus": _Unlimited("cpuset", "cpuset.cpus", None),
    "mems": _Unlimited("cpuset", "cpuset.mems", None),
    "pids": _Unlimited("pids", "pids.max", "max"),
}
_V2 = {
    "swap": _Unlimited("", "memory.swap.max", "max"),
    "memory": _Unlimited("", "memory.max", "max"),
    "reservation": _Unlimited("", "memory.low", "0"),
    "quota": _Unlimited("", "cpu.max", "max"),
    "shares": _Unlimited("", "cpu.weight", "100"),
    "cpus": _Unlimited("", "cpuset.cpus", "\n"),
    "mems": _Unlimited("", "cpuset.mems", "\n"),
    "pids": _Unlimited("", "pids.max", "max"),
}
ALL = tuple(_V1)


class LimitFiles:
    """The limits of containers' groups, by name: those of :data:`ALL`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def lift(self, cgroup: str, names: Collection[str]) -> None:
        """Take limits away; one that this host does not know is no limit.

        Raises:
            errors.System: the kernel refused it.
        """
        table = _V2 if self._layout.kind == "v2" else _V1
        for name in ALL:
            if name in names and (directory := self._directory(table[name].controller, cgroup)) is not None:
                _lift(directory, table[name])

    def _directory(self, controller: str, cgroup: str) -> Path | None:
        root = self._layout.controllers.get(controller) if controller else self._layout.unified
        return root / cgroup.lstrip("/") if root is not None else None


def _lift(directory: Path, unlimited: _Unlimited) -> None:
    path = directory / unlimited.file
    try:
        value = unlimited.value
        if value is None:
            value = (directory.parent / unlimited.file).read_text()
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except FileNotFoundError:  # a kernel without it; or the group has gone, and its limits with it
        return
    except OSError as error:
        raise errors.System(f"{path}: {error.strerror}") from error
