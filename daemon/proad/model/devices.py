"""Sync, pure. Devices of a container: nodes to make and rules of the device cgroup."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from proad.model import errors

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")
_PERMISSIONS = re.compile(r"(?!.*(.).*\1)[rwm]{1,3}")

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device node to make in the container.

    ``path`` is the container's, ``type`` is ``c``, ``b`` or ``p``; ``mode`` holds the permission bits;
    ``permissions`` of the letters ``rwm`` is what the device cgroup allows.
    """

    path: str
    type: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"


def _rule(
    allow: bool, access: str, type: str = "", major: int | None = None, minor: int | None = None
) -> Json:
    rule: Json = {"allow": allow, "access": access}
    if type:
        rule["type"] = type
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


DEFAULT_RULES: tuple[Json, ...] = (
    _rule(False, "rwm"),
    *(
        _rule(True, "rwm", "c", major, minor)
        for major, minor in ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))
    ),
    _rule(False, "rwm", "c", 10, 229),
)
"""Nothing but zero, null, urandom, random, tty and console; fuse is named because runtimes once allowed it.
"""

EVERYTHING: tuple[Json, ...] = (_rule(True, "rwm"),)


def device_rules(devices: Iterable[Device], extra: Iterable[str], *, privileged: bool) -> list[Json]:
    """``linux.resources.devices`` for a container with these devices and rules (``c 13:* rwm``)."""
    if privileged:
        return list(EVERYTHING)
    asked = [_rule(True, device.permissions, device.type, device.major, device.minor) for device in devices]
    return [*DEFAULT_RULES, *asked, *(parse_rule(text) for text in extra)]


def device_nodes(devices: Sequence[Device]) -> list[Json]:
    """``linux.devices``; of several for one path the last counts."""
    return [
        {
            "path": device.path,
            "type": device.type,
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode,
            "uid": device.uid,
            "gid": device.gid,
        }
        for device in {device.path: device for device in devices}.values()
    ]


def parse_rule(text: str) -> Json:
    """A rule as clients write it: type, numbers or ``*``, access; ``a`` alone is everything.

    Raises:
        errors.InvalidParameter: it is not so written.
    """
    match = _RULE.fullmatch("a *:* rwm" if text == "a" else text)
    if match is None:
        raise errors.InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    type, major, minor, access = match.groups()
    return _rule(True, access, type, *(-1 if number == "*" else int(number) for number in (major, minor)))


def check_permissions(text: str) -> None:
    """Refuse what is not made of the letters ``rwm``, each once; empty stands for all three."""
    if text and not _PERMISSIONS.fullmatch(text):
        raise errors.InvalidParameter(f"invalid device mode: {text}")
