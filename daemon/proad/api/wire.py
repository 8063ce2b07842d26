"""Sync, pure. Containers as the API shows them: from the record to Docker's JSON, by API version.

What a container is asked to be (``Config``, ``HostConfig``) goes out in the structs that it came in with; the
rest is built here. Lists and maps that are empty go out as ``[]`` and ``{}``, which clients in every language
can walk.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from proad.api.statewire import shown_status, state
from proad.model.container import Container
from proad.model.durations import format_rfc3339_ns
from proad.model.logoptions import JSON_FILE, log_driver
from proad.model.mounts import MountPoint
from proad.model.names import dns_names
from proad.model.network import ON_LINK, PREDEFINED, Endpoint, EndpointSettings, elect_gateways

Json = dict[str, Any]
ApiVersion = tuple[int, int]

STORAGE_DRIVER = "overlay2"
"""Docker's name for what this engine does too: an overlayfs mount per container, a directory per layer."""

_SECOND_NS = 1_000_000_000
_CONFIG_OMITTED_WHEN_EMPTY = (
    "ArgsEscaped", "ExposedPorts", "Healthcheck", "MacAddress", "NetworkDisabled", "OnBuild", "Shell",
    "StopSignal", "StopTimeout",
)  # fmt: skip
_HOST_CONFIG_OMITTED_WHEN_EMPTY = ("Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs")


@dataclass(frozen=True)
class Place:
    """What a container's JSON says of this daemon: where files lie, the ids of its networks by name, what
    containers are called, and the execs that are not over.
    """

    data_root: Path
    network_ids: Mapping[str, str] = field(default_factory=dict)
    name_of: Callable[[str], str | None] = lambda container_id: None
    exec_ids_of: Callable[[Container], list[str]] = lambda container: []


# --- network ----------------------------------------------------------------------------------------------


def network_mode(container: Container) -> str:
    mode = container.host_config.network_mode
    return "bridge" if mode in ("", "default") else mode


def live_endpoints(container: Container) -> dict[str, Endpoint]:
    """The attachments of the run that is alive, by their networks' names."""
    if container.run is None or not container.status.has_process:
        return {}
    return {endpoint.network: endpoint for endpoint in container.run.endpoints}


def networks(container: Container, network_ids: Mapping[str, str], version: ApiVersion) -> dict[str, Json]:
    """``NetworkSettings.Networks``: an entry for each by name; addresses only while the container runs."""
    if network_mode(container).startswith("container:"):
        return {}
    live = live_endpoints(container)
    names = sorted({*container.networks, *live})
    return {
        name: _attachment(container, name, live.get(name), network_ids.get(name, ""), version)
        for name in names
    }


def _attachment(
    container: Container, name: str, endpoint: Endpoint | None, network_id: str, version: ApiVersion
) -> Json:
    """One network that a container is on, with the addresses of ``endpoint`` if it is there now."""
    asked = container.networks.get(name, EndpointSettings())
    found = dns_names(container, asked) if name not in PREDEFINED else []
    aliases = list(asked.aliases or ())
    if found and version < (1, 45):
        # The names that it has without asking were told as aliases, and clients look for them there.
        aliases = list(dict.fromkeys([*aliases, container.short_id, container.config.hostname]))
    return {
        "IPAMConfig": msgspec.to_builtins(asked.ipam_config),
        "Links": asked.links or [],
        "Aliases": aliases,
        "MacAddress": endpoint.mac_address if endpoint else asked.mac_address,
        "DriverOpts": asked.driver_opts,
        "GwPriority": asked.gw_priority,
        "NetworkID": endpoint.network_id if endpoint else network_id,
        "EndpointID": endpoint.endpoint_id if endpoint else "",
        "Gateway": endpoint.gateway if endpoint and endpoint.gateway not in ON_LINK else "",
        "IPAddress": endpoint.address if endpoint else "",
        "IPPrefixLen": endpoint.prefix_length if endpoint else 0,
        "IPv6Gateway": endpoint.ipv6_gateway if endpoint and endpoint.ipv6_gateway not in ON_LINK else "",
        "GlobalIPv6Address": endpoint.ipv6_address if endpoint else "",
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix_length if endpoint else 0,
        "DNSNames": found,
    }


