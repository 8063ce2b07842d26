"""Sync, pure. What the checks of a configuration must know of the host, as a value that somebody else
fills.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proad.model import capabilities

INTERESTING_FILES: Mapping[str, frozenset[str]] = {
    "memory": frozenset(
        {"memory.memsw.limit_in_bytes", "memory.swap.max", "memory.oom_control", "memory.swappiness"}
        | {"memory.soft_limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"}
    ),
    "cpu": frozenset({"cpu.cfs_quota_us", "cpu.shares"}),
    "blkio": frozenset(
        {"blkio.weight", "blkio.weight_device", "blkio.bfq.weight", "blkio.bfq.weight_device"}
        | {"blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"}
        | {"blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"}
    ),
}
"""By controller, the files of a cgroup's directory whose presence tells what the kernel can limit.

On cgroup v2 only ``memory.swap.max`` matters; it is in every directory but the root.
"""


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The host as it is now.

    ``controllers`` are the usable cgroup controllers by the names of their own version (``blkio`` on v1,
    ``io`` on v2), ``files`` those of :data:`INTERESTING_FILES` that exist. ``cpus_online`` and
    ``mems_online`` are lists as the kernel writes them (``0-3,8``). ``missing_devices`` are the paths among
    a configuration's devices, block devices included, that do not lead to what they should. ``hard_limits``
    holds the daemon's own hard limits by lower-case name (``nofile``), -1 for none; it is empty where
    limits may be raised at will. ``storage_quota`` tells that the file system of the containers can limit
    what each of them writes.
    """

    cgroup_version: int = 2
    controllers: frozenset[str] = frozenset({"cpu", "cpuset", "io", "memory", "pids"})
    files: frozenset[str] = frozenset({"memory.swap.max"})
    cpu_count: int = 1
    memory_bytes: int = 0
    cpus_online: str = "0"
    mems_online: str = "0"
    capabilities: frozenset[str] = frozenset(capabilities.BY_NUMBER)
    seccomp: bool = True
    apparmor: bool = False
    storage_quota: bool = False
    cgroup_namespaces: bool = True
    ipv4_forwarding: bool = True
    runtimes: frozenset[str] = frozenset({"crun", "runc"})
    default_runtime: str = "crun"
    missing_devices: frozenset[str] = frozenset()
    more_masked_paths: tuple[str, ...] = ()
    """Of this host's hardware: the CPUs' ``thermal_throttle`` directories, which tell of the neighbours'
    work.
    """
    hard_limits: Mapping[str, int] = field(default_factory=dict)
    oom_score_adj: int = 0
    """The daemon's own; without CAP_SYS_RESOURCE no process can be given less."""

    @property
    def is_v2(self) -> bool:
        return self.cgroup_version == 2

    @property
    def can_limit_memory(self) -> bool:
        return "memory" in self.controllers

    @property
    def can_limit_swap(self) -> bool:
        return self.can_limit_memory and self._has("memory.memsw.limit_in_bytes", v2="memory.swap.max")

    @property
    def can_reserve_memory(self) -> bool:
        return self.can_limit_memory and self._has("memory.soft_limit_in_bytes", v2="")

    @property
    def can_set_swappiness(self) -> bool:
        return not self.is_v2 and "memory.swappiness" in self.files

    @property
    def can_disable_oom_killer(self) -> bool:
        return not self.is_v2 and "memory.oom_control" in self.files

    @property
    def can_limit_pids(self) -> bool:
        return "pids" in self.controllers

    @property
    def can_share_cpu(self) -> bool:
        return "cpu" in self.controllers and self._has("cpu.shares", v2="")

    @property
    def can_limit_cpu(self) -> bool:
        return "cpu" in self.controllers and self._has("cpu.cfs_quota_us", v2="")

    @property
    def can_pin_cpus(self) -> bool:
        return "cpuset" in self.controllers

    @property
    def can_weigh_io(self) -> bool:
        return self._has_io_v2 or bool(self.files & {"blkio.weight", "blkio.bfq.weight"})

    @property
    def can_weigh_io_devices(self) -> bool:
        v1 = {"blkio.weight_device", "blkio.bfq.weight_device"}
        return self._has_io_v2 or bool(self.files & v1)

    def can_throttle(self, direction: str, unit: str) -> bool:
        """Whether ``read`` or ``write`` can be limited in ``bps`` or ``iops``."""
        return self._has_io_v2 or f"blkio.throttle.{direction}_{unit}_device" in self.files

    @property
    def _has_io_v2(self) -> bool:
        return self.is_v2 and "io" in self.controllers

    def _has(self, v1: str, *, v2: str) -> bool:
        wanted = v2 if self.is_v2 else v1
        return not wanted or wanted in self.files
