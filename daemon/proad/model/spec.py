"""Sync, pure. The OCI runtime config of a container, with the defaults that Docker documents.

Everything that depends on the host or on other containers comes in through :class:`SpecInputs`; nothing is
looked up here. References: runtime-spec ``config.md`` and ``config-linux.md``; for the defaults moby's
``daemon/pkg/oci/defaults.go`` and ``daemon/oci_linux.go``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proad.model import capabilities, devices
from proad.model.container import Container
from proad.model.devices import Device
from proad.model.hostconfig import HostConfig, ThrottleDevice
from proad.model.mounts import SpecMount, by_depth, rootfs_propagation
from proad.model.security import parse_security_opt
from proad.model.user import ProcessUser

Json = dict[str, Any]
Numbers = Mapping[str, tuple[int, int]]
"""Major and minor of block devices, by path."""

OCI_VERSION = "1.0.2"
INIT_IN_CONTAINER = "/sbin/docker-init"
DEFAULT_SHM_BYTES = 64 * 1024 * 1024
CPU_PERIOD_US = 100_000
_NO_LIMIT = 2**64 - 1

MASKED_PATHS: tuple[str, ...] = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS: tuple[str, ...] = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_SAFE = ("nosuid", "noexec", "nodev")
DEFAULT_MOUNTS: tuple[SpecMount, ...] = (
    SpecMount("/proc", "proc", "proc", _SAFE),
    SpecMount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    SpecMount(
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    SpecMount("/sys", "sysfs", "sysfs", (*_SAFE, "ro")),
    SpecMount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", *_SAFE)),
    SpecMount("/dev/mqueue", "mqueue", "mqueue", _SAFE),
)
_WRITABLE_WITH_READONLY_ROOTFS = frozenset({"/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"})

NETWORK_SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
"""Ports below 1024 and ping without capabilities, in network namespaces of the container's own."""


@dataclass(frozen=True, kw_only=True)
class SpecInputs:
    """All that a config is made of.

    ``hostname`` is what the UTS namespace gets; ``env`` the complete environment. ``mounts`` are the user's
    and the engine's own (volumes, binds, tmpfs, the files in ``/etc``), in any order; they replace defaults
    of the same destination. ``shm`` is a host directory to bind on ``/dev/shm``; empty for a tmpfs of the
    container's own. ``netns``, ``ipc_namespace`` and ``pid_namespace`` are paths of namespaces to join,
    empty for a new one; where the mode says ``host`` they do not matter. ``init_path`` is the host's init
    binary, for ``--init``. ``hard_limits`` and ``oom_score_floor`` are what the daemon may not go beyond,
    if there is such a limit. ``seccomp`` is :func:`proad.model.seccomp.to_oci`'s.
    """

    container: Container
    rootfs: str
    user: ProcessUser
    env: Sequence[str]
    hostname: str
    cgroup_path: str
    mounts: Sequence[SpecMount] = ()
    shm: str = ""
    netns: str = ""
    ipc_namespace: str = ""
    pid_namespace: str = ""
    held_capabilities: frozenset[str] = frozenset(capabilities.BY_NUMBER)
    devices: Sequence[Device] = ()
    block_devices: Numbers = field(default_factory=dict)
    seccomp: Json | None = None
    apparmor: str = ""
    init_path: str = ""
    default_ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    hard_limits: Mapping[str, int] = field(default_factory=dict)
    oom_score_floor: int | None = None


def build_spec(inputs: SpecInputs) -> Json:
    """The runtime config, ready to be written as ``config.json``.

    Raises:
        errors.InvalidParameter: an option of the container's that is malformed; checked at create already.
    """
    host_config = inputs.container.host_config
    mounts = _mounts(inputs)
    spec: Json = {
        "ociVersion": OCI_VERSION,
        "process": _process(inputs),
        "root": {"path": inputs.rootfs, "readonly": host_config.readonly_rootfs},
        "mounts": [_mount(mount) for mount in mounts],
        "linux": _linux(inputs, mounts),
    }
    if host_config.uts_mode != "host":
        spec["hostname"] = inputs.hostname
    if host_config.annotations:
        spec["annotations"] = dict(host_config.annotations)
    return spec


def command_line(container: Container) -> list[str]:
    """Entrypoint and command, as the container's process gets them."""
    return [*(container.config.entrypoint or ()), *(container.config.cmd or ())]


def wants_init(host_config: HostConfig) -> bool:
    """Whether an init goes before the command: asked for, and the PID namespace is the container's own."""
    return bool(host_config.init) and host_config.pid_mode == ""


def has_private_network(host_config: HostConfig) -> bool:
    """Whether the network namespace belongs to the container alone."""
    return host_config.network_mode != "host" and not host_config.network_mode.startswith("container:")


# --- process ----------------------------------------------------------------------------------------------


