"""Sync, pure. A container as one row of `ps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from proa.cli.text import units
from proa.cli.text.go_values import quote
from proa.cli.text.listing import Row

if TYPE_CHECKING:
    from proa.types import ContainerSummary, PortSummary

COMMAND_WIDTH = 20
MOUNT_WIDTH = 15
GREEN, YELLOW, RED, DIM, BOLD = "32", "33", "31", "2", "1"


class ContainerRow(Row):
    """The fields of `proa ps --format`."""

    HEADERS: ClassVar[dict[str, str]] = {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "RunningFor": "CREATED",
        "CreatedAt": "CREATED AT",
        "State": "STATE",
        "Status": "STATUS",
        "Ports": "PORTS",
        "Names": "NAMES",
        "Size": "SIZE",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Networks": "NETWORKS",
        "Platform": "PLATFORM",
    }
    EXTRAS: ClassVar[tuple[str, ...]] = ("Label",)

    def __init__(self, summary: ContainerSummary, no_trunc: bool = False) -> None:
        self._summary = summary
        self._full = no_trunc

    def ID(self) -> str:
        return self._summary["Id"] if self._full else units.short_id(self._summary["Id"])

    def Image(self) -> str:
        name, image_id = self._summary.get("Image", ""), self._summary.get("ImageID", "")
        if not name:
            return "<no image>"
        if self._full:
            return name
        if units.short_id(name) == units.short_id(image_id):
            return units.short_id(name)
        return name.partition("@")[0]

    def Command(self) -> str:
        command = self._summary.get("Command", "")
        return quote(command if self._full else units.ellipsis(command, COMMAND_WIDTH))

    def RunningFor(self) -> str:
        return units.human_since(self._summary["Created"])

    def CreatedAt(self) -> str:
        return units.local_time(self._summary["Created"])

    def State(self) -> str:
        return self._summary.get("State", "")

    def Status(self) -> str:
        return self._summary.get("Status", "")

    def Ports(self) -> str:
        return show_ports(self._summary.get("Ports") or [])

    def Names(self) -> str:
        names = [name.removeprefix("/") for name in self._summary.get("Names") or []]
        if self._full:
            return ",".join(names)
        return next((name for name in names if "/" not in name), "")  # one with a slash is another's link

    def Size(self) -> str:
        written = units.human_size(self._summary.get("SizeRw", 0), 3)
        total = self._summary.get("SizeRootFs", 0)
        return f"{written} (virtual {units.human_size(total, 3)})" if total else written

    def Labels(self) -> str:
        labels = self._summary.get("Labels") or {}
        return ",".join(f"{key}={labels[key]}" for key in sorted(labels))

    def Label(self, name: str) -> str:
        return (self._summary.get("Labels") or {}).get(name, "")

    def Mounts(self) -> str:
        names = [mount.get("Name") or mount.get("Source", "") for mount in self._summary.get("Mounts") or []]
        return ",".join(name if self._full else units.ellipsis(name, MOUNT_WIDTH) for name in names)

    def LocalVolumes(self) -> str:
        return str(sum(mount.get("Driver") == "local" for mount in self._summary.get("Mounts") or []))

    def Networks(self) -> str:
        settings = self._summary.get("NetworkSettings") or {}
        return ",".join(settings.get("Networks") or {})

    def Platform(self) -> str | None:
        descriptor: dict[str, Any] = self._summary.get("ImageManifestDescriptor") or {}  # type: ignore[assignment]
        platform = descriptor.get("platform")
        return f"{platform['os']}/{platform['architecture']}" if platform else None


def paint_container(name: str, text: str) -> str:
    """Colours for a terminal: bold titles, and the status by what it means."""
    if not name:
        return _paint(BOLD, text)
    if name != "Status":
        return text
    if text.startswith("Up"):
        return _paint(YELLOW if "(Paused)" in text or "(unhealthy)" in text else GREEN, text)
    if text.startswith(("Exited (0)", "Created")):
        return _paint(DIM, text)
    return _paint(RED if text.startswith(("Exited", "Dead")) else YELLOW, text)


def _paint(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def show_ports(ports: Sequence[PortSummary]) -> str:
    """Published and exposed ports in one line, neighbours joined: "0.0.0.0:80-81->80-81/tcp, 90/udp"."""
    runs: dict[str, tuple[int, int]] = {}  # key: "address/protocol" of those published as themselves
    done: list[str] = []
    moved: list[str] = []
    for port in sorted(ports, key=_port_order):
        inside, outside, address = port["PrivatePort"], port.get("PublicPort", 0), port.get("IP", "")
        if address and outside != inside:
            moved.append(f"{_join(address, str(outside))}->{inside}/{port['Type']}")
            continue
        key = f"{address}/{port['Type']}"
        first, last = runs.get(key, (inside, inside))
        if inside > last + 1:
            done.append(_show_run(key, first, last))
            first = inside
        runs[key] = (first, inside)
    return ", ".join([*done, *(_show_run(key, first, last) for key, (first, last) in runs.items()), *moved])


def _port_order(port: PortSummary) -> tuple[int, str, int, str]:
    return port["PrivatePort"], port.get("IP", ""), port.get("PublicPort", 0), port["Type"]


def _show_run(key: str, first: int, last: int) -> str:
    address, _, protocol = key.rpartition("/")
    span = str(first) if first == last else f"{first}-{last}"
    return f"{_join(address, span)}->{span}/{protocol}" if address else f"{span}/{protocol}"


def _join(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
