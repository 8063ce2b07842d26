"""Sync, blocking. `proa volume create`, `ls` and `rm`."""

from __future__ import annotations

import sys

import click

from proa.cli import complete
from proa.cli.filters import filter_option, parse_filters
from proa.cli.group import Command
from proa.cli.parse.environment import parse_labels, parse_pairs
from proa.cli.rows.volumes import VolumeRow
from proa.cli.session import Session, pass_session
from proa.cli.text.listing import print_list


@click.command("create", cls=Command, usage="[OPTIONS] [VOLUME]", help="Create a volume")
@click.option("-d", "--driver", default="local", help='Specify volume driver name (default "local")')
@click.option("--label", "labels", multiple=True, help="Set metadata for a volume")
@click.option("--name", "name_flag", hidden=True, help="The volume's name, the old way")
@click.option("-o", "--opt", "options", multiple=True, help="Set driver specific options")
@click.argument("name", required=False)
@pass_session
def create(
    session: Session,
    /,
    driver: str,
    labels: tuple[str, ...],
    name_flag: str | None,
    options: tuple[str, ...],
    name: str | None,
) -> None:
    if name and name_flag:
        raise click.ClickException(
            "conflicting options: cannot specify a volume-name through both --name and an argument"
        )
    try:
        label_map, option_map = parse_labels(labels, ()), parse_pairs(options, "driver option")
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    volume = session.client.volumes.create(
        name or name_flag or "", driver=driver, options=option_map, labels=label_map
    )
    print(volume["Name"])


@click.command("ls", cls=Command, help="List volumes")
@filter_option
@click.option("--format", "form", default="", help="'table', 'table TEMPLATE', 'json' or a Go template")
@click.option("-q", "--quiet", is_flag=True, help="Only display volume names")
@pass_session
def ls(session: Session, /, filters: tuple[str, ...], form: str, quiet: bool) -> None:
    volumes = sorted(session.client.volumes.list(parse_filters(filters)), key=lambda volume: volume["Name"])
    print_list(
        sys.stdout,
        VolumeRow,
        [VolumeRow(volume) for volume in volumes],
        columns=("Driver", "Name"),
        form=form,
        quiet="Name" if quiet else "",
    )


@click.command("rm", cls=Command, usage="[OPTIONS] VOLUME [VOLUME...]", help="Remove one or more volumes")
@click.option("-f", "--force", is_flag=True, help="Force the removal of one or more volumes")
@click.argument("names", nargs=-1, required=True, shell_complete=complete.volume)
@pass_session
def rm(session: Session, /, force: bool, names: tuple[str, ...]) -> None:
    session.each(names, lambda client, name: client.volumes.remove(name, force=force), tolerant=force)
