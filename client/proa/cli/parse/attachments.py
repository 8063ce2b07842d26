"""Sync, pure. What `--network` and its company ask of the networks of a container. All raise ValueError.

`--network NAME`, or `--network name=NAME,alias=…,ip=…,ip6=…,link-local-ip=…,mac-address=…,driver-opt=k=v,
gw-priority=…`; the flags of their own (`--ip`, `--network-alias`, …) mean the first network that is named.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from proa.cli.parse.lists import fields

if TYPE_CHECKING:
    from proa.types import JSON

DEFAULT = "default"
HOST_GATEWAY = "host-gateway"
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-])[0-9a-fA-F]{2}(\1[0-9a-fA-F]{2}){4}")
_LONG_FORM = re.compile(r"\w+=\w+")
_NOT_OWN = (DEFAULT, "bridge", "host", "none")
_KEYS = {
    "alias": "Aliases",
    "ip": "IPv4Address",
    "ip6": "IPv6Address",
    "link-local-ip": "LinkLocalIPs",
    "mac-address": "MacAddress",
}
_LISTS = ("Aliases", "LinkLocalIPs")
_CONFLICTS = {
    "Aliases": "--network-alias and per-network alias",
    "Links": "--link and per-network links",
    "IPv4Address": "--ip and per-network IPv4 address",
    "IPv6Address": "--ip6 and per-network IPv6 address",
    "LinkLocalIPs": "--link-local-ip and per-network link-local IP addresses",
    "MacAddress": "--mac-address and per-network MAC address",
}


def parse_networks(flags: Mapping[str, Any]) -> tuple[str, JSON]:
    """The network mode, empty for the daemon's choice, and Docker's EndpointsConfig."""
    named = [_attachment(flag) for flag in flags["network"]]
    mode = named[0][0] if named else ""
    named = named or [(DEFAULT, {})]
    _complete(named[0][1], _of_own_flags(flags, named[0][0]))
    endpoints: JSON = {}
    for target, asked in named:
        if target in endpoints:
            raise ValueError(f'network "{target}" is specified multiple times')
        endpoints[target] = _endpoint(target, asked)
    if len({_is_own(target) for target in endpoints}) > 1:
        raise ValueError(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    return mode, endpoints if len(endpoints) > 1 or any(endpoints.values()) else {}


def parse_driver_options(options: Iterable[str], complaint: str) -> dict[str, str]:
    """ "key=value" options of an attachment; `complaint` is what is said of others."""
    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key.strip():
            raise ValueError(complaint)
        parsed[key.strip()] = value.strip()
    return parsed


def parse_link(flag: str) -> str:
    """`--link CONTAINER[:ALIAS]`, as it is."""
    if not flag:
        raise ValueError("empty string specified for links")
    if flag.count(":") > 1:
        raise ValueError(f"bad format for links: {flag}")
    return flag


def parse_extra_host(entry: str) -> str:
    """`--add-host NAME:ADDRESS` or `NAME=ADDRESS` as the API has it; an address of IPv6 may have brackets."""
    name, separator, address = entry.partition("=")
    if not separator:
        name, separator, address = entry.partition(":")
    if not name or not separator:
        raise ValueError(f'bad format for add-host: "{entry}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != HOST_GATEWAY and not _is_address(address):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def parse_dns_server(flag: str) -> str:
    """`--dns ADDRESS`."""
    address = flag.strip()
    if not _is_address(address):
        raise ValueError(f"IP address is not correctly formatted: {flag}")
    return str(ipaddress.ip_address(address))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_own(target: str) -> bool:
    """Whether it is a network that a user made, by its name."""
    return target not in _NOT_OWN and not target.startswith("container:")


def _attachment(flag: str) -> tuple[str, JSON]:
    """The network's name, and what is asked of it: endpoint settings, with the addresses among them."""
    if not _LONG_FORM.search(flag):
        return flag, {}
    target = ""
    asked: JSON = {}
    for field in fields(flag):
        key, equals, value = field.partition("=")
        key, value = key.strip().lower(), value.strip()
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        if key == "name":
            target = value
        elif key == "driver-opt":
            options = parse_driver_options([value], "invalid key value pair format in driver options")
            asked.setdefault("DriverOpts", {}).update(options)
        elif key == "gw-priority":
            asked["GwPriority"] = _priority(value)
        elif key not in _KEYS:
            raise ValueError(f"invalid field key {key}")
        elif _KEYS[key] in _LISTS:
            asked.setdefault(_KEYS[key], []).append(value)
        else:
            asked[_KEYS[key]] = value
    if not target:
        raise ValueError("network name/id is not specified")
    return target, asked


def _priority(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"invalid gw-priority ({text}): invalid syntax")
    return int(text)


def _of_own_flags(flags: Mapping[str, Any], target: str) -> JSON:
    asked = {
        "Aliases": list(flags["network_alias"]),
        # On the default bridge they are the host configuration's.
        "Links": list(flags["link"]) if _is_own(target) else [],
        "IPv4Address": flags["ip"],
        "IPv6Address": flags["ip6"],
        "LinkLocalIPs": list(flags["link_local_ip"]),
        "MacAddress": flags["mac_address"],
    }
    return {key: value for key, value in asked.items() if value}


def _complete(asked: JSON, own: JSON) -> None:
    for key, value in own.items():
        if key in asked:
            raise ValueError(f"conflicting options: cannot specify both {_CONFLICTS[key]}")
        asked[key] = value


def _endpoint(target: str, asked: JSON) -> JSON:
    """Docker's EndpointSettings."""
    if not target.strip():
        raise ValueError("no name set for network")
    if not _is_own(target) and "Aliases" in asked:
        raise ValueError("network-scoped aliases are only supported for user-defined networks")
    mac = asked.get("MacAddress")
    if mac and not _MAC.fullmatch(mac.strip()):
        raise ValueError(f"{mac} is not a valid mac address")
    settings = {key: value for key, value in asked.items() if key not in _ADDRESSES}
    addresses = {key: asked[key] for key in _ADDRESSES if key in asked}
    return {**settings, "IPAMConfig": addresses} if addresses else settings


_ADDRESSES = ("IPv4Address", "IPv6Address", "LinkLocalIPs")