def _process(inputs: SpecInputs) -> Json:
    config, host_config = inputs.container.config, inputs.container.host_config
    arguments = command_line(inputs.container)
    security = parse_security_opt(host_config.security_opt)
    process: Json = {
        "terminal": config.tty,
        "user": {
            "uid": inputs.user.uid,
            "gid": inputs.user.gid,
            "additionalGids": list(inputs.user.additional_gids),
        },
        "args": [INIT_IN_CONTAINER, "--", *arguments] if wants_init(host_config) else arguments,
        "env": list(inputs.env),
        "cwd": config.working_dir or "/",
        "capabilities": _capabilities(inputs),
        "rlimits": _rlimits(inputs),
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": _oom_score_adj(inputs),
    }
    height, width = host_config.console_size
    if config.tty and height and width:
        process["consoleSize"] = {"height": height, "width": width}
    if inputs.apparmor:
        process["apparmorProfile"] = inputs.apparmor
    return process


def _capabilities(inputs: SpecInputs) -> Json:
    """Docker's sets: the inheritable and ambient ones stay empty (CVE-2022-24769).

    A process of another user than root keeps only the bounding set: execve(2) clears the rest anyhow, and a
    runtime that sets them before would hand them to the command.
    """
    host_config = inputs.container.host_config
    given, _ = capabilities.choose(
        host_config.cap_add,
        host_config.cap_drop,
        privileged=host_config.privileged,
        held=inputs.held_capabilities,
    )
    if inputs.user.uid != 0:
        return {"bounding": given}
    return {"bounding": given, "effective": given, "permitted": given}


def _rlimits(inputs: SpecInputs) -> list[Json]:
    limits = dict(inputs.default_ulimits)
    limits |= {ulimit.name: (ulimit.soft, ulimit.hard) for ulimit in inputs.container.host_config.ulimits}
    rlimits = []
    for name, (soft, hard) in limits.items():
        most = _limit(inputs.hard_limits.get(name, -1))
        hard = min(_limit(hard), most)
        rlimits.append({"type": f"RLIMIT_{name.upper()}", "soft": min(_limit(soft), hard), "hard": hard})
    return rlimits


def _limit(value: int) -> int:
    return _NO_LIMIT if value < 0 else value


def _oom_score_adj(inputs: SpecInputs) -> int:
    asked = inputs.container.host_config.oom_score_adj
    return asked if inputs.oom_score_floor is None else max(asked, inputs.oom_score_floor)


# --- mounts -----------------------------------------------------------------------------------------------


def _mounts(inputs: SpecInputs) -> list[SpecMount]:
    """The defaults that the user's mounts leave, the init, the user's mounts; parents before children."""
    host_config = inputs.container.host_config
    replaced = {mount.destination for mount in inputs.mounts}
    defaults = [
        mount
        for mount in (*DEFAULT_MOUNTS, *_shm(inputs))
        if mount.destination not in replaced
        and not ("/dev" in replaced and mount.destination.startswith("/dev/"))
    ]
    defaults = [_adapted(mount, host_config) for mount in defaults]
    if wants_init(host_config):
        defaults.append(SpecMount(INIT_IN_CONTAINER, "bind", inputs.init_path, ("bind", "ro")))
    return [*defaults, *by_depth(inputs.mounts)]


def _shm(inputs: SpecInputs) -> list[SpecMount]:
    host_config = inputs.container.host_config
    if host_config.ipc_mode == "none":
        return []
    if inputs.shm:
        return [SpecMount("/dev/shm", "bind", inputs.shm, ("rbind", "rprivate"))]
    size = host_config.shm_size or DEFAULT_SHM_BYTES
    return [SpecMount("/dev/shm", "tmpfs", "shm", (*_SAFE, "mode=1777", f"size={size}"))]


def _adapted(mount: SpecMount, host_config: HostConfig) -> SpecMount:
    """A default mount made read-only with the root filesystem, writable for a privileged container."""
    options = mount.options
    if host_config.readonly_rootfs and mount.destination not in _WRITABLE_WITH_READONLY_ROOTFS:
        options = options if "ro" in options else (*options, "ro")
    if host_config.privileged and mount.type in ("sysfs", "cgroup"):
        options = (*(option for option in options if option != "ro"), "rw")
    return SpecMount(mount.destination, mount.type, mount.source, options)


def _mount(mount: SpecMount) -> Json:
    return {
        "destination": mount.destination,
        "type": mount.type,
        "source": mount.source,
        "options": list(mount.options),
    }


# --- linux ------------------------------------------------------------------------------------------------


