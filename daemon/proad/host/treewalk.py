"""Sync, blocking. Walking the tree of a container that may change it meanwhile: for helpers in their jail.

Each step goes from an open directory to a child by name and never through a symlink. What vanishes on the way
is left out.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from proad.host.layertree import MAX_DEPTH, MAX_NAME_BYTES, Refused, shown

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_PATH_BYTES = MAX_NAME_BYTES - 16
"""The jail's own directory stands before it."""
_CHANGED_MEANWHILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE})


@dataclass(slots=True)
class Node:
    """One name of a tree. ``path`` is relative to its top; ``parent`` is its directory, held open.

    ``directory`` is the node itself, open, if it is a directory; set ``pruned`` to leave out what is below.
    """

    path: str
    name: str
    parent: int
    status: os.stat_result
    directory: int = -1
    pruned: bool = False

    def open(self) -> int | None:
        """Open a regular file for reading; None if it is none any more. The caller closes it."""
        try:
            descriptor = os.open(self.name, _FILE, dir_fd=self.parent)
        except OSError as error:
            if error.errno in _CHANGED_MEANWHILE:
                return None
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None


def walk(top: str, directory: int | None = None) -> Iterator[Node]:
    """All below a directory, found from the open ``directory`` if there is one: directories before what is in
    them, names in order.

    Raises:
        Refused: the tree is deeper, or a path longer, than an archive can have it.
    """
    root = os.open(top, _DIRECTORY, dir_fd=directory)
    open_directories = [root]
    pending = [("", iter(sorted(os.listdir(root))))]
    try:
        while pending:
            path, names = pending[-1]
            name = next(names, None)
            if name is None:
                pending.pop()
                os.close(open_directories.pop())
                continue
            node = _look(open_directories[-1], path, name)
            if node is None:
                continue
            if node.directory >= 0:
                open_directories.append(node.directory)  # from here on it is closed whatever happens
            yield node
            if node.directory < 0:
                continue
            if node.pruned:
                os.close(open_directories.pop())
                continue
            if len(pending) >= MAX_DEPTH:
                raise Refused(f'"{shown(node.path)}" lies deeper than {MAX_DEPTH} directories')
            pending.append((node.path, iter(sorted(os.listdir(node.directory)))))
    finally:
        for descriptor in open_directories:
            os.close(descriptor)


def _look(parent: int, path: str, name: str) -> Node | None:
    node_path = f"{path}/{name}" if path else name
    # A character has at most four bytes; few paths are so long that they must be counted.
    if len(node_path) * 4 >= MAX_PATH_BYTES and len(os.fsencode(node_path)) >= MAX_PATH_BYTES:
        raise Refused(f'"{shown(node_path)}" is a path that is too long')
    try:
        status = os.lstat(name, dir_fd=parent)
        if not stat.S_ISDIR(status.st_mode):
            return Node(node_path, name, parent, status)
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in _CHANGED_MEANWHILE:
            return None
        raise
    return Node(node_path, name, parent, os.fstat(directory), directory)
