"""Sync, blocking. `proa cp`: files and trees into containers and out of them."""

from __future__ import annotations

import os
import posixpath
import stat
import sys

import click

from proa.cli import complete
from proa.cli.copy.plan import (
    CopyRefused,
    Destination,
    Source,
    absolute,
    arrange,
    asserts_directory,
    split,
    split_argument,
)
from proa.cli.group import Command
from proa.cli.progress import advancing
from proa.cli.session import Session, pass_session
from proa.cli.text.units import human_size
from proa.errors import APIError
from proa.pathstatus import PathStatus

MAX_SYMLINKS = 10


@click.command(
    "cp",
    cls=Command,
    usage="[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tproa cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    help="Copy files/folders between a container and the local filesystem; - is a tar archive",
)
@click.option("-a", "--archive", is_flag=True, help="Archive mode (copy all uid/gid information)")
@click.option("-L", "--follow-link", is_flag=True, help="Always follow symbol link in SRC_PATH")
@click.option("-q", "--quiet", is_flag=True, default=None, help="Suppress progress output during copy")
@click.argument("source", shell_complete=complete.any_container)
@click.argument("destination", shell_complete=complete.any_container)
@pass_session
def cp(
    session: Session,
    /,
    archive: bool,
    follow_link: bool,
    quiet: bool | None,
    source: str,
    destination: str,
) -> None:
    for text, what in ((source, "source"), (destination, "destination")):
        if not text:
            raise click.ClickException(f"{what} can not be empty")
    quiet = not sys.stdout.isatty() if quiet is None else quiet
    (source_container, source_path), (container, path) = split_argument(source), split_argument(destination)
    if source_container and container:
        raise click.ClickException("copying between containers is not supported")
    try:
        if source_container:
            _copy_out(session, source_container, source_path, path, follow=follow_link, quiet=quiet)
        elif container:
            _copy_in(session, source_path, container, path, follow=follow_link, archive=archive, quiet=quiet)
        else:
            raise click.ClickException("must specify at least one container source")
    except CopyRefused as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{named}{(error.strerror or str(error)).lower()}") from None


# --- out of a container -------------------------------------------------------------------------------------


def _copy_out(session: Session, container: str, path: str, target: str, *, follow: bool, quiet: bool) -> None:
    containers = session.client.containers
    name = ""
    if follow:
        path, name = _followed(session, container, path)
    if target == "-":
        if sys.stdout.isatty():
            raise click.ClickException("cowardly refusing to write an archive to a terminal: redirect it")
        with containers.get_archive(container, path) as content:
            for piece in content:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        return
    import tarfile

    from proa.cli.copy.unpack import Pieces, unpack

    target = absolute(target, os.getcwd())
    with containers.get_archive(container, path) as content:
        status = content.status
        source = Source(name or status.name, status.is_directory)
        plan = arrange(source, _local_destination(target))
        total = None if status.is_directory else status.size
        with advancing(f"Copying from {container}", total, is_wanted=not quiet) as arrived:
            pieces = Pieces(iter(content), arrived)
            try:
                unpack(pieces, plan.directory, status.name, plan.name)
            except tarfile.TarError as error:
                raise click.ClickException(f"the archive is broken: {error}") from None
    if not quiet:
        size = pieces.total if status.is_directory else status.size
        _summarize(size, pieces.total, target)


def _followed(session: Session, container: str, path: str) -> tuple[str, str]:
    """Where a symlink leads to, and the name that it has; a path that is none stays."""
    try:
        status = session.client.containers.path_status(container, path)
    except APIError:
        return path, ""  # the copy itself says what is wrong
    if not status.is_symlink:
        return path, ""
    return status.link_target, split(path)[1]


def _local_destination(path: str) -> Destination:
    """What lies at a local path, which symlinks lead on from; its directory must be there."""
    for _ in range(MAX_SYMLINKS):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            parent = split(path)[0]
            if not stat.S_ISDIR(os.stat(parent).st_mode):
                raise CopyRefused(f"{parent}: not a directory") from None
            return Destination(path)
        if not stat.S_ISLNK(mode):
            if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                raise CopyRefused(f'destination "{path}" must be a directory or a regular file')
            return Destination(path, exists=True, is_directory=stat.S_ISDIR(mode))
        path = posixpath.join(split(path)[0], os.readlink(path))
    raise CopyRefused(f"too many symlinks in {path}")


# --- into a container ---------------------------------------------------------------------------------------


def _copy_in(
    session: Session, path: str, container: str, target: str, *, follow: bool, archive: bool, quiet: bool
) -> None:
    containers = session.client.containers
    destination = _remote_destination(session, container, target)
    if path == "-":
        if not destination.is_directory:
            raise CopyRefused(f'destination "{container}:{target}" must be a directory')
        containers.put_archive(container, destination.path, sys.stdin.buffer, as_user=archive)
        return
    from proa.cli.copy.pack import size_of, tree
    from proa.packing import Packed

    path = absolute(path, os.getcwd())
    name = split(path)[1]
    path = os.path.realpath(path) if follow else path
    source = Source(name, stat.S_ISDIR(os.lstat(path).st_mode))
    if asserts_directory(path) and not source.is_directory:
        raise CopyRefused(f"{path}: not a directory")
    plan = arrange(source, destination)
    total = 0 if quiet else size_of(path)
    with advancing(f"Copying to {container}", total, is_wanted=not quiet) as copied:
        packed = Packed(tree(path, plan.name), copied)
        containers.put_archive(container, plan.directory, packed, as_user=archive, replace=False)
    if not quiet:
        _summarize(total, packed.total, f"{container}:{destination.path}")


def _remote_destination(session: Session, container: str, path: str) -> Destination:
    """What lies at a path of the container. If nothing can be said, the copy itself says what is wrong."""
    try:
        status = session.client.containers.path_status(container, path)
        given = path
        if status.is_symlink:
            path = status.link_target
            status = session.client.containers.path_status(container, path)
    except APIError:
        return Destination(path)
    _check_kind(status, f"{container}:{given}")
    return Destination(path, exists=True, is_directory=status.is_directory)


def _check_kind(status: PathStatus, shown: str) -> None:
    if not status.is_directory and not status.is_file:
        raise CopyRefused(f'destination "{shown}" must be a directory or a regular file')


# --- both ---------------------------------------------------------------------------------------------------


def _summarize(content_bytes: int, transferred_bytes: int, place: str) -> None:
    size, transferred = (human_size(value, 3) for value in (content_bytes, transferred_bytes))
    more = f" (transferred {transferred})" if content_bytes != transferred_bytes else ""
    print(f"Successfully copied {size}{more} to {place}", file=sys.stderr)
