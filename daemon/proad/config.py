"""Sync, pure. The daemon's configuration: defaults, then the TOML file, then flags, validated once.

Flags bear dockerd's names. In the file a key is the flag's name (``data-root = "/var/lib/proa"``); flags that
may be given several times are arrays, ``add-runtime`` and ``default-ulimit`` are tables. What must differ
between two daemons on one host (bridge, nftables table, cgroup parent) is derived from the exec root unless
given.
"""

import argparse
import hashlib
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_CONFIG_FILE = Path("/etc/proa/proad.toml")
DEFAULT_DATA_ROOT = Path("/var/lib/proa")
DEFAULT_EXEC_ROOT = Path("/run/proa")
NO_BRIDGE = "none"
"""The value of ``--bridge`` that means that there shall be no default bridge."""


class ConfigError(Exception):
    """The configuration cannot be used; the text names the file or flag, and the value."""


@dataclass(frozen=True)
class AddressPool:
    """Networks without a subnet of their own get ``/size`` pieces of ``base`` (``172.17.0.0/12``)."""

    base: str
    size: int


@dataclass(frozen=True)
class Config:
    """Everything the daemon can be told. ``None`` and ``""`` mean "choose"."""

    hosts: tuple[str, ...]
    data_root: Path = DEFAULT_DATA_ROOT
    exec_root: Path = DEFAULT_EXEC_ROOT
    pidfile: Path | None = None
    config_file: Path | None = None
    group: str = "proa"
    bridge: str = "proa0"
    bip: str = ""
    default_address_pools: tuple[AddressPool, ...] = ()
    table: str = "proa"
    cgroup_parent: str = "/proa"
    default_runtime: str = ""
    runtimes: Mapping[str, str] | None = None
    default_ulimits: Mapping[str, tuple[int, int]] | None = None
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    nondistributable_registries: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    log_level: str = "info"
    log_format: str = ""
    log_driver: str = "json-file"
    log_options: Mapping[str, str] | None = None
    shutdown_timeout_s: int = 15
    mtu: int = 1500
    ip_forward_no_drop: bool = False
    init_path: str = ""
    labels: tuple[str, ...] = ()
    port_range: tuple[int, int] = (49153, 60999)
    events_max_count: int = 100_000
    events_max_age_s: int = 30 * 24 * 3600
    insecure_tcp: bool = False
    stop_containers_on_exit: bool = False

    @property
    def has_bridge(self) -> bool:
        return self.bridge != NO_BRIDGE

    @property
    def own_bridge(self) -> str:
        """What the bridge is called where nothing is said of it."""
        return f"proa{_instance_tag(self.exec_root) or '0'}"


RELOADABLE = frozenset(
    {
        "log_level",
        "labels",
        "default_ulimits",
        "events_max_count",
        "events_max_age_s",
        "stop_containers_on_exit",
    }
)
"""What SIGHUP takes over; anything else says in the log that it needs a restart."""

DEFAULT_POOLS = (AddressPool("172.17.0.0/12", 16), AddressPool("192.168.0.0/16", 20))


