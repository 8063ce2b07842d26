"""Sync, blocking. An archive out of a container, unpacked here: it may be hostile, and goes nowhere else.

A container can put anything into its archives: names that climb, symlinks followed by files "in" them, hard
links to files of this machine. So each name is walked from the destination's open directory, through real
directories only, and a hard link leads to something below it, too.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from proa.cli.copy.plan import CopyRefused, renamed

PIECE_BYTES = 256 << 10
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Pieces:
    """Reads like a file from an iterator of byte strings; `arrived` hears how many came."""

    def __init__(self, pieces: Iterator[bytes], arrived: Callable[[int], object]) -> None:
        self._pieces = pieces
        self._arrived = arrived
        self._rest = memoryview(b"")
        self.total = 0
        """How many bytes came."""

    def read(self, size: int = -1, /) -> bytes:
        """Exactly `size` bytes, fewer at the end."""
        parts = []
        while size:
            if not self._rest:
                piece = next(self._pieces, b"")
                if not piece:
                    break
                self._arrived(len(piece))
                self.total += len(piece)
                self._rest = memoryview(piece)
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)


def unpack(source: Pieces, directory: str, old: str, new: str) -> None:
    """Unpack into a directory; the entries' first part, `old`, becomes `new`.

    Files get the modes and times of the archive, and belong to whoever runs this. Raises CopyRefused,
    OSError, tarfile.TarError.
    """
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tree = _Tree(root, directory)
        with _opened(source) as archive:
            for info in archive:
                tree.add(info, archive, renamed(info.name, old, new), _link(info, old, new))
        tree.finish()
    finally:
        os.close(root)


def _opened(source: Pieces) -> tarfile.TarFile:
    stream: Any = source
    return tarfile.open(fileobj=stream, mode="r|", bufsize=PIECE_BYTES)


def _link(info: tarfile.TarInfo, old: str, new: str) -> str:
    return renamed(info.linkname, old, new) if info.islnk() else info.linkname


class _Tree:
    """The tree that is being written. `shown` is what its top is called in errors."""

    def __init__(self, root: int, shown: str) -> None:
        self._root = root
        self._shown = shown
        self._directories: list[tuple[str, tarfile.TarInfo]] = []

    def add(self, info: tarfile.TarInfo, archive: tarfile.TarFile, name: str, link: str) -> None:
        if name == ".":
            return  # what is there stays as it is
        with self._parent(name) as (parent, last):
            mode = _mode(last, parent)
            if mode is not None and stat.S_ISDIR(mode) != info.isdir():
                kinds = (
                    ("directory", "non-directory") if stat.S_ISDIR(mode) else ("non-directory", "directory")
                )
                place = os.path.join(self._shown, name)
                raise CopyRefused(f'cannot overwrite {kinds[0]} "{place}" with {kinds[1]} "{self._shown}"')
            if info.isdir():
                if mode is None:
                    os.mkdir(last, 0o700, dir_fd=parent)
                self._directories.append((name, info))
                return
            if mode is not None:
                os.unlink(last, dir_fd=parent)
            if info.isreg():
                content = archive.extractfile(info)
                assert content is not None
                _write(content, info, last, parent)
            elif info.islnk():
                with self._parent(link) as (other, linked):
                    os.link(linked, last, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
            else:
                _make_special(info, last, parent)

    def finish(self) -> None:
        """Give directories their modes and times, the innermost first: writing into them moved the times."""
        for name, info in reversed(self._directories):
            with self._parent(name) as (parent, last):
                opened = os.open(last, _DIRECTORY, dir_fd=parent)
                try:
                    os.fchmod(opened, stat.S_IMODE(info.mode))
                    os.utime(opened, (info.mtime, info.mtime))
                finally:
                    os.close(opened)

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[int, str]]:
        """The open directory that a name lies in, made if the archive forgot it, and its last part."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise CopyRefused(f'"{name}" is outside of "{self._shown}"')
        descriptor = os.dup(self._root)
        try:
            for part in parts[:-1]:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=descriptor)
                try:
                    child = os.open(part, _DIRECTORY, dir_fd=descriptor)
                except OSError as error:
                    raise CopyRefused(
                        f'"{name}" passes through "{part}", which is no directory: {error.strerror}'
                    ) from None
                os.close(descriptor)
                descriptor = child
            yield descriptor, parts[-1]
        finally:
            os.close(descriptor)


def _mode(name: str, parent: int) -> int | None:
    try:
        return os.lstat(name, dir_fd=parent).st_mode
    except FileNotFoundError:
        return None


def _write(content: IO[bytes], info: tarfile.TarInfo, name: str, parent: int) -> None:
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
    try:
        while data := content.read(PIECE_BYTES):
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, stat.S_IMODE(info.mode))
        os.utime(descriptor, (info.mtime, info.mtime))
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=parent)  # half a file is none
        raise
    finally:
        os.close(descriptor)


def _make_special(info: tarfile.TarInfo, name: str, parent: int) -> None:
    if info.issym():
        os.symlink(info.linkname, name, dir_fd=parent)
    elif info.isfifo():
        os.mkfifo(name, 0o600, dir_fd=parent)
    else:
        kind = stat.S_IFBLK if info.isblk() else stat.S_IFCHR
        os.mknod(name, kind | 0o600, os.makedev(info.devmajor, info.devminor), dir_fd=parent)
    if not info.issym():
        os.chmod(name, stat.S_IMODE(info.mode), dir_fd=parent)
    os.utime(name, (info.mtime, info.mtime), dir_fd=parent, follow_symlinks=False)
