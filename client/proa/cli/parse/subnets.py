"""Sync, pure. The subnets of `network create`: which range, gateway and set-aside address goes with which.

All functions raise ValueError, in docker's words.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proa.types import JSON

Subnet = IPv4Network | IPv6Network


def parse_subnets(
    subnets: Sequence[str], ranges: Sequence[str], gateways: Sequence[str], auxiliary: Iterable[str]
) -> list[JSON]:
    """The Config of the API's IPAM, a dictionary for each subnet in the order in which they are given.

    `auxiliary` are "name=address".
    """
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise ValueError("every ip-range or gateway must have a corresponding subnet")
    configs: dict[str, JSON] = {}
    parsed: dict[str, Subnet] = {}
    for text in subnets:
        subnet = _subnet(text)
        if any(_overlap(subnet, other) for other in parsed.values()):
            raise ValueError("multiple overlapping subnet configuration is not supported")
        parsed[text] = subnet
        configs[text] = {"Subnet": text}
    for text in ranges:
        config = configs[_home(parsed, _first(text), f"range {text}")]
        if "IPRange" in config:
            pair = f"{text}, {config['IPRange']}"
            raise ValueError(
                f"cannot configure multiple ranges ({pair}) on the same subnet ({config['Subnet']})"
            )
        config["IPRange"] = text
    for text in gateways:
        config = configs[_home(parsed, _address(text), f"gateway {text}")]
        if "Gateway" in config:
            pair = f"{text}, {config['Gateway']}"
            raise ValueError(
                f"cannot configure multiple gateways ({pair}) for the same subnet ({config['Subnet']})"
            )
        config["Gateway"] = text
    for entry in auxiliary:
        name, _, text = entry.partition("=")
        config = configs[_home(parsed, _address(text), f"aux-address {text}")]
        config.setdefault("AuxiliaryAddresses", {})[name] = text
    return list(configs.values())


def _subnet(text: str) -> Subnet:
    address, slash, length = text.partition("/")
    try:
        if not slash or not length.isdecimal():
            raise ValueError
        return ipaddress.ip_network(f"{address}/{length}", strict=False)
    except ValueError:
        raise ValueError(f"invalid subnet: invalid CIDR address: {text}") from None


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)


def _first(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return _subnet(text).network_address if "/" in text else _address(text)
    except ValueError:
        raise ValueError(f"invalid CIDR address: {text}") from None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, or None for what is none: it is in no subnet, and that is what is said of it."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _home(subnets: dict[str, Subnet], address: IPv4Address | IPv6Address | None, what: str) -> str:
    for text, subnet in subnets.items():
        if address is not None and address in subnet:
            return text
    raise ValueError(f"no matching subnet for {what}")
