"""Trio-flavoured. What is done to a container that runs: kill, stop, restart, pause, unpause, resize.

Signals go through a pidfd of exactly the process that the record names, so they cannot hit another one. None
of these verbs holds the container's lock while it waits for the process to end: the supervisor needs the lock
to write the end down.
"""

import math
import signal as signals

import trio
from msgspec.structs import replace

from proad.engine.locks import Locks
from proad.engine.lookup import event_attributes, find_container
from proad.engine.start import Starter
from proad.engine.streams import Streams
from proad.engine.waiting import Waiters, WaitResult
from proad.host.cgroup import Cgroups
from proad.host.process import ProcessId
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.signals import parse_signal
from proad.store.db import Store

DEFAULT_STOP_TIMEOUT_S = 10
KILL_PATIENCE_S = 10.0
"""How long a killed process may take to be gone (it may be stuck in the kernel) before the verb gives up."""


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
    ) -> None:
        self._store = store
        self._locks = locks
        self._waiters = waiters
        self._cgroups = cgroups
        self._streams = streams
        self._starter = starter

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
            await self._signal(container, number)
            return
        waiter = self._waiters.add(container.id, "next-exit")
        try:
            await self._signal(container, number)
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
        if not await self._stop(container, signal, timeout_s):
            raise errors.NotModified("container is not running")

    async def restart(self, ref: str, *, signal: str | None = None, timeout_s: int | None = None) -> None:
        """Stop it if it runs, then start it; events of both, then ``restart``."""
        container = find_container(self._store, ref)
        await self._stop(container, signal, timeout_s)
        await self._starter.start_if_stopped(container.id)
        self._tell(container.id, "restart")

    async def pause(self, ref: str) -> None:
        """Freeze all its processes; event ``pause``.

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
            await self._cgroups.freeze(container.run.cgroup)
            with self._store.transaction() as tx:
                tx.put_container(container.with_status(Status.PAUSED))
                tx.emit("container", "pause", container.id, event_attributes(container))

    async def unpause(self, ref: str) -> None:
        """Let its processes go on; event ``unpause``.

        Raises:
            errors.Conflict: it is not paused.
        """
        container = find_container(self._store, ref)
        async with self._locks.of(container.id):
            await self._unpause_locked(find_container(self._store, container.id))

    async def _unpause_locked(self, container: Container) -> None:
        if container.status is not Status.PAUSED or container.run is None:
            raise errors.Conflict(f"container {container.id} is not paused")
        self._cgroups.thaw(container.run.cgroup)
        with self._store.transaction() as tx:
            tx.put_container(container.with_status(Status.RUNNING))
            tx.emit("container", "unpause", container.id, event_attributes(container))

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

    async def _stop(self, container: Container, signal: str | None, timeout_s: int | None) -> bool:
        """Stop a container; returns whether there was anything to stop."""
        number = parse_signal(signal or container.config.stop_signal or "TERM")
        if timeout_s is None:
            asked = container.config.stop_timeout
            timeout_s = DEFAULT_STOP_TIMEOUT_S if asked is None else asked
        if await self._end_restarting(container.id):
            self._tell(container.id, "stop")
            return True
        container = find_container(self._store, container.id)
        if not container.status.has_process:
            return False
        waiter = self._waiters.add(container.id, "next-exit")
        try:
            self._mark_stopped_by_user(container.id)
            await self._signal(container, number)
            with trio.move_on_after(math.inf if timeout_s < 0 else timeout_s):
                await waiter.result()
            if waiter.outcome is None:
                await self._signal(container, signals.SIGKILL)
                with trio.move_on_after(KILL_PATIENCE_S):
                    await waiter.result()
        finally:
            self._waiters.discard(container.id, waiter)
        if waiter.outcome is None:
            raise errors.System(f"cannot stop container: {container.id}: it does not end, even killed")
        self._tell(container.id, "stop")
        return True

    async def _end_restarting(self, container_id: str) -> bool:
        """If it waits for its next restart, there shall be none."""
        if find_container(self._store, container_id).status not in (Status.RESTARTING, Status.STARTING):
            return False
        async with self._locks.of(container_id):
            container = find_container(self._store, container_id)
            if container.status is not Status.RESTARTING:
                return False
            with self._store.transaction() as tx:
                tx.put_container(replace(container.with_status(Status.EXITED), stopped_by_user=True))
            self._waiters.run_ended(container_id, WaitResult(container.exit_code))
            return True

    async def _ends_restarting(self, container: Container, number: int) -> bool:
        """Whether the signal comes between two runs, and means that there shall be no next one."""
        if container.status is not Status.RESTARTING or not _means_to_stop(container, number):
            return False
        return await self._end_restarting(container.id)

    async def _signal(self, container: Container, number: int) -> None:
        """Send one signal to the first process, tell it, and thaw a paused container that shall die of it."""
        assert container.run is not None
        if _means_to_stop(container, number):
            self._mark_stopped_by_user(container.id)
        handle = ProcessId(container.run.pid, container.run.pid_start).open()
        if handle is None:
            return  # it has just ended; the supervisor is about to say so
        try:
            handle.signal(number)
        finally:
            handle.close()
        with self._store.transaction(durable=False) as tx:
            tx.emit("container", "kill", container.id, event_attributes(container, signal=str(number)))
        if container.status is Status.PAUSED:
            async with self._locks.of(container.id):
                current = self._store.containers.get(container.id)
                if current is not None and current.status is Status.PAUSED:
                    await self._unpause_locked(current)

    def _mark_stopped_by_user(self, container_id: str) -> None:
        container = self._store.containers.get(container_id)
        if container is not None and not container.stopped_by_user:
            with self._store.transaction(durable=False) as tx:
                tx.put_container(replace(container, stopped_by_user=True))

    def _tell(self, container_id: str, action: str) -> None:
        container = self._store.containers.get(container_id)
        if container is not None:  # else auto-remove was faster
            with self._store.transaction(durable=False) as tx:
                tx.emit("container", action, container_id, event_attributes(container))


def _means_to_stop(container: Container, number: int) -> bool:
    """Whether a signal sent by hand keeps the restart policy from starting the container again."""
    stop_signal = container.config.stop_signal
    return number == signals.SIGKILL or not stop_signal or number == parse_signal(stop_signal)
