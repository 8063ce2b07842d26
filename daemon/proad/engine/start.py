"""Trio-flavoured. The start of a container: ordered steps under its own lock, each undone if a later one
fails.

    refuse -> adapt -> check -> intent on disk -> monitor launched
        -> rootfs, links, working directory, environment, IPC, mounts, spec, hosts -> create
        |  network: its namespace before hosts, its interface beside create
    -> attachers -> start -> running on disk, event ``start``

Failure and cancellation at any point run the undos last-in-first-out, shielded; the container ends as it was
or ``exited``, with the error's text, an exit code and event ``die``.
"""

import contextlib
import secrets
import time

import structlog
import trio
from msgspec.structs import replace

from proad.engine.acquire import Acquirer, Acquisition
from proad.engine.dispose import Disposer
from proad.engine.joining import with_ids
from proad.engine.links import make_links, tell_holders
from proad.engine.locks import Locks
from proad.engine.lookup import event_attributes, find_container
from proad.engine.mounting import Mounting
from proad.engine.resources import RunResources
from proad.engine.streams import Streams
from proad.engine.supervise import Supervisor, tell_network
from proad.engine.undo import StepTimer, UndoStack
from proad.engine.waiting import Waiters, WaitResult
from proad.host.cgroup import Cgroups
from proad.host.conmon import Conmon, Monitored
from proad.host.hostfacts import HostFactsReader
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.health import health_at_start
from proad.model.hostcheck import check_against_host
from proad.model.hostconfig import HostConfig
from proad.store.db import Store

