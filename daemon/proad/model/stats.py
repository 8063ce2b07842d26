"""Sync, pure. What is measured of a running container, in the shapes of ``GET /containers/{id}/stats``.

Fields are Docker's (``ContainerStatsResponse`` of the API), and so is what is left out: what the kernel does
not tell is not there, and a number of which Docker says nothing when it is zero is not there then. Times are
nanoseconds and sizes bytes.
"""

import msgspec

from proad.model.durations import format_rfc3339_ns

NO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: there was no reading."""

Absent = msgspec.UnsetType


class CpuUsage(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time used since the container's group was made; ``percpu_usage`` only cgroup v1 knows."""

    total_usage: int = 0
    percpu_usage: list[int] | Absent = msgspec.UNSET
    usage_in_kernelmode: int = 0
    usage_in_usermode: int = 0


class Throttling(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and how long, the CPU quota held the container back."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CpuStats(msgspec.Struct, frozen=True, kw_only=True):
    """The container's CPU time, and beside it what the whole host had, used or idle, at the same moment."""

    cpu_usage: CpuUsage = CpuUsage()
    system_cpu_usage: int | Absent = msgspec.UNSET
    online_cpus: int | Absent = msgspec.UNSET
    throttling_data: Throttling = Throttling()


class MemoryStats(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``limit`` is the host's memory where the container has none; ``max_usage`` only cgroup v1 knows."""

    usage: int = 0
    max_usage: int = 0
    stats: dict[str, int] = {}
    failcnt: int = 0
    limit: int = 0


class PidsStats(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tasks. Without a limit, cgroup v1 tells none and cgroup v2 the largest number there is."""

    current: int = 0
    limit: int = 0


class BlkioEntry(msgspec.Struct, frozen=True):
    """What one kind of operation did on one block device."""

    major: int
    minor: int
    op: str
    value: int


class BlkioStats(msgspec.Struct, frozen=True, kw_only=True):
    """Block I/O; None is what a cgroup version cannot tell, empty what it does not count here."""

    io_service_bytes_recursive: list[BlkioEntry] | None = None
    io_serviced_recursive: list[BlkioEntry] | None = None
    io_queue_recursive: list[BlkioEntry] | None = None
    io_service_time_recursive: list[BlkioEntry] | None = None
    io_wait_time_recursive: list[BlkioEntry] | None = None
    io_merged_recursive: list[BlkioEntry] | None = None
    io_time_recursive: list[BlkioEntry] | None = None
    sectors_recursive: list[BlkioEntry] | None = None


class NetworkStats(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of one interface, as the container sees it."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class GroupStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a control group's files say."""

    cpu_usage: CpuUsage = CpuUsage()
    throttling: Throttling = Throttling()
    memory: MemoryStats = MemoryStats()
    pids: PidsStats = PidsStats()
    blkio: BlkioStats = BlkioStats()


class HostCpu(msgspec.Struct, frozen=True):
    """The time that all CPUs of the host together had since it was booted, and how many of them are on."""

    usage_ns: int
    online: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured at one moment. Without ``read_ns`` nothing was: the container did not run."""

    read_ns: int = 0
    group: GroupStats = GroupStats()
    host_cpu: HostCpu | None = None
    networks: dict[str, NetworkStats] = {}

    @property
    def cpu(self) -> CpuStats:
        usage, throttling = self.group.cpu_usage, self.group.throttling
        if self.host_cpu is None:
            return CpuStats(cpu_usage=usage, throttling_data=throttling)
        return CpuStats(
            cpu_usage=usage,
            system_cpu_usage=self.host_cpu.usage_ns,
            online_cpus=self.host_cpu.online,
            throttling_data=throttling,
        )


NOTHING = Sample()


class _Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The object that clients get; the windows-only parts are Docker's empty ones."""

    name: str
    id: str
    read: str
    preread: str
    pids_stats: PidsStats
    blkio_stats: BlkioStats
    num_procs: int = 0
    storage_stats: dict[str, int] = {}
    cpu_stats: CpuStats
    precpu_stats: CpuStats
    memory_stats: MemoryStats
    networks: dict[str, NetworkStats] | Absent = msgspec.UNSET


def encode(name: str, container_id: str, sample: Sample, before: Sample = NOTHING) -> bytes:
    """Return one reading as Docker's JSON, ended by a line feed.

    ``before`` is the reading that clients reckon the use of the CPU from; nothing if there was none.
    """
    frame = _Frame(
        name=f"/{name}",
        id=container_id,
        read=_moment(sample),
        preread=_moment(before),
        pids_stats=sample.group.pids,
        blkio_stats=sample.group.blkio,
        cpu_stats=sample.cpu,
        precpu_stats=before.cpu,
        memory_stats=sample.group.memory,
        networks=sample.networks or msgspec.UNSET,
    )
    return msgspec.json.encode(frame) + b"\n"


def _moment(sample: Sample) -> str:
    return format_rfc3339_ns(sample.read_ns) if sample.read_ns else NO_TIME
