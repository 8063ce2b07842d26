"""Sync, blocking. What `proa cp` packs: a local file or tree."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from proa.packing import Entry, describe


def tree(path: str, name: str) -> Iterator[Entry]:
    """A file or tree, called `name` in its archive.

    Symlinks are packed as such, but for `path` itself where it ends in a slash. What vanishes meanwhile is
    left out; what cannot be read raises OSError.
    """
    pending = [(path, name)]
    while pending:
        path, name = pending.pop()
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        info = describe(path, name, status)
        if info is not None:
            yield Entry.local(info, path, status)
        if stat.S_ISDIR(status.st_mode):
            prefix = "" if name == "." else f"{name}/"
            children = sorted(os.listdir(path), reverse=True)
            pending += [(os.path.join(path, child), prefix + child) for child in children]


def size_of(path: str) -> int:
    """The bytes of a file, or of all files in a tree; what cannot be looked at counts nothing."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total