def make_parser() -> argparse.ArgumentParser:
    """The flags of ``proad``; every default is absent, so that only what was given overrides the file."""
    parser = argparse.ArgumentParser(
        prog="proad", argument_default=argparse.SUPPRESS, allow_abbrev=False,
        description="A container engine for one Linux machine that serves the Docker Engine API.",
    )  # fmt: skip
    add = parser.add_argument
    add(
        "-H",
        "--host",
        action="append",
        dest="host",
        metavar="URL",
        help="where to listen: unix:///path, fd:// (from systemd) or tcp://127.0.0.1:PORT; repeatable",
    )
    add("--data-root", metavar="DIR", help=f"state, layers and volumes (default {DEFAULT_DATA_ROOT})")
    add("--exec-root", metavar="DIR", help=f"runtime files and sockets (default {DEFAULT_EXEC_ROOT})")
    add("-p", "--pidfile", metavar="FILE", help="file to write the daemon's pid to")
    add(
        "--config-file",
        metavar="FILE",
        help=f"TOML configuration file (default {DEFAULT_CONFIG_FILE}, if there)",
    )
    add("-G", "--group", metavar="NAME", help="group that owns the socket (default proa)")
    add(
        "-b",
        "--bridge",
        metavar="NAME",
        help="name of the default bridge; none: there is no such network",
    )
    add("--bip", metavar="CIDR", help="address of the default bridge, such as 172.30.0.1/16")
    add(
        "--default-address-pool",
        action="append",
        metavar="base=CIDR,size=N",
        help="pool for networks; repeatable",
    )
    add("--cgroup-parent", metavar="PATH", help="parent cgroup of all containers")
    add(
        "--default-runtime",
        metavar="NAME",
        help="OCI runtime (default: crun if it works on this host, else runc)",
    )
    add("--add-runtime", action="append", metavar="NAME=PATH", help="another OCI runtime; repeatable")
    add("--default-ulimit", action="append", metavar="NAME=SOFT[:HARD]", help="default ulimit; repeatable")
    add("--dns", action="append", metavar="ADDRESS", help="DNS server for containers; repeatable")
    add("--dns-search", action="append", metavar="DOMAIN", help="DNS search domain; repeatable")
    add("--dns-opt", action="append", metavar="OPTION", help="resolver option; repeatable")
    add(
        "--insecure-registry",
        action="append",
        metavar="HOST",
        help="registry spoken to without TLS checks; repeatable",
    )
    add("--registry-mirror", action="append", metavar="URL", help="preferred mirror; repeatable")
    add(
        "--allow-nondistributable-artifacts",
        action="append",
        metavar="HOST",
        help="registry that foreign layers are pushed to; repeatable",
    )
    add("--max-concurrent-downloads", type=int, metavar="N", help="layers pulled at once (default 3)")
    add("--max-concurrent-uploads", type=int, metavar="N", help="layers pushed at once (default 5)")
    add("--max-download-attempts", type=int, metavar="N", help="attempts at each download (default 5)")
    add("-l", "--log-level", choices=["debug", "info", "warn", "warning", "error", "fatal"])
    add("--log-format", choices=["text", "json"], help="default: text on a terminal, else json")
    add("--log-driver", metavar="NAME", help="log driver of new containers (default json-file)")
    add("--log-opt", action="append", metavar="KEY=VALUE", help="option of that log driver; repeatable")
    add("--shutdown-timeout", type=int, metavar="SECONDS", help="how long a shutdown waits (default 15)")
    add("--mtu", type=int, help="MTU of the default bridge (default 1500)")
    add(
        "--ip-forward-no-drop",
        action="store_true",
        help="route between the host's other networks, too, when forwarding is switched on",
    )
    add("--init-path", metavar="FILE", help="init binary for --init")
    add("--label", action="append", metavar="KEY=VALUE", help="label of this engine; repeatable")
    add("--port-range", metavar="FIRST-LAST", help="host ports for random publishing")
    add("--events-max-count", type=int, metavar="N", help="how many events are kept")
    add("--events-max-age", type=int, metavar="SECONDS", help="how long events are kept")
    add(
        "--insecure-tcp",
        action="store_true",
        help="allow tcp:// hosts, which give root to whoever reaches them",
    )
    add("--stop-containers-on-exit", action="store_true", help="stop all containers on SIGTERM")
    add("--check", action="store_true", help="print what this host has and lacks, and exit")
    add("-v", "--version", action="store_true", help="print the version and exit")
    return parser