def _linux(inputs: SpecInputs, mounts: Sequence[SpecMount]) -> Json:
    host_config = inputs.container.host_config
    resources = runtime_resources(host_config, inputs.block_devices)
    resources["devices"] = devices.device_rules(
        inputs.devices, host_config.device_cgroup_rules, privileged=host_config.privileged
    )
    linux: Json = {
        "namespaces": _namespaces(inputs),
        "cgroupsPath": inputs.cgroup_path,
        "resources": resources,
        "devices": devices.device_nodes(inputs.devices),
        "sysctl": _sysctls(inputs),
        "maskedPaths": _paths(host_config, host_config.masked_paths, MASKED_PATHS),
        "readonlyPaths": _paths(host_config, host_config.readonly_paths, READONLY_PATHS),
    }
    propagation = rootfs_propagation(mounts)
    if propagation:
        linux["rootfsPropagation"] = propagation
    if inputs.seccomp is not None and not host_config.privileged:
        linux["seccomp"] = inputs.seccomp
    return linux


def _paths(host_config: HostConfig, asked: tuple[str, ...] | None, default: tuple[str, ...]) -> list[str]:
    if host_config.privileged:
        return []
    return list(default if asked is None else asked)


def _namespaces(inputs: SpecInputs) -> list[Json]:
    host_config = inputs.container.host_config
    wanted = {"mount": ""}
    if host_config.network_mode != "host":
        wanted["network"] = inputs.netns
    if host_config.uts_mode != "host":
        wanted["uts"] = ""
    if host_config.pid_mode != "host":
        wanted["pid"] = inputs.pid_namespace
    if host_config.ipc_mode != "host":
        wanted["ipc"] = inputs.ipc_namespace
    if host_config.cgroupns_mode == "private":
        wanted["cgroup"] = ""
    return [{"type": type, "path": path} if path else {"type": type} for type, path in wanted.items()]


def _sysctls(inputs: SpecInputs) -> dict[str, str]:
    config, host_config = inputs.container.config, inputs.container.host_config
    sysctls: dict[str, str] = {}
    if config.domainname and host_config.uts_mode != "host":
        sysctls["kernel.domainname"] = config.domainname
    if has_private_network(host_config):
        sysctls |= NETWORK_SYSCTLS
    return sysctls | host_config.sysctls


# --- resources --------------------------------------------------------------------------------------------


def runtime_resources(
    host_config: HostConfig, block_devices: Numbers | None = None, *, lift_swap: bool = False
) -> Json:
    """``linux.resources`` without the devices; also what the runtime's ``update`` takes.

    ``block_devices`` must know every path that the block I/O limits name. ``lift_swap`` writes "no limit"
    of swap out: a new cgroup has none, and a kernel without swap accounting has no file to write it to.
    """
    resources = {
        "memory": _memory(host_config, lift_swap),
        "cpu": _cpu(host_config),
        "blockIO": _block_io(host_config, block_devices or {}),
    }
    if host_config.pids_limit is not None:
        resources["pids"] = {"limit": host_config.pids_limit if host_config.pids_limit > 0 else -1}
    return {name: values for name, values in resources.items() if values}


def _memory(host_config: HostConfig, lift_swap: bool) -> Json:
    memory: Json = {}
    if host_config.memory > 0:
        memory["limit"] = host_config.memory
    if host_config.memory_reservation > 0:
        memory["reservation"] = host_config.memory_reservation
    if host_config.memory_swap > 0 or (lift_swap and host_config.memory_swap == -1):
        memory["swap"] = host_config.memory_swap
    if host_config.memory_swappiness is not None:
        memory["swappiness"] = host_config.memory_swappiness
    if host_config.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(host_config: HostConfig) -> Json:
    cpu: Json = {}
    if host_config.nano_cpus > 0:
        cpu |= {"period": CPU_PERIOD_US, "quota": host_config.nano_cpus * CPU_PERIOD_US // 10**9}
    for name, value in (
        ("shares", host_config.cpu_shares),
        ("period", host_config.cpu_period),
        ("quota", max(host_config.cpu_quota, 0)),  # negative: none, which a new cgroup has
        ("cpus", host_config.cpuset_cpus),
        ("mems", host_config.cpuset_mems),
    ):
        if value:
            cpu[name] = value
    return cpu


def _block_io(host_config: HostConfig, numbers: Numbers) -> Json:
    def entry(path: str, **values: int) -> Json:
        major, minor = numbers[path]
        return {"major": major, "minor": minor, **values}

    def rates(throttled: Sequence[ThrottleDevice]) -> list[Json]:
        return [entry(device.path, rate=device.rate) for device in throttled]

    block_io: Json = {
        "weight": host_config.blkio_weight,
        "weightDevice": [entry(d.path, weight=d.weight) for d in host_config.blkio_weight_device],
        "throttleReadBpsDevice": rates(host_config.blkio_device_read_bps),
        "throttleWriteBpsDevice": rates(host_config.blkio_device_write_bps),
        "throttleReadIOPSDevice": rates(host_config.blkio_device_read_iops),
        "throttleWriteIOPSDevice": rates(host_config.blkio_device_write_iops),
    }
    return {name: value for name, value in block_io.items() if value}
