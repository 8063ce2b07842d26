"""Sync, blocking. The jail of a build's tasks: trees mounted side by side, in a namespace that ends with it.

Nothing is ever mounted where others could see it, so nothing has to be taken back whoever dies. A tree is a
JSON object: ``name`` (a directory of the jail's root), and either ``directory`` (one that is there) or
``layers`` (of an image, uppermost first; none are an empty tree). With ``upper`` and ``work`` what is written
to the layers goes there, else the tree is read-only.
"""

import os
from collections.abc import Iterable
from typing import Any

from proad.host import jail

MEMORY_LIMIT_BYTES = 2 << 30
DESCRIPTORS = 2048

READ = (jail.DAC_READ_SEARCH, jail.SYS_ADMIN)
"""To read what root may not by itself, and the ``trusted.*`` attributes of overlayfs."""
WRITE = (
    jail.CHOWN, jail.DAC_OVERRIDE, jail.FOWNER, jail.FSETID, jail.MKNOD, jail.SETFCAP, jail.SYS_CHROOT,
)  # fmt: skip

_FLAGS = jail.NOSUID | jail.NODEV | jail.NOEXEC
_EMPTY = "empty"


def enter(place: str, trees: Iterable[dict[str, Any]], options: str) -> None:
    """Make the trees the only thing there is, each below ``/`` under its name; then :func:`restrict`.

    ``place`` is any directory, covered for this process alone; ``options`` are overlayfs's.

    Raises:
        OSError: the kernel refused a mount.
    """
    jail.leave_mounts()
    opened = [(tree, _Directories(tree)) for tree in trees]  # of these mounts: no others can be bound
    jail.mount("tmpfs", place, "tmpfs", _FLAGS, "mode=0700,size=1m")
    os.mkdir(f"{place}/{_EMPTY}")
    for tree, directories in opened:
        directories.mount(f"{place}/{tree['name']}", f"{place}/{_EMPTY}", options)
        directories.close()
    jail.enter(place)
    os.umask(0)


def restrict(capabilities: tuple[int, ...]) -> None:
    """Keep only these capabilities."""
    jail.restrict(capabilities, memory_bytes=MEMORY_LIMIT_BYTES, descriptors=DESCRIPTORS)


class _Directories:
    """The directories of a tree, opened before the host goes out of sight."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self._directory = _open(tree["directory"]) if "directory" in tree else -1
        self._layers = [_open(path) for path in tree.get("layers", ())]
        self._written = [_open(tree[key]) for key in ("upper", "work") if key in tree]
        self._is_writable = bool(tree.get("writable"))

    def mount(self, target: str, empty: str, options: str) -> None:
        os.mkdir(target)
        if self._directory >= 0:
            jail.bind(_path(self._directory), target, 0 if self._is_writable else jail.RDONLY)
            return
        if not self._layers and not self._written:
            return
        lower = [_path(layer) for layer in self._layers]
        if len(lower) < 2:
            lower.append(empty)
        data = f"lowerdir={':'.join(lower)}"
        flags = _FLAGS
        if self._written:
            upper, work = self._written
            data += f",upperdir={_path(upper)},workdir={_path(work)}"
        else:
            flags |= jail.RDONLY
        jail.mount("overlay", target, "overlay", flags, data + options)

    def close(self) -> None:
        for descriptor in (self._directory, *self._layers, *self._written):
            if descriptor >= 0:
                os.close(descriptor)


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _open(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
