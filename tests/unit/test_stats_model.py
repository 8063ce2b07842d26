"""What control groups say, made out, and the object that clients get of it."""

import json
from typing import Any

from proad.model.cgroupfiles import UNLIMITED, count_cpus, parse_v1, parse_v2
from proad.model.stats import (
    NOTHING,
    BlkioEntry,
    CpuUsage,
    GroupStats,
    HostCpu,
    NetworkStats,
    Sample,
    encode,
)
from tests.support import schema

GIB = 1 << 30
V1 = {
    "cpuacct.usage": "2356850073\n",
    "cpuacct.usage_percpu": "199822174 2157027899 \n",
    "cpuacct.stat": "user 233\nsystem 1\n",
    "cpu.stat": "nr_periods 20\nnr_throttled 7\nthrottled_time 350000000\nwait_sum 5\n",
    "memory.usage_in_bytes": "552960\n",
    "memory.max_usage_in_bytes": "3813376\n",
    "memory.failcnt": "3\n",
    "memory.limit_in_bytes": "67108864\n",
    "memory.stat": "cache 4096\nrss 61440\nshmem 1\nhierarchical_memory_limit 67108864\n"
    "total_cache 8192\ntotal_inactive_file 4096\n",
    "pids.current": "2\n",
    "pids.max": "77\n",
    "blkio.throttle.io_service_bytes_recursive": "254:0 Read 4096\n254:0 Write 8192\n254:0 Total 12288\n"
    "Total 12288\n",
    "blkio.throttle.io_serviced_recursive": "Total 0\n",
}
V2 = {
    "cpu.stat": "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\nnr_periods 4\nnr_throttled 2\n"
    "throttled_usec 99\nnr_bursts 0\nburst_usec 0\n",
    "memory.current": "1048576\n",
    "memory.max": "max\n",
    "memory.stat": "anon 300\nfile 500\ninactive_file 200\npgfault 9\nzswap 4\n",
    "memory.events": "low 0\nhigh 0\nmax 6\noom 5\noom_kill 1\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n",
}


def v1(**changed: str) -> GroupStats:
    files = {**V1, **{name.replace("__", "."): text for name, text in changed.items()}}
    return parse_v1(lambda name: files.get(name, ""), GIB)


def v2(**changed: str) -> GroupStats:
    files = {**V2, **{name.replace("__", "."): text for name, text in changed.items()}}
    return parse_v2(lambda name: files.get(name, ""), GIB)


def frame(sample: Sample, before: Sample = NOTHING) -> Any:
    line = encode("web", "c" * 64, sample, before)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    return json.loads(line)


def test_a_v1_group() -> None:
    group = v1()
    assert group.cpu_usage == CpuUsage(
        total_usage=2356850073,
        percpu_usage=[199822174, 2157027899],
        usage_in_usermode=2_330_000_000,
        usage_in_kernelmode=10_000_000,
    )
    throttling = group.throttling
    assert (throttling.periods, throttling.throttled_periods, throttling.throttled_time) == (20, 7, 350000000)
    memory = group.memory
    assert (memory.usage, memory.max_usage, memory.failcnt, memory.limit) == (552960, 3813376, 3, 64 << 20)
    assert memory.stats["total_inactive_file"] == 4096
    assert memory.stats["total_rss"] == 0, "a counter that the kernel lacks is zero"
    assert "shmem" not in memory.stats, "Docker does not show it"
    assert (group.pids.current, group.pids.limit) == (2, 77)
    assert group.blkio.io_service_bytes_recursive == [
        BlkioEntry(254, 0, "Read", 4096),
        BlkioEntry(254, 0, "Write", 8192),
        BlkioEntry(254, 0, "Total", 12288),
    ]
    assert group.blkio.io_serviced_recursive == group.blkio.sectors_recursive == []


