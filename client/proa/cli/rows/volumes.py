"""Sync, pure. A volume as one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from proa.cli.text import units
from proa.cli.text.listing import Row

if TYPE_CHECKING:
    from proa.types import Volume


class VolumeRow(Row):
    """The fields of `proa volume ls --format`."""

    HEADERS: ClassVar[dict[str, str]] = {
        "Driver": "DRIVER",
        "Name": "VOLUME NAME",
        "Scope": "SCOPE",
        "Mountpoint": "MOUNTPOINT",
        "Labels": "LABELS",
        "Links": "LINKS",
        "Size": "SIZE",
    }
    EXTRAS: ClassVar[tuple[str, ...]] = ("Label",)

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def Driver(self) -> str:
        return self._volume["Driver"]

    def Name(self) -> str:
        return self._volume["Name"]

    def Scope(self) -> str:
        return self._volume.get("Scope", "")

    def Mountpoint(self) -> str:
        return self._volume.get("Mountpoint", "")

    def Labels(self) -> str:
        labels = self._volume.get("Labels") or {}
        return ",".join(f"{key}={labels[key]}" for key in sorted(labels))

    def Label(self, name: str) -> str:
        return (self._volume.get("Labels") or {}).get(name, "")

    def Links(self) -> str:
        usage = self._volume.get("UsageData")
        return str(usage["RefCount"]) if usage else "N/A"

    def Size(self) -> str:
        usage = self._volume.get("UsageData")
        return units.human_size(usage["Size"]) if usage and usage["Size"] >= 0 else "N/A"
