"""Sync, blocking. `proa logs`: what a container wrote."""

from __future__ import annotations

import time
from collections.abc import Iterable

import click

from proa.cli import complete
from proa.cli.attachment import STDERR, STDOUT, write_all
from proa.cli.follow import follow_log
from proa.cli.group import Command
from proa.cli.parse.times import parse_instant
from proa.cli.session import Session, pass_session
from proa.streams import StreamName


@click.command("logs", cls=Command, usage="[OPTIONS] CONTAINER", help="Fetch the logs of a container")
@click.option("--details", is_flag=True, help="Show extra details provided to logs")
@click.option("-f", "--follow", is_flag=True, help="Follow log output")
@click.option("--since", help='Show logs since timestamp ("2013-01-02T13:23:37Z") or relative ("42m")')
@click.option("-n", "--tail", default="all", help='Number of lines to show from the end (default "all")')
@click.option("-t", "--timestamps", is_flag=True, help="Show timestamps")
@click.option("--until", help='Show logs before a timestamp ("2013-01-02T13:23:37Z") or relative ("42m")')
@click.argument("name", shell_complete=complete.any_container)
@pass_session
def logs(
    session: Session,
    /,
    name: str,
    details: bool,
    follow: bool,
    since: str | None,
    tail: str,
    timestamps: bool,
    until: str | None,
) -> None:
    now_ns = time.time_ns()
    try:
        since, until = (text and parse_instant(text, now_ns) for text in (since, until))
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if follow:
        _show(
            follow_log(
                session, name, tail=tail, since=since, until=until, stamped=timestamps, details=details
            )
        )
        return
    with session.client.containers.logs(
        name, tail=tail, since=since, until=until, timestamps=timestamps, details=details
    ) as pieces:
        _show(pieces)


def _show(pieces: Iterable[tuple[StreamName, bytes]]) -> None:
    for stream, piece in pieces:
        write_all(STDERR if stream == "stderr" else STDOUT, piece)
