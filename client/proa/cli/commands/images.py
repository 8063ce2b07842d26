"""Sync, blocking. `proa images`, `history`, `tag` and `rmi`."""

from __future__ import annotations

import sys

import click

from proa.cli import complete
from proa.cli.filters import filter_option, parse_filters
from proa.cli.group import Command
from proa.cli.rows.images import HistoryRow, ImageRow, image_rows, split_reference
from proa.cli.session import Session, describe, pass_session
from proa.cli.text.listing import print_list
from proa.errors import NotFound, ProaError

FORMAT_HELP = "'table', 'table TEMPLATE', 'json' or a Go template"


@click.command("images", cls=Command, usage="[OPTIONS] [REPOSITORY[:TAG]]", help="List images")
@click.option("-a", "--all", "all_", is_flag=True, help="Show all images (default hides intermediate images)")
@click.option("--digests", is_flag=True, help="Show digests")
@filter_option
@click.option("--format", "form", default="", help=FORMAT_HELP)
@click.option("--no-trunc", is_flag=True, help="Don't truncate output")
@click.option("-q", "--quiet", is_flag=True, help="Only show image IDs")
@click.argument("reference", required=False, shell_complete=complete.image)
@pass_session
def images(
    session: Session,
    /,
    all_: bool,
    digests: bool,
    filters: tuple[str, ...],
    form: str,
    no_trunc: bool,
    quiet: bool,
    reference: str | None,
) -> None:
    wanted = parse_filters(filters)
    if reference:
        wanted.setdefault("reference", []).append(reference)
    summaries = session.client.images.list(all=all_, digests=digests, filters=wanted)
    rows = list(image_rows(summaries, digests=digests or ".Digest" in form, no_trunc=no_trunc))
    if quiet:
        rows = list({row.ID(): row for row in rows}.values())
    columns = ("Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size")
    print_list(sys.stdout, ImageRow, rows, columns=columns, form=form, quiet="ID" if quiet else "")


@click.command("history", cls=Command, usage="[OPTIONS] IMAGE", help="Show the history of an image")
@click.option("--format", "form", default="", help=FORMAT_HELP)
@click.option(
    "-H", "--human", is_flag=True, default=True, help="Print sizes and dates in human readable format"
)
@click.option("--no-trunc", is_flag=True, help="Don't truncate output")
@click.option("-q", "--quiet", is_flag=True, help="Only show image IDs")
@click.argument("image", shell_complete=complete.image)
@pass_session
def history(session: Session, /, form: str, human: bool, no_trunc: bool, quiet: bool, image: str) -> None:
    entries = session.client.images.history(image)
    created = "CreatedSince" if human else "CreatedAt"
    print_list(
        sys.stdout,
        HistoryRow,
        [HistoryRow(entry, human=human, no_trunc=no_trunc) for entry in entries],
        columns=("ID", created, "CreatedBy", "Size", "Comment"),
        form=form,
        quiet="ID" if quiet else "",
    )


@click.command(
    "tag",
    cls=Command,
    usage="SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    help="Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
)
@click.argument("source", shell_complete=complete.image)
@click.argument("target")
@pass_session
def tag(session: Session, /, source: str, target: str) -> None:
    if "@" in target:
        raise click.ClickException("refusing to create a tag with a digest reference")
    repository, name = split_reference(target)
    session.client.images.tag(source, repository, name or "latest")


@click.command("rmi", cls=Command, usage="[OPTIONS] IMAGE [IMAGE...]", help="Remove one or more images")
@click.option("-f", "--force", is_flag=True, help="Force removal of the image")
@click.option("--no-prune", is_flag=True, help="Do not delete untagged parents")
@click.argument("names", nargs=-1, required=True, shell_complete=complete.image)
@pass_session
def rmi(session: Session, /, force: bool, no_prune: bool, names: tuple[str, ...]) -> None:
    failed = False
    for name in names:
        try:
            removed = session.client.images.remove(name, force=force, no_prune=no_prune)
        except ProaError as error:
            print(describe(error), file=sys.stderr)
            failed = failed or not (force and isinstance(error, NotFound))
            continue
        for entry in removed:
            for what, which in entry.items():
                print(f"{what}: {which}")
    if failed:
        raise SystemExit(1)
