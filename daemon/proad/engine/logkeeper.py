"""Trio-flavoured. Keeps the log of each running container to the size that it may have.

conmon writes the log and knows no limits; the daemon looks how large the file has become and has conmon go
on in another one (:mod:`proad.host.logrotate` says how nothing is lost by that)::

    a write -> alarm -> a pause in which the file cannot have become full -> a look -> the next alarm
                                                              full -> switch -> cut or pack -> a look

A container that says nothing costs nothing, one that says much a look for each pause. What was written
faster than it was looked at, or while no daemon ran, is cut to size afterwards.
"""

from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from proad.host.ctlfifo import pending_control, write_control
from proad.host.inotify import WriteAlarms
from proad.host.logrotate import LogFiles
from proad.model import errors
from proad.model.logoptions import LogPolicy

REOPEN_LOG = "2 0 0\n"
FASTEST_BYTES_S = 400_000_000
"""More than conmon writes."""
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 1.0
_FIRST_LOOK_S, _LAST_LOOK_S = 0.0005, 0.25
_PATIENCE_S = 1.0
_RETRY_S = 5.0

log = structlog.get_logger(__name__)

SetAlarm = Callable[["LogKeeper", Path], None]
"""``set_alarm(keeper, path)``: have the keeper's ``on_write`` called once, at the next write to the file."""


class LogKeeper:
    """The log of one run: looked after until the run ends."""

    def __init__(
        self,
        container_id: str,
        files: LogFiles,
        policy: LogPolicy,
        on_new_file: Callable[[Path], None],
    ) -> None:
        self._container_id = container_id
        self._files = files
        self._policy = policy
        self._control = Path()
        self._on_new_file = on_new_file
        self._switching = False
        self._written = trio.Event()
        self._scope = trio.CancelScope()
        self._done: trio.Event | None = None

    def on_write(self) -> None:
        """The alarm has gone off."""
        self._written.set()

    def begin(self, nursery: trio.Nursery, control: Path, set_alarm: SetAlarm) -> None:
        """Look after the log until :meth:`finish`; ``control`` is the monitor's fifo."""
        self._control = control
        self._done = trio.Event()
        nursery.start_soon(self._keep, self._done, set_alarm)

    async def _keep(self, done: trio.Event, set_alarm: SetAlarm) -> None:
        try:
            with self._scope:
                while True:
                    try:
                        await self._step(set_alarm)
                    except errors.Conflict:  # the monitor has just gone: what is to be done, finish() does
                        return
                    except (OSError, errors.ProaError) as error:  # a full disk: the log grows on meanwhile
                        log.error("log not kept to its size", container=self._container_id, error=str(error))
                        await trio.sleep(_RETRY_S)
        finally:
            done.set()

    async def finish(self) -> None:
        """The run is over: stop, and bring the log to its size once more; failures go into our own log."""
        if self._done is not None:
            self._scope.cancel()
            await self._done.wait()
        try:
            self._files.finish()
            if self._files.is_switching():
                self._files.take_back_switch()
            elif self._switching:
                self._have_switched()
            self._files.drop_empty_live()
            for ended in (False, True):
                await self._rework(ended=ended)
        except OSError as error:
            log.error("log not kept to its size", container=self._container_id, error=str(error))

    async def _step(self, set_alarm: SetAlarm) -> None:
        self._files.finish()
        if self._switching or self._files.is_switching():
            await self._complete_switch()
        self._written = trio.Event()
        set_alarm(self, self._files.live)  # before the look: what is written after it is told
        if self._files.is_full():
            self._files.begin_switch()
            self._switching = True
            write_control(self._control, REOPEN_LOG, self._container_id)
            await self._complete_switch()
            await self._rework(ended=False)
            return
        await self._written.wait()
        pause_s = (self._policy.file_bytes - self._files.size()) / FASTEST_BYTES_S
        await trio.sleep(min(max(pause_s, SHORTEST_PAUSE_S), LONGEST_PAUSE_S))

    async def _complete_switch(self) -> None:
        """Wait until conmon writes to the new file.

        It must not be told twice: that would have it throw away the file that it has just begun. So if it was
        perhaps not told (a daemon died there), it gets time, and then its fifo must be empty.
        """
        known_to_be_told, self._switching = self._switching, True
        pause_s, waited_s = _FIRST_LOOK_S, 0.0
        while self._files.is_switching():
            await trio.sleep(pause_s)
            waited_s += pause_s
            pause_s = min(pause_s * 2, _LAST_LOOK_S)
            if not known_to_be_told and waited_s > _PATIENCE_S and not pending_control(self._control):
                if self._files.is_switching():
                    write_control(self._control, REOPEN_LOG, self._container_id)
                known_to_be_told = True
        self._have_switched()

    def _have_switched(self) -> None:
        self._switching = False
        self._files.note_torn_line()
        self._on_new_file(self._files.live)

    async def _rework(self, *, ended: bool) -> None:
        if self._files.needs_rework(ended=ended):
            await trio.to_thread.run_sync(lambda: self._files.rework(ended=ended))
        self._files.finish()


class LogKeepers:
    """The keepers of all running containers whose log may not grow for ever."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._alarms: WriteAlarms | None = None
        self._numbers: dict[int, LogKeeper] = {}
        self._keepers: dict[str, LogKeeper] = {}

    def begin(self, container_id: str, keeper: LogKeeper, control: Path) -> None:
        """A run is on, perhaps since before this daemon."""
        if self._alarms is None:
            self._alarms = WriteAlarms()
            self._nursery.start_soon(self._listen, self._alarms)
        self._keepers[container_id] = keeper
        keeper.begin(self._nursery, control, self._set_alarm)

    def end(self, container_id: str) -> LogKeeper | None:
        """Forget the run, which is over; returns who looked after its log, to be finished."""
        keeper = self._keepers.pop(container_id, None)
        if keeper is not None:
            self._numbers = {number: k for number, k in self._numbers.items() if k is not keeper}
        return keeper

    def _set_alarm(self, keeper: LogKeeper, path: Path) -> None:
        assert self._alarms is not None
        self._numbers[self._alarms.set(path)] = keeper

    async def _listen(self, alarms: WriteAlarms) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(alarms.fileno())
                for number, written in alarms.gone():
                    keeper = self._numbers.pop(number, None)
                    if keeper is not None and written:
                        keeper.on_write()
        finally:
            alarms.close()
