"""Trio-flavoured. Out of memory: told when it happens, whether the container ends of it or goes on.

The kernel kills one process of the container, not always its first. As with Docker, the event ``oom`` comes
at once, and ``State.OOMKilled`` is true from then until the next start. What happened while no daemon was
there is told when the container is adopted, once.
"""

import structlog
from msgspec.structs import replace

from proad.engine.lookup import event_attributes
from proad.host.cgroup import Cgroups
from proad.host.oomwatch import OomWatch
from proad.model import errors
from proad.model.container import Container, Run
from proad.store.db import Store

log = structlog.get_logger(__name__)


class OomEvents:
    """Watches the memory of containers that run."""

    def __init__(self, store: Store, cgroups: Cgroups, watch: OomWatch) -> None:
        self._store = store
        self._cgroups = cgroups
        self._watch = watch
        self._container_ids: dict[str, str] = {}

    async def run(self) -> None:
        """Tell what happens; never returns."""
        while True:
            for cgroup in await self._watch.news():
                self._tell(cgroup)

    def watch(self, container: Container, run: Run) -> None:
        """Tell of this run from now on, and of what nobody has told yet."""
        self._container_ids[run.cgroup] = container.id
        self._begin(run.cgroup)
        if not container.oom_killed and self._cgroups.oom_kills(run.cgroup):
            self._begin(run.cgroup)  # anew: what we have just seen may already be waiting to be told
            self._tell(run.cgroup)

    def unwatch(self, run: Run) -> bool:
        """The run is over, its group still there; returns whether it was ever short of memory."""
        if not run.cgroup:
            return False
        self._container_ids.pop(run.cgroup, None)
        untold = self._watch.forget(run.cgroup)
        return untold or self._cgroups.oom_kills(run.cgroup) > 0

    def _begin(self, cgroup: str) -> None:
        self._watch.forget(cgroup)
        try:
            self._watch.watch(cgroup)
        except errors.System as error:  # the group has gone, or its end tells nevertheless
            log.warning("out of memory is told late", cgroup=cgroup, error=error.message)

    def _tell(self, cgroup: str) -> None:
        container = self._store.containers.get(self._container_ids.get(cgroup, ""))
        if container is None or container.run is None or container.run.cgroup != cgroup:
            return
        try:
            with self._store.transaction(durable=False) as tx:
                tx.put_container(replace(container, oom_killed=True))
                tx.emit("container", "oom", container.id, event_attributes(container))
        except errors.System as error:  # the disk is full: told with its end
            log.error("out of memory not recorded", container=container.id, error=error.message)
