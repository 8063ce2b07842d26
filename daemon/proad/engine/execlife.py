"""Trio-flavoured. The life of an exec that is started: on record, spawned, followed, ended, told.

What is on record when a daemon begins is ended or taken up (``recover``), so the story is told once whatever
dies when.
"""

from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
import trio

from proad.config import Config
from proad.engine.exectable import ExecEntry, ExecTable
from proad.engine.lookup import event_attributes
from proad.engine.resources import RunResources
from proad.host.cgroup import Cgroups
from proad.host.execprocess import ExecEnd, ExecProcess, ExecRequest, find_parents
from proad.host.execstreams import ExecStreams
from proad.host.hostfacts import HostFactsReader
from proad.host.overlay import Overlay
from proad.host.rootfs import Rootfs
from proad.host.runtime import find_runtime
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.exec import EXIT_KILLED, EXIT_NOT_STARTED, ExecConfig, ExecRecord, ExecStatus, process_spec
from proad.model.user import ProcessUser, resolve_user
from proad.store.db import Store, Transaction

NATURAL_END_S = 0.2
"""How long the execs of a container that has ended may take to end by themselves, with their own codes."""
KILL_PATIENCE_S = 5.0
RECORD_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class ExecLive(Protocol):
    """Who is connected to an exec's streams. Called on the loop's thread, and never waits."""

    def connect(self, streams: ExecStreams) -> None:
        """The streams are there, and yours to read, write and close."""

    def last_words(self) -> bytes:
        """It has ended: what came from stderr, or the terminal, as long as that may be the runtime's own."""

    def finish(self, failure: str) -> None:
        """It has ended, and that is on record; ``failure`` is why its command never ran, if it did not."""


class _Spec(msgspec.Struct):
    """What an exec needs of its container's runtime config."""

    process: dict[str, Any]


class ExecLives:
    """All execs that are started, and the table of all that are known."""

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
        self.table = ExecTable()
        self._over: dict[str, str] = {}
        """By container, the run that has ended last, though its record may not say so yet."""

    # --- for supervision and recovery -----------------------------------------------------------------------

    async def run_ended(self, container: Container, run: Run) -> None:
        """A container's first process has gone: end its execs, and return when that is told."""
        self._over[container.id] = run.id
        if len(self._over) > 2 * len(self._store.containers) + 64:
            self._over = {id_: last for id_, last in self._over.items() if id_ in self._store.containers}
        async with trio.open_nursery() as nursery:
            for entry in self.table.running_in(container.id):
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
            self.table.add(entry)
            self.table.run(entry)
            parent = parents.get(record.id)
            directory = self._directory(record.container_id, record.id)
            if parent is None and not directory.exists():
                await self._settle(entry, ExecEnd(EXIT_KILLED), None)
                continue
            entry.process = ExecProcess.adopt(directory, parent)
            self._nursery.start_soon(self._watch, entry, entry.process, None)
            if not entry.detached:
                await self.kill(entry)
            log.info("exec adopted", exec=entry.id, container=container.id, goes_on=entry.detached)

    def has_ended(self, container: Container) -> bool:
        """Whether the present run is over, though its record may not say so yet."""
        return container.run is None or self._over.get(container.id) == container.run.id

    # --- life -----------------------------------------------------------------------------------------------

    async def start(
        self,
        entry: ExecEntry,
        console_size: tuple[int, ...] | None,
        live: ExecLive | None,
        *,
        joined_output: bool = False,
    ) -> None:
        """Run it; event ``exec_start``. ``live`` None runs it in the background; this returns when it runs.

        Raises:
            errors.StartFailed: in the background: its command cannot be run.
            errors.System: it could not even be tried.
        """
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
            tell_exec(tx, f"exec_start: {entry.config.command_line}", container, entry.id)
        self.table.run(entry)
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
                # Root, where nobody asks for anybody else, is in the container's own process already.
                self.find_user(container, config) if config.user or container.config.user else None,
                console_size,
                self._facts.held_capabilities,
            ),
            stdin=config.attach_stdin,
            stdout=config.attach_stdout,
            stderr=config.attach_stderr,
            joined_output=joined_output,
            background=live is None,
        )

    def find_user(self, container: Container, config: ExecConfig) -> ProcessUser:
        """Who it runs as, by the files of the container.

        Raises:
            errors.StartFailed: a name is not in its file, or a number is out of range.
        """
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
            if live is not None:
                end = process.judged(end, live.last_words())
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
                        tell_exec(tx, "exec_die", container, entry.id, exitCode=str(end.exit_code))
            except errors.System as error:
                log.error("end of an exec not recorded yet", exec=entry.id, error=error.message)
                await trio.sleep(RECORD_RETRY_S)
                continue
            entry.failure = end.failure
            self.table.end(entry, end.exit_code)
        if live is not None:
            live.finish(end.failure.message if end.failure is not None else "")
        entry.done.set()

    async def _see_off(self, entry: ExecEntry) -> None:
        """End an exec whose container has ended."""
        with trio.move_on_after(NATURAL_END_S):
            await entry.done.wait()
        if not entry.done.is_set():
            await self.kill(entry)

    async def kill(self, entry: ExecEntry) -> None:
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


def tell_exec(tx: Transaction, action: str, container: Container, exec_id: str, **extra: str) -> None:
    """An event of the container's that names the exec."""
    tx.emit("container", action, container.id, event_attributes(container, execID=exec_id, **extra))
