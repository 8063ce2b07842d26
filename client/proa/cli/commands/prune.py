"""Sync, blocking. `prune` of containers, images, networks and volumes, and of all of them at once."""

from __future__ import annotations

from collections.abc import Iterable

import click

from proa.cli.filters import parse_filters
from proa.cli.group import Command
from proa.cli.session import Session, confirm, pass_session
from proa.cli.text.units import human_size

FILTER_HELP = 'Only what matches (e.g. "until=<timestamp>", "label=<key>=<value>")'
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
    if not confirm("WARNING! This will remove all stopped containers.", force):
        raise click.ClickException("container prune has been cancelled")
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
    if not confirm(f"WARNING! This will remove {kind}.", force):
        raise click.ClickException("image prune has been cancelled")
    wanted = {**parse_filters(filters), "dangling": ["false" if all_ else "true"]}
    entries, space_bytes = session.client.images.prune(wanted)
    _report("Deleted Images", _image_lines(entries))
    print(f"Total reclaimed space: {human_size(space_bytes)}")


@click.command("prune", cls=Command, help="Remove all unused networks")
@click.option("--filter", "filters", multiple=True, help=FILTER_HELP)
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@pass_session
def prune_networks(session: Session, /, filters: tuple[str, ...], force: bool) -> None:
    if not confirm(
        "WARNING! This will remove all custom networks not used by at least one container.", force
    ):
        raise click.ClickException("network prune has been cancelled")
    _report("Deleted Networks", session.client.networks.prune(parse_filters(filters)))


@click.command("prune", cls=Command, help="Remove unused local volumes")
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all unused volumes, not just anonymous ones")
@click.option("--filter", "filters", multiple=True, help=FILTER_HELP)
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@pass_session
def prune_volumes(session: Session, /, all_: bool, filters: tuple[str, ...], force: bool) -> None:
    kind = "all" if all_ else "anonymous"
    if not confirm(
        f"WARNING! This will remove {kind} local volumes not used by at least one container.", force
    ):
        raise click.ClickException("volume prune has been cancelled")
    wanted = parse_filters(filters)
    if all_:
        wanted["all"] = ["true"]
    pruned = session.client.volumes.prune(wanted)
    _report("Deleted Volumes", pruned.deleted)
    print(f"Total reclaimed space: {human_size(pruned.space_bytes)}")


@click.command(
    "prune",
    cls=Command,
    help="Remove unused data: stopped containers, unused networks, dangling images",
)
@click.option("-a", "--all", "all_", is_flag=True, help="Remove all unused images not just dangling ones")
@click.option("--filter", "filters", multiple=True, help=FILTER_HELP)
@click.option("-f", "--force", is_flag=True, help=FORCE_HELP)
@click.option("--volumes", is_flag=True, help="Prune anonymous volumes")
@pass_session
def prune_system(
    session: Session, /, all_: bool, filters: tuple[str, ...], force: bool, volumes: bool
) -> None:
    wanted = parse_filters(filters)
    doomed = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        doomed.append("all anonymous volumes not used by at least one container")
    doomed.append(
        "all images without at least one container associated to them" if all_ else "all dangling images"
    )
    warning = "".join(f"\n  - {line}" for line in doomed)
    if not confirm(f"WARNING! This will remove:{warning}\n", force):
        raise click.ClickException("system prune has been cancelled")
    containers = session.client.containers.prune(wanted)
    _report("Deleted Containers", containers.deleted)
    _report("Deleted Networks", session.client.networks.prune(wanted))
    space_bytes = containers.space_bytes
    if volumes:
        pruned = session.client.volumes.prune({key: value for key, value in wanted.items() if key != "until"})
        _report("Deleted Volumes", pruned.deleted)
        space_bytes += pruned.space_bytes
    images, image_bytes = session.client.images.prune({**wanted, "dangling": ["false" if all_ else "true"]})
    _report("Deleted Images", _image_lines(images))
    print(f"Total reclaimed space: {human_size(space_bytes + image_bytes)}")
