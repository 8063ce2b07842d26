"""Sync, pure. What a container is asked to be: the portable part, the host's part, and their pieces.

The structs bear the Engine API's fields (1.51, and the older ones that clients still send) and go through
JSON in the API's names unchanged, both ways. An empty tuple, mapping or string, ``0`` and ``False`` mean
"not asked for", as in the API, where ``null`` and a missing field are the zero value; a field is ``| None``
only where nothing at all and the zero value differ. Reading a request with those rules is
:mod:`proad.model.createrequest`.
"""

from typing import Annotated

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Uint64 = Annotated[int, msgspec.Meta(ge=0)]
Uint16 = Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]

_API_NAMES = {
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "container_id_file": "ContainerIDFile",
    "device_ids": "DeviceIDs",
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "kernel_memory_tcp": "KernelMemoryTCP",
    "uts_mode": "UTSMode",
}


def api_name(attribute: str) -> str:
    """The API's name of a struct's attribute: ``ipc_mode`` → ``IpcMode``, ``uts_mode`` → ``UTSMode``."""
    return _API_NAMES.get(attribute) or "".join(word.capitalize() for word in attribute.split("_"))


class Empty(msgspec.Struct, frozen=True):
    """The ``{}`` that stands for "present" in ``ExposedPorts`` and ``Volumes``."""


class Healthcheck(msgspec.Struct, frozen=True, kw_only=True, rename=api_name, omit_defaults=True):
    """How to probe a container's health; durations in nanoseconds, 0 to inherit the image's."""

    test: tuple[str, ...] = ()
    interval: Int64 = 0
    timeout: Int64 = 0
    start_period: Int64 = 0
    start_interval: Int64 = 0
    retries: Int64 = 0


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """The part of a container's configuration that would be the same on any host.

    ``cmd``, ``entrypoint`` and ``shell`` are ``None`` where the request is silent, so that the image's apply.
    """

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Empty] = {}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, Empty] = {}
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: tuple[str, ...] | None = None
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: Int64 | None = None
    shell: tuple[str, ...] | None = None


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """``name`` is ``no`` (or empty), ``always``, ``unless-stopped`` or ``on-failure``."""

    name: str = ""
    maximum_retry_count: Int64 = 0


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """``type`` is a log driver's name, empty for the daemon's."""

    type: str = ""
    config: dict[str, str] = {}


