"""Sync, pure. Requests that make no sense on any host, and wishes that this engine does not grant.

The wording is Docker's where Docker refuses too (moby: ``daemon/container.go``, ``daemon/pkg/runconfig``).
A field that is understood but not honoured is refused by its name: nothing that a client asks for is
silently dropped.
"""

import ipaddress
import re

from proad.model import capabilities, devices, errors, limits
from proad.model.endpointcheck import check_attachments
from proad.model.health import refuse_healthcheck
from proad.model.hostconfig import ContainerConfig, HostConfig
from proad.model.links import parse_link
from proad.model.logoptions import check_log_options
from proad.model.network import EndpointSettings, check_mac
from proad.model.ports import parse_host_ip, parse_host_port, parse_port
from proad.model.security import parse_security_opt
from proad.model.signals import parse_signal
from proad.model.storage import parse_storage_opt

_HOSTNAME = re.compile(
    r"[!-~]{0,64}"
)  # what the kernel takes, but for blanks that would split a line of hosts
_CGROUP_PARENT = re.compile(r"[A-Za-z0-9_.:@-]+(/[A-Za-z0-9_.:@-]+)*")
_NAMESPACED_KERNEL_SYSCTLS = frozenset(
    {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"}
    | {"kernel.shmmni", "kernel.shm_rmid_forced"}
)


def check_request(
    config: ContainerConfig, host_config: HostConfig, networks: dict[str, EndpointSettings] | None = None
) -> None:
    """Refuse what could not work on any host.

    Raises:
        errors.InvalidParameter: says what, and which field.
    """
    _check_honoured(host_config)
    _check_config(config)
    _check_modes(config, host_config)
    limits.check_resources(host_config)
    limits.check_restart_policy(host_config.restart_policy)
    if host_config.auto_remove and host_config.restart_policy.name not in ("", "no"):
        raise errors.InvalidParameter("can't create 'AutoRemove' container with restart policy")
    _check_security(host_config)
    _check_network(config, host_config)
    check_attachments(networks or {})
    check_log_options(host_config.log_config)


def _check_honoured(host_config: HostConfig) -> None:
    """Fields of the API that this engine knows and does not act on."""
    if host_config.device_requests:
        request = host_config.device_requests[0]
        wanted = str([list(group) for group in request.capabilities]).replace("'", "").replace(",", "")
        raise errors.InvalidParameter(
            f'DeviceRequests: could not select device driver "{request.driver}" with capabilities: {wanted}'
        )
    if host_config.isolation not in ("", "default"):
        raise errors.InvalidParameter(
            f"invalid isolation ({host_config.isolation}): linux only supports 'default'"
        )
    parse_storage_opt(host_config.storage_opt)
    for field, value in (
        ("Cgroup", host_config.cgroup),
        ("CpuCount", host_config.cpu_count),
        ("CpuRealtimePeriod", host_config.cpu_realtime_period),
        ("CpuRealtimeRuntime", host_config.cpu_realtime_runtime),
        ("KernelMemoryTCP", host_config.kernel_memory_tcp),
    ):
        if value:
            raise _unsupported(field)


def _unsupported(field: str) -> errors.InvalidParameter:
    return errors.InvalidParameter(f"{field} is not supported by this engine")


def _check_config(config: ContainerConfig) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise errors.InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    for name in (config.hostname, config.domainname):
        if not _HOSTNAME.fullmatch(name):
            raise errors.InvalidParameter(f"invalid hostname format: {name}")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    if config.mac_address:
        check_mac(config.mac_address)
    for variable in config.env:
        if not variable.partition("=")[0]:
            raise errors.InvalidParameter(f"invalid environment variable: {variable}")
    for text in (
        *config.env,
        *(config.cmd or ()),
        *(config.entrypoint or ()),
        config.working_dir,
        config.user,
    ):
        if "\0" in text:
            raise errors.InvalidParameter(f"invalid null byte in {text!r}")
    for port in config.exposed_ports:
        parse_port(port)
    if config.healthcheck is not None:
        refuse_healthcheck(config.healthcheck)


def _check_modes(config: ContainerConfig, host_config: HostConfig) -> None:
    """Namespace modes, alone and with what contradicts them."""
    for what, mode, allowed, joins in (
        ("IPC mode", host_config.ipc_mode, ("", "none", "private", "shareable", "host"), True),
        ("PID mode", host_config.pid_mode, ("", "host"), True),
        ("UTS mode", host_config.uts_mode, ("", "host"), False),
        ("cgroup namespace mode", host_config.cgroupns_mode, ("", "private", "host"), False),
        ("UsernsMode", host_config.userns_mode, ("", "host"), False),
    ):
        if mode not in allowed and not (joins and is_joining(mode)):
            raise errors.InvalidParameter(f"invalid {what}: {mode}")
    if host_config.uts_mode == "host":
        if config.hostname:
            raise errors.InvalidParameter("conflicting options: hostname and the UTS mode")
        if config.domainname:
            raise errors.InvalidParameter("conflicting options: domainname and the UTS mode")
    if host_config.shm_size < 0:
        raise errors.InvalidParameter("SHM size can not be less than 0")
    if not -1000 <= host_config.oom_score_adj <= 1000:
        raise errors.InvalidParameter(
            f"Invalid value {host_config.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    parent = host_config.cgroup_parent.strip("/")
    if parent and (not _CGROUP_PARENT.fullmatch(parent) or ".." in parent.split("/")):
        raise errors.InvalidParameter(f"invalid CgroupParent: {host_config.cgroup_parent}")


def is_joining(mode: str) -> bool:
    """Whether a namespace mode names another container: ``container:<name or id>``."""
    return mode.startswith("container:") and mode != "container:"


def _check_security(host_config: HostConfig) -> None:
    for field, names in (("CapAdd", host_config.cap_add), ("CapDrop", host_config.cap_drop)):
        try:
            capabilities.normalise(names)
        except errors.InvalidParameter as error:
            raise errors.InvalidParameter(f"invalid {field}: {error.message}") from error
    parse_security_opt(host_config.security_opt)
    for rule in host_config.device_cgroup_rules:
        devices.parse_rule(rule)
    for device in host_config.devices:
        devices.check_permissions(device.cgroup_permissions)
        if not device.path_on_host.startswith("/") or not (device.path_in_container or "/").startswith("/"):
            raise errors.InvalidParameter(f"{device.path_on_host} is not an absolute path")
    for name in host_config.sysctls:
        _check_sysctl(name, host_config)


def _check_sysctl(name: str, host_config: HostConfig) -> None:
    """Only what a namespace of the container's own keeps from the host."""
    dotted = name.replace("/", ".")
    if dotted.startswith("net."):
        if host_config.network_mode == "host":
            raise errors.InvalidParameter(f'sysctl "{name}" not allowed in host network namespace')
    elif dotted in _NAMESPACED_KERNEL_SYSCTLS or dotted.startswith("fs.mqueue."):
        if host_config.ipc_mode == "host":
            raise errors.InvalidParameter(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
    elif dotted != "kernel.domainname" or host_config.uts_mode == "host":
        raise errors.InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')


def _check_network(config: ContainerConfig, host_config: HostConfig) -> None:
    mode = host_config.network_mode
    for key, bindings in host_config.port_bindings.items():
        parse_port(key)
        for binding in bindings:
            parse_host_ip(binding.host_ip)
            parse_host_port(binding.host_port)
    for text in host_config.links:
        parse_link(text)
    for text in host_config.extra_hosts:
        _check_extra_host(text)
    for text in host_config.dns:
        if not _is_address(text):
            raise errors.InvalidParameter(f"invalid IP address in Dns: {text}")
    for text in (*host_config.dns_search, *host_config.dns_options):
        if not text.isprintable() or " " in text:
            raise errors.InvalidParameter(f"invalid DNS search domain or option: {text!r}")
    if mode == "container:":
        raise errors.InvalidParameter("Invalid network mode: invalid container format container:<name|id>")
    if mode == "host" and host_config.links:
        raise errors.InvalidParameter(
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )
    if mode == "host" and config.mac_address:
        raise errors.InvalidParameter("conflicting options: mac-address and the network mode")
    if is_joining(mode):
        _check_joined_network(config, host_config)


def _check_joined_network(config: ContainerConfig, host_config: HostConfig) -> None:
    """What belongs to the container whose network is shared cannot be set on the one that shares it."""
    for conflict, reason in (
        (config.hostname, "hostname and the network mode"),
        (
            host_config.links,
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (host_config.dns, "dns and the network mode"),
        (host_config.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (config.mac_address, "mac-address and the network mode"),
        (
            host_config.port_bindings or host_config.publish_all_ports,
            "port publishing and the container type network mode",
        ),
        (config.exposed_ports, "port exposing and the container type network mode"),
    ):
        if conflict:
            raise errors.InvalidParameter(f"conflicting options: {reason}")


def _check_extra_host(text: str) -> None:
    name, separator, address = text.partition(":")
    if not separator or not name or not _HOSTNAME.fullmatch(name):
        raise errors.InvalidParameter(f'bad format for add-host: "{text}"')
    if address != "host-gateway" and not _is_address(address.removeprefix("[").removesuffix("]")):
        raise errors.InvalidParameter(f'invalid IP address in add-host: "{address}"')


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
