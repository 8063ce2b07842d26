"""Sync, pure. Published and exposed ports: `-p [address:][host ports:]ports[/protocol]` and its long form.

Ranges go port by port ("8000-8002:80-82"); a range of host ports for one port of the container means any of
them, chosen by the daemon. All functions raise ValueError.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Bindings = dict[str, list[dict[str, str]]]
PROTOCOLS = ("tcp", "udp", "sctp")


def parse_published(flags: Iterable[str]) -> Bindings:
    """Port of the container ("80/tcp") -> the host addresses and ports that lead to it."""
    bindings: Bindings = {}
    for flag in flags:
        for port, host_ip, host_port in _publish(flag):
            bindings.setdefault(port, []).append({"HostIp": host_ip, "HostPort": host_port})
    return bindings


def parse_exposed(flags: Iterable[str]) -> list[str]:
    """The ports of --expose flags, each as "80/tcp"."""
    ports: list[str] = []
    for flag in flags:
        if ":" in flag:
            raise ValueError(f"invalid port format for --expose: {flag}")
        numbers, protocol = _protocol(flag)
        try:
            first, last = _range(numbers)
        except ValueError as error:
            raise ValueError(f"invalid range format for --expose: {flag}: {error}") from None
        ports += [f"{number}/{protocol}" for number in range(first, last + 1)]
    return ports


def _publish(flag: str) -> Iterable[tuple[str, str, str]]:
    address, host_ports, numbers, protocol = _long(flag) if "=" in flag else _short(flag)
    if not numbers:
        raise ValueError(f"no port specified: {flag}<empty>")
    first, last = _named_range(numbers, "containerPort")
    if not host_ports:
        return [(f"{number}/{protocol}", address, "") for number in range(first, last + 1)]
    host_first, host_last = _named_range(host_ports, "hostPort")
    if first == last:
        text = str(host_first) if host_first == host_last else f"{host_first}-{host_last}"
        return [(f"{first}/{protocol}", address, text)]
    if host_last - host_first != last - first:
        raise ValueError(f"invalid ranges specified for container and host Ports: {numbers} and {host_ports}")
    return [
        (f"{number}/{protocol}", address, str(host_first + number - first))
        for number in range(first, last + 1)
    ]


def _short(flag: str) -> tuple[str, str, str, str]:
    rest, protocol = _protocol(flag)
    address = ""
    if rest.startswith("["):
        address, closed, rest = rest[1:].partition("]")
        if not closed or not rest.startswith(":"):
            raise ValueError(f"invalid port specification: {flag}")
        rest = rest[1:]
        host_ports, _, numbers = rest.rpartition(":")
    else:
        parts = rest.split(":")
        if len(parts) > 3:  # an address of IPv6 without brackets
            address, host_ports, numbers = ":".join(parts[:-2]), parts[-2], parts[-1]
        else:
            address, host_ports, numbers = ["", "", *parts][-3:]
    _check_address(address, flag)
    return address, host_ports, numbers, protocol


def _long(flag: str) -> tuple[str, str, str, str]:
    found = {"target": "", "published": "", "protocol": "tcp", "mode": ""}
    for entry in flag.split(","):
        key, equals, value = entry.partition("=")
        if not equals or not value:
            raise ValueError(f"invalid field: {entry}: give key=value")
        if key not in found:
            raise ValueError(f"invalid field key: {key}")
        found[key] = value
    if found["mode"] not in ("", "ingress", "host"):
        raise ValueError(f"invalid publish mode value (must be 'ingress' or 'host'): {found['mode']}")
    if not found["target"]:
        raise ValueError(f"missing mandatory field 'target' in {flag}")
    return "", found["published"], found["target"], _checked_protocol(found["protocol"])


def _protocol(text: str) -> tuple[str, str]:
    rest, slash, protocol = text.partition("/")
    return rest, _checked_protocol(protocol) if slash else "tcp"


def _checked_protocol(protocol: str) -> str:
    if protocol.lower() not in PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    return protocol.lower()


def _check_address(address: str, flag: str) -> None:
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(f"invalid IP address: {address} (in {flag})") from None


def _named_range(text: str, what: str) -> tuple[int, int]:
    try:
        return _range(text)
    except ValueError:
        raise ValueError(f"invalid {what}: {text}") from None


def _range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    first = _port(low)
    last = _port(high) if dash else first
    if last < first:
        raise ValueError(f"invalid range specified for port: {text}")
    return first, last


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise ValueError(f"'{text}' is not a port")
    return int(text)
