"""Sync, pure. Legacy links of the default bridge: what a container learns of another in its environment and
hosts.

Source: Docker's documentation of ``--link`` (the variables' names and forms are its contract).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from proad.model import errors

DEFAULT_PROTOCOL = "tcp"


@dataclass(frozen=True)
class LinkWish:
    """A link as asked: to the container called ``source``, to be known as ``alias``."""

    source: str
    alias: str


class Link(msgspec.Struct, frozen=True):
    """A link as kept in its holder's record: it follows the target by id, whatever that is called later.

    ``name`` is what the target was called when the link was made, for telling of one that is gone.
    """

    id: str
    name: str
    alias: str


@dataclass(frozen=True)
class LinkedContainer:
    """What a linked container shows: ``ports`` are ``port/protocol``, ``env`` its own environment."""

    alias: str
    name: str
    hostname: str
    address: str
    ports: tuple[str, ...]
    env: tuple[str, ...]

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names under which it stands in the hosts file, without repetition."""
        return tuple(dict.fromkeys((self.alias, self.hostname, self.name)))


def parse_link(text: str) -> LinkWish:
    """Read ``name`` or ``name:alias``; slashes of Docker's stored form (``/name:/this/alias``) are taken off.

    Raises:
        errors.InvalidParameter: it is neither.
    """
    parts = text.split(":")
    if not 1 <= len(parts) <= 2 or not all(parts):
        raise errors.InvalidParameter(f"bad format for links: {text}")
    source = parts[0].removeprefix("/")
    return LinkWish(source, parts[-1].rpartition("/")[2])


def link_environment(holder: str, linked: LinkedContainer) -> list[str]:
    """The variables that the container named ``holder`` gets for one link."""
    prefix = re.sub(r"[^A-Za-z0-9_]", "_", linked.alias).upper()
    variables = [f"{prefix}_NAME=/{holder}/{linked.alias}"]
    ports = sorted((_split(port) for port in linked.ports), key=lambda item: (item[1] != "tcp", item[0]))
    if ports:
        number, protocol = ports[0]
        variables.append(f"{prefix}_PORT={protocol}://{linked.address}:{number}")
    for number, protocol in ports:
        stem = f"{prefix}_PORT_{number}_{protocol.upper()}"
        variables += [
            f"{stem}={protocol}://{linked.address}:{number}",
            f"{stem}_ADDR={linked.address}",
            f"{stem}_PORT={number}",
            f"{stem}_PROTO={protocol}",
        ]
    for variable in linked.env:
        key, equals, value = variable.partition("=")
        if equals and key not in ("HOME", "PATH"):
            variables.append(f"{prefix}_ENV_{key}={value}")
    return variables


def _split(port: str) -> tuple[int, str]:
    number, _, protocol = port.partition("/")
    return int(number), protocol or DEFAULT_PROTOCOL


def merge_environment(base: Iterable[str], overrides: Iterable[str]) -> list[str]:
    """``overrides`` replace by name; one without ``=`` removes the variable, as Docker has it."""
    merged = {variable.partition("=")[0]: variable for variable in base}
    for variable in overrides:
        name, equals, _ = variable.partition("=")
        if equals:
            merged[name] = variable
        else:
            merged.pop(name, None)
    return list(merged.values())
