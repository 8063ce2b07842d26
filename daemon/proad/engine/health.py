"""Trio-flavoured. Health checks of running containers: one task each, asleep until its next probe is due.

A probe's result is written under the container's lock, with the event ``health_status: …`` where it changes
how the container is. What comes when the run is over, or frozen, is late news and ignored.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
import trio
from msgspec.structs import replace

from proad.engine.locks import Locks
from proad.engine.lookup import event_attributes
from proad.engine.probing import ProbeResult
from proad.host.process import ProcessId
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.health import MAX_OUTPUT_BYTES, NOT_RUN, Check, Health, Probed, check_of
from proad.store.db import Store

SPREAD_NS = 20 * 10**6
"""Between the first probes of containers whose probes fell due while no daemon ran: they shall not come all
at once.
"""

log = structlog.get_logger(__name__)


class Prober(Protocol):
    """Runs a command in a container: :class:`proad.engine.exec.Execs`."""

    async def probe(
        self, container: Container, argv: Sequence[str], *, timeout_s: float, max_output_bytes: int
    ) -> ProbeResult: ...


class HealthChecks:
    """Probes the containers that ask for it."""

    def __init__(
        self,
        store: Store,
        locks: Locks,
        prober: Prober,
        nursery: trio.Nursery,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._locks = locks
        self._prober = prober
        self._nursery = nursery
        self._now_ns = now_ns
        self._scopes: dict[str, trio.CancelScope] = {}
        self._overdue = 0

    def watch(self, container: Container, *, thawed: bool = False) -> None:
        """Probe a running container from now on, if it asks for it: one that has just started, or was thawed,
        or that a daemon before this one watched. Then the next probe comes when that one would have made it.
        """
        check = check_of(container.config)
        if check is None or container.run is None:
            return
        now_ns = self._now_ns()
        delay_ns = self._delay_ns(container, check)
        remaining_ns = delay_ns
        if not thawed:
            # Clocks are set, so a probe may lie in the future; that shall not put off the next one.
            remaining_ns = min(_last_ns(container) + delay_ns - now_ns, delay_ns)
        if remaining_ns <= 0:
            remaining_ns = min(self._overdue * SPREAD_NS, delay_ns)
            self._overdue += 1
        self.unwatch(container.id)
        scope = self._scopes[container.id] = trio.CancelScope()
        self._nursery.start_soon(
            self._monitor, container.id, container.run.id, check, remaining_ns / 1e9, scope
        )

    def unwatch(self, container_id: str) -> None:
        """Probe it no more: it has ended, or is frozen. A probe under way is killed and tells nothing."""
        if (scope := self._scopes.pop(container_id, None)) is not None:
            scope.cancel()

    async def _monitor(
        self, container_id: str, run_id: str, check: Check, delay_s: float, scope: trio.CancelScope
    ) -> None:
        with scope:
            while True:
                await trio.sleep(delay_s)
                container = self._alive(container_id, run_id)
                if container is not None and container.status is Status.RUNNING:
                    probed = await self._probe(container, check)
                    container = await self._record(container_id, run_id, check, probed)
                if container is None:
                    break
                delay_s = self._delay_ns(container, check) / 1e9
        if self._scopes.get(container_id) is scope:
            del self._scopes[container_id]

    def _alive(self, container_id: str, run_id: str) -> Container | None:
        """The record while that run lasts."""
        container = self._store.containers.get(container_id)
        if container is None or container.run is None or container.run.id != run_id:
            return None
        return container if container.status.has_process else None

    async def _probe(self, container: Container, check: Check) -> Probed:
        """Run the command in the container; what keeps it from running is a result, too."""
        start_ns = self._now_ns()
        try:
            result = await self._prober.probe(
                container,
                check.argv,
                timeout_s=check.timeout_ns / 1e9,
                max_output_bytes=MAX_OUTPUT_BYTES + 1,  # one more tells that there was more
            )
        except (errors.ProaError, OSError) as error:  # of the kernel: no more processes or descriptors, say
            log.debug("health check could not be run", container=container.id, error=str(error))
            return Probed(start_ns, self._now_ns(), NOT_RUN, str(error))
        output = result.output[:MAX_OUTPUT_BYTES].decode(errors="replace")
        if len(result.output) > MAX_OUTPUT_BYTES:
            output += "..."
        if result.timed_out:
            return Probed(start_ns, self._now_ns(), NOT_RUN, check.timed_out(output))
        return Probed(start_ns, self._now_ns(), result.exit_code, output)

    async def _record(self, container_id: str, run_id: str, check: Check, probed: Probed) -> Container | None:
        """Write down one more probe and tell what it changes; returns the record while that run lasts.

        A probe that its container took along when it ended says nothing of its health.
        """
        async with self._locks.of(container_id):
            container = self._alive(container_id, run_id)
            if container is None or container.status is not Status.RUNNING:
                return container
            if probed.exit_code != 0 and _is_ending(container):
                return container
            before = container.health or Health()
            health = before.after(probed, check, started_ns=container.started_ns)
            container = replace(container, health=health)
            try:
                with self._store.transaction(durable=False) as tx:
                    tx.put_container(container)
                    if health.status is not before.status:
                        action = f"health_status: {health.status}"
                        tx.emit("container", action, container_id, event_attributes(container))
            except errors.System as error:  # a full disk: what lasts is told by the next probe as well
                log.error("health of a container not recorded", container=container_id, error=error.message)
            return container

    def _delay_ns(self, container: Container, check: Check) -> int:
        up_ns = self._now_ns() - container.started_ns
        return check.delay_ns(container.health or Health(), up_ns=up_ns)


def _is_ending(container: Container) -> bool:
    run = container.run
    return run is not None and ProcessId(run.pid, run.pid_start).is_ending()


def _last_ns(container: Container) -> int:
    """When its last probe ended, or the container started if it had none in this run."""
    health = container.health
    last = health.log[-1] if health is not None and health.log else None
    return last.end_ns if last is not None and last.start_ns >= container.started_ns else container.started_ns
