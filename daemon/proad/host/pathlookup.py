"""Sync, blocking. What lies at a path of a container, found without mounting anything.

A path is walked from one open directory to the next, by name and never through a symlink; symlinks are read,
and begin again from the container's root. Where something is mounted into the container, the walk goes on
in its source on the host. So no path leads out, whatever the container's processes change meanwhile.
"""

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MAX_SYMLINKS = 255
"""As in Docker."""

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Found:
    """What lies at a path; ``link_target`` is where a symlink leads to, as far as there is something."""

    status: os.stat_result
    link_target: str = ""


class _Place:
    """Where a walk is: the open directories from the root on, by their names."""

    def __init__(self, root: int) -> None:
        self._opened = [os.dup(root)]
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._opened:
            os.close(descriptor)

    @property
    def descriptor(self) -> int:
        return self._opened[-1]

    def path_of(self, name: str) -> str:
        return "/" + "/".join([*self._names, name])

    @property
    def path(self) -> str:
        return "/" + "/".join(self._names)

    def enter(self, name: str, opened: int) -> None:
        self._names.append(name)
        self._opened.append(opened)

    def leave(self) -> None:
        if self._names:
            self._names.pop()
            os.close(self._opened.pop())

    def restart(self) -> None:
        while self._names:
            self.leave()


class Lookup:
    """Walks in a root filesystem (mounted at ``rootfs``) on which ``mounts`` (destination to source) lie."""

    def __init__(self, rootfs: Path, mounts: Mapping[str, str]) -> None:
        """
        Raises:
            OSError: the root filesystem cannot be opened.
        """
        self._root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._mounts: dict[str, str] = {}
        try:
            for destination, source in mounts.items():  # shallow ones first: one may lie in another
                self._mounts[self._real_path(destination)] = source
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._root)

    def find(self, path: str, *, directory: bool) -> Found:
        """Look up a clean path; its last part is followed if it shall be a directory.

        Raises:
            OSError: as lstat(2), named as Docker names it.
        """
        try:
            with _Place(self._root) as place:
                self._walk(place, path, follow_last=directory)
                status = os.fstat(place.descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"lstat {path}") from error
        if directory and not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), f"lstat {path}/")
        return Found(status, self._real_path(path) if stat.S_ISLNK(status.st_mode) else "")

    def _real_path(self, path: str) -> str:
        """A path without symlinks; what is not there is taken by its name.

        Raises:
            OSError: symlinks without end.
        """
        with _Place(self._root) as place:
            rest = self._walk(place, path, follow_last=True, lenient=True)
            return os.path.normpath(os.path.join(place.path, *rest))

    def _walk(self, place: _Place, path: str, *, follow_last: bool, lenient: bool = False) -> list[str]:
        """Go to a path; returns what is left of it where ``lenient`` and there is nothing."""
        waiting = _parts(path)
        followed = 0
        while waiting:
            name = waiting.pop()
            if name == "..":
                place.leave()
                continue
            try:
                opened = self._open(place, name)
            except OSError as error:
                if lenient and error.errno in (errno.ENOENT, errno.ENOTDIR):
                    return [name, *reversed(waiting)]
                raise
            place.enter(name, opened)
            if not stat.S_ISLNK(os.fstat(opened).st_mode) or not (waiting or follow_last):
                continue
            followed += 1
            if followed > MAX_SYMLINKS:
                raise OSError(errno.ELOOP, "too many links")
            target = os.readlink("", dir_fd=opened)
            place.leave()
            if target.startswith("/"):
                place.restart()
            waiting += _parts(target)
        return []

    def _open(self, place: _Place, name: str) -> int:
        source = self._mounts.get(place.path_of(name))
        if source is not None:
            return os.open(source, os.O_PATH | os.O_CLOEXEC)
        return os.open(name, _STEP, dir_fd=place.descriptor)


def _parts(path: str) -> list[str]:
    """The names of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]
