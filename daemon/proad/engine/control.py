"""Trio-flavoured. What is done to a container that runs: kill, stop, restart, pause, unpause, resize.

Signals go through a pidfd of exactly the process that the record names, so they cannot hit another one. None
of these verbs holds the container's lock while it waits for the process to end: the supervisor needs the lock
to write the end down.

The daemon may die at any instant and the events still tell the story once: the intent to send a signal, to
stop or to restart is on the record before anything is done, and is taken off it in the transaction that tells
the event. What a dead daemon left there, recovery has finished here.
"""

import math
import signal as signals
from typing import Literal

import structlog
import trio
from msgspec.structs import replace

from proad.engine.health import HealthChecks
from proad.engine.locks import Locks
from proad.engine.lookup import event_attributes, find_container
from proad.engine.start import Starter
from proad.engine.streams import Streams
from proad.engine.supervise import awaits_restart, tell_signal
from proad.engine.waiting import Waiter, Waiters, WaitResult
from proad.host.cgroup import Cgroups
from proad.host.process import ProcessHandle, ProcessId
from proad.model import errors
from proad.model.container import Container, Ending, Run, Status
from proad.model.signals import parse_signal
from proad.store.db import Store

DEFAULT_STOP_TIMEOUT_S = 10
KILL_PATIENCE_S = 10.0
"""How long a killed process may take to be gone (it may be stuck in the kernel) before the verb gives up."""

log = structlog.get_logger(__name__)


