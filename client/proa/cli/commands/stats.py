"""Sync, blocking. `proa stats`: what containers use, live or once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

from proa.cli import complete, terminal
from proa.cli.group import Command
from proa.cli.livetable import COLUMNS, HOME, render
from proa.cli.rows.stats import StatsRow, Usage
from proa.cli.session import Session, describe, is_colourful, pass_session
from proa.cli.text.listing import print_list
from proa.cli.usagewatch import Followed, UsageWatch, read_all
from proa.client import Client
from proa.errors import ProaError

REDRAW_S = 0.5
PRINT_S = 1.0
FIRST_READING_S = 3.0
CLEAR, HIDE_CURSOR, SHOW_CURSOR = "\x1b[2J" + HOME, "\x1b[?25l", "\x1b[?25h"


@click.command(
    "stats",
    cls=Command,
    usage="[OPTIONS] [CONTAINER...]",
    help="Display a live stream of what containers use",
)
@click.argument("names", nargs=-1, required=False, shell_complete=complete.running_container)
@click.option("-a", "--all", "all_", is_flag=True, help="Show all containers (default shows just running)")
@click.option("--format", "form", default="", help="'table', 'table TEMPLATE', 'json' or a Go template")
@click.option("--no-stream", is_flag=True, help="Print what they use now, once")
@click.option("--no-trunc", is_flag=True, help="Don't truncate output")
@pass_session
def stats(
    session: Session, /, names: tuple[str, ...], all_: bool, form: str, no_stream: bool, no_trunc: bool
) -> None:
    _ = session.client.api_version  # agreed upon once, not by every thread
    if no_stream:
        refs = names or tuple(c["Id"][:12] for c in session.client.containers.list(all=all_))
        _print_once(session.another_client, refs, named=bool(names), form=form, no_trunc=no_trunc)
        return
    watch = UsageWatch(session.another_client)
    if names:
        for name in names:
            watch.add(name)
        _fail_on_errors(watch)
    else:
        watch.add_all(stopped=all_)
    if sys.stdout.isatty():
        _show(watch, lambda: bool(names) and _all_over(watch), form=form, no_trunc=no_trunc)
    else:
        _print_on(watch, lambda: bool(names) and _all_over(watch), form=form, no_trunc=no_trunc)
    if watch.lost is not None:
        raise watch.lost


def _print_once(
    connect: Callable[[], Client], refs: tuple[str, ...], *, named: bool, form: str, no_trunc: bool
) -> None:
    read = read_all(connect, refs)
    errors = [usage for _, usage in read if isinstance(usage, ProaError)]
    if named and errors:
        raise click.ClickException("\n".join(map(describe, errors)))
    # Of those that were found by listing, one may have gone meanwhile; it is none of those that there are.
    rows = [StatsRow(ref, usage, no_trunc) for ref, usage in read if isinstance(usage, Usage)]
    print_list(sys.stdout, StatsRow, rows, columns=COLUMNS, form=form)


def _fail_on_errors(watch: UsageWatch) -> None:
    """Wait for the first readings of the containers that were named. Raises for those there are none of."""
    deadline = time.monotonic() + FIRST_READING_S
    for followed in watch.all():
        followed.heard.wait(max(0, deadline - time.monotonic()))
    errors = [describe(followed.error) for followed in watch.all() if followed.error is not None]
    if errors:
        raise click.ClickException("\n".join(errors))


def _all_over(watch: UsageWatch) -> bool:
    return all(followed.is_over for followed in watch.all())


def _show(watch: UsageWatch, is_over: Callable[[], bool], *, form: str, no_trunc: bool) -> None:
    """Draw again and again, until the user or the daemon ends it."""
    colourful = is_colourful(sys.stdout)
    sys.stdout.write(HIDE_CURSOR + CLEAR)
    try:
        while not is_over() and watch.lost is None:
            if form in ("", "table"):
                rows, columns = terminal.size(sys.stdout.fileno())
                picture = render(
                    watch.all(),
                    rows=rows or 24,
                    columns=columns or 80,
                    no_trunc=no_trunc,
                    colourful=colourful,
                )
                sys.stdout.write(picture)
            else:
                sys.stdout.write(CLEAR)
                _print_list(watch.all(), form, no_trunc)
            sys.stdout.flush()
            time.sleep(REDRAW_S)
        sys.stdout.write("\n")
    finally:
        sys.stdout.write(SHOW_CURSOR)
        sys.stdout.flush()


def _print_on(watch: UsageWatch, is_over: Callable[[], bool], *, form: str, no_trunc: bool) -> None:
    """For a pipe or a file: one list after the other, without what only a terminal understands."""
    while not is_over() and watch.lost is None:
        time.sleep(PRINT_S)
        _print_list(watch.all(), form, no_trunc)
        sys.stdout.flush()


def _print_list(followed: list[Followed], form: str, no_trunc: bool) -> None:
    rows = [StatsRow(each.asked, each.usage, no_trunc) for each in followed]
    print_list(sys.stdout, StatsRow, rows, columns=COLUMNS, form=form)