class PortBinding(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """Where a container's port shows on the host; ``host_port`` is a number, a range ``8000-8010`` or
    empty.
    """

    host_ip: str = ""
    host_port: str = ""


class Ulimit(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """A resource limit, by its name without ``RLIMIT_`` in lower case; -1 is "no limit"."""

    name: str = ""
    soft: Int64 = 0
    hard: Int64 = 0


class DeviceMapping(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """A device, or a directory of them, of the host; ``cgroup_permissions`` of the letters ``rwm``."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """A wish for devices of a driver (GPUs); this engine knows no such driver."""

    driver: str = ""
    count: Int64 = 0
    device_ids: tuple[str, ...] = ()
    capabilities: tuple[tuple[str, ...], ...] = ()
    options: dict[str, str] = {}


class WeightDevice(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """A block device's share of I/O, 10 to 1000."""

    path: str = ""
    weight: Uint16 = 0


class ThrottleDevice(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """A block device's limit, in bytes or operations a second."""

    path: str = ""
    rate: Uint64 = 0


class BindOptions(msgspec.Struct, frozen=True, kw_only=True, rename=api_name, omit_defaults=True):
    """Options of a mount of type ``bind``."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeDriver(msgspec.Struct, frozen=True, kw_only=True, rename=api_name, omit_defaults=True):
    """The driver that makes the volume of a mount, where it does not exist yet."""

    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(msgspec.Struct, frozen=True, kw_only=True, rename=api_name, omit_defaults=True):
    """Options of a mount of type ``volume``."""

    no_copy: bool = False
    labels: dict[str, str] = {}
    subpath: str = ""
    driver_config: VolumeDriver | None = None


class ImageOptions(msgspec.Struct, frozen=True, kw_only=True, rename=api_name, omit_defaults=True):
    """Options of a mount of type ``image``."""

    subpath: str = ""


class TmpfsOptions(msgspec.Struct, frozen=True, kw_only=True, rename=api_name, omit_defaults=True):
    """Options of a mount of type ``tmpfs``; ``mode`` holds permission bits; ``options`` are pairs or single
    flags.
    """

    size_bytes: Int64 = 0
    mode: Uint32 = 0
    options: tuple[tuple[str, ...], ...] = ()


class MountRequest(msgspec.Struct, frozen=True, kw_only=True, rename=api_name, omit_defaults=True):
    """One entry of ``HostConfig.Mounts``, as asked."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    cluster_options: Empty | None = None


class Resources(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """What ``docker update`` can change of a container, and what ``docker run`` can limit.

    Memory in bytes (``memory_swap`` counts memory and swap, -1 is no limit), CPU periods, quotas and run
    times in microseconds, ``nano_cpus`` in billionths of a CPU.
    """

    cpu_shares: Int64 = 0
    memory: Int64 = 0
    nano_cpus: Int64 = 0
    cgroup_parent: str = ""
    blkio_weight: Uint16 = 0
    blkio_weight_device: tuple[WeightDevice, ...] = ()
    blkio_device_read_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_bps: tuple[ThrottleDevice, ...] = ()
    blkio_device_read_iops: tuple[ThrottleDevice, ...] = ()
    blkio_device_write_iops: tuple[ThrottleDevice, ...] = ()
    cpu_period: Int64 = 0
    cpu_quota: Int64 = 0
    cpu_realtime_period: Int64 = 0
    cpu_realtime_runtime: Int64 = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: tuple[DeviceMapping, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    device_requests: tuple[DeviceRequest, ...] = ()
    kernel_memory: Int64 = 0
    kernel_memory_tcp: Int64 = 0
    memory_reservation: Int64 = 0
    memory_swap: Int64 = 0
    memory_swappiness: Int64 | None = None
    oom_kill_disable: bool | None = None
    pids_limit: Int64 | None = None
    ulimits: tuple[Ulimit, ...] = ()
    cpu_count: Int64 = 0
    cpu_percent: Int64 = 0
    io_maximum_iops: Uint64 = 0
    io_maximum_bandwidth: Uint64 = 0


class HostConfig(Resources, frozen=True, kw_only=True, rename=api_name):
    """The part of a container's configuration that depends on the host.

    ``masked_paths`` and ``readonly_paths`` are ``None`` for the defaults and empty for none at all;
    ``init`` is ``None`` for what the daemon does by default. ``console_size`` is (height, width).
    """

    binds: tuple[str, ...] = ()
    container_id_file: str = ""
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, tuple[PortBinding, ...]] = {}
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: tuple[str, ...] = ()
    console_size: tuple[Uint64, Uint64] = (0, 0)
    annotations: dict[str, str] = {}
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    cgroupns_mode: str = ""
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    ipc_mode: str = ""
    cgroup: str = ""
    links: tuple[str, ...] = ()
    oom_score_adj: Int64 = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: tuple[str, ...] = ()
    storage_opt: dict[str, str] = {}
    tmpfs: dict[str, str] = {}
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: Int64 = 0
    sysctls: dict[str, str] = {}
    runtime: str = ""
    isolation: str = ""
    init: bool | None = None
    mounts: tuple[MountRequest, ...] = ()
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None


class UpdateRequest(Resources, frozen=True, kw_only=True, rename=api_name):
    """The body of ``POST /containers/{ref}/update``; a field left at its zero value keeps what the
    container has.
    """

    restart_policy: RestartPolicy = RestartPolicy()
