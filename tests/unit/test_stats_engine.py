"""When containers are measured, on the mock clock, with a kernel that counts as it is told."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from proad.engine.stats import BATCH, INTERVAL_S, Stats
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.hostconfig import ContainerConfig, HostConfig
from proad.model.network import Endpoint
from proad.model.stats import CpuUsage, GroupStats, HostCpu, NetworkStats
from proad.store.db import Store, open_store

COUNTERS = NetworkStats(
    rx_bytes=1, rx_packets=0, rx_errors=0, rx_dropped=0, tx_bytes=2, tx_packets=0, tx_errors=0, tx_dropped=0
)
ENDPOINT = Endpoint(
    network="bridge",
    network_id="n",
    driver="bridge",
    master="br0",
    interface="eth0",
    endpoint_id="e",
    netns="/ns",
    host_interface="vethabc",
    address="10.0.0.2",
    prefix_length=24,
    gateway="10.0.0.1",
    mac_address="02:42:0a:00:00:02",
)


class Kernel:
    """Control groups and interfaces; a group counts how often it was read."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.gone: set[str] = set()
        self.broken = False

    def read(self, cgroup: str) -> GroupStats | None:
        self.reads.append(cgroup)
        if self.broken:
            raise errors.System("no luck")
        if cgroup in self.gone:
            return None
        return GroupStats(cpu_usage=CpuUsage(total_usage=self.reads.count(cgroup)))

    def host_cpu(self) -> HostCpu:
        return HostCpu(len(self.reads), 2)

    def read_peer(self, interface: str) -> NetworkStats | None:
        return COUNTERS if interface == ENDPOINT.host_interface else None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "state.db", events_max_count=100, events_max_age_s=3600)
    yield opened
    opened.close()


def put(store: Store, id: str, **fields: Any) -> Container:
    container = Container(
        id=id,
        name=f"name-{id}",
        created_ns=1,
        image_id="i",
        image_ref="busybox",
        layers=(),
        config=ContainerConfig(),
        host_config=fields.pop("host_config", HostConfig()),
        status=fields.pop("status", Status.RUNNING),
        run=Run(id="r1", begun_ns=1, cgroup=f"/p/{id}", endpoints=(ENDPOINT,)),
    )
    return save(store, replace(container, **fields))


def save(store: Store, container: Container) -> Container:
    with store.transaction() as tx:
        tx.put_container(container)
    return container


class Watcher:
    """Counts its news, and remembers what it could have sent."""

    def __init__(self, stats: Stats, container: Container) -> None:
        self.lines: list[bytes | None] = []
        self.at: list[float] = []
        self.watch = stats.watch(container, self._on_news)

    def _on_news(self) -> None:
        self.at.append(trio.current_time())
        self.lines.append(self.watch.latest.line if self.watch.latest else None)


def run(store: Store, kernel: Kernel, scene: Callable[[Stats], Any]) -> None:
    async def main() -> None:
        stats = Stats(store, kernel, kernel)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stats.run)
            await scene(stats)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_one_reading_a_second_however_many_watch(store: Store) -> None:
    kernel, container = Kernel(), put(store, "a")

    async def scene(stats: Stats) -> None:
        watchers = [Watcher(stats, container) for _ in range(50)]
        assert kernel.reads == ["/p/a"], "the first is there at once"
        first = watchers[0].watch.latest
        assert first is not None
        assert not first.is_comparable
        await trio.sleep(10.5 * INTERVAL_S)
        assert len(kernel.reads) == 11
        for watcher in watchers:
            assert watcher.at == pytest.approx(range(1, 11), abs=0.1)
            assert watcher.lines == watchers[0].lines
        line = json.loads(watchers[0].lines[-1] or b"")
        assert line["cpu_stats"]["cpu_usage"]["total_usage"] == 11
        assert line["precpu_stats"]["cpu_usage"]["total_usage"] == 10
        assert line["networks"] == {
            "eth0": json.loads(b'{"rx_bytes":1,"tx_bytes":2}')
            | dict.fromkeys(
                ("rx_packets", "rx_errors", "rx_dropped", "tx_packets", "tx_errors", "tx_dropped"), 0
            )
        }

    run(store, kernel, scene)