def port_map(container: Container) -> dict[str, list[Json] | None]:
    """Container port to where it shows on the host; None where it is exposed only. Empty while it does not
    run, and where no network of it publishes anything: internal ones, the host's, none."""
    if not container.status.has_process or container.run is None:
        return {}
    gateways = elect_gateways(container.run.endpoints)
    if not any(endpoint is not None and endpoint.driver == "bridge" for endpoint in gateways):
        return {}
    ports: dict[str, list[Json] | None] = dict.fromkeys(sorted(container.config.exposed_ports))
    for published in container.run.ports:
        key = f"{published.container_port}/{published.protocol}"
        bindings = ports.get(key)
        if bindings is None:
            bindings = ports[key] = []
        bindings.append({"HostIp": published.host_ip, "HostPort": str(published.host_port or "")})
    return ports


def port_list(container: Container) -> list[Json]:
    """``Ports`` of a list, in the order of port numbers."""
    listed: list[Json] = []
    for key, bindings in port_map(container).items():
        number, _, protocol = key.partition("/")
        private: Json = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        if not bindings:
            listed.append(private)
        for binding in bindings or ():
            public = {"PublicPort": int(binding["HostPort"])} if binding["HostPort"] else {}
            listed.append({"IP": binding["HostIp"], **private, **public})
    return sorted(listed, key=lambda port: (port["PrivatePort"], port["Type"], port.get("PublicPort", 0)))


def network_settings(container: Container, network_ids: Mapping[str, str], version: ApiVersion) -> Json:
    """``NetworkSettings`` of inspect; the old fields beside ``Networks`` tell of the default bridge."""
    attached = networks(container, network_ids, version)
    bridge = attached.get("bridge", {})
    live = live_endpoints(container)
    return {
        "Bridge": "",
        "SandboxID": container.run.id if live and container.run else "",
        "SandboxKey": container.run.netns if live and container.run else "",
        "Ports": port_map(container),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": bridge.get("EndpointID", ""),
        "Gateway": bridge.get("Gateway", ""),
        "GlobalIPv6Address": bridge.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": bridge.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": bridge.get("IPAddress", ""),
        "IPPrefixLen": bridge.get("IPPrefixLen", 0),
        "IPv6Gateway": bridge.get("IPv6Gateway", ""),
        "MacAddress": bridge.get("MacAddress", ""),
        "Networks": attached,
    }


# --- mounts -----------------------------------------------------------------------------------------------


def mounts(container: Container) -> list[Json]:
    """``Mounts``: binds, volumes and tmpfs mounts; those of ``--tmpfs`` show in the HostConfig only, as
    ever."""
    return [
        _mount(mount)
        for mount in container.mounts
        if mount.type != "tmpfs" or mount.destination not in container.host_config.tmpfs
    ]


def _mount(mount: MountPoint) -> Json:
    shown: Json = {"Type": mount.type}
    if mount.name:
        shown["Name"] = mount.name
    shown["Source"] = mount.source
    shown["Destination"] = mount.destination
    if mount.driver:
        shown["Driver"] = mount.driver
    shown["Mode"] = mount.mode
    shown["RW"] = mount.read_write
    shown["Propagation"] = mount.propagation
    return shown


# --- list -------------------------------------------------------------------------------------------------


def summary(
    container: Container,
    image: str,
    link_names: Iterable[str],
    network_ids: Mapping[str, str],
    version: ApiVersion,
) -> Json:
    """One entry of a list but for its ``Status`` text, which changes by itself.

    ``image`` is the image's name as it is now; ``link_names`` are what links of others call the container.
    """
    host_config: Json = {"NetworkMode": network_mode(container)}
    if version >= (1, 46) and container.host_config.annotations:
        host_config["Annotations"] = container.host_config.annotations
    return {
        "Id": container.id,
        "Names": [f"/{container.name}", *link_names],
        "Image": image,
        "ImageID": container.image_id,
        "Command": " ".join(f"'{word}'" if " " in word else word for word in argv(container)),
        "Created": container.created_ns // _SECOND_NS,
        "Ports": port_list(container),
        "Labels": container.config.labels,
        "State": shown_status(container),
        "HostConfig": host_config,
        "NetworkSettings": {"Networks": networks(container, network_ids, version)},
        "Mounts": mounts(container),
    }


