"""Sync, pure. The flags of `run` and `create` as the API's Config, HostConfig and endpoints.

Only what was given is sent, so that the image's and the daemon's defaults hold for the rest.
All functions raise ValueError for values that cannot be meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from proa.cli.parse import attachments, environment, limits, mounts, ports

if TYPE_CHECKING:
    from proa.types import JSON

Reader = Callable[[str], str]


class Wanted(NamedTuple):
    """A container as asked for. `mac_address` is that of `networks` again, for daemons that want it apart."""

    name: str | None
    platform: str | None
    config: JSON
    host_config: JSON
    networks: JSON
    mac_address: str | None


def build(
    flags: Mapping[str, Any], image: str, command: Iterable[str], environ: Mapping[str, str], read: Reader
) -> Wanted:
    """Put a request together. `read` gives the text of a file named by a flag."""
    host_config = {**_host(flags), **resources(flags), **_storage(flags), **_security(flags, read)}
    mode, networks = attachments.parse_networks(flags)
    if mode:
        host_config["NetworkMode"] = mode
    if host_config.get("AutoRemove") and host_config.get("RestartPolicy", {}).get("Name", "no") != "no":
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    config = _config(flags, image, list(command), environ, read)
    return Wanted(flags["name"], flags["platform"], config, host_config, networks, flags["mac_address"])


def _given(pairs: Mapping[str, Any]) -> JSON:
    """The entries that say something: not None, and not an empty list or map."""
    return {key: value for key, value in pairs.items() if value is not None and value not in ((), [], {})}


def _config(
    flags: Mapping[str, Any], image: str, command: list[str], environ: Mapping[str, str], read: Reader
) -> JSON:
    attached = [stream.lower() for stream in flags["attach"]]
    unknown = set(attached) - {"stdin", "stdout", "stderr"}
    if unknown:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    stdin = bool(flags["interactive"]) or "stdin" in attached
    published = ports.parse_published(flags["publish"])
    exposed = [*published, *ports.parse_exposed(flags["expose"])]
    entrypoint = flags["entrypoint"]
    return {
        "Image": image,
        "AttachStdin": stdin,
        "AttachStdout": not attached or "stdout" in attached,
        "AttachStderr": not attached or "stderr" in attached,
        **_given(
            {
                "Cmd": command,
                # An empty --entrypoint resets the image's.
                "Entrypoint": None if entrypoint is None else [entrypoint],
                "Env": environment.parse_env(flags["env"], _files(flags["env_file"], read), environ),
                "Labels": environment.parse_labels(flags["label"], _files(flags["label_file"], read)),
                "Hostname": flags["hostname"],
                "Domainname": flags["domainname"],
                "User": flags["user"],
                "WorkingDir": flags["workdir"],
                "Tty": flags["tty"],
                "OpenStdin": flags["interactive"],
                "StdinOnce": True if flags["interactive"] and stdin else None,
                "ExposedPorts": {port: {} for port in exposed},
                "Volumes": {path: {} for path in mounts.parse_volumes(flags["volume"])[1]},
                "StopSignal": flags["stop_signal"],
                "StopTimeout": flags["stop_timeout"],
                "Healthcheck": _healthcheck(flags),
            }
        ),
    }


def _files(names: Iterable[str], read: Reader) -> list[tuple[str, str]]:
    texts: list[tuple[str, str]] = []
    for name in names:
        try:
            texts.append((name, read(name)))
        except OSError as error:
            raise ValueError(f"open {name}: {(error.strerror or str(error)).lower()}") from None
        except UnicodeDecodeError:
            raise ValueError(f"env file {name} contains invalid utf8 bytes") from None
    return texts


def _healthcheck(flags: Mapping[str, Any]) -> JSON | None:
    test = flags["health_cmd"]
    times = {
        "Interval": flags["health_interval"],
        "Timeout": flags["health_timeout"],
        "StartPeriod": flags["health_start_period"],
        "StartInterval": flags["health_start_interval"],
        "Retries": flags["health_retries"],
    }
    check = _given({"Test": ["CMD-SHELL", test] if test else None, **times})
    if flags["no_healthcheck"]:
        if check:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    for name in ("interval", "timeout", "start_period", "start_interval", "retries"):
        if (flags[f"health_{name}"] or 0) < 0:
            raise ValueError(f"--health-{name.replace('_', '-')} cannot be negative")
    return check or None


def _host(flags: Mapping[str, Any]) -> JSON:
    log_options = environment.parse_pairs(flags["log_opt"], "log option")
    log = _given({"Type": flags["log_driver"], "Config": log_options})
    return _given(
        {
            "AutoRemove": flags["rm"],
            "ContainerIDFile": flags["cidfile"],
            "Init": flags["init"],
            "Privileged": flags["privileged"],
            "PublishAllPorts": flags["publish_all"],
            "PortBindings": ports.parse_published(flags["publish"]),
            "Links": list(flags["link"]),
            "Dns": list(flags["dns"]),
            "DnsSearch": list(flags["dns_search"]),
            "DnsOptions": list(flags["dns_option"]),
            "ExtraHosts": [attachments.parse_extra_host(entry) for entry in flags["add_host"]],
            "IpcMode": flags["ipc"],
            "PidMode": flags["pid"],
            "UTSMode": flags["uts"],
            "UsernsMode": flags["userns"],
            "CgroupnsMode": flags["cgroupns"],
            "Isolation": flags["isolation"],
            "Runtime": flags["runtime"],
            "LogConfig": log,
            "Annotations": environment.parse_pairs(flags["annotation"], "annotation"),
            "Sysctls": environment.parse_pairs(flags["sysctl"], "sysctl"),
            "GroupAdd": list(flags["group_add"]),
        }
    )


def resources(flags: Mapping[str, Any]) -> JSON:
    """The limits and the restart policy; also the whole of what `proa update` sends."""
    swappiness = flags.get("memory_swappiness")
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    return _given(
        {
            "BlkioWeight": flags["blkio_weight"],
            "BlkioWeightDevice": [
                limits.parse_weight_device(flag) for flag in flags.get("blkio_weight_device", ())
            ],
            "BlkioDeviceReadBps": _each(limits.parse_throttle_bytes, flags.get("device_read_bps")),
            "BlkioDeviceWriteBps": _each(limits.parse_throttle_bytes, flags.get("device_write_bps")),
            "BlkioDeviceReadIOps": _each(limits.parse_throttle_operations, flags.get("device_read_iops")),
            "BlkioDeviceWriteIOps": _each(limits.parse_throttle_operations, flags.get("device_write_iops")),
            "CpuPeriod": flags["cpu_period"],
            "CpuQuota": flags["cpu_quota"],
            "CpuRealtimePeriod": flags["cpu_rt_period"],
            "CpuRealtimeRuntime": flags["cpu_rt_runtime"],
            "CpuShares": flags["cpu_shares"],
            "NanoCpus": flags["cpus"],
            "CpusetCpus": flags["cpuset_cpus"],
            "CpusetMems": flags["cpuset_mems"],
            "KernelMemory": flags.get("kernel_memory"),
            "Memory": flags["memory"],
            "MemoryReservation": flags["memory_reservation"],
            "MemorySwap": flags["memory_swap"],
            "MemorySwappiness": swappiness,
            "OomKillDisable": flags.get("oom_kill_disable"),
            "OomScoreAdj": flags.get("oom_score_adj"),
            "PidsLimit": flags["pids_limit"],
            "ShmSize": flags.get("shm_size"),
            "Ulimits": _each(limits.parse_ulimit, flags.get("ulimit")),
            "RestartPolicy": limits.parse_restart_policy(flags["restart"] or ""),
        }
    )


def _each(parse: Callable[[str], JSON], flags: Iterable[str] | None) -> list[JSON]:
    return [parse(flag) for flag in flags or ()]


def _storage(flags: Mapping[str, Any]) -> JSON:
    return _given(
        {
            "Binds": mounts.parse_volumes(flags["volume"])[0],
            "Mounts": [mounts.parse_mount(flag) for flag in flags["mount"]],
            "Tmpfs": mounts.parse_tmpfs(flags["tmpfs"]),
            "VolumesFrom": list(flags["volumes_from"]),
            "VolumeDriver": flags["volume_driver"],
            "ReadonlyRootfs": flags["read_only"],
            "StorageOpt": environment.parse_pairs(flags["storage_opt"], "storage option"),
        }
    )


def _security(flags: Mapping[str, Any], read: Reader) -> JSON:
    options, masked, readonly = limits.parse_security(flags["security_opt"], read)
    security = _given(
        {
            "SecurityOpt": options,
            "CapAdd": list(flags["cap_add"]),
            "CapDrop": list(flags["cap_drop"]),
            "CgroupParent": flags["cgroup_parent"],
            "Devices": [limits.parse_device(flag) for flag in flags["device"]],
            "DeviceCgroupRules": list(flags["device_cgroup_rule"]),
        }
    )
    # Empty lists mean "none at all" to the daemon, which is not the same as their absence.
    if masked is not None:
        security["MaskedPaths"] = masked
    if readonly is not None:
        security["ReadonlyPaths"] = readonly
    return security
