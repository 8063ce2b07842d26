"""Sync, blocking. `proa ps`: the list of containers."""

from __future__ import annotations

import sys

import click

from proa.cli.filters import filter_option, parse_filters
from proa.cli.group import Command
from proa.cli.rows.containers import ContainerRow, paint_container
from proa.cli.session import Session, is_colourful, pass_session
from proa.cli.text.listing import print_list

COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


@click.command("ps", cls=Command, help="List containers")
@click.option("-a", "--all", "all_", is_flag=True, help="Show all containers (default shows just running)")
@filter_option
@click.option("--format", "form", default="", help="'table', 'table TEMPLATE', 'json' or a Go template")
@click.option(
    "-n", "--last", type=int, default=-1, help="Show n last created containers (includes all states)"
)
@click.option("-l", "--latest", is_flag=True, help="Show the latest created container (includes all states)")
@click.option("--no-trunc", is_flag=True, help="Don't truncate output")
@click.option("-q", "--quiet", is_flag=True, help="Only display container IDs")
@click.option("-s", "--size", is_flag=True, help="Display total file sizes")
@pass_session
def ps(
    session: Session,
    /,
    all_: bool,
    filters: tuple[str, ...],
    form: str,
    last: int,
    latest: bool,
    no_trunc: bool,
    quiet: bool,
    size: bool,
) -> None:
    wants_size = size or ".Size" in form
    containers = session.client.containers.list(
        all=all_,
        limit=1 if latest else max(last, 0),
        size=wants_size,
        filters=parse_filters(filters),
    )
    print_list(
        sys.stdout,
        ContainerRow,
        [ContainerRow(summary, no_trunc) for summary in containers],
        columns=(*COLUMNS, "Size") if size else COLUMNS,
        form=form,
        quiet="ID" if quiet else "",
        painter=paint_container if is_colourful(sys.stdout) else None,
    )
