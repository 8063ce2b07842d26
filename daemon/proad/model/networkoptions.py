"""Sync, pure. The options of a network's driver, read: what is asked of bridges and of their links.

They stay with the network as the texts that the user gave; what was accepted once (:func:`check_options`)
reads without errors for ever.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address
from typing import TypeVar

from proad.model import errors

T = TypeVar("T")

MTU = "com.docker.network.driver.mtu"
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
BRIDGE_NAME = "com.docker.network.bridge.name"
ENABLE_ICC = "com.docker.network.bridge.enable_icc"
ENABLE_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
GATEWAY_MODES = {
    4: "com.docker.network.bridge.gateway_mode_ipv4",
    6: "com.docker.network.bridge.gateway_mode_ipv6",
}
"""By IP version."""
ENABLE_IPV4 = "com.docker.network.enable_ipv4"
ENABLE_IPV6 = "com.docker.network.enable_ipv6"
PARENT = "parent"
MACVLAN_MODE = "macvlan_mode"
IPVLAN_MODE = "ipvlan_mode"
IPVLAN_FLAG = "ipvlan_flag"

_OF_ALL = frozenset({MTU, INTERFACE_PREFIX, ENABLE_IPV4, ENABLE_IPV6})
_OF_DRIVER = {
    "bridge": _OF_ALL | {BRIDGE_NAME, ENABLE_ICC, ENABLE_MASQUERADE, HOST_BINDING, *GATEWAY_MODES.values()},
    "macvlan": _OF_ALL | {PARENT, MACVLAN_MODE},
    "ipvlan": _OF_ALL | {PARENT, IPVLAN_MODE, IPVLAN_FLAG},
}
_HARMLESS = {
    "com.docker.network.bridge.default_bridge": ("false", "0"),
    "com.docker.network.bridge.inhibit_ipv4": ("false", "0"),
}
"""Options that this engine does not have, and the values that mean what it does anyway."""

_RESERVED = "com.docker.network."
_MIN_MTU, _MIN_MTU_IPV6, _MAX_MTU = 68, 1280, 65535
_NAME_LENGTH = 15
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_TRUTH = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
_IPVLAN_MODES = ("l2", "l3", "l3s")
_IPVLAN_FLAGS = ("bridge", "private", "vepa")


class GatewayMode(StrEnum):
    """How containers on a bridge and what is outside reach each other."""

    NAT = "nat"
    """By the host's addresses, and ports of it that are published."""
    NAT_UNPROTECTED = "nat-unprotected"
    """By these, and by all ports at the containers' own addresses, for who has a route to them."""
    ROUTED = "routed"
    """By the containers' own addresses, and published ports there."""
    ISOLATED = "isolated"
    """Not at all: the bridge itself has no address."""


@dataclass(frozen=True)
class BridgeOptions:
    """``name`` is the interface's, empty for one that is chosen; ``mtu`` is 0 for the daemon's;
    ``host_binding_ipv4`` is where ports without an address of their own are published, empty for everywhere;
    ``modes`` are by IP version.
    """

    name: str = ""
    mtu: int = 0
    icc: bool = True
    masquerade: bool = True
    host_binding_ipv4: str = ""
    modes: Mapping[int, GatewayMode] = field(default_factory=lambda: dict.fromkeys((4, 6), GatewayMode.NAT))


@dataclass(frozen=True)
class LinkOptions:
    """``parent`` is a link of the host's, empty for a private one; ``flag`` is of ``ipvlan`` only."""

    parent: str = ""
    mode: str = ""
    flag: str = ""

    @property
    def routes_itself(self) -> bool:
        """Whether the interface takes the place of a gateway (``ipvlan`` in its modes of layer 3)."""
        return self.mode in ("l3", "l3s")


def bridge_options(options: Mapping[str, str]) -> BridgeOptions:
    """Read what a network of driver ``bridge`` is asked to be.

    Raises:
        errors.InvalidParameter: a value cannot be meant, in Docker's words.
    """
    return BridgeOptions(
        name=_read(options, BRIDGE_NAME, _interface_name, ""),
        mtu=_read(options, MTU, _mtu, 0),
        icc=_read(options, ENABLE_ICC, _boolean, True),
        masquerade=_read(options, ENABLE_MASQUERADE, _boolean, True),
        host_binding_ipv4=_read(options, HOST_BINDING, _address, ""),
        modes={
            version: _read(options, name, _gateway_mode, GatewayMode.NAT)
            for version, name in GATEWAY_MODES.items()
        },
    )


