"""Trio-flavoured. Fills :class:`proad.model.hostfacts.HostFacts` from the kernel, as the host is at this
moment.

What cannot change while the daemon lives (its capabilities, the CPUs' number) is read once; cgroup files,
devices and what is online are looked at each time, which takes a few dozen stat(2) calls.
"""

import os
import resource
import stat
from collections.abc import Collection
from pathlib import Path

from proad.host.cgroup import Layout
from proad.host.devices import limited_paths
from proad.model import capabilities
from proad.model.hostconfig import HostConfig
from proad.model.hostfacts import INTERESTING_FILES, HostFacts

_STATUS = Path("/proc/self/status")
_CPUS = Path("/sys/devices/system/cpu")
_LIMITS = "as core cpu data fsize memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
"""Of setrlimit(2), by Docker's names; Python does not know all of them everywhere."""
_RLIMITS = {
    name: getattr(resource, f"RLIMIT_{name.upper()}")
    for name in _LIMITS.split(" ")
    if hasattr(resource, f"RLIMIT_{name.upper()}")
}


class HostFactsReader:
    """Reads the facts. ``runtimes`` are the names that a container may ask for."""

    def __init__(
        self, layout: Layout, runtimes: Collection[str], default_runtime: str, *, storage_quota: bool
    ) -> None:
        self._layout = layout
        self._runtimes = frozenset(runtimes)
        self._default_runtime = default_runtime
        self._storage_quota = storage_quota
        status = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        self._capabilities = capabilities.from_mask(int(status["CapEff"], 16))
        self._seccomp = "Seccomp" in status
        self._apparmor = _says_yes("/sys/module/apparmor/parameters/enabled")
        self._memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._throttle_paths = tuple(sorted(map(str, _CPUS.glob("cpu[0-9]*/thermal_throttle"))))
        self._interesting = [
            (name, f"{layout.controllers[controller]}/{name}")
            for controller, names in INTERESTING_FILES.items()
            if controller in layout.controllers
            for name in names
        ]
        self._hard_limits = {} if "CAP_SYS_RESOURCE" in self._capabilities else _hard_limits()
        # /proc/sys keeps the entries of all network namespaces in one chain for each name: to look one up
        # takes a millisecond where there are a thousand.
        self._forwarding = os.open("/proc/sys/net/ipv4/ip_forward", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def held_capabilities(self) -> frozenset[str]:
        return self._capabilities

    def read(self, host_config: HostConfig) -> HostFacts:
        """The host as it is now; of its devices, those that ``host_config`` names are looked at."""
        return HostFacts(
            cgroup_version=self._layout.version,
            controllers=self._layout.available,
            files=self._present_files(),
            cpu_count=os.cpu_count() or 1,
            memory_bytes=self._memory_bytes,
            cpus_online=_line("/sys/devices/system/cpu/online", "0"),
            mems_online=_line("/sys/devices/system/node/online", "0"),
            capabilities=self._capabilities,
            seccomp=self._seccomp,
            apparmor=self._apparmor,
            storage_quota=self._storage_quota,
            cgroup_namespaces=os.path.exists("/proc/self/ns/cgroup"),
            ipv4_forwarding=os.pread(self._forwarding, 16, 0).strip() == b"1",
            runtimes=self._runtimes,
            default_runtime=self._default_runtime,
            missing_devices=_missing_devices(host_config),
            more_masked_paths=self._throttle_paths,
            hard_limits=self._hard_limits,
            oom_score_adj=int(_line("/proc/self/oom_score_adj", "0")),
        )

    def _present_files(self) -> frozenset[str]:
        if self._layout.kind == "v2":
            # The root has no such file, its children do: any child of the root tells.
            assert self._layout.unified is not None
            children = (entry for entry in os.scandir(self._layout.unified) if entry.is_dir())
            swap = any(os.path.exists(f"{entry.path}/memory.swap.max") for entry in children)
            return frozenset({"memory.swap.max"} if swap else ())
        return frozenset(name for name, path in self._interesting if os.path.exists(path))


def _missing_devices(host_config: HostConfig) -> frozenset[str]:
    """Devices, or directories of them, and block devices to throttle, that are not there."""
    missing = {d.path_on_host for d in host_config.devices if not os.path.exists(d.path_on_host)}
    missing |= {path for path in limited_paths(host_config) if not _is_block_device(path)}
    return frozenset(missing)


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _hard_limits() -> dict[str, int]:
    return {name: resource.getrlimit(number)[1] for name, number in _RLIMITS.items()}


def _says_yes(path: str) -> bool:
    return _line(path, "N") == "Y"


def _line(path: str, missing: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return missing
    try:
        return os.read(descriptor, 4096).decode().strip()
    finally:
        os.close(descriptor)
