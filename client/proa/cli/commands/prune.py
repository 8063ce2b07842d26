"""Sync, blocking. `prune` of containers, images, networks, volumes, build cache, and of all at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from proa.cli.filters import parse_filters
from proa.cli.group import Command
from proa.cli.run_flags import BYTES
from proa.cli.session import Session, confirm, pass_session
from proa.cli.text.units import human_size
from proa.errors import NotSupported
from proa.results import Pruned

if TYPE_CHECKING:
    from proa.types import Filters

FILTER_HELP = 'Only what matches (e.g. "until=<timestamp>", "label=<key>=<value>")'
CACHE_TITLE = "Deleted build cache objects"
FORCE_HELP = "Do not prompt for confirmation"


def _report(title: str, entries: Iterable[str]) -> None:
    lines = list(entries)
    if lines:
        print(f"{title}:", *lines, "", sep="\n")


def _image_lines(entries: Iterable[dict[str, str]]) -> list[str]:
    words = {"Untagged": "untagged", "Deleted": "deleted"}
    return [f"{words[key]}: {value}" for entry in entries for key, value in entry.items() if key in words]


@click.command("prune", cls=Command, help="Remove all stopped containers")
@click.option("--filter", "filters", multiple=True, help=FILTER_HELP)
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@pass_session
def prune_containers(session: Session, /, filters: tuple[str, ...], force: bool) -> None:
    confirm("WARNING! This will remove all stopped containers.\n", force)
    pruned = session.client.containers.prune(parse_filters(filters))
    _report("Deleted Containers", pruned.deleted)
    print(f"Total reclaimed space: {human_size(pruned.space_bytes)}")


@click.command("prune", cls=Command, help="Remove unused images")
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all unused images, not just dangling ones")
@click.option("--filter", "filters", multiple=True, help=FILTER_HELP)
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@pass_session
def prune_images(session: Session, /, all_: bool, filters: tuple[str, ...], force: bool) -> None:
    kind = "all images without at least one container associated to them" if all_ else "all dangling images"
    confirm(f"WARNING! This will remove {kind}.\n", force)
    wanted = {**parse_filters(filters), "dangling": ["false" if all_ else "true"]}
    entries, space_bytes = session.client.images.prune(wanted)
    _report("Deleted Images", _image_lines(entries))
    print(f"Total reclaimed space: {human_size(space_bytes)}")


@click.command("prune", cls=Command, help="Remove all unused networks")
@click.option("--filter", "filters", multiple=True, help=FILTER_HELP)
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@pass_session
def prune_networks(session: Session, /, filters: tuple[str, ...], force: bool) -> None:
    confirm("WARNING! This will remove all custom networks not used by at least one container.\n", force)
    _report("Deleted Networks", session.client.networks.prune(parse_filters(filters)))


@click.command("prune", cls=Command, help="Remove unused local volumes")
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all unused volumes, not just anonymous ones")
@click.option("--filter", "filters", multiple=True, help=FILTER_HELP)
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@pass_session
def prune_volumes(session: Session, /, all_: bool, filters: tuple[str, ...], force: bool) -> None:
    kind = "all" if all_ else "anonymous"
    confirm(f"WARNING! This will remove {kind} local volumes not used by at least one container.\n", force)
    wanted = parse_filters(filters)
    if all_:
        wanted["all"] = ["true"]
    pruned = session.client.volumes.prune(wanted)
    _report("Deleted Volumes", pruned.deleted)
    print(f"Total reclaimed space: {human_size(pruned.space_bytes)}")


@click.command("prune", cls=Command, usage="", help="Remove build cache")
@click.option(
    "-a", "--all", "all_", is_flag=True, help="Remove all unused build cache, not just dangling ones"
)
@click.option("--filter", "filters", multiple=True, help='Provide filter values (e.g. "until=24h")')
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@click.option("--keep-storage", type=BYTES, metavar="BYTES", help="Amount of disk space to keep for cache")
@pass_session
def prune_builds(
    session: Session, /, all_: bool, filters: tuple[str, ...], force: bool, keep_storage: int | None
) -> None:
    confirm(f"WARNING! This will remove all {'' if all_ else 'dangling '}build cache. ", force)
    pruned = session.client.images.prune_builds(
        all=all_, keep_bytes=keep_storage, filters=parse_filters(filters)
    )
    _report(CACHE_TITLE, pruned.deleted)
    print(f"Total reclaimed space: {human_size(pruned.space_bytes)}")


@click.command("prune", cls=Command, help="Remove unused data")
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all unused images not just dangling ones")
@click.option("--filter", "filters", multiple=True, help=FILTER_HELP)
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@click.option("--volumes", is_flag=True, help="Prune anonymous volumes")
@pass_session
def prune_system(
    session: Session, /, all_: bool, filters: tuple[str, ...], force: bool, volumes: bool
) -> None:
    wanted = parse_filters(filters)
    if volumes and "until" in wanted:
        raise click.ClickException('ERROR: The "until" filter is not supported with "--volumes"')
    confirm(_system_warning(wanted, all_=all_, volumes=volumes), force)
    client = session.client
    containers = client.containers.prune(wanted)
    _report("Deleted Containers", containers.deleted)
    _report("Deleted Networks", client.networks.prune(wanted))
    space_bytes = containers.space_bytes
    if volumes:
        pruned = client.volumes.prune(wanted)
        _report("Deleted Volumes", pruned.deleted)
        space_bytes += pruned.space_bytes
    images, image_bytes = client.images.prune({**wanted, "dangling": ["false" if all_ else "true"]})
    _report("Deleted Images", _image_lines(images))
    try:
        builds = client.images.prune_builds(all=all_, filters=wanted)
    except NotSupported:  # an engine that does not build has nothing left of it
        builds = Pruned([], 0)
    _report(CACHE_TITLE, builds.deleted)
    print(f"Total reclaimed space: {human_size(space_bytes + image_bytes + builds.space_bytes)}")


def _system_warning(filters: Filters, *, all_: bool, volumes: bool) -> str:
    doomed = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        doomed.append("all anonymous volumes not used by at least one container")
    doomed.append(
        "all images without at least one container associated to them" if all_ else "all dangling images"
    )
    doomed.append("all build cache" if all_ else "unused build cache")
    lines = ["WARNING! This will remove:", *(f"  - {line}" for line in doomed), ""]
    kept = sorted(f"{key}={value}" for key in ("label", "label!", "until") for value in filters.get(key, ()))
    if kept:
        lines += ["  Items to be pruned will be filtered with:", *(f"  - {line}" for line in kept), ""]
    return "\n".join([*lines, ""])
