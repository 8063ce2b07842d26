"""Trio-flavoured. One task for each running container: exit -> state and ``die`` -> restart or auto-remove.

The monitor (conmon) is watched through its pidfd from before the process starts, so no exit can slip through;
the container's lock, held by the start until it has told ``start``, keeps ``die`` behind it. An exit that
bears another run id than the record's is late news of an earlier run and ignored.
"""

import dataclasses
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio
from msgspec.structs import replace

from proad.engine.dispose import Disposer
from proad.engine.execlife import ExecLives
from proad.engine.health import HealthChecks
from proad.engine.joining import joiners_of
from proad.engine.locks import Locks
from proad.engine.lookup import event_attributes
from proad.engine.oom import OomEvents
from proad.engine.resources import RunResources
from proad.engine.streams import Streams
from proad.engine.waiting import Waiters, WaitResult
from proad.host.cgroup import Cgroups
from proad.host.conmon import ExitReport, Monitored
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.restart import Backoff, restarts_after_exit
from proad.store.db import Store, Transaction

KILLED = 128 + signal.SIGKILL
RECORD_RETRY_S = 1.0
MONITOR_LOST = "the container's monitor was killed, and the container with it"

log = structlog.get_logger(__name__)

StartAgain = Callable[[str, str], Awaitable[None]]
"""``start_again(container_id, run_id)``: start it if that run is still its last and it still waits for a
restart.
"""


@dataclass(frozen=True)
class _Ended:
    """A run that is over, with all that is told of it."""

    exit_code: int
    oom_killed: bool
    finished_ns: int
    error: str = ""


