"""Sync, blocking. `proa system df`: what images, containers and volumes take up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

import click

from proa.cli.group import Command
from proa.cli.rows.containers import ContainerRow
from proa.cli.rows.images import ImageRow, image_rows
from proa.cli.rows.volumes import VolumeRow
from proa.cli.session import Session, pass_session
from proa.cli.text.listing import Row, print_list
from proa.cli.text.units import human_size


class UsageRow(Row):
    """The fields of `proa system df --format`: one kind of object. Sizes are bytes."""

    HEADERS: ClassVar[dict[str, str]] = {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    }

    def __init__(self, kind: str, total: int, active: int, size_bytes: int, free_bytes: int) -> None:
        self._kind = kind
        self._total = total
        self._active = active
        self._size_bytes = size_bytes
        self._free_bytes = free_bytes

    def Type(self) -> str:
        return self._kind

    def TotalCount(self) -> str:
        return str(self._total)

    def Active(self) -> str:
        return str(self._active)

    def Size(self) -> str:
        return human_size(self._size_bytes)

    def Reclaimable(self) -> str:
        if self._size_bytes <= 0:
            return human_size(self._free_bytes)
        return f"{human_size(self._free_bytes)} ({self._free_bytes * 100 // self._size_bytes}%)"


class _WrittenRow(ContainerRow):
    """A container whose size is only what it wrote itself."""

    def Size(self) -> str:
        return super().Size().partition(" ")[0]


@click.command("df", cls=Command, help="Show disk usage")
@click.option("--format", "form", default="", help="'table', 'table TEMPLATE', 'json' or a Go template")
@click.option("-v", "--verbose", is_flag=True, help="Show detailed information on space usage")
@pass_session
def df(session: Session, /, form: str, verbose: bool) -> None:
    usage = session.client.system.disk_usage()
    if verbose and not form:
        _print_details(usage)
        return
    print_list(sys.stdout, UsageRow, usage_rows(usage), columns=tuple(UsageRow.HEADERS), form=form)


def usage_rows(usage: dict[str, Any]) -> list[UsageRow]:
    """The summary of an answer of GET /system/df."""
    images = usage.get("Images") or []
    containers = usage.get("Containers") or []
    volumes = usage.get("Volumes") or []
    builds = usage.get("BuildCache") or []
    layers_bytes = usage.get("LayersSize") or 0
    used_bytes = sum(
        image["Size"] - max(image.get("SharedSize", 0), 0)
        for image in images
        if image.get("Containers", 0) > 0
    )
    return [
        UsageRow(
            "Images",
            len(images),
            sum(image.get("Containers", 0) > 0 for image in images),
            layers_bytes,
            max(layers_bytes - used_bytes, 0),
        ),
        _row("Containers", containers, _is_active, lambda container: container.get("SizeRw", 0)),
        _row("Local Volumes", volumes, _is_referred_to, _volume_bytes),
        _row(
            "Build Cache", builds, lambda build: bool(build.get("InUse")), lambda build: build.get("Size", 0)
        ),
    ]


def _row(
    kind: str, entries: list[Any], active: Callable[[Any], bool], size: Callable[[Any], int]
) -> UsageRow:
    total_bytes = sum(size(entry) for entry in entries)
    free_bytes = sum(size(entry) for entry in entries if not active(entry))
    return UsageRow(kind, len(entries), sum(active(entry) for entry in entries), total_bytes, free_bytes)


def _is_active(container: dict[str, Any]) -> bool:
    return container.get("State") in ("running", "paused", "restarting")


def _is_referred_to(volume: dict[str, Any]) -> bool:
    return bool((volume.get("UsageData") or {}).get("RefCount", 0) > 0)


def _volume_bytes(volume: dict[str, Any]) -> int:
    return max(int((volume.get("UsageData") or {}).get("Size", 0)), 0)


def _print_details(usage: dict[str, Any]) -> None:
    out = sys.stdout
    out.write("Images space usage:\n\n")
    print_list(
        out,
        ImageRow,
        image_rows(usage.get("Images") or []),
        columns=(
            *("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"),
        ),
    )
    out.write("\nContainers space usage:\n\n")
    print_list(
        out,
        _WrittenRow,
        [_WrittenRow(summary) for summary in usage.get("Containers") or []],
        columns=("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"),
    )
    out.write("\nLocal Volumes space usage:\n\n")
    print_list(
        out,
        VolumeRow,
        [VolumeRow(volume) for volume in usage.get("Volumes") or []],
        columns=("Name", "Links", "Size"),
    )
