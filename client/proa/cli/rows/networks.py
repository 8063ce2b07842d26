"""Sync, pure. A network as one row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from proa.cli.text import units
from proa.cli.text.go_values import show
from proa.cli.text.listing import Row

if TYPE_CHECKING:
    from proa.types import Network

_DIGITS = re.compile(r"([0-9]+)")
_INSTANT = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(\.\d+)?(Z|[+-]\d{2}:\d{2})")


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts "net2" before "net10"."""
    parts = [part for part in _DIGITS.split(name) if part]
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


class NetworkRow(Row):
    """The fields of `proa network ls --format`."""

    HEADERS: ClassVar[dict[str, str]] = {
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    }
    EXTRAS: ClassVar[tuple[str, ...]] = ("Label",)

    def __init__(self, network: Network, no_trunc: bool = False) -> None:
        self._network = network
        self._full = no_trunc

    def ID(self) -> str:
        return self._network["Id"] if self._full else units.short_id(self._network["Id"])

    def Name(self) -> str:
        return self._network["Name"]

    def Driver(self) -> str:
        return self._network["Driver"]

    def Scope(self) -> str:
        return self._network.get("Scope", "")

    def IPv4(self) -> str:
        return show(self._network.get("EnableIPv4", False))

    def IPv6(self) -> str:
        return show(self._network.get("EnableIPv6", False))

    def Internal(self) -> str:
        return show(self._network.get("Internal", False))

    def Labels(self) -> str:
        labels = self._network.get("Labels") or {}
        return ",".join(f"{key}={labels[key]}" for key in sorted(labels))

    def Label(self, name: str) -> str:
        return (self._network.get("Labels") or {}).get(name, "")

    def CreatedAt(self) -> str:
        """As docker prints it: "2006-01-02 15:04:05.123456789 +0000 UTC"."""
        match = _INSTANT.fullmatch(self._network.get("Created", ""))
        if match is None:
            return self._network.get("Created", "")
        date, clock, fraction, zone = match.groups()
        shown = "+0000 UTC" if zone == "Z" else " ".join([zone.replace(":", "")] * 2)
        return f"{date} {clock}{(fraction or '').rstrip('0').rstrip('.')} {shown}"
