"""Trio-flavoured. Tells when the kernel's out-of-memory killer comes to a container's control group.

Any number of groups share one descriptor to wait on:

- *v1*: each group signals an eventfd of its own, just before something is killed; they are in one epoll.
  (https://docs.kernel.org/admin-guide/cgroup-v1/memory.html, "OOM Control")
- *v2*: the kernel tells inotify of each change of ``memory.events``, which also counts lesser things.
  (https://docs.kernel.org/admin-guide/cgroup-v2.html, "memory.events")
"""

import os
import select
from pathlib import Path
from typing import Protocol

import trio

from proad.host.cgroup import Layout
from proad.host.inotify import WriteAlarms
from proad.model import errors


class _Groups(Protocol):
    """The groups that are watched, on one descriptor."""

    def fileno(self) -> int: ...
    def add(self, cgroup: str) -> None: ...
    def drop(self, cgroup: str) -> bool: ...
    def take(self) -> list[str]: ...


class OomWatch:
    """Watches groups by their paths from the hierarchies' roots. One object for the host's layout."""

    def __init__(self, layout: Layout) -> None:
        """
        Raises:
            errors.System: the user's inotify instances are used up.
        """
        self._groups: _Groups | None = None
        if layout.kind == "v2" and layout.unified is not None:
            self._groups = _UnifiedGroups(layout.unified)
        elif "memory" in layout.controllers:
            self._groups = _MemoryGroups(layout.controllers["memory"])

    def watch(self, cgroup: str) -> None:
        """Be told of what happens from now on; a host that cannot limit memory never tells.

        Raises:
            errors.System: the group is gone, or the kernel refused it.
        """
        if self._groups is not None:
            self._groups.add(cgroup)

    def forget(self, cgroup: str) -> bool:
        """Watch it no more; returns whether something has happened that :meth:`news` has not told.

        To be called while the group is still there: v1 signals its removal too.
        """
        return self._groups is not None and self._groups.drop(cgroup)

    async def news(self) -> list[str]:
        """Wait until something happens; returns the groups, each once however often it was."""
        if self._groups is None:
            await trio.sleep_forever()
        assert self._groups is not None
        while True:
            await trio.lowlevel.wait_readable(self._groups.fileno())
            if found := self._groups.take():
                return found


class _MemoryGroups:
    """v1: an eventfd for each group."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._epoll = select.epoll()
        self._eventfds: dict[str, int] = {}
        self._cgroups: dict[int, str] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def add(self, cgroup: str) -> None:
        self.drop(cgroup)
        eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            _register(self._root / cgroup.lstrip("/"), eventfd)
        except OSError as error:
            os.close(eventfd)
            raise errors.System(f"out-of-memory events of {cgroup}: {error.strerror}") from error
        self._eventfds[cgroup] = eventfd
        self._cgroups[eventfd] = cgroup
        self._epoll.register(eventfd, select.EPOLLIN)

    def drop(self, cgroup: str) -> bool:
        eventfd = self._eventfds.pop(cgroup, None)
        if eventfd is None:
            return False
        del self._cgroups[eventfd]
        told = _has_fired(eventfd)
        self._epoll.unregister(eventfd)
        os.close(eventfd)
        return told

    def take(self) -> list[str]:
        return [self._cgroups[eventfd] for eventfd, _ in self._epoll.poll(0) if _has_fired(eventfd)]


def _register(directory: Path, eventfd: int) -> None:
    """Have the group signal the descriptor; the registration ends with it."""
    control = os.open(directory / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    try:
        registry = os.open(directory / "cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(registry, f"{eventfd} {control}".encode())
        finally:
            os.close(registry)
    finally:
        os.close(control)


def _has_fired(eventfd: int) -> bool:
    try:
        return os.eventfd_read(eventfd) > 0
    except BlockingIOError:
        return False


class _UnifiedGroups:
    """v2: the count of kills in each group's ``memory.events``, read when that file changes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._alarms = WriteAlarms()
        self._numbers: dict[str, int] = {}
        self._cgroups: dict[int, str] = {}
        self._kills: dict[str, int] = {}

    def fileno(self) -> int:
        return self._alarms.fileno()

    def add(self, cgroup: str) -> None:
        self._set(cgroup)
        self._kills[cgroup] = self._count(cgroup)

    def drop(self, cgroup: str) -> bool:
        number = self._numbers.pop(cgroup, None)
        if number is None:
            return False
        self._cgroups.pop(number, None)  # the alarm itself goes with the group
        return self._count(cgroup) > self._kills.pop(cgroup)

    def take(self) -> list[str]:
        found = []
        for number, went_off in self._alarms.gone():
            cgroup = self._cgroups.pop(number, None)
            if cgroup is None or not went_off:
                continue
            try:
                self._set(cgroup)  # before the count is read: what comes in between is then told again
            except errors.System:  # the group has gone; its end is on its way
                continue
            kills = self._count(cgroup)
            if kills > self._kills[cgroup]:
                self._kills[cgroup] = kills
                found.append(cgroup)
        return found

    def _set(self, cgroup: str) -> None:
        number = self._alarms.set(self._events(cgroup))
        self._numbers[cgroup] = number
        self._cgroups[number] = cgroup

    def _events(self, cgroup: str) -> Path:
        return self._root / cgroup.lstrip("/") / "memory.events"

    def _count(self, cgroup: str) -> int:
        """How many processes have been killed so far; 0 if the group is gone."""
        try:
            text = self._events(cgroup).read_text()
        except OSError:  # ENOENT, or ENODEV if it went after the open
            return 0
        words = text.split()
        return int(dict(zip(words[::2], words[1::2], strict=False)).get("oom_kill", "0"))
