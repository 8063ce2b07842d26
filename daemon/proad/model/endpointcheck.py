"""Sync, pure. What a request may ask of one attachment to a network.

The wording is Docker's where Docker refuses too (moby: ``daemon/container_operations.go``,
``validateEndpointSettings``).
"""

import re
from ipaddress import ip_address, ip_network

from proad.model import errors
from proad.model.links import parse_link
from proad.model.network import PREDEFINED, EndpointSettings, IpamWish, Network, check_mac

INTERFACE_NAME = "com.docker.network.endpoint.ifname"
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}", re.ASCII)


def check_endpoint(network: Network, wish: EndpointSettings) -> None:
    """Refuse what cannot be had on a network.

    Raises:
        errors.InvalidParameter: says all that is wrong.
    """
    wanted = wish.ipam_config or IpamWish()
    found = _problems(network.name, wish)
    if not network.is_predefined:
        found += _unavailable(network, 4, wanted.ipv4_address)
        found += _unavailable(network, 6, wanted.ipv6_address)
    _refuse(found)


def check_wish(name: str, wish: EndpointSettings) -> None:
    """Refuse what cannot be had on any network of that name, which need not be there yet.

    Raises:
        errors.InvalidParameter: says all that is wrong.
    """
    _refuse(_problems(name, wish))


def is_user_defined(name: str) -> bool:
    """Whether a network, or a network mode, of that name is one that a user makes."""
    return name not in ("", "default", *PREDEFINED) and not name.startswith("container:")


def _refuse(problems: list[str]) -> None:
    if problems:
        raise errors.InvalidParameter("invalid endpoint settings:\n" + "\n".join(problems))


def _problems(name: str, wish: EndpointSettings) -> list[str]:
    wanted = wish.ipam_config or IpamWish()
    found: list[str] = []
    if not is_user_defined(name):
        if wanted.ipv4_address or wanted.ipv6_address:
            found.append("user specified IP address is supported on user defined networks only")
        if wish.aliases:
            found.append("network-scoped alias is supported only for containers in user defined networks")
    for version, text in ((4, wanted.ipv4_address), (6, wanted.ipv6_address)):
        if text and _version(text) != version:
            found.append(f"invalid IPv{version} address: {text}")
    if wanted.link_local_ips:
        found.append("IPAMConfig.LinkLocalIPs is not supported by this engine")
    for parse, texts in ((check_mac, [wish.mac_address]), (parse_link, wish.links or [])):
        for text in filter(None, texts):
            try:
                parse(text)
            except errors.InvalidParameter as error:
                found.append(error.message)
    for option, value in (wish.driver_opts or {}).items():
        if option != INTERFACE_NAME:
            found.append(f"driver option {option} is not supported by this engine")
        elif not _INTERFACE.fullmatch(value) or value in (".", "..", "lo"):
            found.append(f"invalid interface name: {value}")
    return found


def _version(text: str) -> int:
    """4 or 6; 0 for what is no address that an interface can have."""
    try:
        address = ip_address(text)
    except ValueError:
        return 0
    return 0 if address.is_unspecified or "%" in text else address.version


def _unavailable(network: Network, version: int, text: str) -> list[str]:
    """Why a network does not give out an address that was asked for."""
    if not text or _version(text) != version:
        return []
    pools = [pool for pool in network.pools if not pool.chosen and ip_network(pool.subnet).version == version]
    if not pools:
        return [
            "user specified IP address is supported only when connecting to networks with user configured "
            "subnets"
        ]
    if not any(ip_address(text) in ip_network(pool.subnet) for pool in pools):
        return [f"no configured subnet or ip-range contain the IP address {text}"]
    return []
