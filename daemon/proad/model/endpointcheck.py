"""Sync, pure. What a request may ask of one attachment to a network.

The wording is Docker's where Docker refuses too (moby: ``daemon/container_operations.go``,
``validateEndpointSettings``).
"""

import re
from collections.abc import Callable, Collection, Mapping
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
    if problems := _all_problems(network, wish):
        raise errors.InvalidParameter(_told(problems))


def check_attachments(
    wishes: Mapping[str, EndpointSettings], find: Callable[[str], Network | None] = lambda name: None
) -> None:
    """Refuse what a container that is to be made cannot have; networks need not be there yet.

    Raises:
        errors.InvalidParameter: says of which networks, and all that is wrong.
    """
    found = []
    for name, wish in wishes.items():
        network = find(name)
        problems = _problems(name, wish) if network is None else _all_problems(network, wish)
        if problems:
            found.append(f"invalid config for network {name}: " + _told(problems))
    if found:
        raise errors.InvalidParameter("\n".join(found))


def check_mode(mode: str, networks: Collection[str]) -> None:
    """Refuse networks that a network mode leaves no room for; all go by name.

    Raises:
        errors.InvalidParameter: the mode shares another namespace, or has none, and more is asked for.
    """
    others = set(networks) - {mode}
    if others and (mode == "host" or "host" in others or mode.startswith("container:")):
        raise errors.InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any "
            "other network"
        )
    if others and (mode == "none" or "none" in others):
        raise errors.InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) "
            "mode"
        )


def is_user_defined(name: str) -> bool:
    """Whether a network, or a network mode, of that name is one that a user makes."""
    return name not in ("", "default", *PREDEFINED) and not name.startswith("container:")


def _told(problems: list[str]) -> str:
    return "invalid endpoint settings:\n" + "\n".join(problems)


def _all_problems(network: Network, wish: EndpointSettings) -> list[str]:
    wanted = wish.ipam_config or IpamWish()
    found = _problems(network.name, wish)
    if not network.is_predefined:
        found += _unavailable(network, 4, wanted.ipv4_address)
        found += _unavailable(network, 6, wanted.ipv6_address)
    return found


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
    found += [
        f"invalid link-local IP address: {text}"
        for text in wanted.link_local_ips or ()
        if not _is_link_local(text)
    ]
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


def _is_link_local(text: str) -> bool:
    """Docker takes any address; one that others could have by their network would be nobody's."""
    return _version(text) != 0 and ip_address(text).is_link_local


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
