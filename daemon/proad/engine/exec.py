"""Trio-flavoured. Commands run in containers that run: create, start, resize, and the probes of health
checks.

    create   exec_create; in memory only
    start    exec_start, and a record on disk; the runtime is spawned, the API has the streams
    end      exec_die, the record gone; the API is told, and inspect knows the exit code for a while

What is on record when a daemon begins is ended or taken up (``recover``), so the story is told once whatever
dies when. Plain functions may be called without crossing the seam.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
import trio

from proad.config import Config
from proad.engine.exectable import ExecEntry, ExecTable
from proad.engine.lookup import event_attributes, find_container
from proad.engine.probing import ProbeOutput, ProbeResult
from proad.engine.resources import RunResources
from proad.host.cgroup import Cgroups
from proad.host.execprocess import ExecEnd, ExecProcess, ExecRequest, find_parents
from proad.host.execstreams import ExecStreams
from proad.host.hostfacts import HostFactsReader
from proad.host.overlay import Overlay
from proad.host.rootfs import Rootfs
from proad.host.runtime import find_runtime
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.exec import EXIT_KILLED, EXIT_NOT_STARTED, ExecConfig, ExecRecord, ExecStatus, process_spec
from proad.model.user import ProcessUser, resolve_user
from proad.store.db import Store, Transaction

READY_PATIENCE_S = 10.0
"""How long a resize waits for the terminal of an exec that is being started."""
NATURAL_END_S = 0.2
"""How long the execs of a container that has ended may take to end by themselves, with their own codes."""
KILL_PATIENCE_S = 5.0
BEGIN_PATIENCE_S = 30.0
"""How long a probe may take to begin; that time is not the probe's own."""
RECORD_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class ExecLive(Protocol):
    """Who is connected to an exec's streams. Called on the loop's thread, and never waits."""

    def connect(self, streams: ExecStreams) -> None:
        """The streams are there, and yours to read, write and close."""

    def finish(self, failure: str) -> None:
        """It has ended, and that is on record; ``failure`` is why its command never ran, if it did not."""


class _Spec(msgspec.Struct):
    """What an exec needs of its container's runtime config."""

    process: dict[str, Any]


