"""Trio-flavoured. Walk, remove and copy directory trees that a container made.

Such a tree is hostile: names are arbitrary, symlinks point anywhere, a million entries or ten thousand levels
are possible, and a mount may have been left inside. Every step goes from an open directory to a child by
name, never through a symlink and never into another mount, and holds two descriptors however deep the tree
is. All functions block: call them in a worker thread (``trio.to_thread``).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from proad.host.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2
from proad.model import errors

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STAY_IN_TREE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def open_directory(path: Path | str, directory: int | None = None) -> int:
    """Open a directory that must not be a symlink itself.

    Raises:
        OSError: not there, or no directory.
    """
    return os.open(path, _DIRECTORY, dir_fd=directory)


class _Cursor:
    """A place in a tree: one open directory, and by which names it was reached."""

    def __init__(self, root: int) -> None:
        self.directory = os.dup(root)
        self._above: list[tuple[str, tuple[int, int]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.directory)

    @property
    def path(self) -> str:
        return "/".join(name for name, _ in self._above)

    def down(self, name: str) -> None:
        """Enter a child directory. Raises OSError: EXDEV for a mount point, ENOTDIR or ELOOP for anything
        else.
        """
        child = openat2(self.directory, name, _DIRECTORY, _STAY_IN_TREE)
        self._above.append((name, _identity(os.fstat(self.directory))))
        os.close(self.directory)
        self.directory = child

    def up(self) -> str:
        """Return to the parent; returns the name of the directory that was left.

        Raises:
            errors.System: somebody moved the directory away meanwhile.
        """
        name, identity = self._above.pop()
        parent = open_directory("..", self.directory)
        os.close(self.directory)
        self.directory = parent
        if _identity(os.fstat(parent)) != identity:
            raise errors.System(f"directory {name!r} was moved while its tree was worked on")
        return name


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def walk(root: int) -> Iterator[os.stat_result]:
    """Yield the status of everything below an open directory, directories before their content.

    What vanishes meanwhile is left out, and so are other file systems mounted inside.
    """
    with _Cursor(root) as cursor:
        pending: list[list[str]] = []
        while True:
            children = []
            with os.scandir(cursor.directory) as entries:
                for entry in entries:
                    try:
                        yield entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        children.append(entry.name)
            pending.append(children)
            while not _enter_next(cursor, pending[-1]):
                pending.pop()
                if not pending:
                    return
                cursor.up()


def _enter_next(cursor: _Cursor, names: list[str]) -> bool:
    while names:
        try:
            cursor.down(names.pop())
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                raise
        else:
            return True
    return False


def remove_tree(path: Path) -> None:
    """Delete a tree. Nothing there is no error, so that it can be repeated.

    Raises:
        errors.System: something could not be deleted (a mount point, an immutable file); the text names the
        first
            such thing, and the rest is gone.
    """
    try:
        root = open_directory(path)
    except FileNotFoundError:
        return
    except OSError:
        path.unlink(missing_ok=True)
        return
    try:
        obstacle = _empty(root)
    finally:
        os.close(root)
    if obstacle is not None:
        raise errors.System(f"unable to remove {path}: {obstacle}")
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise errors.System(f"unable to remove {path}: {error.strerror}") from error


def remove_own(path: str | Path) -> None:
    """Delete a small tree that only we write to, by name. Nothing there is no error.

    Raises:
        OSError: something could not be deleted.
    """
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_own(entry.path)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
        os.rmdir(path)
    except FileNotFoundError:
        return


def empty_tree(root: int) -> None:
    """Delete all content of an open directory, but not the directory.

    Raises:
        errors.System: something could not be deleted; the rest is gone.
    """
    obstacle = _empty(root)
    if obstacle is not None:
        raise errors.System(f"unable to remove {obstacle}")


def _empty(root: int) -> str | None:
    obstacle: str | None = None
    with _Cursor(root) as cursor:
        pending = [_unlink_files(cursor.directory)]
        while True:
            names, kept = pending[-1]
            obstacle = obstacle or kept
            if names:
                name = names.pop()
                if _remove_empty(name, cursor.directory):
                    continue
                try:
                    cursor.down(name)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    reason = "is a mount point" if error.errno == errno.EXDEV else error.strerror
                    obstacle = obstacle or f"{cursor.path}/{name}: {reason}".lstrip("/")
                    continue
                pending.append(_unlink_files(cursor.directory))
                continue
            pending.pop()
            if not pending:
                return obstacle
            name = cursor.up()
            try:
                os.rmdir(name, dir_fd=cursor.directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                obstacle = obstacle or f"{cursor.path}/{name}: {error.strerror}".lstrip("/")


def _remove_empty(name: str, directory: int) -> bool:
    """Remove a child directory that has no content, as most do. False: let the walk tell why not."""
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError:
        return False
    return True


def _unlink_files(directory: int) -> tuple[list[str], str | None]:
    """Unlink all but directories; returns their names, and what could not be unlinked."""
    directories: list[str] = []
    obstacle: str | None = None
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
                continue
            try:
                os.unlink(entry.name, dir_fd=directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                obstacle = obstacle or f"{entry.name}: {error.strerror}"
    return directories, obstacle


def copy_tree(source: int, target: int) -> None:
    """Copy all content and the attributes of one open directory into another, which should be empty.

    Owners, modes, times, extended attributes, hard links, holes, symlinks (never followed), fifos, sockets
    and devices come out as they were. What is mounted inside the source is left out.

    Raises:
        errors.System: the copy is not complete, with what failed on which path.
    """
    links: dict[tuple[int, int], str] = {}
    with _Cursor(source) as read, _Cursor(target) as write:
        pending = [_copy_files(read, write, target, links)]
        while True:
            if pending[-1]:
                name = pending[-1].pop()
                try:
                    read.down(name)
                except OSError as error:
                    if error.errno == errno.EXDEV:
                        continue
                    raise _copy_failed(f"{read.path}/{name}", error) from error
                try:
                    os.mkdir(name, 0o700, dir_fd=write.directory)
                    write.down(name)
                except OSError as error:
                    raise _copy_failed(read.path, error) from error
                pending.append(_copy_files(read, write, target, links))
                continue
            try:
                _copy_attributes(read.directory, write.directory)
            except OSError as error:
                raise _copy_failed(read.path, error) from error
            pending.pop()
            if not pending:
                return
            read.up()
            write.up()


def _copy_failed(path: str, error: OSError) -> errors.System:
    return errors.System(f"failed to copy /{path.lstrip('/')}: {error.strerror or error}")


def _copy_files(read: _Cursor, write: _Cursor, root: int, links: dict[tuple[int, int], str]) -> list[str]:
    directories = []
    with os.scandir(read.directory) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    directories.append(entry.name)
                    continue
                path = f"{write.path}/{entry.name}".lstrip("/")
                if status.st_nlink > 1 and (first := links.get(_identity(status))):
                    os.link(
                        first, entry.name, src_dir_fd=root, dst_dir_fd=write.directory, follow_symlinks=False
                    )
                    continue
                _copy_one(entry.name, status, read.directory, write.directory)
                if status.st_nlink > 1:
                    links[_identity(status)] = path
            except OSError as error:
                raise _copy_failed(f"{read.path}/{entry.name}", error) from error
    return directories


def _copy_one(name: str, status: os.stat_result, source: int, target: int) -> None:
    if stat.S_ISREG(status.st_mode):
        # O_NONBLOCK: what is a file now could be a fifo when it is opened.
        reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
        try:
            create = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writer = os.open(name, create, 0o600, dir_fd=target)
            try:
                copy_data(reader, writer, os.fstat(reader).st_size)
                _copy_attributes(reader, writer)
            finally:
                os.close(writer)
        finally:
            os.close(reader)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    _copy_xattrs(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}", follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def copy_data(reader: int, writer: int, size: int) -> None:
    """Copy a file's content into an empty one, holes as holes."""
    os.ftruncate(writer, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(reader, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(reader, at, os.SEEK_HOLE)
        os.lseek(writer, at, os.SEEK_SET)
        while at < end:
            sent = os.sendfile(writer, reader, at, end - at)
            if sent == 0:
                return
            at += sent


def _copy_attributes(source: int, target: int) -> None:
    """Owner first: chown(2) clears setuid bits and file capabilities."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    _copy_xattrs(source, target)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_xattrs(source: int | str, target: int | str, *, follow_symlinks: bool = True) -> None:
    for name in os.listxattr(source, follow_symlinks=follow_symlinks):
        value = os.getxattr(source, name, follow_symlinks=follow_symlinks)
        try:
            os.setxattr(target, name, value, follow_symlinks=follow_symlinks)
        except OSError as error:
            # The target's file system may have no extended attributes, or none of this kind.
            if error.errno != errno.ENOTSUP:
                raise
