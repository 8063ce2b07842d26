"""Trio-flavoured. Who is connected to a container's standard streams, and where its log is.

The data itself never passes here. A container that somebody watches has one *live* connection to its monitor,
kept by the API on the asyncio side, from which all attached clients are fed; the engine only says when it can
be made and when the run is over::

    API                                     engine
    live = streams.live(container, make)    the run is on: connected at once
                                            not started yet: remembered
                                            connect_attachers(), between create and start
    bytes from and to the monitor
                                            run_ended(), when the end is on record -> live.finish()

What is said on the connection (conmon's ``attach``, SOCK_SEQPACKET): each packet to us is one byte, 2 for
stdout or 3 for stderr, and up to 32 KiB of output; packets from us are input, at most 32 KiB, and shutting
down our side closes the container's stdin unless conmon was told to leave it open. conmon writes blocking, so
a live connection must always be read, whatever its clients do.
"""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote_plus

from proad.config import Config
from proad.engine.logs import LogReader, Logs
from proad.engine.lookup import event_attributes, find_container
from proad.host.conmon import Monitored
from proad.host.ctlfifo import write_control
from proad.host.process import ProcessId
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.loglines import Shape
from proad.store.db import Store

MAX_TERMINAL_CELLS = 1000
"""conmon refuses a taller or wider terminal."""


class Live(Protocol):
    """The asyncio side's end of one container's streams. Called on the loop's thread, and never waits."""

    def connect(self, connection: socket.socket) -> None:
        """The run is on; the connection is now yours, non-blocking, and must be read at all times."""

    def finish(self) -> None:
        """The run is over and on record, or did not come to life."""


L = TypeVar("L", bound=Live)