def test_nothing_is_read_when_nobody_watches(store: Store) -> None:
    kernel, container = Kernel(), put(store, "a")

    async def scene(stats: Stats) -> None:
        await trio.sleep(5)
        assert kernel.reads == []
        watcher = Watcher(stats, container)
        await trio.sleep(2.5)
        watcher.watch.close()
        await trio.sleep(100)
        assert len(kernel.reads) == 3
        assert watcher.at == pytest.approx([6, 7], abs=0.1)
        again = Watcher(stats, container)
        assert again.watch.latest is not None
        assert not again.watch.latest.is_comparable, "what was known is forgotten"
        await trio.sleep(1.1)
        assert len(again.at) == 1

    run(store, kernel, scene)


def test_containers_have_each_their_own_second(store: Store) -> None:
    kernel = Kernel()
    containers = [put(store, f"c{number}") for number in range(3 * BATCH)]

    async def scene(stats: Stats) -> None:
        watchers = []
        for container in containers:
            watchers.append(Watcher(stats, container))
            await trio.sleep(0.01)
        await trio.sleep(10)
        for number, watcher in enumerate(watchers):
            assert watcher.at[0] == pytest.approx(1 + number * 0.01, abs=0.051)
            steps = [after - before for before, after in zip(watcher.at, watcher.at[1:], strict=False)]
            assert steps == pytest.approx([1.0] * len(steps), abs=0.051)

    run(store, kernel, scene)


def test_one_that_does_not_run_has_empty_readings_until_it_does(store: Store) -> None:
    kernel = Kernel()
    container = put(store, "a", status=Status.EXITED)

    async def scene(stats: Stats) -> None:
        watcher = Watcher(stats, container)
        assert not watcher.watch.is_running
        await trio.sleep(1.1)
        assert kernel.reads == []
        assert json.loads(watcher.lines[0] or b"")["read"] == "0001-01-01T00:00:00Z"
        assert container.run is not None
        save(
            store,
            replace(container, status=Status.RUNNING, name="other", run=replace(container.run, id="r2")),
        )
        await trio.sleep(2)
        assert watcher.watch.is_running
        frames = [json.loads(line or b"") for line in watcher.lines[1:]]
        assert [frame["name"] for frame in frames] == ["/other", "/other"]
        assert "system_cpu_usage" not in frames[0]["precpu_stats"]
        assert "system_cpu_usage" in frames[1]["precpu_stats"]
        kernel.gone.add("/p/a")  # ended, but not on record yet
        await trio.sleep(1)
        assert not watcher.watch.is_running

    run(store, kernel, scene)


def test_readings_of_two_runs_are_not_compared(store: Store) -> None:
    kernel, container = Kernel(), put(store, "a")

    async def scene(stats: Stats) -> None:
        watcher = Watcher(stats, container)
        await trio.sleep(1.1)
        assert container.run is not None
        save(store, replace(container, run=replace(container.run, id="r2")))
        await trio.sleep(1)
        assert watcher.watch.latest is not None
        assert not watcher.watch.latest.is_comparable
        await trio.sleep(1)
        assert watcher.watch.latest.is_comparable

    run(store, kernel, scene)


def test_removal_ends_it_and_trouble_does_not(store: Store) -> None:
    kernel, container = Kernel(), put(store, "a")

    async def scene(stats: Stats) -> None:
        watcher = Watcher(stats, container)
        kernel.broken = True
        with pytest.raises(errors.System):
            stats.watch(put(store, "b"), lambda: None)
        await trio.sleep(2.1)
        assert watcher.lines == []
        kernel.broken = False
        await trio.sleep(1)
        assert len(watcher.lines) == 1
        with store.transaction() as tx:
            tx.delete_container(container.id)
        await trio.sleep(1)
        assert watcher.lines[1:] == [None]
        assert watcher.watch.latest is None
        reads = len(kernel.reads)
        await trio.sleep(5)
        assert len(kernel.reads) == reads

    run(store, kernel, scene)


def test_a_shared_network_is_counted_for_both(store: Store) -> None:
    stats = Stats(store, Kernel(), Kernel())  # type: ignore[arg-type]
    put(store, "owner")
    assert_run = Run(id="r2", begun_ns=1, cgroup="/p/g")
    sharing = HostConfig(network_mode="container:owner")
    guest = put(store, "guest", host_config=sharing, run=assert_run)
    assert json.loads(stats.read(guest))["networks"]["eth0"]["tx_bytes"] == 2
    widow = put(store, "widow", host_config=HostConfig(network_mode="container:nobody"), run=assert_run)
    assert "networks" not in json.loads(stats.read(widow))
    host = put(store, "host", host_config=HostConfig(network_mode="host"), run=assert_run)
    assert "networks" not in json.loads(stats.read(host))
