"""Sync, blocking. Where large output goes: standard output, or a file that is whole or not there."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click


@contextmanager
def written(output: str, failure: str) -> Iterator[BinaryIO]:
    """Standard output, or the file of that name, which is there only if all of it has been written.

    `failure` is what has failed where it cannot be written.
    """
    if not output:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    if path.is_dir():
        raise click.ClickException(f"{failure}: cannot write to a directory")
    if path.exists() and not path.is_file():  # a device or a pipe is written as it is
        with _opened(path, failure) as file:
            yield file
        return
    try:
        descriptor, unfinished = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    except OSError as error:
        raise click.ClickException(
            f"{failure}: invalid output path: stat {path.parent}: {_reason(error)}"
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.rename(unfinished, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


@contextmanager
def _opened(path: Path, failure: str) -> Iterator[BinaryIO]:
    try:
        file = path.open("wb")
    except OSError as error:
        raise click.ClickException(f"{failure}: {path}: {_reason(error)}") from None
    with file:
        yield file


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