def load(given: Mapping[str, Any]) -> Config:
    """Make the Config from what the command line gave, over the file, over the defaults.

    Raises:
        ConfigError: an unreadable file, an unknown key, a value out of range.
    """
    path = Path(given["config_file"]) if "config_file" in given else None
    file_values = _read_file(path or DEFAULT_CONFIG_FILE, required=path is not None)
    values = {
        **file_values,
        **{k: v for k, v in given.items() if k not in ("check", "version", "config_file")},
    }
    try:
        return _build(values, path)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"configuration file {path} does not exist") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"configuration file {path}: {error}") from error
    actions = {a.dest: a for a in make_parser()._actions}
    values = {}
    for key, value in raw.items():
        dest = key.replace("-", "_")
        if dest not in actions or dest in ("help", "check", "version", "config_file"):
            raise ConfigError(f"configuration file {path}: unknown key {key!r}")
        values[dest] = _file_value(f"{path}: {key}", actions[dest], value)
    return values


def _file_value(where: str, action: argparse.Action, value: Any) -> Any:
    """Check a TOML value against its flag's type; the file has no other types than the flags."""
    if isinstance(action, argparse._AppendAction):
        if isinstance(value, dict):
            return [f"{k}={v}" for k, v in value.items()]
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"configuration file {where} must be an array of strings")
        return value
    wanted = bool if isinstance(action, argparse._StoreTrueAction) else action.type or str
    if type(value) is not wanted:
        raise ConfigError(f"configuration file {where} must be of type {getattr(wanted, '__name__', wanted)}")
    if action.choices and value not in action.choices:
        raise ConfigError(f"configuration file {where} must be one of {', '.join(action.choices)}")
    return value


