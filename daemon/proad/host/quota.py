"""Sync, blocking. Project quotas: how much may be written below a directory (xfs and ext4 with ``prjquota``).

A directory that belongs to a project, with the flag that its children inherit it, is counted with all below
it; the limit is the project's. Which project that is stands in the directory's inode, and the limit in the
file system, so nothing need be remembered: a project is free if the kernel knows of neither a limit nor
anything that belongs to it, whichever program gave it out. Calls take microseconds.

(xfs_quota(8), quotactl(2); linux/fs.h, linux/quota.h and linux/dqblk_xfs.h. The X commands, made for xfs, are
answered by ext4 as well. quotactl_fd(2) came with Linux 5.14; older kernels would need a device node.)
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proad.model import errors

_SYS_QUOTACTL_FD = 443
"""The system call's number, the same on every architecture."""
_PROJECT = 2
_GET, _SET, _STATE = (((ord("X") << 8) + command) << 8 | _PROJECT for command in (3, 4, 5))
_ACCOUNTED, _ENFORCED = 1 << 4, 1 << 5
_FLAGS_AT = 2
_STATE_BYTES = 256  # struct fs_quota_stat has less

_DISK_QUOTA = struct.Struct("=bbHI6Qii2H4b3QiHh8x")
"""struct fs_disk_quota: version, kind, fields meant, id, six numbers of blocks and inodes, timers, warnings,
real-time."""
_VERSION = 1
_SOFT_AND_HARD_BLOCKS = 1 << 2 | 1 << 3
_BLOCK_BYTES = 512

_FSXATTR = struct.Struct("=5I8x")
"""struct fsxattr: flags, extent size, extents, project, copy-on-write extent size."""
_FS_IOC_FSGETXATTR = 0x801C581F
_FS_IOC_FSSETXATTR = 0x401C5820
_INHERIT = 0x200
_FIRST_PROJECT = 1
_LAST_PROJECT = 2**31

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Usage:
    """What the kernel knows of a project. ``limit_bytes`` is 0 where there is none."""

    limit_bytes: int
    used_bytes: int
    files: int

    @property
    def is_free(self) -> bool:
        return not (self.limit_bytes or self.used_bytes or self.files)


class ProjectQuotas:
    """Limits below directories of one file system, that ``root`` is on."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._next = _FIRST_PROJECT

    def are_enforced(self) -> bool:
        """Whether the file system is mounted so that limits hold."""
        state = ctypes.create_string_buffer(bytes([_VERSION]), _STATE_BYTES)
        try:
            with _opened(self._root) as descriptor:
                _quotactl(descriptor, _STATE, 0, state)
        except OSError:  # a file system without quotas, or a kernel without the call
            return False
        flags: int = struct.unpack_from("=H", state, _FLAGS_AT)[0]
        return flags & (_ACCOUNTED | _ENFORCED) == _ACCOUNTED | _ENFORCED

    def limit(self, directories: Iterable[Path], size_bytes: int) -> None:
        """Let all that is written below these directories, together, take ``size_bytes``.

        They are empty or were limited before, then by the same project.

        Raises:
            errors.System: the kernel refused.
        """
        directories = list(directories)
        try:
            project = next(filter(None, map(_project_of, directories)), 0) or self._free_project()
            self._set(project, size_bytes)
            for directory in directories:
                _join(directory, project)
        except OSError as error:
            raise errors.System(f"cannot limit the size of {directories[0]}: {error.strerror}") from error

    def lift(self, directory: Path) -> None:
        """Take the limit of a directory's project away; no directory, or no project, is no error.

        Raises:
            errors.System: the kernel refused.
        """
        try:
            project = _project_of(directory)
            if project:
                self._set(project, 0)
        except FileNotFoundError:
            return
        except OSError as error:
            raise errors.System(f"cannot lift the limit of {directory}: {error.strerror}") from error

    def usage(self, directory: Path) -> Usage:
        """What is allowed and used below a directory that was limited.

        Raises:
            OSError: it is not there, or its file system has no quotas.
        """
        return self._usage(_project_of(directory))

    def _free_project(self) -> int:
        """A project that nobody uses; the one that the root itself is in, if any, is below all of them."""
        project = max(self._next, _project_of(self._root) + 1)
        while not self._usage(project).is_free:
            project += 1
        if project > _LAST_PROJECT:
            raise OSError(errno.ENOSPC, "no project is free")
        self._next = project + 1
        return project

    def _usage(self, project: int) -> Usage:
        answer = ctypes.create_string_buffer(_DISK_QUOTA.size)
        try:
            with _opened(self._root) as descriptor:
                _quotactl(descriptor, _GET, project, answer)
        except FileNotFoundError:  # never heard of
            return Usage(0, 0, 0)
        _, _, _, _, hard, soft, _, _, blocks, inodes, *_ = _DISK_QUOTA.unpack(answer.raw)
        return Usage((hard or soft) * _BLOCK_BYTES, blocks * _BLOCK_BYTES, inodes)

    def _set(self, project: int, size_bytes: int) -> None:
        blocks = -(-size_bytes // _BLOCK_BYTES)
        values = [blocks, blocks, *[0] * 4, *[0] * 2, *[0] * 2, *[0] * 4, *[0] * 3, 0, 0, 0]
        order = _DISK_QUOTA.pack(_VERSION, _PROJECT, _SOFT_AND_HARD_BLOCKS, project, *values)
        with _opened(self._root) as descriptor:
            _quotactl(descriptor, _SET, project, ctypes.create_string_buffer(order, len(order)))


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _quotactl(descriptor: int, command: int, project: int, buffer: "ctypes.Array[ctypes.c_char]") -> None:
    if _libc.syscall(_SYS_QUOTACTL_FD, descriptor, command, ctypes.c_uint32(project), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _attributes(descriptor: int) -> tuple[int, ...]:
    return _FSXATTR.unpack(fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))


def _project_of(directory: Path) -> int:
    """The project that a directory belongs to, 0 for none."""
    with _opened(directory) as descriptor:
        return _attributes(descriptor)[3]


def _join(directory: Path, project: int) -> None:
    """Have a directory, and all that is made in it from now on, belong to a project."""
    with _opened(directory) as descriptor:
        flags, extent, extents, before, cow_extent = _attributes(descriptor)
        if before != project or not flags & _INHERIT:
            packed = _FSXATTR.pack(flags | _INHERIT, extent, extents, project, cow_extent)
            fcntl.ioctl(descriptor, _FS_IOC_FSSETXATTR, packed)