# --- inspect ----------------------------------------------------------------------------------------------


def argv(container: Container) -> tuple[str, ...]:
    """The command line: entrypoint and command in one."""
    return (container.config.entrypoint or ()) + (container.config.cmd or ())


def inspect(
    container: Container, place: Place, version: ApiVersion, sizes: tuple[int, int] | None = None
) -> Json:
    """The whole of a container. ``sizes`` are the bytes of its own layer and of its whole root filesystem."""
    command = argv(container)
    directory = place.data_root / "containers" / container.id
    shown: Json = {
        "Id": container.id,
        "Created": format_rfc3339_ns(container.created_ns),
        "Path": command[0] if command else "",
        "Args": list(command[1:]),
        "State": state(container),
        "Image": container.image_id,
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": _log_path(container, directory),
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Driver": STORAGE_DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": container.run.apparmor if container.run is not None else "",
        "ExecIDs": place.exec_ids_of(container) or None,
        "HostConfig": {**host_config(container, version), "Links": links(container, place)},
        "GraphDriver": {"Name": STORAGE_DRIVER, "Data": _graph_driver_data(container, directory, place)},
        "Mounts": mounts(container),
        "Config": config(container),
        "NetworkSettings": network_settings(container, place.network_ids, version),
        "ProaTimeline": timeline(container),
    }
    if sizes is not None:
        shown["SizeRw"], shown["SizeRootFs"] = sizes
    return shown


def _log_path(container: Container, directory: Path) -> str:
    """Where programs may read the log themselves: as in Docker of one driver only, and once it has begun."""
    has_file = container.has_been_started and log_driver(container.host_config.log_config) == JSON_FILE
    return str(directory / "container.log") if has_file else ""


def config(container: Container) -> Json:
    """``Config``: what does not depend on the host, merged with the image's."""
    shown: Json = msgspec.to_builtins(container.config)
    for name in _CONFIG_OMITTED_WHEN_EMPTY:
        if (not shown[name] and shown[name] != 0) or shown[name] is False:
            del shown[name]
    shown["Image"] = container.image_ref
    for name in ("Cmd", "Entrypoint"):
        if shown[name] is None:
            shown[name] = []
    return shown


def host_config(container: Container, version: ApiVersion) -> Json:
    """``HostConfig``: as asked, with what the engine chose where nothing was asked."""
    shown: Json = msgspec.to_builtins(container.host_config)
    for name in _HOST_CONFIG_OMITTED_WHEN_EMPTY:
        if name in shown and not shown[name] and shown[name] is not False:
            del shown[name]
    if version >= (1, 42) and not shown["KernelMemory"]:
        del shown["KernelMemory"]
    shown["NetworkMode"] = network_mode(container)
    shown["LogConfig"]["Type"] = log_driver(container.host_config.log_config)
    shown["RestartPolicy"]["Name"] = shown["RestartPolicy"]["Name"] or "no"
    return shown


def links(container: Container, place: Place) -> list[str]:
    """``HostConfig.Links``: which others it knows, and by which names of its own, ``/db:/web/store``."""
    return [
        f"/{place.name_of(link.id) or link.name}:/{container.name}/{link.alias}" for link in container.links
    ]


def timeline(container: Container) -> Json | None:
    """The measured steps of the last start, in milliseconds since it was asked for; an extra of this
    engine."""
    if container.run is None:
        return None
    return {
        "RunID": container.run.id,
        "Steps": [
            {"Name": step.name, "BeginMs": step.begin_ms, "EndMs": step.end_ms}
            for step in container.run.steps
        ],
    }


def _graph_driver_data(container: Container, directory: Path, place: Place) -> Json:
    lower = [
        str(place.data_root / "layers" / layer.removeprefix("sha256:") / "diff") for layer in container.layers
    ]
    return {
        "LowerDir": ":".join(reversed(lower)),
        "MergedDir": str(directory / "rootfs"),
        "UpperDir": str(directory / "upper"),
        "WorkDir": str(directory / "work"),
    }
