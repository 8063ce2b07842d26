"""Sync, blocking. `proa import`, `proa load` and `proa save`: images out of tar archives, and into them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import click

from proa.cli import complete
from proa.cli.group import Command
from proa.cli.messages import Messages
from proa.cli.parse.lists import parse_list
from proa.cli.progress import counted, shown
from proa.cli.rows.images import split_reference
from proa.cli.session import Session, pass_session
from proa.cli.written import written


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


@click.command("load", cls=Command, help="Load an image from a tar archive or STDIN")
@click.option("-i", "--input", "source", default="", help="Read from tar archive file, instead of STDIN")
@click.option("--platform", "platforms", multiple=True, help="Load only the given platform variant")
@click.option("-q", "--quiet", is_flag=True, help="Suppress the load output")
@pass_session
def load(session: Session, /, source: str, platforms: tuple[str, ...], quiet: bool) -> None:
    if not source and sys.stdin.isatty():
        raise click.ClickException("requested load from stdin, but stdin is empty: give an archive with -i")
    with _opened(source or "-") as file, shown(file, "Loading", quiet) as body:
        session.client.images.load(
            body,
            quiet=quiet or not sys.stdout.isatty(),
            platforms=parse_list(platforms),
            progress=Messages(sys.stdout).show,
        )


@click.command(
    "save",
    cls=Command,
    usage="[OPTIONS] IMAGE [IMAGE...]",
    help="Save one or more images to a tar archive (streamed to STDOUT by default)",
)
@click.option("-o", "--output", default="", help="Write to a file, instead of STDOUT")
@click.option("--platform", "platforms", multiple=True, help="Save only the given platform(s)")
@click.argument("names", nargs=-1, required=True, shell_complete=complete.image)
@pass_session
def save(session: Session, /, output: str, platforms: tuple[str, ...], names: tuple[str, ...]) -> None:
    if not output and sys.stdout.isatty():
        raise click.ClickException("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with (
        written(output, "failed to save image") as file,
        session.client.images.save(names, platforms=parse_list(platforms)) as archive,
        counted(file, "Saving") as write,
    ):
        for chunk in archive:
            write(chunk)


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO | FileIO]:
    if source == "-":
        with open(
            0, "rb", buffering=0, closefd=False
        ) as stdin:  # a thread may still read it when all is over
            yield stdin
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - only opening it may fail like this
    except OSError as error:
        raise click.ClickException(f"open {source}: {(error.strerror or str(error)).lower()}") from None
    with file:
        yield file
