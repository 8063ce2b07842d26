"""Sync, blocking. `proa update`: other limits and another restart policy for containers that exist."""

from __future__ import annotations

from typing import Any

import click

from proa.cli import complete
from proa.cli.create_body import resources
from proa.cli.group import Command
from proa.cli.run_flags import limits
from proa.cli.session import Session, pass_session, warn


@click.command(
    "update",
    cls=Command,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    help="Update configuration of one or more containers",
    params=[
        *limits(),
        click.Argument(["names"], nargs=-1, required=True, shell_complete=complete.any_container),
    ],
)
@pass_session
def update(session: Session, /, names: tuple[str, ...], **flags: Any) -> None:
    try:
        changes = resources(flags)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if not changes:
        raise click.ClickException("you must provide one or more flags when using this command")
    warnings: list[str] = []
    try:
        session.each(names, lambda client, name: warnings.extend(client.containers.update(name, changes)))
    finally:
        warn(warnings)
