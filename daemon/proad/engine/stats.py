"""Trio-flavoured. Statistics of running containers: read once a second for however many who watch.

    watch = stats.watch(container, news.set)      # the first reading is there at once
    ...                                           # news: a second later, and so on
    watch.latest.line                             # what all who watch this container are sent, encoded once
    watch.close()

Who watches is told that there is news and takes the latest when it can: a slow client misses readings, and
costs nothing. Without anybody who watches nothing is read and nobody wakes up.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from proad.engine.lookup import find_container
from proad.host.cgroupstats import CgroupStats
from proad.host.netcounters import NetworkCounters, read_inside
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.stats import NOTHING, NetworkStats, Sample, encode
from proad.store.db import Store

INTERVAL_S = 1.0
COMPANY_S = 0.05
"""What is due this soon is read with what is due now, so that many containers do not wake us one by one."""
BATCH = 8
"""So many are read, in a millisecond or two, before others get their turn."""
_JOINED = "container:"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Reading:
    """One line for clients. ``is_comparable``: the reading before is in it, so the CPU's use can be told."""

    line: bytes
    is_comparable: bool


class Watch:
    """One who watches a container. ``latest`` is None when the container is removed."""

    def __init__(self, watched: "_Watched", on_news: Callable[[], None]) -> None:
        self._watched = watched
        self._on_news = on_news
        watched.watches.add(self)

    @property
    def latest(self) -> Reading | None:
        return self._watched.reading

    @property
    def is_running(self) -> bool:
        """Whether the latest reading found the container running."""
        return self._watched.sample.read_ns != 0

    def close(self) -> None:
        """Watch no more. The last one to go ends the readings."""
        self._watched.watches.discard(self)

    def tell(self) -> None:
        self._on_news()


class _Watched:
    """A container that somebody watches."""

    def __init__(self, container_id: str) -> None:
        self.container_id = container_id
        self.watches: set[Watch] = set()
        self.run_id = ""
        self.sample = NOTHING
        self.reading: Reading | None = None
        self.due_s = 0.0


class Stats:
    """Reads what containers use. Plain functions may be called without crossing the seam."""

    def __init__(self, store: Store, cgroups: CgroupStats, counters: NetworkCounters) -> None:
        self._store = store
        self._cgroups = cgroups
        self._counters = counters
        self._watched: dict[str, _Watched] = {}
        self._wanted = trio.Event()

    def find(self, ref: str) -> Container:
        """See :func:`proad.engine.lookup.find_container`."""
        return find_container(self._store, ref)

    def read(self, container: Container) -> bytes:
        """One reading by itself, with no other before it; an empty one if the container does not run.

        Raises:
            errors.System: the kernel refused.
        """
        return encode(container.name, container.id, self._sample(container))

    def watch(self, container: Container, on_news: Callable[[], None]) -> Watch:
        """Watch a container; ``on_news`` is called after each further reading and must not wait.

        One that does not run is watched as well: its readings are empty until it does.

        Raises:
            errors.System: the kernel refused the first reading.
        """
        watched = self._watched.get(container.id)
        if watched is None:
            watched = _Watched(container.id)
            self._read(watched, container)
            self._watched[container.id] = watched
            watched.due_s = trio.current_time() + INTERVAL_S
            self._wanted.set()
        return Watch(watched, on_news)

    async def run(self) -> None:
        """Read what is watched, each container once a second. Runs for as long as the engine."""
        while True:
            if not self._watched:
                self._wanted = trio.Event()
                await self._wanted.wait()
            await trio.sleep_until(min(watched.due_s for watched in self._watched.values()))
            now_s = trio.current_time()
            due = [watched for watched in self._watched.values() if watched.due_s <= now_s + COMPANY_S]
            for number, watched in enumerate(due, 1):
                self._renew(watched)
                # After a stall (a suspended host) the readings missed are not made up for.
                watched.due_s = max(watched.due_s, now_s - COMPANY_S) + INTERVAL_S
                if number % BATCH == 0:
                    await trio.lowlevel.checkpoint()

    def _renew(self, watched: _Watched) -> None:
        container = self._store.containers.get(watched.container_id)
        if container is None or not watched.watches:
            del self._watched[watched.container_id]
            watched.reading = None
        else:
            try:
                self._read(watched, container)
            except errors.System as error:
                log.error("container not measured", container=container.id, error=error.message)
                return
        for watch in tuple(watched.watches):
            watch.tell()

    def _read(self, watched: _Watched, container: Container) -> None:
        run_id = container.run.id if container.run is not None else ""
        # What was counted before belongs to another run: its numbers would run backwards.
        before = watched.sample if run_id == watched.run_id else NOTHING
        sample = self._sample(container)
        watched.sample, watched.run_id = sample, run_id
        watched.reading = Reading(
            encode(container.name, container.id, sample, before),
            is_comparable=before.read_ns != 0,
        )

    def _sample(self, container: Container) -> Sample:
        run = container.run
        if not container.status.has_process or run is None:
            return NOTHING
        group = self._cgroups.read(run.cgroup)
        if group is None:  # it has just ended
            return NOTHING
        return Sample(
            read_ns=time.time_ns(),
            group=group,
            host_cpu=self._cgroups.host_cpu(),
            networks=self._networks(container),
        )

    def _networks(self, container: Container) -> dict[str, NetworkStats]:
        """The counters of its interfaces, or of those of the container whose network it shares."""
        run = self._network_run(container)
        if run is None:
            return {}
        if any(not endpoint.host_interface for endpoint in run.endpoints):
            return read_inside(run.pid)
        found = {
            endpoint.interface: self._counters.read_peer(endpoint.host_interface)
            for endpoint in run.endpoints
        }
        return {name: counters for name, counters in found.items() if counters is not None}

    def _network_run(self, container: Container) -> Run | None:
        mode = container.host_config.network_mode
        if not mode.startswith(_JOINED):
            return container.run
        try:
            return find_container(self._store, mode.removeprefix(_JOINED)).run
        except (errors.NotFound, errors.InvalidParameter):  # gone: what it shared goes with it
            return None
