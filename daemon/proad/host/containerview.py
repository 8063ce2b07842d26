"""Sync, blocking. The jail of a task that copies: a container's files as they are seen in it, nothing else.

The root filesystem is the engine's own mount of it, with the volumes and binds of the container on top, in a
mount namespace that ends with the task. What the container's processes have mounted themselves is not there,
nor are ``/proc``, ``/sys`` and ``/dev``. Destinations are looked up inside of the root filesystem whatever
symlinks it holds; no device can be opened.
"""

import os
import stat
from pathlib import Path
from typing import Any

from proad.host import jail
from proad.host.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from proad.host.rootfs import Rootfs

MEMORY_LIMIT_BYTES = 1 << 30
DESCRIPTORS = 1024

_HARMLESS = jail.NOSUID | jail.NODEV | jail.NOEXEC
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


def enter(view: dict[str, Any], capabilities: tuple[int, ...]) -> None:
    """Make the view of a container this process's root directory; keep only ``capabilities``.

    ``view`` has ``root`` (where the root filesystem is mounted), ``read_only``, and ``mounts``, shallow ones
    first, each with ``source``, ``destination``, ``read_only`` and ``recursive``.

    Raises:
        OSError: the kernel refused a mount.
    """
    jail.leave_mounts()
    root = os.open(view["root"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with Rootfs(Path(view["root"])) as files:
        for mount in view["mounts"]:
            _mount(root, files, mount)
    os.close(root)
    jail.confine_one(view["root"], _HARMLESS | (jail.RDONLY if view["read_only"] else 0))
    jail.enter(view["root"])
    os.umask(0)
    jail.restrict(capabilities, memory_bytes=MEMORY_LIMIT_BYTES, descriptors=DESCRIPTORS)


def _mount(root: int, files: Rootfs, mount: dict[str, Any]) -> None:
    destination = mount["destination"]
    try:
        kind = os.stat(mount["source"]).st_mode
    except FileNotFoundError:
        return  # it was removed under a container that runs
    try:
        target = openat2(root, destination, os.O_PATH, _RESOLVE)
    except FileNotFoundError:
        _make_mount_point(files, destination, is_directory=stat.S_ISDIR(kind))
        target = openat2(root, destination, os.O_PATH, _RESOLVE)
    jail.mount(mount["source"], _path(target), flags=jail.BIND | (jail.REC if mount["recursive"] else 0))
    os.close(target)
    mounted = openat2(root, destination, os.O_PATH, _RESOLVE)  # what now covers it
    flags = _HARMLESS | (jail.RDONLY if mount["read_only"] else 0)
    if not jail.confine(_path(mounted), flags):
        jail.confine_one(_path(mounted), flags)
    os.close(mounted)


def _make_mount_point(files: Rootfs, destination: str, *, is_directory: bool) -> None:
    """As the first start of the container would."""
    if is_directory:
        files.make_directory(destination)
    else:
        files.make_directory(os.path.dirname(destination))
        files.make_file(destination)


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
