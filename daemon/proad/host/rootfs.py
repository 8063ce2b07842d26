"""Trio-flavoured. Read and make things inside a root filesystem that may be hostile.

An image can hold a symlink ``/etc -> /`` or ``/data -> ../../../../etc``. All paths here are the container's
own and are resolved by the kernel as after chroot(2) (``RESOLVE_IN_ROOT``), so that nothing outside is read
or made. Each call takes some microseconds and is meant for the loop's thread.
"""

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from proad.host.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from proad.model import errors

MAX_TEXT_BYTES = 4 << 20
_MAX_SYMLINKS = 40
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


class Rootfs:
    """A mounted root filesystem, held open; use it in a ``with`` block.

    Raises:
        errors.System: the directory cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise errors.System(f"cannot open root filesystem {path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    def open(self, path: str, flags: int) -> int:
        """Open a path of the container; the caller closes the descriptor.

        Raises:
            OSError: as open(2).
        """
        return openat2(self._root, path, flags, _RESOLVE)

    def status(self, path: str, *, follow_symlinks: bool = True) -> os.stat_result | None:
        """Return what is at a path, or None where nothing is."""
        try:
            descriptor = self.open(path, os.O_PATH | (0 if follow_symlinks else os.O_NOFOLLOW))
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return None
            raise
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        return self.status(path) is not None

    def is_directory(self, path: str) -> bool:
        status = self.status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def read_text(self, path: str) -> str | None:
        """Return a file's text (``/etc/passwd``), or None where there is no regular file.

        Bytes that are no UTF-8 become surrogates.

        Raises:
            errors.System: the file is larger than ``MAX_TEXT_BYTES``, or cannot be read.
        """
        try:
            found = self.open(path, os.O_PATH)
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return None
            raise errors.System(f"cannot read {path} of the container: {error.strerror}") from error
        try:
            status = os.fstat(found)
            if not stat.S_ISREG(status.st_mode):
                return None  # opened for reading, a fifo would make us wait and a device might do anything
            if status.st_size > MAX_TEXT_BYTES:
                raise errors.System(f"{path} of the container has more than {MAX_TEXT_BYTES} bytes")
            with open(f"/proc/self/fd/{found}", "rb") as file:
                return file.read(MAX_TEXT_BYTES).decode(errors="surrogateescape")
        except OSError as error:
            raise errors.System(f"cannot read {path} of the container: {error.strerror}") from error
        finally:
            os.close(found)

    def make_directory(self, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Make a directory and what is missing above it; those that are made belong to ``uid`` and ``gid``.

        A symlink to something that is not there yet is followed, inside the root filesystem, and its target
        made.

        Raises:
            errors.InvalidParameter: something on the way is not a directory; in Docker's words.
            errors.System: it cannot be made (a read-only or full file system).
        """
        waiting = list(reversed(_components(path)))
        current = "/"
        followed = 0
        while waiting:
            name = waiting.pop()
            if name == "..":
                current = str(PurePosixPath(current).parent)
                continue
            there = str(PurePosixPath(current) / name)
            if self.is_directory(there):
                current = there
                continue
            target = self._read_link(there)
            if target is not None:
                followed += 1
                if followed > _MAX_SYMLINKS:
                    raise errors.InvalidParameter(f"Cannot mkdir: {path}: too many levels of symbolic links")
                waiting.extend(reversed(_components(target)))
                current = "/" if target.startswith("/") else current
                continue
            if self.status(there, follow_symlinks=False) is not None:
                raise errors.InvalidParameter(f"Cannot mkdir: {path} is not a directory")
            self._make_one(current, name, path, mode, uid, gid)
            current = there

    def make_file(self, path: str) -> None:
        """Make an empty file of root's where nothing is yet, not even a symlink.

        Raises:
            errors.System: it cannot be made (a full file system).
        """
        parent, name = os.path.split(path)
        try:
            directory = self.open(parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o755, dir_fd=directory))
            finally:
                os.close(directory)
        except FileExistsError:
            return
        except OSError as error:
            raise errors.System(f"cannot make {path} in the container: {error.strerror}") from error

    def _read_link(self, path: str) -> str | None:
        try:
            descriptor = self.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            # Reading through the descriptor itself; see readlinkat(2), "empty string".
            return os.readlink("", dir_fd=descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _make_one(self, parent: str, name: str, wanted: str, mode: int, uid: int, gid: int) -> None:
        try:
            directory = self.open(parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.mkdir(name, mode, dir_fd=directory)
                os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
                os.chmod(name, mode, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise errors.System(f"Cannot mkdir: {wanted}: {error.strerror}") from error


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]