class Supervisor:
    """Watches running containers and acts on their ends."""

    def __init__(
        self,
        store: Store,
        locks: Locks,
        waiters: Waiters,
        resources: RunResources,
        disposer: Disposer,
        streams: Streams,
        execs: ExecLives,
        cgroups: Cgroups,
        health: HealthChecks,
        ooms: OomEvents,
        nursery: trio.Nursery,
    ) -> None:
        self._store = store
        self._locks = locks
        self._waiters = waiters
        self._resources = resources
        self._disposer = disposer
        self._streams = streams
        self._execs = execs
        self._cgroups = cgroups
        self._health = health
        self._ooms = ooms
        self._nursery = nursery
        self._backoffs: dict[str, Backoff] = {}
        self.start_again: StartAgain = _no_start
        """Set at wiring: the starter and the supervisor need each other."""
        self.draining = False
        """The daemon is going down and stops its containers: no policy restarts them now."""

    def watch(self, container: Container, run: Run, monitored: Monitored) -> None:
        """Follow a run from now on, its health and its memory: one that has just started, or that recovery
        adopts.
        """
        self._nursery.start_soon(self._watch, container.id, run.id, monitored)
        self._health.watch(container)
        self._ooms.watch(container, run)

    def forget_backoff(self, container_id: str) -> None:
        """A start by hand begins with the first delay again."""
        self._backoffs.pop(container_id, None)

    async def _watch(self, container_id: str, run_id: str, monitored: Monitored) -> None:
        report = await monitored.exited()
        monitored.close()
        async with self._locks.of(container_id):
            container = self._store.containers.get(container_id)
            if container is None or container.run is None or container.run.id != run_id:
                return
            if container.status.has_process:
                await self.end_run_locked(container, container.run, report)

    async def end_run_locked(self, container: Container, run: Run, report: ExitReport) -> None:
        """Free what a run held, write down its end, let policy decide. The caller holds the lock."""
        self._health.unwatch(container.id)
        if self._ooms.unwatch(run):
            report = dataclasses.replace(report, oom_killed=True)
        ended = await self._make_sure_it_ended(run, report)
        await self._execs.run_ended(container, run)
        await self._streams.output_ended(container)
        await self._resources.release(container, run)
        container = await self._record_end(container.id, run, ended)
        restarts = container.status is Status.RESTARTING
        log.info("container exited", container=container.id, exit_code=ended.exit_code, restarting=restarts)
        self._streams.run_ended(container.id)
        self._waiters.run_ended(container.id, WaitResult(ended.exit_code, ended.error))
        self._resources.finish_later(container, run)
        for joiner in joiners_of(self._store, container):
            log.warning(
                "a container has lost the network that it shared; restart it to join again",
                container=joiner.id,
                name=joiner.name,
                shared=container.name,
            )
        if restarts:
            self.restart_later(container, run)
        elif container.host_config.auto_remove and not awaits_restart(container):
            await self.auto_remove_locked(container)

    async def _make_sure_it_ended(self, run: Run, report: ExitReport) -> _Ended:
        """Without an exit file the monitor itself was killed: then nobody watches the container, and it must
        go.
        """
        if report.exit_code is not None:
            # A file's time is the kernel's last tick: for a very short run that lies before its start.
            finished_ns = max(report.finished_ns, run.started_ns + 1)
            return _Ended(report.exit_code, report.oom_killed, finished_ns)
        try:
            await self._cgroups.kill(run.cgroup)
        except errors.System as error:
            log.error("processes of a container resist", cgroup=run.cgroup, error=error.message)
        return _Ended(KILLED, report.oom_killed, time.time_ns(), MONITOR_LOST)

    async def _record_end(self, container_id: str, run: Run, ended: _Ended) -> Container:
        """Write the end down. It has happened, so a disk that is full just now only delays the news."""
        while True:
            try:
                # Read each time: a stop may mark it while we release, or wait for the disk.
                return self._write_end(self._store.containers[container_id], run, ended)
            except errors.System as error:
                log.error("end of a container not recorded yet", container=container_id, error=error.message)
                await trio.sleep(RECORD_RETRY_S)

    def _write_end(self, before: Container, run: Run, ended: _Ended) -> Container:
        restarts = not self.draining and restarts_after_exit(
            before.host_config.restart_policy,
            exit_code=ended.exit_code,
            restart_count=before.restart_count,
            stopped_by_user=before.stopped_by_user,
        )
        ending = before.run.ending if before.run is not None else None
        remaining = ending if ending is not None and ending.verb == "restart" else None
        container = replace(
            before.with_status(Status.RESTARTING if restarts else Status.EXITED),
            exit_code=ended.exit_code,
            error=ended.error,
            oom_killed=before.oom_killed or ended.oom_killed,
            finished_ns=ended.finished_ns,
            run=replace(run, endpoints=(), netns="", signal=0, limits_in_doubt=False, ending=remaining),
        )
        duration_s = max(0, ended.finished_ns - run.started_ns) // 10**9
        exit_told = {"exitCode": str(ended.exit_code), "execDuration": str(duration_s)}
        told = [("die", exit_told)]
        if ended.oom_killed and not before.oom_killed:
            told.insert(0, ("oom", {}))
        if ending is not None:
            told.append(("stop", {}))
        if before.status is Status.PAUSED and before.run is not None and before.run.signal:
            told.insert(0, ("unpause", {}))  # thawed to die of the signal, by a daemon that could not tell it
        with self._store.transaction(durable=False) as tx:
            tx.put_container(container)
            tell_signal(tx, before, time_ns=ended.finished_ns)
            tell_network(tx, "disconnect", before, run, time_ns=ended.finished_ns)
            for action, extra in told:
                attributes = event_attributes(container, **extra)
                tx.emit("container", action, container.id, attributes, time_ns=ended.finished_ns)
        return container

    async def auto_remove_locked(self, container: Container) -> None:
        """Honour ``AutoRemove``; a failure leaves the container ``dead`` and is told to who waits for its
        removal.
        """
        try:
            await self._disposer.dispose_locked(container, volumes=True)
        except errors.ProaError as error:
            log.error("auto-remove failed", container=container.id, error=error.message)

    def restart_later(self, container: Container, run: Run) -> None:
        """Start it again after the policy's delay, unless somebody stops it meanwhile."""
        self._nursery.start_soon(self._restart_later, container, run)

    async def _restart_later(self, container: Container, run: Run) -> None:
        backoff = self._backoffs.setdefault(container.id, Backoff())
        await trio.sleep(backoff.after_run((container.finished_ns - run.started_ns) / 1e9))
        try:
            await self.start_again(container.id, run.id)
        except errors.ProaError as error:
            log.warning("restart failed", container=container.id, error=error.message)


def tell_network(tx: Transaction, action: str, container: Container, run: Run, *, time_ns: int = 0) -> None:
    """Event ``connect`` or ``disconnect`` of each of the run's endpoints; ``time_ns`` 0 is now."""
    for endpoint in run.endpoints:
        attributes = {"container": container.id, "name": endpoint.network, "type": endpoint.driver}
        tx.emit("network", action, endpoint.network_id, attributes, time_ns=time_ns)


def tell_signal(tx: Transaction, container: Container, *, time_ns: int = 0) -> None:
    """Event ``kill`` of the signal that the record says is being sent, if any; ``time_ns`` 0 is now."""
    if container.run is not None and container.run.signal:
        attributes = event_attributes(container, signal=str(container.run.signal))
        tx.emit("container", "kill", container.id, attributes, time_ns=time_ns)


def awaits_restart(container: Container) -> bool:
    """Whether the verb restart has stopped it, and has not started it yet."""
    ending = container.run.ending if container.run is not None else None
    return container.status is Status.EXITED and ending is not None and ending.verb == "restart"


async def _no_start(container_id: str, run_id: str) -> None:
    raise errors.System("the supervisor has no starter")