class Execs:
    """All execs of one daemon."""

    def __init__(
        self,
        config: Config,
        store: Store,
        resources: RunResources,
        overlay: Overlay,
        cgroups: Cgroups,
        facts: HostFactsReader,
        nursery: trio.Nursery,
    ) -> None:
        self._config = config
        self._store = store
        self._resources = resources
        self._overlay = overlay
        self._cgroups = cgroups
        self._facts = facts
        self._nursery = nursery
        self._table = ExecTable()
        self._over: dict[str, str] = {}
        """By container, the run that has ended last, though its record may not say so yet."""

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
                self._find_user(container, config)
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
        await self._start(entry, console_size or entry.config.console_size, live)

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
                _tell(tx, "exec_detach", container, entry.id)

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
            await self._start(entry, None, output, joined_output=True)
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
                    await self._kill(entry)

    # --- for supervision and recovery -----------------------------------------------------------------------

    async def run_ended(self, container: Container, run: Run) -> None:
        """A container's first process has gone: end its execs, and return when that is told."""
        self._over[container.id] = run.id
        if len(self._over) > 2 * len(self._store.containers) + 64:
            self._over = {id_: last for id_, last in self._over.items() if id_ in self._store.containers}
        async with trio.open_nursery() as nursery:
            for entry in self._table.running_in(container.id):
                nursery.start_soon(self._see_off, entry)

    async def recover(self) -> None:
        """Deal with the execs that an earlier daemon left.

        Those in the background are followed on. Those that clients were connected to have lost their streams,
        and are killed.
        """
        parents = find_parents(self._config.exec_root / "runs")
        for record in list(self._store.execs.values()):
            container = self._store.containers.get(record.container_id)
            if container is None:
                with self._store.transaction(durable=False) as tx:
                    tx.delete_exec(record.id)
                continue
            entry = ExecEntry(record.id, record.container_id, record.run_id, record.config)
            entry.detached = record.detached
            self._table.add(entry)
            self._table.run(entry)
            parent = parents.get(record.id)
            directory = self._directory(record.container_id, record.id)
            if parent is None and not directory.exists():
                await self._settle(entry, ExecEnd(EXIT_KILLED), None)
                continue
            entry.process = ExecProcess.adopt(directory, parent)
            self._nursery.start_soon(self._watch, entry, entry.process, None)
            if not entry.detached:
                await self._kill(entry)
            log.info("exec adopted", exec=entry.id, container=container.id, goes_on=entry.detached)

    # --- life -----------------------------------------------------------------------------------------------

    def _refuse_inactive(self, container: Container) -> None:
        if container.status is Status.RESTARTING:
            raise errors.Conflict(
                f"container {container.id} is restarting, wait until the container is running"
            )
        run = container.run
        if not container.status.has_process or run is None or self._over.get(container.id) == run.id:
            raise errors.Conflict(f"container {container.id} is not running")
        if container.status is Status.PAUSED:
            raise errors.Conflict(f"container {container.id} is paused, unpause the container before exec")

    def _create(self, container: Container, config: ExecConfig) -> ExecEntry:
        assert container.run is not None
        entry = ExecEntry(secrets.token_hex(32), container.id, container.run.id, config)
        with self._store.transaction(durable=False) as tx:
            _tell(tx, f"exec_create: {config.command_line}", container, entry.id)
        self._table.add(entry)
        return entry

    async def _start(
        self,
        entry: ExecEntry,
        console_size: tuple[int, ...] | None,
        live: ExecLive | None,
        *,
        joined_output: bool = False,
    ) -> None:
        container = self._store.containers[entry.container_id]
        request = self._request(entry, container, console_size, live, joined_output)
        entry.detached = live is None
        entry.run_id = container.run.id if container.run is not None else ""
        record = ExecRecord(
            id=entry.id,
            container_id=container.id,
            run_id=entry.run_id,
            detached=entry.detached,
            config=msgspec.structs.replace(entry.config, env=()),
        )
        with self._store.transaction(durable=False) as tx:
            tx.put_exec(record)
            _tell(tx, f"exec_start: {entry.config.command_line}", container, entry.id)
        self._table.run(entry)
        try:
            process = entry.process = ExecProcess.spawn(request)
        except BaseException:
            await self._settle(entry, ExecEnd(EXIT_NOT_STARTED), None)
            raise
        if live is not None and not process.awaits_terminal:
            live.connect(process.streams)
        self._nursery.start_soon(self._watch, entry, process, live)
        if live is None and not await process.began():
            await entry.done.wait()
            if entry.failure is not None:
                raise entry.failure

    def _request(
        self,
        entry: ExecEntry,
        container: Container,
        console_size: tuple[int, ...] | None,
        live: ExecLive | None,
        joined_output: bool,
    ) -> ExecRequest:
        config, run = entry.config, container.run
        assert run is not None
        try:
            spec = (self._resources.paths(container.id).bundle / "config.json").read_bytes()
        except OSError as error:
            raise errors.System(f"config of container {container.id}: {error.strerror}") from error
        return ExecRequest(
            container_id=container.id,
            runtime=find_runtime(run.runtime, self._config.runtimes, self._config.exec_root / "runtime"),
            directory=self._directory(container.id, entry.id),
            process=process_spec(
                msgspec.json.decode(spec, type=_Spec).process,
                config,
                self._find_user(container, config),
                console_size,
                self._facts.held_capabilities,
            ),
            stdin=config.attach_stdin,
            stdout=config.attach_stdout,
            stderr=config.attach_stderr,
            joined_output=joined_output,
            background=live is None,
        )

    def _find_user(self, container: Container, config: ExecConfig) -> ProcessUser:
        with Rootfs(self._overlay.rootfs_path(container.id)) as tree:
            return resolve_user(
                config.user or container.config.user,
                tree.read_text("/etc/passwd") or "",
                tree.read_text("/etc/group") or "",
                container.host_config.group_add,
            )

    async def _watch(self, entry: ExecEntry, process: ExecProcess, live: ExecLive | None) -> None:
        """Follow one exec to its end."""
        try:
            if process.awaits_terminal and await process.terminal() and live is not None:
                live.connect(process.streams)
            entry.ready.set()
            end = await process.ended()
        except trio.Cancelled:  # the daemon goes, and with it the streams
            if not entry.detached:
                with trio.CancelScope(shield=True):
                    await process.kill(lambda: self._processes_of(entry))
            raise
        except errors.System as error:
            log.error("exec lost", exec=entry.id, error=error.message)
            await process.kill(lambda: self._processes_of(entry))
            end = ExecEnd(EXIT_KILLED)
        process.close()
        await self._settle(entry, end, live)

    async def _settle(self, entry: ExecEntry, end: ExecEnd, live: ExecLive | None) -> None:
        """Write the end down, once; a disk that is full just now only delays the news."""
        while entry.status is not ExecStatus.ENDED:
            try:
                with self._store.transaction(durable=False) as tx:
                    tx.delete_exec(entry.id)
                    container = self._store.containers.get(entry.container_id)
                    if container is not None:
                        _tell(tx, "exec_die", container, entry.id, exitCode=str(end.exit_code))
            except errors.System as error:
                log.error("end of an exec not recorded yet", exec=entry.id, error=error.message)
                await trio.sleep(RECORD_RETRY_S)
                continue
            entry.failure = end.failure
            self._table.end(entry, end.exit_code)
        if live is not None:
            live.finish(end.failure.message if end.failure is not None else "")
        entry.done.set()

    async def _see_off(self, entry: ExecEntry) -> None:
        """End an exec whose container has ended."""
        with trio.move_on_after(NATURAL_END_S):
            await entry.done.wait()
        if not entry.done.is_set():
            await self._kill(entry)

    async def _kill(self, entry: ExecEntry) -> None:
        """Kill one that runs, with all that it started, and return when its end is told."""
        with trio.move_on_after(KILL_PATIENCE_S):
            if entry.process is not None:
                await entry.process.kill(lambda: self._processes_of(entry))
            await entry.done.wait()
        if not entry.done.is_set():
            log.error("an exec resists", exec=entry.id, container=entry.container_id)
            await self._settle(entry, ExecEnd(EXIT_KILLED), None)

    def _processes_of(self, entry: ExecEntry) -> list[int]:
        container = self._store.containers.get(entry.container_id)
        if container is None or container.run is None or container.run.id != entry.run_id:
            return []
        return self._cgroups.processes(container.run.cgroup)

    def _directory(self, container_id: str, exec_id: str) -> Path:
        return self._resources.paths(container_id).bundle / "execs" / exec_id


def _tell(tx: Transaction, action: str, container: Container, exec_id: str, **extra: str) -> None:
    tx.emit("container", action, container.id, event_attributes(container, execID=exec_id, **extra))
