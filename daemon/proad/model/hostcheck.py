"""Sync, pure. A configuration against the host as it is: at create, at every start, at update.

What Docker discards with a warning is discarded with the same warning, the rest is refused in Docker's words
(moby: daemon/daemon_unix.go, ``verifyPlatformContainerResources`` and ``verifyPlatformContainerSettings``).
"""

from typing import TypeVar

from msgspec.structs import replace

from proad.model import capabilities, errors, storage
from proad.model.defaults import with_defaults
from proad.model.hostconfig import HostConfig, Resources
from proad.model.hostfacts import HostFacts
from proad.model.limits import MIN_MEMORY_BYTES, parse_cpu_list

R = TypeVar("R", bound=Resources)

_UNSUPPORTED = "Your kernel does not support {} capabilities or the cgroup is not mounted. {} discarded."
_NO_THROTTLE = (
    "Your kernel does not support {} Block {} limit or the cgroup is not mounted. "
    "Block I/O {} {} limit discarded."
)


def check_against_host(host_config: HostConfig, facts: HostFacts) -> tuple[HostConfig, list[str]]:
    """The configuration, defaults written out, as this host can honour it; a warning for each thing
    discarded.

    Raises:
        errors.InvalidParameter: something is asked for that this host cannot do and that must not be
        discarded.
    """
    adapted, warnings = check_resources(with_defaults(host_config, facts), facts, update=False)
    if not facts.ipv4_forwarding and adapted.network_mode not in ("host", "none"):
        warnings.append("IPv4 forwarding is disabled. Networking will not work.")
    if adapted.network_mode == "host" and adapted.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    if adapted.cgroupns_mode == "private" and not facts.cgroup_namespaces:
        warnings.append(
            "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded."
        )
        adapted = replace(adapted, cgroupns_mode="host")
    runtime = adapted.runtime or facts.default_runtime
    if runtime not in facts.runtimes:
        raise errors.InvalidParameter(f"unknown or invalid runtime name: {runtime}")
    _check_devices(adapted, facts)
    _check_seccomp(adapted, facts)
    if adapted.storage_opt and not facts.storage_quota:
        raise errors.InvalidParameter(storage.NOT_SUPPORTED)
    return adapted, warnings


def check_resources(resources: R, facts: HostFacts, *, update: bool) -> tuple[R, list[str]]:
    """The same for limits alone; ``update`` allows what only makes sense on top of limits already there."""
    warnings: list[str] = []
    for check in (_memory, _oom_and_pids, _cpu, _cpuset, _block_io):
        resources = check(resources, facts, warnings)
    if resources.memory == 0 and resources.memory_swap > 0 and not update:
        raise errors.InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    return resources, warnings


def privilege_warnings(host_config: HostConfig, facts: HostFacts) -> list[str]:
    """What is asked for and cut down when the container starts, because the daemon may not give it."""
    warnings = []
    _, missing = capabilities.choose(
        host_config.cap_add, host_config.cap_drop, privileged=host_config.privileged, held=facts.capabilities
    )
    if missing:
        warnings.append(f"The daemon does not hold {', '.join(missing)}. Capability discarded.")
    everything = host_config.privileged or "ALL" in capabilities.normalise(host_config.cap_add)
    lacking = [name for name in capabilities.BY_NUMBER[:-3] if name not in facts.capabilities]
    if everything and lacking:
        warnings.append(f"The daemon does not hold {', '.join(lacking)}. The container gets all others.")
    for limit in host_config.ulimits:
        most = facts.hard_limits.get(limit.name, -1)
        if most >= 0 and not 0 <= limit.hard <= most:
            warnings.append(f"The daemon may not raise ulimit {limit.name} above {most}. Limit lowered.")
    if host_config.oom_score_adj < facts.oom_score_adj and "CAP_SYS_RESOURCE" not in facts.capabilities:
        warnings.append(
            "The daemon may not lower the OOM score below its own, "
            f"{facts.oom_score_adj}. OomScoreAdj raised."
        )
    return warnings


def _memory(resources: R, facts: HostFacts, warnings: list[str]) -> R:
    if 0 != resources.memory < MIN_MEMORY_BYTES:
        raise errors.InvalidParameter("Minimum memory limit allowed is 6MB")
    if resources.memory > 0 and not facts.can_limit_memory:
        warnings.append(_UNSUPPORTED.format("memory limit", "Limitation"))
        resources = replace(resources, memory=0, memory_swap=-1)
    if resources.memory > 0 and resources.memory_swap != -1 and not facts.can_limit_swap:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        resources = replace(resources, memory_swap=-1)
    if resources.memory > 0 and 0 < resources.memory_swap < resources.memory:
        raise errors.InvalidParameter(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if resources.memory_swappiness == -1:  # how clients say that they do not ask for any
        resources = replace(resources, memory_swappiness=None)
    if resources.memory_swappiness is not None and not facts.can_set_swappiness:
        warnings.append(_UNSUPPORTED.format("memory swappiness", "Memory swappiness"))
        resources = replace(resources, memory_swappiness=None)
    if resources.memory_reservation > 0 and not facts.can_reserve_memory:
        warnings.append(_UNSUPPORTED.format("memory soft limit", "Limitation"))
        resources = replace(resources, memory_reservation=0)
    if 0 < resources.memory < resources.memory_reservation:
        raise errors.InvalidParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if resources.kernel_memory > 0:
        # Gone from cgroup v2, and without effect on v1 since Linux 5.16: no runtime writes it any more.
        warnings.append(_UNSUPPORTED.format("kernel memory limit", "Limitation"))
        resources = replace(resources, kernel_memory=0)
    return resources


def _oom_and_pids(resources: R, facts: HostFacts, warnings: list[str]) -> R:
    if resources.oom_kill_disable is not None and not facts.can_disable_oom_killer:
        if resources.oom_kill_disable:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        resources = replace(resources, oom_kill_disable=None)
    if resources.oom_kill_disable and resources.memory == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the "
            "system running out of resources."
        )
    if resources.pids_limit is not None and not facts.can_limit_pids:
        if resources.pids_limit > 0:
            warnings.append(_UNSUPPORTED.format("PIDs limit", "PIDs limit"))
        resources = replace(resources, pids_limit=None)
    return resources