def _build(values: dict[str, Any], path: Path | None) -> Config:
    exec_root = Path(values.pop("exec_root", DEFAULT_EXEC_ROOT)).absolute()
    tag = _instance_tag(exec_root)
    bridge = values.pop("bridge", f"proa{tag or '0'}")
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", bridge):
        raise ConfigError(f"--bridge {bridge!r} is not an interface name")
    bip = values.pop("bip", "")
    if bip:
        if bridge == NO_BRIDGE:
            raise ConfigError(f"--bip {bip}: with --bridge none there is no bridge to have an address")
        ipaddress.IPv4Interface(bip)
    cgroup_parent = values.pop("cgroup_parent", f"/proa{'-' + tag if tag else ''}")
    if not re.fullmatch(
        r"/?[A-Za-z0-9_.:-]+(/[A-Za-z0-9_.:-]+)*", cgroup_parent
    ) or ".." in cgroup_parent.split("/"):
        raise ConfigError(f"--cgroup-parent {cgroup_parent!r} is not a cgroup path")
    config = Config(
        hosts=tuple(values.pop("host", ())) or (f"unix://{exec_root}/proa.sock",),
        data_root=Path(values.pop("data_root", DEFAULT_DATA_ROOT)).absolute(),
        exec_root=exec_root,
        pidfile=Path(values.pop("pidfile")) if "pidfile" in values else None,
        config_file=path,
        bridge=bridge,
        bip=bip,
        default_address_pools=_with_ipv4(map(_parse_pool, values.pop("default_address_pool", ()))),
        table=f"proa{'_' + tag if tag else ''}",
        cgroup_parent="/" + cgroup_parent.strip("/"),
        runtimes=dict(_pair(item, "--add-runtime") for item in values.pop("add_runtime", ())),
        default_ulimits=dict(map(_parse_ulimit, values.pop("default_ulimit", ()))),
        dns=tuple(values.pop("dns", ())),
        dns_search=tuple(values.pop("dns_search", ())),
        dns_options=tuple(values.pop("dns_opt", ())),
        insecure_registries=tuple(values.pop("insecure_registry", ())),
        registry_mirrors=tuple(map(_parse_mirror, values.pop("registry_mirror", ()))),
        nondistributable_registries=tuple(values.pop("allow_nondistributable_artifacts", ())),
        labels=tuple(values.pop("label", ())),
        log_options=dict(_pair(item, "--log-opt") for item in values.pop("log_opt", ())),
        port_range=_parse_range(values.pop("port_range", "49153-60999")),
        shutdown_timeout_s=values.pop("shutdown_timeout", 15),
        events_max_age_s=values.pop("events_max_age", 30 * 24 * 3600),
        **values,
    )
    for address in config.dns:
        ipaddress.ip_address(address)
    for name in ("shutdown_timeout_s", "events_max_count", "events_max_age_s"):
        if getattr(config, name) < 0:
            raise ConfigError(f"{name.replace('_', '-')} must not be negative")
    for name in ("max_concurrent_downloads", "max_concurrent_uploads", "max_download_attempts"):
        if getattr(config, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least 1")
    if not 68 <= config.mtu <= 65535:
        raise ConfigError(f"--mtu {config.mtu} is out of range")
    _check_hosts(config)
    return config


def _instance_tag(exec_root: Path) -> str:
    """Empty for the daemon at the default place, else eight hex digits that are this exec root's own."""
    if exec_root == DEFAULT_EXEC_ROOT:
        return ""
    return hashlib.sha256(str(exec_root).encode()).hexdigest()[:8]


def _check_hosts(config: Config) -> None:
    for host in config.hosts:
        scheme, _, rest = host.partition("://")
        if scheme == "unix" and rest.startswith("/"):
            if len(rest.encode()) > 107:
                raise ConfigError(f"--host {host}: a unix socket's path is limited to 107 bytes")
        elif scheme == "fd":
            continue
        elif scheme == "tcp":
            if not config.insecure_tcp:
                raise ConfigError(
                    f"--host {host}: a tcp socket gives root to whoever reaches it; add --insecure-tcp"
                )
            address, _, port = rest.rpartition(":")
            if not port.isdigit() or int(port) > 65535 or not address:
                raise ConfigError(f"--host {host}: expected tcp://ADDRESS:PORT")
        else:
            raise ConfigError(f"--host {host}: expected unix:///path, fd:// or tcp://ADDRESS:PORT")


def _pair(item: str, flag: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if not (key and equals and value):
        raise ConfigError(f"{flag} {item!r}: expected NAME=VALUE")
    return key, value


def _with_ipv4(pools: Iterable[AddressPool]) -> tuple[AddressPool, ...]:
    """The pools, behind the usual ones where none is of IPv4; for IPv6, a network can do without."""
    given = tuple(pools)
    return given if any(":" not in pool.base for pool in given) else (*DEFAULT_POOLS, *given)


def _parse_pool(item: str) -> AddressPool:
    parts = dict(_pair(piece, "--default-address-pool") for piece in item.split(","))
    if set(parts) != {"base", "size"}:
        raise ConfigError(f"--default-address-pool {item!r}: expected base=CIDR,size=N")
    base = ipaddress.ip_network(parts["base"], strict=False)
    size, most = int(parts["size"]), base.max_prefixlen - 3
    if not base.prefixlen <= size <= most:
        raise ConfigError(
            f"--default-address-pool {item!r}: size must be between {base.prefixlen} and {most}"
        )
    return AddressPool(parts["base"], size)


def _parse_ulimit(item: str) -> tuple[str, tuple[int, int]]:
    name, limits = _pair(item, "--default-ulimit")
    soft, _, hard = limits.partition(":")
    return name, (int(soft), int(hard or soft))


def _parse_mirror(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--registry-mirror {url}: expected http://HOST[:PORT] or https://HOST[:PORT]")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"--registry-mirror {url}: a mirror has no path, query, fragment or user")
    return f"{parts.scheme}://{parts.netloc}/"


def _parse_range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    low, high = int(first), int(last)
    if not 1 <= low <= high <= 65535:
        raise ConfigError(f"--port-range {text!r} is not a range of ports")
    return low, high


def changed_fields(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """Names of the fields that differ: those a reload may change, and those that need a restart."""
    changed = [f.name for f in fields(Config) if getattr(old, f.name) != getattr(new, f.name)]
    return [n for n in changed if n in RELOADABLE], [n for n in changed if n not in RELOADABLE]
