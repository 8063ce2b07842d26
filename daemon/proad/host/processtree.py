"""Trio-flavoured. A process and all that it started, as far as it can be told: its descendants, and whoever
is in their sessions.

A process that calls setsid(2) and then loses its parent to the first process of its PID namespace belongs to
nobody any more; that is how daemons are made.
"""

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from proad.host.process import ProcessId


@dataclass(frozen=True)
class _Stat:
    """What proc(5) says of a process: state (3), parent (4), session (6), start (22)."""

    pid: int
    state: str
    parent: int
    session: int
    start: int


def kill_family(roots: set[int], candidates: Iterable[int]) -> int:
    """SIGKILL what descends from ``roots`` or is in the session of one of them, but not the roots' ancestors.

    Looked for among ``candidates`` (the pids in a cgroup) and below the roots themselves. Returns how many
    were found alive.
    """
    known = {stat.pid: stat for pid in _with_children(roots, candidates) if (stat := _stat(pid)) is not None}
    killed = 0
    for stat in known.values():
        if stat.state not in "ZX" and _belongs(stat, known, roots):
            _kill(stat)
            killed += 1
    return killed


def _belongs(stat: _Stat, known: dict[int, _Stat], roots: set[int]) -> bool:
    if stat.session in roots:
        return True
    seen: set[int] = set()
    current: _Stat | None = stat
    while current is not None and current.pid not in seen:
        if current.pid in roots or current.parent in roots:
            return True
        seen.add(current.pid)
        current = known.get(current.parent)
    return False


def _with_children(roots: set[int], candidates: Iterable[int]) -> set[int]:
    found = set(candidates) | roots
    waiting = list(roots)
    while waiting:
        for pid in _children(waiting.pop()) - found:
            found.add(pid)
            waiting.append(pid)
    return found


def _children(pid: int) -> set[int]:
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()))
    except (FileNotFoundError, ProcessLookupError):
        return set()


def _stat(pid: int) -> _Stat | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = line[line.rindex(b")") + 2 :].split()  # the command's name may hold spaces and parentheses
    return _Stat(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def _kill(stat: _Stat) -> None:
    handle = ProcessId(stat.pid, stat.start).open()
    if handle is not None:
        try:
            handle.signal(signal.SIGKILL)
        finally:
            handle.close()