class Control:
    """The verbs on running containers."""

    def __init__(
        self,
        store: Store,
        locks: Locks,
        waiters: Waiters,
        cgroups: Cgroups,
        streams: Streams,
        starter: Starter,
        health: HealthChecks,
    ) -> None:
        self._store = store
        self._locks = locks
        self._waiters = waiters
        self._cgroups = cgroups
        self._streams = streams
        self._starter = starter
        self._health = health
        self.draining = False
        """The daemon is going down and stops its containers: no user wants them to stay down."""

    async def kill(self, ref: str, signal: str) -> None:
        """Send a signal, SIGKILL if ``signal`` is empty; event ``kill``. With SIGKILL, return when it is
        dead.

        Raises:
            errors.Conflict: it is not running.
            errors.InvalidParameter: no such signal.
        """
        try:
            number = parse_signal(signal or "KILL")
            container = find_container(self._store, ref)
            if await self._ends_restarting(container, number):
                return
            if not container.status.has_process:
                raise errors.Conflict(f"container {container.id} is not running")
        except errors.ProaError as error:
            raise type(error)(f"cannot kill container: {ref}: {error.message}") from error
        if number != signals.SIGKILL:
            await self._signal(container.id, number)
            return
        waiter = self._waiters.add(container.id, "next-exit")
        try:
            await self._signal(container.id, number)
            with trio.move_on_after(KILL_PATIENCE_S):
                await waiter.result()
        finally:
            self._waiters.discard(container.id, waiter)

    async def stop(self, ref: str, *, signal: str | None = None, timeout_s: int | None = None) -> None:
        """Ask the process to end, kill it after ``timeout_s`` (negative: never); events ``kill``, ``die``,
        ``stop``.

        Both default to the container's own StopSignal and StopTimeout, then to SIGTERM and 10 s.

        Raises:
            errors.NotModified: it is not running.
        """
        container = find_container(self._store, ref)
        if not await self._stop(container, "stop", signal, timeout_s):
            raise errors.NotModified("container is not running")

    async def restart(self, ref: str, *, signal: str | None = None, timeout_s: int | None = None) -> None:
        """Stop it if it runs, then start it; events of both, then ``restart``. ``AutoRemove`` is not for this
        stop.
        """
        container = find_container(self._store, ref)
        await self._stop(container, "restart", signal, timeout_s)
        await self._start_after_stop(container.id)

    async def carry_on(self, container_id: str, run_id: str) -> None:
        """Finish a stop or a restart of that run that a daemon before this one began."""
        container = self._store.containers.get(container_id)
        if container is None or (run := container.run) is None or run.id != run_id or run.ending is None:
            return
        try:
            if container.status.has_process:
                waiter = self._waiters.add(container_id, "next-exit")
                try:
                    await self._see_end(container_id, run.ending, waiter)
                finally:
                    self._waiters.discard(container_id, waiter)
            if run.ending.verb == "restart":
                await self._start_after_stop(container_id)
        except errors.ProaError as error:
            log.error("cannot carry on", verb=run.ending.verb, container=container_id, error=error.message)

    def send_again(self, container: Container) -> None:
        """Send the signal that a daemon before this one may or may not have sent, and tell it.

        Has the process gone, it is told with its end. The caller holds the lock.
        """
        handle = _open(container)
        if handle is None:
            return
        try:
            if handle.signal(_run(container).signal):
                self._settle_signal(container, sent=True)
        finally:
            handle.close()

    async def pause(self, ref: str, *, briefly: bool = False) -> None:
        """Freeze all its processes; event ``pause``.

        ``briefly`` is for the length of something that this daemon does: if it dies, recovery ends the pause.

        Raises:
            errors.Conflict: it is not running, or paused already, or restarting.
        """
        container = find_container(self._store, ref)
        async with self._locks.of(container.id):
            container = find_container(self._store, container.id)
            if container.status is Status.RESTARTING:
                raise errors.Conflict(
                    f"container {container.id} is restarting, wait until the container is running"
                )
            if container.status is Status.PAUSED:
                raise errors.Conflict(f"container {container.id} is already paused")
            if container.status is not Status.RUNNING or container.run is None:
                raise errors.Conflict(f"container {container.id} is not running")
            if briefly != container.run.paused_briefly:
                with self._store.transaction(durable=False) as tx:
                    tx.put_container(replace(container, run=replace(container.run, paused_briefly=briefly)))
            await self._cgroups.freeze(container.run.cgroup)
            container = find_container(self._store, container.id)  # a signal may have marked it meanwhile
            with self._store.transaction() as tx:
                tx.put_container(container.with_status(Status.PAUSED))
                tx.emit("container", "pause", container.id, event_attributes(container))
            self._health.unwatch(container.id)

    async def unpause(self, ref: str, *, briefly: bool = False) -> None:
        """Let its processes go on; event ``unpause``. With ``briefly`` only if such a pause is what it is in.

        Raises:
            errors.Conflict: it is not paused.
        """
        container = find_container(self._store, ref)
        async with self._locks.of(container.id):
            container = find_container(self._store, container.id)
            if briefly and not (container.status is Status.PAUSED and _run(container).paused_briefly):
                return  # somebody has ended it already, or the run is over
            if container.status is not Status.PAUSED:
                raise errors.Conflict(f"container {container.id} is not paused")
            self._cgroups.thaw(_run(container).cgroup)
            with self._store.transaction() as tx:
                tx.put_container(container.with_status(Status.RUNNING))
                tx.emit("container", "unpause", container.id, event_attributes(container))
            self._health.watch(self._store.containers[container.id], thawed=True)

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the terminal's size; the program gets SIGWINCH. Event ``resize``.

        Raises:
            errors.Conflict: it is not running.
        """
        container = find_container(self._store, ref)
        if not container.status.has_process:
            raise errors.Conflict(f"container {container.id} is not running")
        await self._streams.resize(container.id, height, width)
        with self._store.transaction(durable=False) as tx:
            attributes = event_attributes(container, height=str(height), width=str(width))
            tx.emit("container", "resize", container.id, attributes)

    async def _stop(
        self,
        container: Container,
        verb: Literal["stop", "restart"],
        signal: str | None,
        timeout_s: int | None,
    ) -> bool:
        """Stop a container; returns whether there was anything to stop."""
        number = parse_signal(signal or container.config.stop_signal or "TERM")
        if timeout_s is None:
            asked = container.config.stop_timeout
            timeout_s = DEFAULT_STOP_TIMEOUT_S if asked is None else asked
        ending = Ending(verb, timeout_s)
        if await self._end_restarting(container.id, ending):
            return True
        container = find_container(self._store, container.id)
        if not container.status.has_process:
            return False
        waiter = self._waiters.add(container.id, "next-exit")
        try:
            await self._signal(container.id, number, ending)
            await self._see_end(container.id, ending, waiter)
        finally:
            self._waiters.discard(container.id, waiter)
        return True

    async def _see_end(self, container_id: str, ending: Ending, waiter: Waiter) -> None:
        """Wait until a process ends that has got its signal; kill it after the timeout.

        Raises:
            errors.System: it does not end.
        """
        with trio.move_on_after(math.inf if ending.timeout_s < 0 else ending.timeout_s):
            await waiter.result()
        if waiter.outcome is None:
            await self._signal(container_id, signals.SIGKILL)
            with trio.move_on_after(KILL_PATIENCE_S):
                await waiter.result()
        if waiter.outcome is None:
            raise errors.System(f"cannot stop container: {container_id}: it does not end, even killed")

    async def _start_after_stop(self, container_id: str) -> None:
        try:
            await self._starter.start_if_stopped(container_id, restarted=True)
        except errors.ProaError:
            container = self._store.containers.get(container_id)
            if container is not None and awaits_restart(container):  # refused before a new run began
                with self._store.transaction(durable=False) as tx:
                    tx.put_container(replace(container, run=replace(_run(container), ending=None)))
            raise

    async def _end_restarting(self, container_id: str, ending: Ending | None) -> bool:
        """If it waits for its next restart, there shall be none; event ``stop`` if ``ending`` asks for it."""
        if find_container(self._store, container_id).status not in (Status.RESTARTING, Status.STARTING):
            return False
        async with self._locks.of(container_id):
            container = find_container(self._store, container_id)
            if container.status is not Status.RESTARTING:
                return False
            remaining = ending if ending is not None and ending.verb == "restart" else None
            run = replace(_run(container), ending=remaining)
            with self._store.transaction() as tx:
                tx.put_container(replace(container.with_status(Status.EXITED), stopped_by_user=True, run=run))
                if ending is not None:
                    tx.emit("container", "stop", container_id, event_attributes(container))
            self._waiters.run_ended(container_id, WaitResult(container.exit_code))
            return True

    async def _ends_restarting(self, container: Container, number: int) -> bool:
        """Whether the signal comes between two runs, and means that there shall be no next one."""
        if container.status is not Status.RESTARTING or not _means_to_stop(container, number):
            return False
        return await self._end_restarting(container.id, None)

    async def _signal(self, container_id: str, number: int, ending: Ending | None = None) -> None:
        """Send one signal to the first process and tell it; write down what it shall lead to.

        A paused container that shall die of it is thawed, which the lock is for.
        """
        container = find_container(self._store, container_id)
        if container.status is Status.PAUSED and _means_to_stop(container, number):
            async with self._locks.of(container_id):
                self._send(container_id, number, ending)
        else:
            self._send(container_id, number, ending)

    def _send(self, container_id: str, number: int, ending: Ending | None) -> None:
        """Intent, signal, event: without waiting in between, so nothing else can come between them."""
        container = self._store.containers.get(container_id)
        if container is None or not container.status.has_process:
            return
        handle = _open(container)  # None: it has just ended, and the supervisor is about to say so
        try:
            run = _run(container)
            run = replace(run, signal=number if handle is not None else 0, ending=ending or run.ending)
            by_user = not self.draining and (ending is not None or _means_to_stop(container, number))
            asked = replace(container, run=run, stopped_by_user=container.stopped_by_user or by_user)
            if asked != container:
                with self._store.transaction(durable=False) as tx:
                    tell_signal(tx, container)  # of an earlier one, whose event found the disk full
                    tx.put_container(asked)
            if handle is not None:
                sent = False
                try:
                    sent = handle.signal(number)
                finally:
                    self._settle_signal(asked, sent=sent)
        finally:
            if handle is not None:
                handle.close()

    def _settle_signal(self, container: Container, *, sent: bool) -> None:
        """Tell the signal that is on the record, if it was sent, thaw who shall die of it; it is settled."""
        run = _run(container)
        thaws = sent and container.status is Status.PAUSED and _means_to_stop(container, run.signal)
        if thaws:
            self._cgroups.thaw(run.cgroup)
        settled = replace(container, run=replace(run, signal=0))
        with self._store.transaction(durable=False) as tx:
            tx.put_container(settled.with_status(Status.RUNNING) if thaws else settled)
            if sent:
                tell_signal(tx, container)
            if thaws:
                tx.emit("container", "unpause", container.id, event_attributes(container))


def _run(container: Container) -> Run:
    """The run of a container that has one: it runs, or has run."""
    assert container.run is not None
    return container.run


def _open(container: Container) -> ProcessHandle | None:
    """A handle on the first process, None if it has gone."""
    run = _run(container)
    return ProcessId(run.pid, run.pid_start).open()


def _means_to_stop(container: Container, number: int) -> bool:
    """Whether a signal sent by hand keeps the restart policy from starting the container again."""
    stop_signal = container.config.stop_signal
    return number == signals.SIGKILL or not stop_signal or number == parse_signal(stop_signal)
