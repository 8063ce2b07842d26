"""Trio-flavoured. How much disk a tree takes, measured in a worker thread and safe against hostile trees.

A container can swap a directory for a symlink while we look, nest thousands of directories and put a mount
anywhere. Every step goes from an open directory to a child by name without following symlinks, and never into
another mount.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import trio

from proad.host.trees import open_directory, walk


@dataclass(frozen=True)
class Usage:
    """``apparent_bytes`` are file lengths, as Docker reports; ``allocated_bytes`` what the disk holds."""

    apparent_bytes: int = 0
    allocated_bytes: int = 0
    files: int = 0


async def measure_tree(path: Path) -> Usage:
    """Measure the regular files below ``path``, hard-linked ones once; nothing there measures 0."""
    return await trio.to_thread.run_sync(measure_tree_now, path, abandon_on_cancel=True)


def measure_tree_now(path: Path) -> Usage:
    """The same, in the caller's thread; for callers who are in a worker thread already."""
    try:
        root = open_directory(path)
    except (FileNotFoundError, NotADirectoryError):
        return Usage()
    seen: set[tuple[int, int]] = set()
    apparent = allocated = files = 0
    try:
        for status in walk(root):
            if not stat.S_ISREG(status.st_mode):
                continue
            if status.st_nlink > 1:
                identity = (status.st_dev, status.st_ino)
                if identity in seen:
                    continue
                seen.add(identity)
            apparent += status.st_size
            allocated += status.st_blocks * 512
            files += 1
    finally:
        os.close(root)
    return Usage(apparent, allocated, files)