def link_options(options: Mapping[str, str], driver: str) -> LinkOptions:
    """Read what a network of driver ``macvlan`` or ``ipvlan`` is asked to be.

    Raises:
        errors.InvalidParameter: a value cannot be meant, in Docker's words.
    """
    parent = options.get(PARENT, "")
    if parent == "lo":
        raise errors.InvalidParameter(f"loopback interface is not a valid {driver} parent link")
    if parent:
        _interface_name(parent)
    if driver == "macvlan":
        mode = options.get(MACVLAN_MODE) or "bridge"
        if mode not in _MACVLAN_MODES:
            raise errors.InvalidParameter(
                f"requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver default"
            )
        return LinkOptions(parent, mode)
    mode, flag = options.get(IPVLAN_MODE) or "l2", options.get(IPVLAN_FLAG) or "bridge"
    if mode not in _IPVLAN_MODES:
        raise errors.InvalidParameter(
            f"requested ipvlan mode '{mode}' is not valid, 'l2' mode is the ipvlan driver default"
        )
    if flag not in _IPVLAN_FLAGS:
        raise errors.InvalidParameter(
            f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default"
        )
    return LinkOptions(parent, mode, flag)


def interface_prefix(options: Mapping[str, str]) -> str:
    """What the names of containers' interfaces begin with; a number follows it."""
    return options.get(INTERFACE_PREFIX) or "eth"


def enabled_families(options: Mapping[str, str]) -> tuple[bool | None, bool | None]:
    """Whether the options ask for IPv4 and for IPv6; None where they say nothing.

    Raises:
        errors.InvalidParameter: no booleans.
    """

    def asked(name: str) -> bool | None:
        if name not in options:
            return None
        if options[name] not in _TRUTH:
            raise errors.InvalidParameter(f'driver-opt "{name}" is not a valid bool')
        return _TRUTH[options[name]]

    return asked(ENABLE_IPV4), asked(ENABLE_IPV6)


def check_options(
    driver: str, options: Mapping[str, str], *, ipv6: bool, internal: bool = False
) -> list[str]:
    """Check the options of a new network; returns warnings about those that nobody here knows.

    Options in Docker's own name that this engine does not have are refused: they would be missed.

    Raises:
        errors.InvalidParameter: says which option, and why.
    """
    warnings = []
    for name, value in options.items():
        if name in _OF_DRIVER[driver] or value in _HARMLESS.get(name, ()):
            continue
        if name.startswith(_RESERVED):
            raise errors.InvalidParameter(
                f"network option {name}={value} is not supported by driver {driver} of this engine"
            )
        warnings.append(f"network option {name} is unknown to driver {driver} and has no effect")
    prefix = interface_prefix(options)
    if not _INTERFACE.fullmatch(prefix) or len(prefix) > _NAME_LENGTH - 2:
        raise _unparsed(INTERFACE_PREFIX, prefix, "not the beginning of an interface's name")
    if driver == "bridge":
        if GatewayMode.ISOLATED in bridge_options(options).modes.values() and not internal:
            raise errors.InvalidParameter("gateway mode 'isolated' can only be used for an internal network")
    else:
        link_options(options, driver)
    mtu = _read(options, MTU, _mtu, 0)
    if ipv6 and 0 < mtu < _MIN_MTU_IPV6:
        raise errors.InvalidParameter(f"invalid MTU number: {mtu}: IPv6 needs at least {_MIN_MTU_IPV6}")
    return warnings


def _read(options: Mapping[str, str], name: str, parse: Callable[[str], T], default: T) -> T:
    if name not in options:
        return default
    value = options[name]
    try:
        return parse(value)
    except ValueError as error:
        raise _unparsed(name, value, str(error)) from None


def _unparsed(name: str, value: str, reason: str) -> errors.InvalidParameter:
    return errors.InvalidParameter(f"failed to parse {name} value: {value} ({reason})")


def _gateway_mode(text: str) -> GatewayMode:
    if text not in set(GatewayMode):
        raise ValueError(f"unknown gateway mode {text}")
    return GatewayMode(text)


def _boolean(text: str) -> bool:
    if text not in _TRUTH:
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return _TRUTH[text]


def _mtu(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text, re.ASCII):
        raise ValueError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    mtu = int(text)
    if mtu and not _MIN_MTU <= mtu <= _MAX_MTU:
        raise errors.InvalidParameter(f"invalid MTU number: {mtu}")
    return mtu


def _address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise ValueError("nil ip") from None


def _interface_name(text: str) -> str:
    if text and (not _INTERFACE.fullmatch(text) or len(text) > _NAME_LENGTH or text in (".", "..")):
        raise errors.InvalidParameter(f"invalid interface name: {text}")
    return text