class Streams:
    """Attached clients, terminal sizes and logs. Plain functions may be called without crossing the seam."""

    def __init__(self, config: Config, store: Store, logs: Logs) -> None:
        self._config = config
        self._store = store
        self._logs = logs
        self._runs: dict[str, Path] = {}
        self._lives: dict[str, Live] = {}
        self._watchers: dict[str, set[Callable[[], None]]] = {}

    # --- for start, supervision and recovery ----------------------------------------------------------------

    async def connect_attachers(self, container_id: str, monitored: Monitored) -> None:
        """Connect who waits for this run, before its command runs: they miss nothing."""
        self._begin(container_id, monitored)
        if (live := self._lives.get(container_id)) is not None:
            self._connect(container_id, live)

    async def adopt(self, container_id: str, monitored: Monitored) -> None:
        """A run of an earlier daemon goes on; clients may attach to it."""
        self._begin(container_id, monitored)

    def _begin(self, container_id: str, monitored: Monitored) -> None:
        self._runs[container_id] = monitored.attach_path
        self._logs.begin(self._store.containers[container_id], monitored.control_path)

    async def output_ended(self, container: Container) -> None:
        """Its monitor has gone: all output is in the log, which is now brought to its size."""
        await self._logs.end(container)

    async def abandon(self, container_id: str) -> None:
        """Undo of ``connect_attachers``: the start failed, and who waited for it waits in vain."""
        await self._logs.end(self._store.containers[container_id])
        self.run_ended(container_id)

    def run_ended(self, container_id: str) -> None:
        """Let all go who watch this run. Called when its end is on record."""
        self._runs.pop(container_id, None)
        if (live := self._lives.pop(container_id, None)) is not None:
            live.finish()
        for callback in self._watchers.pop(container_id, set()):
            callback()

    async def resize(self, container_id: str, height: int, width: int) -> None:
        """Set the size of the container's terminal; without a terminal there is nothing to do.

        Raises:
            errors.Conflict: it does not run.
        """
        container = self._store.containers.get(container_id)
        run = self._runs.get(container_id)
        if run is None or container is None:
            raise errors.Conflict(f"container {container_id} is not running")
        if not container.config.tty:
            return
        rows, columns = (min(max(number, 0), MAX_TERMINAL_CELLS) for number in (height, width))
        write_control(run.with_name("ctl"), f"1 {rows} {columns}\n", container_id)

    # --- for the API ----------------------------------------------------------------------------------------

    def find_attachable(self, ref: str) -> Container:
        """The container that a client wants to attach to.

        Raises:
            errors.NotFound, errors.InvalidParameter: as for every reference.
            errors.Conflict: it is paused or between two runs.
        """
        container = find_container(self._store, ref)
        if container.status is Status.PAUSED:
            raise errors.Conflict(f"container {ref} is paused, unpause the container before attach")
        if container.status is Status.RESTARTING:
            raise errors.Conflict(f"container {ref} is restarting, wait until the container is running")
        if container.of_build:
            raise errors.Conflict(f"container {ref} belongs to a build, which tells its output")
        return container

    def live(self, container: Container, make: Callable[[], L]) -> L:
        """The container's live connection: the one that is there, else a new one, connected if it runs."""
        live = self._lives.get(container.id)
        if live is None:
            self._lives[container.id] = live = make()
            if container.id in self._runs:
                self._connect(container.id, live)
        return live  # type: ignore[return-value]  # all come from the API's one ``make``

    def forget(self, container_id: str, live: Live) -> None:
        """The last client has gone, and the connection with it."""
        if self._lives.get(container_id) is live:
            del self._lives[container_id]

    def is_on(self, container_id: str) -> bool:
        """Whether a run is on, from just before its command runs until its end is on record."""
        return container_id in self._runs

    def when_over(self, container_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` when the run is over, at once if none is on. Returns what takes it back."""
        if container_id not in self._runs:
            callback()
            return lambda: None
        watchers = self._watchers.setdefault(container_id, set())
        watchers.add(callback)
        return lambda: watchers.discard(callback)

    def is_followed(self, container_id: str) -> bool:
        """Whether somebody follows the log of the run that is on."""
        return bool(self._watchers.get(container_id))

    def is_ending(self, container_id: str) -> bool:
        """Whether the first process has ended or is about to, though the run's end is not on record."""
        container = self._store.containers.get(container_id)
        run = container.run if container is not None else None
        return run is None or ProcessId(run.pid, run.pid_start).is_ending()

    def tell(self, container: Container, action: str) -> None:
        """Event ``attach`` or ``detach``."""
        with self._store.transaction(durable=False) as tx:
            tx.emit("container", action, container.id, event_attributes(container))

    def find_logged(self, ref: str) -> Container:
        """The container whose log is wanted.

        Raises:
            errors.NotFound, errors.InvalidParameter: as for every reference.
            errors.NotImplemented: its log driver keeps nothing to read.
        """
        container = find_container(self._store, ref)
        self._logs.check_readable(container)
        return container

    def open_log(self, container: Container, shape: Shape, *, tail: int | None, follow: bool) -> LogReader:
        """See :meth:`proad.engine.logs.Logs.open`."""
        return self._logs.open(container, shape, tail=tail, follow=follow)

    @property
    def spool_directory(self) -> Path:
        """Where the output that a slow client has not taken yet may be put, on disk."""
        return self._config.data_root / "tmp"

    def _connect(self, container_id: str, live: Live) -> None:
        connection = connect_attach(self._runs[container_id])
        if connection is None:  # the monitor has gone already
            del self._lives[container_id]
            live.finish()
        else:
            live.connect(connection)


def connect_attach(path: Path) -> socket.socket | None:
    """Connect to a monitor's attach socket; None if nobody listens any more.

    It goes through the directory's descriptor, because a socket's address holds no more than 107 bytes.

    Raises:
        errors.System: the kernel refused it otherwise.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise errors.System(f"attach to {path}: {error.strerror}") from error
    return connection


def log_attributes(container: Container) -> bytes:
    """What ``details`` puts before each line: the labels and variables that the log options name."""
    options = container.host_config.log_config.config
    variables = dict(entry.partition("=")[::2] for entry in container.config.env)
    found: dict[str, str] = {}
    for source, names, pattern in (
        (container.config.labels or {}, "labels", "labels-regex"),
        (variables, "env", "env-regex"),
    ):
        wanted = {name.strip() for name in options.get(names, "").split(",")} - {""}
        regex = options.get(pattern)
        for key, value in source.items():
            if key in wanted or (regex and re.search(regex, key)):
                found[key] = value
    return ",".join(f"{quote_plus(key)}={quote_plus(found[key])}" for key in sorted(found)).encode()
