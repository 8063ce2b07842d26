"""Trio-flavoured. The execs that this daemon knows: created, running, and for a while those that have ended.

They are in memory, as Docker's are, and forgotten after its five minutes; the oldest go sooner where there
are very many, so that no number of them takes more than some megabytes.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import trio

from proad.host.execprocess import ExecProcess
from proad.model import errors
from proad.model.exec import ExecConfig, ExecStatus

KEPT_S = 300.0
MAX_ENDED = 4096
MAX_CREATED = 16_384


@dataclass(eq=False)
class ExecEntry:
    """One exec as it is now. ``run_id`` is the run of its container that it was created in."""

    id: str
    container_id: str
    run_id: str
    config: ExecConfig
    status: ExecStatus = ExecStatus.CREATED
    detached: bool = False
    exit_code: int | None = None
    failure: errors.StartFailed | None = None
    """Why its command never ran."""
    process: ExecProcess | None = None
    ready: trio.Event = field(default_factory=trio.Event)
    """Its terminal can be resized, or never will be."""
    done: trio.Event = field(default_factory=trio.Event)
    """Its end is on record."""
    ended_s: float = 0.0

    @property
    def pid(self) -> int:
        """The command's pid on the host; 0 where it does not run."""
        return self.process.pid if self.process is not None else 0


class ExecTable:
    """All of them, by id."""

    def __init__(self) -> None:
        self._created: OrderedDict[str, ExecEntry] = OrderedDict()
        self._running: dict[str, ExecEntry] = {}
        self._ended: OrderedDict[str, ExecEntry] = OrderedDict()

    def add(self, entry: ExecEntry) -> None:
        if entry.status is ExecStatus.RUNNING:
            self._running[entry.id] = entry
            return
        self._created[entry.id] = entry
        if len(self._created) > MAX_CREATED:
            self._created.popitem(last=False)

    def find(self, exec_id: str) -> ExecEntry:
        """Find by full id.

        Raises:
            errors.NotFound: it never was, or has been forgotten.
        """
        self._forget_old()
        for table in (self._running, self._created, self._ended):
            if (entry := table.get(exec_id)) is not None:
                return entry
        raise errors.NotFound(f"No such exec instance: {exec_id}")

    def run(self, entry: ExecEntry) -> None:
        """It has been started."""
        self._created.pop(entry.id, None)
        entry.status = ExecStatus.RUNNING
        self._running[entry.id] = entry

    def end(self, entry: ExecEntry, exit_code: int) -> None:
        """It has ended; all that is not shown of it any more is let go."""
        self._running.pop(entry.id, None)
        entry.status, entry.exit_code = ExecStatus.ENDED, exit_code
        entry.process, entry.ended_s = None, time.monotonic()
        entry.config = msgspec.structs.replace(entry.config, env=())
        self._ended[entry.id] = entry
        entry.ready.set()
        self._forget_old()

    def forget(self, entry: ExecEntry) -> None:
        """Nobody will ask for it."""
        self._ended.pop(entry.id, None)

    def running_in(self, container_id: str) -> list[ExecEntry]:
        return [entry for entry in self._running.values() if entry.container_id == container_id]

    def ids_of(self, container_id: str, run_id: str) -> Iterator[str]:
        """Those of one run that have not ended, in the order of their creation."""
        for table in (self._running, self._created):
            for entry in table.values():
                if entry.container_id == container_id and entry.run_id == run_id:
                    yield entry.id

    def forget_container(self, container_id: str) -> None:
        """It is removed, and its execs with it."""
        for table in (self._created, self._ended):
            for entry in [entry for entry in table.values() if entry.container_id == container_id]:
                del table[entry.id]

    def _forget_old(self) -> None:
        limit_s = time.monotonic() - KEPT_S
        while self._ended:
            oldest = next(iter(self._ended.values()))
            if oldest.ended_s >= limit_s and len(self._ended) <= MAX_ENDED:
                break
            del self._ended[oldest.id]
