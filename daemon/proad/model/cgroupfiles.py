"""Sync, pure. What the files of a control group say, as :class:`proad.model.stats.GroupStats`.

The texts are the kernel's (cgroup-v1/memory.rst, cpuacct.rst, blkio-controller.rst, pids.rst and
cgroup-v2.rst of its documentation). A file that is not there, because the host or the group lacks the
controller, is empty, and tells nothing.
"""

from collections.abc import Callable, Mapping

from proad.model.stats import (
    BlkioEntry,
    BlkioStats,
    CpuUsage,
    GroupStats,
    MemoryStats,
    PidsStats,
    Throttling,
)

NS_PER_TICK = 10**9 // 100
"""USER_HZ is 100 on every architecture that containers run on, whatever the kernel's own clock."""
UNLIMITED = 2**64 - 1
"""What stands for ``max``. Docker shows it as the limit of tasks with v2, and no limit with v1."""

Texts = Callable[[str], str]
"""Gives the text of a group's file by name, empty if there is none."""

_V1_MEMORY = (
    *("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault"),
    *("pgmajfault", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
)
_NO_V1_MEMORY = dict.fromkeys(
    [
        *_V1_MEMORY,
        "hierarchical_memory_limit",
        "hierarchical_memsw_limit",
        *(f"total_{name}" for name in _V1_MEMORY),
    ],
    0,
)
_NO_V2_MEMORY = dict.fromkeys(
    (
        *("anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty"),
        *("file_writeback", "anon_thp", "inactive_anon", "active_anon", "inactive_file", "active_file"),
        *("unevictable", "slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault"),
        *("workingset_refault", "workingset_activate", "workingset_nodereclaim", "pgrefill", "pgscan"),
        *("pgsteal", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc"),
        "thp_collapse_alloc",
    ),
    0,
)
"""The counters that Docker shows, zero where a kernel does not count them."""


def parse_v1(text: Texts, host_memory_bytes: int) -> GroupStats:
    """Make out a group of the v1 hierarchies."""
    ticks = _fields(text("cpuacct.stat"))
    cpu = _fields(text("cpu.stat"))
    return GroupStats(
        cpu_usage=CpuUsage(
            total_usage=_number(text("cpuacct.usage")),
            percpu_usage=list(map(int, text("cpuacct.usage_percpu").split())),
            usage_in_kernelmode=ticks.get("system", 0) * NS_PER_TICK,
            usage_in_usermode=ticks.get("user", 0) * NS_PER_TICK,
        ),
        throttling=Throttling(
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_time", 0),
        ),
        memory=_memory_v1(text, host_memory_bytes),
        pids=_pids(text, unlimited=0),
        blkio=BlkioStats(
            io_service_bytes_recursive=_blkio_v1(text, "io_service_bytes"),
            io_serviced_recursive=_blkio_v1(text, "io_serviced"),
            io_queue_recursive=[],
            io_service_time_recursive=[],
            io_wait_time_recursive=[],
            io_merged_recursive=[],
            io_time_recursive=[],
            sectors_recursive=[],
        ),
    )


def _memory_v1(text: Texts, host_memory_bytes: int) -> MemoryStats:
    numbers = _fields(text("memory.stat"))
    if not numbers:
        return MemoryStats()
    return MemoryStats(
        usage=_number(text("memory.usage_in_bytes")),
        max_usage=_number(text("memory.max_usage_in_bytes")),
        stats=_shown(numbers, _NO_V1_MEMORY),
        failcnt=_number(text("memory.failcnt")),
        limit=min(_number(text("memory.limit_in_bytes")), host_memory_bytes),
    )


def _blkio_v1(text: Texts, what: str) -> list[BlkioEntry]:
    """What the throttling counted, else what the scheduler did.

    Since Linux 6.10 the throttling counts only on devices that have a limit; BFQ is the one scheduler that
    counts, on devices that use it.
    """
    throttled = text(f"blkio.throttle.{what}_recursive") or text(f"blkio.throttle.{what}")
    return _blkio_lines(throttled) or _blkio_lines(text(f"blkio.bfq.{what}_recursive"))


def _blkio_lines(text: str) -> list[BlkioEntry]:
    """Lines are ``254:0 Read 4096``, and ``Total 4096`` at the end."""
    entries = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            entries.append(BlkioEntry(int(major), int(minor), words[1], int(words[2])))
    return entries


def parse_v2(text: Texts, host_memory_bytes: int) -> GroupStats:
    """Make out a group of the one v2 hierarchy."""
    cpu = _fields(text("cpu.stat"))
    return GroupStats(
        cpu_usage=CpuUsage(
            total_usage=cpu.get("usage_usec", 0) * 1000,
            usage_in_kernelmode=cpu.get("system_usec", 0) * 1000,
            usage_in_usermode=cpu.get("user_usec", 0) * 1000,
        ),
        throttling=Throttling(
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_usec", 0) * 1000,
        ),
        memory=_memory_v2(text, host_memory_bytes),
        pids=_pids(text, unlimited=UNLIMITED),
        blkio=BlkioStats(io_service_bytes_recursive=_io_v2(text("io.stat"))),
    )


def _memory_v2(text: Texts, host_memory_bytes: int) -> MemoryStats:
    numbers = _fields(text("memory.stat"))
    if not numbers:
        return MemoryStats()
    return MemoryStats(
        usage=_number(text("memory.current")),
        stats=_shown(numbers, _NO_V2_MEMORY),
        failcnt=_fields(text("memory.events")).get("oom", 0),
        limit=min(_number(text("memory.max")), host_memory_bytes),
    )


def _io_v2(text: str) -> list[BlkioEntry] | None:
    """Lines are ``254:0 rbytes=4096 wbytes=0 rios=1 …``; a device may stand there without any numbers."""
    entries = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        numbers = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if "rbytes" in numbers:
            entries.append(BlkioEntry(int(major), int(minor), "read", int(numbers["rbytes"])))
            entries.append(BlkioEntry(int(major), int(minor), "write", int(numbers.get("wbytes", "0"))))
    return entries or None


def _pids(text: Texts, *, unlimited: int) -> PidsStats:
    limit = _number(text("pids.max"))
    return PidsStats(current=_number(text("pids.current")), limit=unlimited if limit == UNLIMITED else limit)


def count_cpus(text: str) -> int:
    """How many CPUs a list such as ``0-3,6`` names (cpuset(7), "List format")."""
    total = 0
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        total += int(last) - int(first) + 1 if dash else 1
    return total


def _fields(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=False))


def _shown(numbers: Mapping[str, int], blank: Mapping[str, int]) -> dict[str, int]:
    return {name: numbers.get(name, 0) for name in blank}


def _number(text: str) -> int:
    word = text.strip()
    if word == "max":
        return UNLIMITED
    return int(word) if word else 0
