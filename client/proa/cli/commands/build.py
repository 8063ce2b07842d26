"""Sync, blocking. `proa build`: an image from a Dockerfile and its context, built by the daemon."""

from __future__ import annotations

import os
import sys
import zlib
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import click

from proa.cli.build_flags import build_arguments, build_flags, build_options
from proa.cli.group import Command
from proa.cli.logins import all_credentials
from proa.cli.messages import Messages, bar
from proa.cli.parse import environment, lists
from proa.cli.session import Session, pass_session
from proa.context.prepare import prepare
from proa.dockerconfig import load_config
from proa.errors import CredentialsFailed, ProaError, WorkFailed
from proa.http1 import Readable

UPDATE_BYTES = 512 * 1024
"""How much is sent between two lines about it."""
GZIP = 16 + zlib.MAX_WBITS


@click.command(
    "build",
    cls=Command,
    usage="[OPTIONS] PATH | URL | -",
    help="Build an image from a Dockerfile",
    params=[*build_flags(), click.Argument(["context"], type=click.Path())],
)
@pass_session
def build(session: Session, /, context: str, **flags: Any) -> int:
    out = StringIO() if flags["quiet"] else sys.stdout
    id_file = Path(flags["iidfile"]) if flags["iidfile"] else None
    if id_file is not None:
        id_file.unlink(missing_ok=True)  # that of an earlier build would be wrong if this one fails
    try:
        image_id = _build(session, context, flags, out)
    except ProaError as error:
        if isinstance(out, StringIO):
            print(out.getvalue(), end="", file=sys.stderr)
        if isinstance(error, WorkFailed):
            print(error, file=sys.stderr)
            return error.status or 1
        raise
    if flags["quiet"]:
        print(image_id)
    if id_file is not None:
        if not image_id:
            raise click.ClickException(f"server did not provide an image ID. Cannot write {id_file}")
        id_file.write_text(image_id)
    return 0


def _build(session: Session, context: str, flags: dict[str, Any], out: TextIO) -> str:
    try:
        options = build_options(flags)
        cache_from = lists.parse_list(flags["cache_from"])
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    # A thread may still read it when all is over, which a buffer would not survive.
    stdin = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    downloading = f"Downloading build context from remote url: {context}"
    with prepare(
        context, flags["file"], stdin=stdin, watch=lambda source, size: _Shown(source, size, downloading, out)
    ) as prepared:
        archive = _Gzipped(prepared.archive) if flags["compress"] else prepared.archive
        return session.client.images.build(
            _Shown(archive, None, "Sending build context to Docker daemon", out),
            dockerfile=prepared.dockerfile,
            tags=flags["tag"],
            build_args=build_arguments(flags["build_arg"], os.environ, _proxies(session)),
            labels=environment.parse_labels(flags["label"], []),
            target=flags["target"],
            platform=flags["platform"],
            use_cache=not flags["no_cache"],
            cache_from=cache_from,
            pull=bool(flags["pull"]),
            quiet=bool(flags["quiet"]),
            options=options,
            credentials=all_credentials(),
            progress=Messages(out).show,
        )


def _proxies(session: Session) -> dict[str, str]:
    """The proxies that docker's configuration names for containers, builds included."""
    try:
        return load_config(os.environ).proxy_variables(session.client.host)
    except CredentialsFailed:
        return {}  # of which `all_credentials` has something to say


class _Shown:
    """Reads like a file, and tells how much was read: on a terminal from time to time, else at the end."""

    def __init__(self, source: Readable, size: int | None, what: str, out: TextIO) -> None:
        self._source = source
        self._size = size
        self._what = what
        self._out = out
        self._read = 0
        self._told = 0
        self._is_over = False

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self._read += len(piece)
        if not piece:
            if not self._is_over:
                self._tell("\r\n")
            self._is_over = True
        elif self._read - self._told > UPDATE_BYTES and self._out.isatty():
            self._told = self._read
            self._tell("")
        return piece

    def _tell(self, end: str) -> None:
        progress = {"current": self._read, "total": self._size or 0}
        columns = os.get_terminal_size(self._out.fileno()).columns if self._out.isatty() else 0
        self._out.write(f"{self._what} {bar(progress, columns)}\r{end}")
        self._out.flush()


class _Gzipped:
    """Reads like a file: another one, compressed."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._packer = zlib.compressobj(wbits=GZIP)
        self._is_over = False

    def read(self, size: int, /) -> bytes:
        """The next piece, of whatever size; none at the end."""
        while not self._is_over:
            data = self._source.read(size)
            self._is_over = not data
            if packed := self._packer.compress(data) if data else self._packer.flush():
                return packed
        return b""