ApiVersion = tuple[int, int]
HOST_CONFIG_AT_START_ENDED: ApiVersion = (1, 24)
UNKNOWN_EXIT_CODE = 128
RECORD_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class Starter:
    """Starts containers: for the API, for restart policies, at boot."""

    def __init__(
        self,
        store: Store,
        locks: Locks,
        waiters: Waiters,
        facts: HostFactsReader,
        mounting: Mounting,
        acquirer: Acquirer,
        resources: RunResources,
        disposer: Disposer,
        streams: Streams,
        conmon: Conmon,
        supervisor: Supervisor,
        cgroups: Cgroups,
        nursery: trio.Nursery,
    ) -> None:
        self._store = store
        self._locks = locks
        self._waiters = waiters
        self._facts = facts
        self._mounting = mounting
        self._acquirer = acquirer
        self._resources = resources
        self._disposer = disposer
        self._streams = streams
        self._conmon = conmon
        self._supervisor = supervisor
        self._cgroups = cgroups
        self._nursery = nursery

    async def start(self, ref: str, *, host_config: HostConfig | None, api_version: ApiVersion) -> None:
        """Start a container; ``host_config`` is the old way to configure at start, for API versions below
        1.24.

        Raises:
            errors.NotFound: there is no such container.
            errors.NotModified: it runs already.
            errors.Conflict: it is paused, or marked for removal.
            errors.InvalidParameter: what it is configured to do is impossible on this host as it is now.
            errors.StartFailed: a step failed; everything is undone.
        """
        container = find_container(self._store, ref)
        async with self._locks.of(container.id):
            container = self._still_there(container.id, ref)
            refuse_start(container)
            if host_config is not None:
                container = await self._adopt_host_config(container, host_config, api_version)
            self._supervisor.forget_backoff(container.id)
            await self._start_locked(container, restart_count=0)

    async def start_if_stopped(self, container_id: str, *, restarted: bool = False) -> None:
        """Start it unless it runs: for the verb restart, which somebody else's start may have forestalled.

        With ``restarted``, event ``restart`` is told as well.
        """
        async with self._locks.of(container_id):
            container = self._still_there(container_id, container_id)
            if container.status.has_process:
                if restarted:
                    with self._store.transaction(durable=False) as tx:
                        tx.emit("container", "restart", container_id, event_attributes(container))
                return
            refuse_start(container)
            self._supervisor.forget_backoff(container.id)
            await self._start_locked(container, restart_count=0, restarted=restarted)

    async def start_again(self, container_id: str, run_id: str) -> None:
        """Start it because of its restart policy, if ``run_id`` is still its last run and nobody stopped it
        since.
        """
        async with self._locks.of(container_id):
            container = self._store.containers.get(container_id)
            if container is None or container.status is not Status.RESTARTING:
                return
            if container.run is None or container.run.id != run_id:
                return
            try:
                await self._start_locked(container, restart_count=container.restart_count + 1)
            except errors.ProaError as error:
                self._give_up_restarting(container_id, error)
                raise

    def _give_up_restarting(self, container_id: str, error: errors.ProaError) -> None:
        """A restart that was refused before it began ends the waiting; one that failed has been recorded."""
        container = self._store.containers.get(container_id)
        if container is not None and container.status is Status.RESTARTING:
            with self._store.transaction() as tx:
                tx.put_container(replace(container.with_status(Status.EXITED), error=error.message))

    def _still_there(self, container_id: str, ref: str) -> Container:
        """The record as it is now that we hold the lock: it may have gone while we waited."""
        container = self._store.containers.get(container_id)
        if container is None:
            raise errors.NotFound(f"No such container: {ref}")
        return container

    async def _adopt_host_config(
        self, container: Container, asked: HostConfig, api_version: ApiVersion
    ) -> Container:
        """Take the HostConfig that a very old client sends with start: validate, adapt, store.

        What the container has mounted from its image stays; the request's mounts come on top, by destination.
        """
        if api_version >= HOST_CONFIG_AT_START_ENDED:
            raise errors.InvalidParameter(
                "starting container with non-empty request body was deprecated since API v1.22 "
                "and removed in v1.24"
            )
        log.warning(
            "DEPRECATED: Setting host configuration options when the container starts is deprecated and has "
            "been removed in Docker 1.12",
            container=container.id,
        )
        adapted, _ = check_against_host(with_ids(self._store, asked), self._facts.read(asked))
        without_image_volumes = replace(
            container, config=replace(container.config, volumes={}), host_config=adapted
        )
        registered = await self._mounting.register(
            without_image_volumes, lambda ref: find_container(self._store, ref)
        )
        added = tuple(
            replace(point, read_only_non_recursive=True) for point in registered
        )  # as of such an API
        taken = {point.destination for point in added}
        kept = tuple(point for point in container.mounts if point.destination not in taken)
        links = make_links(self._store, adapted, container.links)
        container = replace(container, host_config=adapted, mounts=(*kept, *added), links=links)
        with self._store.transaction() as tx:
            tx.put_container(container)
        self._mounting.settle(container.id)
        return container

    async def _start_locked(
        self, container: Container, *, restart_count: int, restarted: bool = False
    ) -> None:
        """Run the steps. The caller holds the lock and has refused what cannot be started."""
        timer = StepTimer()
        self._nursery.start_soon(self._cgroups.prepay_migration)
        before = container.status
        facts = self._facts.read(container.host_config)
        host_config, warnings = check_against_host(container.host_config, facts)
        for warning in warnings:
            log.warning(warning, container=container.id)
        container = self._begin(container, host_config, restart_count, restarted=restarted)
        assert container.run is not None
        undo = UndoStack(self._store)
        try:
            await self._resources.finish_previous_run(container.id)
            async with trio.open_nursery() as beside:
                acquired = await self._acquirer.acquire(container, container.run, facts, undo, timer, beside)
                monitored = await self._create(container, acquired, undo, timer)
            await self._run(container, acquired, monitored, undo, timer)
        except BaseException as raised:
            error = _told(_single(raised))
            with trio.CancelScope(shield=True):
                await undo.unwind()
                await self._fail(container, before, error)
            if error is raised:
                raise
            raise error from raised

    def _begin(
        self, container: Container, host_config: HostConfig, restart_count: int, *, restarted: bool
    ) -> Container:
        """Intent on disk before anything is touched."""
        cgroup = self._acquirer.cgroup_of(container)  # recovery looks there, wherever it is
        run = Run(id=secrets.token_hex(16), begun_ns=time.time_ns(), cgroup=cgroup, restarted=restarted)
        container = replace(
            container.with_status(Status.STARTING),
            host_config=host_config,
            run=run,
            restart_count=restart_count,
            stopped_by_user=False,
        )
        with self._store.transaction(durable=False, growing=True) as tx:
            tx.put_container(container)
        return container

    async def _create(
        self, container: Container, acquired: Acquisition, undo: UndoStack, timer: StepTimer
    ) -> Monitored:
        """Have the monitor create the container, its command not yet running."""
        with timer.step("create"):
            monitored = await self._conmon.create(acquired.monitor)
            residue = ("runtime", container.id)
            undo.push("create", self._discard, monitored, acquired, container.id, residue=residue)
            return monitored

    async def _run(
        self,
        container: Container,
        acquired: Acquisition,
        monitored: Monitored,
        undo: UndoStack,
        timer: StepTimer,
    ) -> None:
        """Connect who wants to attach, let the command run, tell it."""
        run = acquired.run
        with timer.step("attach"):
            undo.push("attach", self._streams.abandon, container.id, residue=("none", container.id))
            await self._streams.connect_attachers(container.id, monitored)
        run = replace(
            run,
            pid=monitored.init.pid,
            pid_start=monitored.init.start,
            monitor_pid=monitored.monitor.pid,
            monitor_start=monitored.monitor.start,
        )
        started_ns = time.time_ns()  # before the call: a short process has ended when it returns
        with timer.step("start"):
            await trio.lowlevel.checkpoint_if_cancelled()  # the last chance: the start itself may not wait
            await acquired.runtime.start(container.id)
        # From here on the start has happened: what is left may not fail half-way, and is not cancelled.
        with timer.step("record"):
            run = replace(run, started_ns=started_ns, steps=timer.steps)
            container = self._record_start(container, run)
        undo.dismiss()
        self._supervisor.watch(container, run, monitored)
        if (endpoint := run.default_endpoint) is not None:
            tell_holders(self._store, container.id, endpoint.address, self._resources.hosts_of)
        log.info(
            "container started", container=container.id, name=container.name, steps_ms=timer.durations_ms
        )

    def _record_start(self, container: Container, run: Run) -> Container:
        container = replace(
            container.with_status(Status.RUNNING),
            run=run,
            started_ns=run.started_ns,
            finished_ns=0,
            exit_code=0,
            error="",
            oom_killed=False,
            has_been_started=True,
            health=health_at_start(container.config, container.health),
        )
        with self._store.transaction(durable=False) as tx:
            tx.put_container(container)
            tell_network(tx, "connect", container, run)
            tx.emit("container", "start", container.id, event_attributes(container))
            if run.restarted:
                tx.emit("container", "restart", container.id, event_attributes(container))
        return container

    async def _discard(self, monitored: Monitored, acquired: Acquisition, container_id: str) -> None:
        try:
            await self._conmon.discard(monitored, acquired.runtime, container_id)
        finally:
            monitored.close()

    async def _fail(self, container: Container, before: Status, error: BaseException) -> None:
        """The container ends ``exited``, or stays ``created`` if it never ran; event ``die``; auto-remove."""
        text = str(error) or type(error).__name__
        exit_code = error.exit_code if isinstance(error, errors.StartFailed) else UNKNOWN_EXIT_CODE
        log.error(
            "container did not start",
            container=container.id,
            error=text,
            exit_code=exit_code,
            was=before.value,
        )
        try:
            await self._record_failure(container.id, exit_code, text)
        except errors.System as unwritten:
            log.error("failed start not recorded yet", container=container.id, error=unwritten.message)
            assert container.run is not None
            self._nursery.start_soon(self._fail_later, container.id, container.run.id, exit_code, text)

    async def _fail_later(self, container_id: str, run_id: str, exit_code: int, text: str) -> None:
        """Keep trying to write down a start that failed: the disk was full, and will not be for ever."""
        while True:
            await trio.sleep(RECORD_RETRY_S)
            async with self._locks.of(container_id):
                current = self._store.containers.get(container_id)
                if current is None or current.run is None or current.run.id != run_id:
                    return
                if current.status is not Status.STARTING:
                    return
                with contextlib.suppress(errors.System):  # told when it happened first
                    await self._record_failure(container_id, exit_code, text)

    async def _record_failure(self, container_id: str, exit_code: int, text: str) -> None:
        current = self._store.containers[container_id]
        ended = replace(
            current.with_status(Status.EXITED if current.has_been_started else Status.CREATED),
            exit_code=exit_code,
            error=text,
            finished_ns=time.time_ns() if current.has_been_started else 0,
            run=replace(current.run, endpoints=(), netns="") if current.run else None,
        )
        with self._store.transaction() as tx:
            tx.put_container(ended)
            attributes = event_attributes(ended, exitCode=str(exit_code), execDuration="0")
            tx.emit("container", "die", ended.id, attributes)
        self._streams.run_ended(ended.id)
        self._waiters.run_ended(ended.id, WaitResult(exit_code))
        if ended.host_config.auto_remove:
            await self._disposer.dispose_locked(ended, volumes=True)


def refuse_start(container: Container) -> None:
    """Raise if its state does not allow a start, in Docker's words."""
    match container.status:
        case Status.PAUSED:
            raise errors.Conflict("cannot start a paused container, try unpause instead")
        case Status.RUNNING | Status.RESTARTING:
            raise errors.NotModified("container is already running")
        case Status.REMOVING | Status.DEAD:
            raise errors.Conflict("container is marked for removal and cannot be started")


def _told(error: BaseException) -> BaseException:
    """A refusal of the kernel's (a full disk, say) as an error of ours, which all here can deal with."""
    return errors.System(str(error)) if isinstance(error, OSError) else error


def _single(error: BaseException) -> BaseException:
    """The one error inside nested groups of one: steps that run side by side raise groups."""
    while isinstance(error, BaseExceptionGroup):
        known = [e for e in error.exceptions if not isinstance(e, trio.Cancelled)]
        error = known[0] if known else error.exceptions[0]
    return error
