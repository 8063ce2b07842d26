"""Sync, blocking. `proa diff`, `proa export` and `proa commit`: a container's files, and images of them."""

from __future__ import annotations

import sys

import click

from proa.cli import complete
from proa.cli.group import Command
from proa.cli.progress import counted
from proa.cli.rows.images import split_reference
from proa.cli.session import Session, is_colourful, pass_session
from proa.cli.written import written

COLOURS = {"A": "32", "C": "33", "D": "31"}


@click.command(
    "diff", cls=Command, help="Inspect changes to files or directories on a container's filesystem"
)
@click.argument("name", metavar="CONTAINER", shell_complete=complete.any_container)
@pass_session
def diff(session: Session, /, name: str) -> None:
    colourful = is_colourful(sys.stdout)
    for kind, path in session.client.containers.changes(name):
        print(f"\x1b[{COLOURS[kind]}m{kind}\x1b[0m {path}" if colourful else f"{kind} {path}")


@click.command("export", cls=Command, help="Export a container's filesystem as a tar archive")
@click.option("-o", "--output", default="", help="Write to a file, instead of STDOUT")
@click.argument("name", metavar="CONTAINER", shell_complete=complete.any_container)
@pass_session
def export(session: Session, /, output: str, name: str) -> None:
    if not output and sys.stdout.isatty():
        raise click.ClickException("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with (
        written(output, "failed to export container") as file,
        session.client.containers.export(name) as archive,
        counted(file, "Exporting") as write,
    ):
        for chunk in archive:
            write(chunk)


@click.command(
    "commit",
    cls=Command,
    usage="[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    help="Create a new image from a container's changes",
)
@click.option("-a", "--author", default="", help='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")')
@click.option("-c", "--change", "changes", multiple=True, help="Apply Dockerfile instruction to the image")
@click.option("-m", "--message", default="", help="Commit message")
@click.option("-p", "--pause/--no-pause", default=True, help="Pause container during commit (default true)")
@click.argument("name", shell_complete=complete.any_container)
@click.argument("reference", required=False, default="")
@pass_session
def commit(
    session: Session,
    /,
    author: str,
    changes: tuple[str, ...],
    message: str,
    pause: bool,
    name: str,
    reference: str,
) -> None:
    repository, tag = split_reference(reference)
    image_id = session.client.containers.commit(
        name, repository=repository, tag=tag, author=author, comment=message, changes=changes, pause=pause
    )
    print(image_id)