def test_v1_without_limits_and_with_other_counters() -> None:
    group = v1(
        pids__max="max\n",
        memory__limit_in_bytes="9223372036854771712\n",
        blkio__throttle__io_service_bytes_recursive="Total 0\n",
        blkio__bfq__io_service_bytes_recursive="8:16 Read 512\nTotal 512\n",
    )
    assert group.pids.limit == 0
    assert group.memory.limit == GIB, "no limit is the host's memory"
    assert group.blkio.io_service_bytes_recursive == [BlkioEntry(8, 16, "Read", 512)]
    old = v1(
        blkio__throttle__io_service_bytes_recursive="",
        blkio__throttle__io_service_bytes="8:0 Read 1\nTotal 1\n",
    )
    assert old.blkio.io_service_bytes_recursive == [BlkioEntry(8, 0, "Read", 1)]


def test_a_v2_group() -> None:
    group = v2()
    assert group.cpu_usage == CpuUsage(
        total_usage=2 * 10**9, usage_in_usermode=1_500_000_000, usage_in_kernelmode=500_000_000
    )
    assert (group.throttling.periods, group.throttling.throttled_time) == (4, 99_000)
    memory = group.memory
    assert (memory.usage, memory.max_usage, memory.failcnt, memory.limit) == (1 << 20, 0, 5, GIB)
    assert (memory.stats["inactive_file"], memory.stats["slab"]) == (200, 0)
    assert "zswap" not in memory.stats
    assert (group.pids.current, group.pids.limit) == (3, UNLIMITED)
    assert group.blkio.io_service_bytes_recursive == [
        BlkioEntry(254, 0, "read", 4096),
        BlkioEntry(254, 0, "write", 8192),
    ]
    assert group.blkio.io_serviced_recursive is None
    limited = v2(memory__max="1048576\n", pids__max="10\n", io__stat="")
    assert (limited.memory.limit, limited.pids.limit) == (1 << 20, 10)
    assert limited.blkio.io_service_bytes_recursive is None


def test_files_of_controllers_that_are_missing() -> None:
    assert parse_v1(lambda name: "", GIB).memory == parse_v2(lambda name: "", GIB).memory
    only_cpu = frame(
        Sample(read_ns=1, group=parse_v2(lambda name: V2["cpu.stat"] * (name == "cpu.stat"), GIB))
    )
    assert only_cpu["memory_stats"] == only_cpu["pids_stats"] == {}
    assert only_cpu["cpu_stats"]["cpu_usage"]["total_usage"] == 2 * 10**9


def test_lists_of_cpus() -> None:
    assert [count_cpus(text) for text in ("0\n", "0-1\n", "0-3,6,8-9\n")] == [1, 2, 7]


def test_an_empty_reading_is_dockers() -> None:
    cpu = {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }
    kinds = "service_bytes serviced queue service_time wait_time merged time"
    assert frame(NOTHING) == {
        "name": "/web",
        "id": "c" * 64,
        "read": "0001-01-01T00:00:00Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {},
        "blkio_stats": {
            **{f"io_{kind}_recursive": None for kind in kinds.split()},
            "sectors_recursive": None,
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu,
        "precpu_stats": cpu,
        "memory_stats": {},
    }


def test_a_reading_and_the_one_before() -> None:
    counters = NetworkStats(
        rx_bytes=1,
        rx_packets=2,
        rx_errors=3,
        rx_dropped=4,
        tx_bytes=5,
        tx_packets=6,
        tx_errors=7,
        tx_dropped=8,
    )
    before = Sample(read_ns=10**18, group=v1(cpuacct__usage="1\n"), host_cpu=HostCpu(100, 2))
    now = Sample(read_ns=10**18 + 10**9, group=v1(), host_cpu=HostCpu(300, 2), networks={"eth0": counters})
    shown = frame(now, before)
    schema.check(shown, "ContainerStatsResponse")
    assert (shown["preread"], shown["read"]) == ("2001-09-09T01:46:40Z", "2001-09-09T01:46:41Z")
    assert shown["precpu_stats"]["cpu_usage"]["total_usage"] == 1
    assert shown["precpu_stats"] == frame(before)["cpu_stats"]
    assert shown["cpu_stats"]["system_cpu_usage"] == 300
    assert shown["cpu_stats"]["online_cpus"] == 2
    assert shown["networks"]["eth0"]["tx_dropped"] == 8
    assert "max_usage" in shown["memory_stats"]
    schema.check(frame(Sample(read_ns=1, group=v2())), "ContainerStatsResponse")