def _cpu(resources: R, facts: HostFacts, warnings: list[str]) -> R:
    if resources.nano_cpus > 0 and not facts.can_limit_cpu:
        raise errors.InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler "
            "or the cgroup is not mounted"
        )
    if not 0 <= resources.nano_cpus <= facts.cpu_count * 10**9:
        raise errors.InvalidParameter(
            f"Range of CPUs is from 0.01 to {facts.cpu_count}.00, "
            f"as there are only {facts.cpu_count} CPUs available"
        )
    if resources.cpu_shares > 0 and not facts.can_share_cpu:
        warnings.append(
            "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded."
        )
        resources = replace(resources, cpu_shares=0)
    if (resources.cpu_period or resources.cpu_quota) and not facts.can_limit_cpu:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        resources = replace(resources, cpu_period=0, cpu_quota=0)
    if resources.cpu_percent > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        resources = replace(resources, cpu_percent=0)
    return resources


def _cpuset(resources: R, facts: HostFacts, warnings: list[str]) -> R:
    if (resources.cpuset_cpus or resources.cpuset_mems) and not facts.can_pin_cpus:
        warnings.append("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
        return replace(resources, cpuset_cpus="", cpuset_mems="")
    for asked, online, what in (
        (resources.cpuset_cpus, facts.cpus_online, "CPUs"),
        (resources.cpuset_mems, facts.mems_online, "memory nodes"),
    ):
        if not parse_cpu_list(asked) <= parse_cpu_list(online):
            raise errors.InvalidParameter(
                f"Requested {what} are not available - requested {asked}, available: {online}"
            )
    return resources


def _block_io(resources: R, facts: HostFacts, warnings: list[str]) -> R:
    if resources.blkio_weight > 0 and not facts.can_weigh_io:
        warnings.append(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        )
        resources = replace(resources, blkio_weight=0)
    if resources.blkio_weight_device and not facts.can_weigh_io_devices:
        warnings.append(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. "
            "Weight-device discarded."
        )
        resources = replace(resources, blkio_weight_device=())
    if resources.blkio_device_read_bps and not facts.can_throttle("read", "bps"):
        warnings.append(_NO_THROTTLE.format("BPS", "I/O read", "BPS", "read"))
        resources = replace(resources, blkio_device_read_bps=())
    if resources.blkio_device_write_bps and not facts.can_throttle("write", "bps"):
        warnings.append(_NO_THROTTLE.format("BPS", "I/O write", "BPS", "write"))
        resources = replace(resources, blkio_device_write_bps=())
    if resources.blkio_device_read_iops and not facts.can_throttle("read", "iops"):
        warnings.append(_NO_THROTTLE.format("IOPS", "read", "IOPS", "read"))
        resources = replace(resources, blkio_device_read_iops=())
    if resources.blkio_device_write_iops and not facts.can_throttle("write", "iops"):
        warnings.append(_NO_THROTTLE.format("IOPS", "write", "IOPS", "write"))
        resources = replace(resources, blkio_device_write_iops=())
    return resources


def _check_devices(host_config: HostConfig, facts: HostFacts) -> None:
    for device in host_config.devices:
        if device.path_on_host in facts.missing_devices:
            raise errors.InvalidParameter(
                "error gathering device information while adding custom device "
                f'"{device.path_on_host}": no such file or directory'
            )
    for path in block_device_paths(host_config):
        if path in facts.missing_devices:
            raise errors.InvalidParameter(f"stat {path}: no such file or directory")


def block_device_paths(resources: Resources) -> list[str]:
    """The block devices whose I/O is weighed or throttled, each once."""
    throttled = (
        *resources.blkio_device_read_bps,
        *resources.blkio_device_write_bps,
        *resources.blkio_device_read_iops,
        *resources.blkio_device_write_iops,
    )
    weighed = [device.path for device in resources.blkio_weight_device]
    return list(dict.fromkeys([*weighed, *(device.path for device in throttled)]))


def _check_seccomp(host_config: HostConfig, facts: HostFacts) -> None:
    custom = any(option.startswith(("seccomp={", "seccomp:{")) for option in host_config.security_opt)
    if custom and not facts.seccomp:
        raise errors.InvalidParameter(
            "seccomp is not enabled in your kernel, cannot run a custom seccomp profile"
        )
