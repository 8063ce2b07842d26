"""Sync, blocking. `proa import` and `proa load`: images out of tar archives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from proa.cli.group import Command
from proa.cli.progress import shown
from proa.cli.rows.images import split_reference
from proa.cli.session import Session, pass_session


@click.command(
    "import",
    cls=Command,
    usage="[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    help="Import the contents from a tarball to create a filesystem image",
)
@click.option("-c", "--change", "changes", multiple=True, help="Apply Dockerfile instruction to the image")
@click.option("-m", "--message", default="", help="Set commit message for imported image")
@click.option("--platform", default="", help="Set platform if server is multi-platform capable")
@click.argument("source")
@click.argument("reference", required=False, default="")
@pass_session
def import_(
    session: Session, /, changes: tuple[str, ...], message: str, platform: str, source: str, reference: str
) -> None:
    repository, tag = split_reference(reference)
    if source.startswith(("http://", "https://")):
        image_id = session.client.images.import_(
            source, repository=repository, tag=tag, message=message, changes=changes, platform=platform
        )
    else:
        with _opened(source) as file, shown(file, "Importing", quiet=False) as body:
            image_id = session.client.images.import_(
                body, repository=repository, tag=tag, message=message, changes=changes, platform=platform
            )
    print(image_id)


@click.command("load", cls=Command, help="Load an image from a tar archive or standard input")
@click.option("-i", "--input", "source", default="-", help="Read from tar archive file, instead of STDIN")
@click.option("-q", "--quiet", is_flag=True, help="Suppress the load output")
@pass_session
def load(session: Session, /, source: str, quiet: bool) -> None:
    if source == "-" and sys.stdin.isatty():
        raise click.ClickException("requested load from stdin, but stdin is empty: give an archive with -i")
    with _opened(source) as file, shown(file, "Loading", quiet) as body:
        said = session.client.images.load(body, quiet=quiet)
    print("".join(said), end="")


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - only opening it may fail like this
    except OSError as error:
        raise click.ClickException(f"open {source}: {(error.strerror or str(error)).lower()}") from None
    with file:
        yield file
