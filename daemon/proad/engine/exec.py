"""Trio-flavoured. Commands run in containers that run: create, start, resize, and the probes of health
checks.

    create   exec_create; in memory only
    start    exec_start, and a record on disk; the runtime is spawned, the API has the streams
    end      exec_die, the record gone; the API is told, and inspect knows the exit code for a while

What happens from the start on is in ``execlife``. Plain functions may be called without crossing the seam.
"""

import secrets
from collections.abc import Sequence

import trio

from proad.engine.execlife import ExecLive, ExecLives, tell_exec
from proad.engine.exectable import ExecEntry
from proad.engine.lookup import find_container
from proad.engine.probing import ProbeOutput, ProbeResult
from proad.host.cgroup import Cgroups
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.exec import EXIT_KILLED, ExecConfig, ExecStatus
from proad.store.db import Store

READY_PATIENCE_S = 10.0
"""How long a resize waits for the terminal of an exec that is being started."""
BEGIN_PATIENCE_S = 30.0
"""How long a probe may take to begin; that time is not the probe's own."""


class Execs:
    """All execs of one daemon."""

    def __init__(self, store: Store, lives: ExecLives, cgroups: Cgroups, nursery: trio.Nursery) -> None:
        self._store = store
        self._lives = lives
        self._table = lives.table
        self._cgroups = cgroups
        self._nursery = nursery

    # --- for the API ----------------------------------------------------------------------------------------

    async def create(self, ref: str, config: ExecConfig) -> str:
        """Have an exec that can be started; returns its id. Event ``exec_create``.

        The start follows at once as a rule: what the kernel will then wait for begins here.

        Raises:
            errors.NotFound, errors.InvalidParameter: as for every reference; the user is not known in there.
            errors.Conflict: the container is not running, paused, or between two runs.
        """
        container = find_container(self._store, ref)
        self._refuse_inactive(container)
        self._nursery.start_soon(self._cgroups.prepay_migration)
        if config.user:
            try:
                self._lives.find_user(container, config)
            except errors.StartFailed as error:
                raise errors.InvalidParameter(error.message) from error
        return self._create(container, config).id

    def find(self, exec_id: str) -> ExecEntry:
        """The exec of that id, in whatever state.

        Raises:
            errors.NotFound: it never was, has been forgotten, or its container has gone.
        """
        entry = self._table.find(exec_id)
        if entry.container_id not in self._store.containers:
            self._table.forget_container(entry.container_id)
            raise errors.NotFound(f"No such exec instance: {exec_id}")
        return entry

    def find_startable(self, exec_id: str) -> ExecEntry:
        """The exec of that id, which can be started now.

        Raises:
            errors.NotFound: as for :meth:`find`.
            errors.Conflict: it runs or has run; its container is not running, paused, or between two runs.
        """
        entry = self.find(exec_id)
        self._refuse_inactive(self._store.containers[entry.container_id])
        if entry.status is ExecStatus.ENDED:
            raise errors.Conflict(f"exec command {exec_id} has already run")
        if entry.status is ExecStatus.RUNNING:
            raise errors.Conflict(f"exec command {exec_id} is already running")
        return entry

    async def start(
        self, exec_id: str, *, console_size: tuple[int, ...] | None, live: ExecLive | None
    ) -> None:
        """Run it; event ``exec_start``. ``live`` gets the streams; without, it runs in the background, and
        this returns when it does.

        Raises:
            errors.NotFound, errors.Conflict: as for :meth:`find_startable`.
            errors.StartFailed: in the background: its command cannot be run.
            errors.System: it could not even be tried.
        """
        entry = self.find_startable(exec_id)
        self._nursery.start_soon(self._cgroups.prepay_migration)
        await self._lives.start(entry, console_size or entry.config.console_size, live)

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of its terminal; without one there is nothing to do.

        Raises:
            errors.NotFound, errors.Conflict: as for :meth:`find_startable`, or it has ended.
            errors.System: it is not started within some seconds, or the kernel refused it.
        """
        entry = self.find(exec_id)
        self._refuse_inactive(self._store.containers[entry.container_id])
        with trio.move_on_after(READY_PATIENCE_S) as scope:
            await entry.ready.wait()
        if scope.cancelled_caught:
            raise errors.System("timeout waiting for exec session ready")
        if entry.process is None:
            raise errors.Conflict(f"exec command {exec_id} has already run")
        if entry.config.tty:
            entry.process.resize(height, width)

    def tell_detach(self, entry: ExecEntry) -> None:
        """The client has left by its detach keys: event ``exec_detach``."""
        container = self._store.containers.get(entry.container_id)
        if container is not None:
            with self._store.transaction(durable=False) as tx:
                tell_exec(tx, "exec_detach", container, entry.id)

    def ids_of(self, container: Container) -> list[str]:
        """The execs of a container's present run that have not ended."""
        if container.run is None or not container.status.has_process:
            return []
        return list(self._table.ids_of(container.id, container.run.id))

    # --- for health checks ----------------------------------------------------------------------------------

    async def probe(
        self, container: Container, argv: Sequence[str], *, timeout_s: float, max_output_bytes: int
    ) -> ProbeResult:
        """Run a command with the container's own environment, user and working directory, and wait for it.

        At the time limit, and when this is cancelled, it is killed with all that it started. Events as of
        every exec.

        Raises:
            errors.Conflict: the container is not running, or paused.
            errors.StartFailed: there is no such command, or it cannot be run.
            errors.System: it could not even be tried.
        """
        self._refuse_inactive(container)
        config = ExecConfig(cmd=tuple(argv), attach_stdout=True, attach_stderr=True)
        entry = self._create(container, config)
        output = ProbeOutput(max_output_bytes)
        try:
            await self._lives.start(entry, None, output, joined_output=True)
            in_time = await self._collect(entry, output, timeout_s)
            if entry.failure is not None:
                raise entry.failure
            code = EXIT_KILLED if entry.exit_code is None else entry.exit_code
            return ProbeResult(code, output.output, timed_out=not in_time)
        finally:
            output.close()
            self._table.forget(entry)

    async def _collect(self, entry: ExecEntry, output: ProbeOutput, timeout_s: float) -> bool:
        """Wait for a probe; returns whether it ended in time. It has ended in any case."""
        process = entry.process
        assert process is not None
        try:
            with trio.move_on_after(timeout_s):
                await output.collect()
            if not process.pid and not entry.done.is_set():
                with trio.move_on_after(BEGIN_PATIENCE_S):
                    await process.began()
                with trio.move_on_after(timeout_s):
                    await output.collect()
            return entry.done.is_set()
        finally:
            if not entry.done.is_set():
                with trio.CancelScope(shield=True):
                    await self._lives.kill(entry)

    def _refuse_inactive(self, container: Container) -> None:
        if container.status is Status.RESTARTING:
            raise errors.Conflict(
                f"container {container.id} is restarting, wait until the container is running"
            )
        if not container.status.has_process or self._lives.has_ended(container):
            raise errors.Conflict(f"container {container.id} is not running")
        if container.status is Status.PAUSED:
            raise errors.Conflict(f"container {container.id} is paused, unpause the container before exec")

    def _create(self, container: Container, config: ExecConfig) -> ExecEntry:
        assert container.run is not None
        entry = ExecEntry(secrets.token_hex(32), container.id, container.run.id, config)
        with self._store.transaction(durable=False) as tx:
            tell_exec(tx, f"exec_create: {config.command_line}", container, entry.id)
        self._table.add(entry)
        return entry
