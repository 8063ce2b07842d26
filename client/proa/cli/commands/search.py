"""Sync, blocking. `proa search`: repositories of a registry by a word."""

from __future__ import annotations

import sys

import click

from proa.cli.filters import filter_option, parse_filters
from proa.cli.group import Command
from proa.cli.logins import credentials_for
from proa.cli.rows.searches import SearchRow
from proa.cli.session import Session, pass_session
from proa.cli.text.listing import print_list
from proa.reference import searched


@click.command("search", cls=Command, usage="[OPTIONS] TERM", help="Search Docker Hub for images")
@filter_option
@click.option("--format", "form", default="", help="'table', 'table TEMPLATE', 'json' or a Go template")
@click.option("--limit", type=int, default=0, help="Max number of search results")
@click.option("--no-trunc", is_flag=True, help="Don't truncate output")
@click.argument("term")
@pass_session
def search(
    session: Session, /, filters: tuple[str, ...], form: str, limit: int, no_trunc: bool, term: str
) -> None:
    found = session.client.images.search(
        term,
        limit=limit,
        filters=parse_filters(filters),
        credentials=credentials_for(searched(term)),
    )
    rows = [SearchRow(entry, no_trunc) for entry in found]
    print_list(sys.stdout, SearchRow, rows, columns=tuple(SearchRow.HEADERS), form=form)
