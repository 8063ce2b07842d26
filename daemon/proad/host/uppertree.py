"""Sync, blocking. What a container wrote: the upper directory of its overlay, read beside the layers below.

Runs inside the jail of ``snapshothelper``. The upper directory holds what overlayfs made of the container's
writes (https://docs.kernel.org/filesystems/overlayfs.html): a character device 0:0 is a whiteout,
``trusted.overlay.opaque`` on a directory hides what is below it. The engine's own traces, mount points of
``/proc`` and ``/etc/hosts`` and the like, are left out: Docker keeps them in a layer of their own.
"""

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from proad.host.layertree import OPAQUE_XATTR, Refused, is_portable_xattr, shown
from proad.host.treewalk import Node, walk

CAPABILITY_XATTR = "security.capability"
_ELSEWHERE = ("trusted.overlay.redirect", "trusted.overlay.metacopy")
"""What they stand on is not whole without what another mount knows; the engine's mounts make none."""

ADDED, MODIFIED, DELETED = "A", "C", "D"


@dataclass(slots=True)
class Written:
    """One name that the container wrote, and what is ``below`` it in the layers, None for nothing."""

    node: Node
    below: os.stat_result | None
    is_whiteout: bool = False
    is_opaque: bool = False

    @property
    def hides_directory(self) -> bool:
        """Whether it is a directory that took the place of another one."""
        return self.is_opaque and self.below is not None and stat.S_ISDIR(self.below.st_mode)


class UpperTree:
    """``upper`` and ``lower`` are directories, the second with all layers mounted together; ``own`` are the
    paths, without a leading slash, that the engine makes in containers by itself.
    """

    def __init__(self, upper: str, lower: str, own: Collection[str]) -> None:
        self._upper = upper
        self._lower = lower
        self._own = frozenset(own)
        self._above_own = {path[:at] for path in own for at in range(len(path)) if path[at] == "/"}
        self.traces: list[str] = []
        """Paths of the upper directory that are no more than what the engine made; known after iteration."""

    def __iter__(self) -> Iterator[Written]:
        """What was written, directories before what is in them, names in order."""
        merged = {""}
        for node in walk(self._upper):
            parent = node.path.rpartition("/")[0]
            below = self._below(node.path) if parent in merged else None
            if _is_whiteout(node.status):
                if below is not None:
                    yield Written(node, below, is_whiteout=True)
                continue
            written = Written(node, below)
            if node.directory >= 0:
                written.is_opaque = _is_opaque(node.directory)
                if below is not None and stat.S_ISDIR(below.st_mode):
                    merged.add(node.path)
            if self._is_trace(node.path):
                node.pruned = True
                self.traces.append(node.path)
                continue
            yield written

    def changes(self) -> list[tuple[str, str]]:
        """All changes as Docker tells them: kind and path, each path once, in order of the paths."""
        found: dict[str, str] = {}
        for written in self:
            kind = self._kind(written)
            if kind:
                path = written.node.path
                found[path] = kind
                while path := path.rpartition("/")[0]:  # a change is one of the directories above it, too
                    found.setdefault(path, MODIFIED)
            if written.hides_directory:
                self._add_hidden(written.node, found)
        return [(kind, path) for path, kind in sorted(found.items())]

    def _kind(self, written: Written) -> str:
        node, below = written.node, written.below
        if written.is_whiteout:
            return DELETED
        if below is None:
            return ADDED
        return MODIFIED if _differs(node.status, below) or self._capabilities_differ(node) else ""

    def _add_hidden(self, node: Node, found: dict[str, str]) -> None:
        """Of a directory that took the place of another one: what the other had and it has not."""
        gone = set(os.listdir(f"{self._lower}/{node.path}")) - set(os.listdir(node.directory))
        for name in gone:
            found[f"{node.path}/{name}"] = DELETED
        if gone:
            path = node.path
            while path:
                found.setdefault(path, MODIFIED)
                path = path.rpartition("/")[0]

    def _below(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(f"{self._lower}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _capabilities_differ(self, node: Node) -> bool:
        if not stat.S_ISREG(node.status.st_mode) or (descriptor := node.open()) is None:
            return False
        try:
            now = _attribute(descriptor, CAPABILITY_XATTR)
        finally:
            os.close(descriptor)
        return now != _attribute(f"{self._lower}/{node.path}", CAPABILITY_XATTR)

    def _is_trace(self, path: str) -> bool:
        """Whether at a path of the upper directory is nothing but what the engine made by itself."""
        if path not in self._own and path not in self._above_own:
            return False
        at = f"{self._upper}/{path}"
        try:
            status = os.lstat(at)
            below = self._below(path)
            if not stat.S_ISDIR(status.st_mode):
                return below is None and path in self._own and _is_empty_file(status)
            # Making a mount point in a directory of the layers leaves a copy of it with another time.
            if below is not None and (_differs(status, below) or self._attributes_differ(path)):
                return False
            names = os.listdir(at)
        except FileNotFoundError:
            return False
        if not names:
            return below is None and path in self._own
        return path in self._above_own and all(self._is_trace(f"{path}/{name}") for name in names)

    def _attributes_differ(self, path: str) -> bool:
        at = f"{self._upper}/{path}"
        return _is_opaque(at) or read_xattrs(at, path) != read_xattrs(f"{self._lower}/{path}", path)


def read_xattrs(target: int | str, path: str) -> dict[str, bytes]:
    """The extended attributes of ``target`` that an archive takes along; ``path`` is what errors call it.

    Raises:
        Refused: it stands on something that only another mount of the overlay knows.
    """
    found = {}
    for name in os.listxattr(target, follow_symlinks=isinstance(target, int)):
        if name in _ELSEWHERE:
            raise Refused(f'"{shown(path)}" was changed under another overlay setting ({name})')
        if is_portable_xattr(name):
            found[name] = os.getxattr(target, name, follow_symlinks=isinstance(target, int))
    return found


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_empty_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _is_opaque(directory: int | str) -> bool:
    return _attribute(directory, OPAQUE_XATTR) == b"y"


def _attribute(target: int | str, name: str) -> bytes | None:
    try:
        return os.getxattr(target, name)
    except OSError:  # there is none, or its file system has none
        return None


def _differs(now: os.stat_result, before: os.stat_result) -> bool:
    """Whether Docker calls it a change; times and sizes of directories say nothing."""
    if (now.st_mode, now.st_uid, now.st_gid, now.st_rdev) != (
        before.st_mode,
        before.st_uid,
        before.st_gid,
        before.st_rdev,
    ):
        return True
    if stat.S_ISDIR(now.st_mode):
        return False
    return (now.st_mtime_ns, now.st_size) != (before.st_mtime_ns, before.st_size)
