"""Trio-flavoured. mount(2), umount2(2) and the kernel's list of mounts.

Mounting takes a tenth of a millisecond and is done on the loop's thread. What may wait for a disk or a server
(the unmount of a file system with unwritten data, a network file system) goes through a worker thread; the
functions that do so are ``async``.
"""

import ctypes
import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

from proad.model import errors

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC = 32, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
_SYS_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p,
)  # fmt: skip
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)

# Options of mount(8) that are flags of mount(2): the flag, and whether the option sets or clears it.
_FLAG_OPTIONS = {
    "defaults": (0, True), "ro": (MS_RDONLY, True), "rw": (MS_RDONLY, False), "nosuid": (MS_NOSUID, True),
    "suid": (MS_NOSUID, False), "nodev": (MS_NODEV, True), "dev": (MS_NODEV, False),
    "noexec": (MS_NOEXEC, True), "exec": (MS_NOEXEC, False), "sync": (16, True), "async": (16, False),
    "remount": (MS_REMOUNT, True),
    "mand": (64, True), "nomand": (64, False), "dirsync": (128, True), "noatime": (1024, True),
    "atime": (1024, False),
    "nodiratime": (2048, True), "diratime": (2048, False), "bind": (MS_BIND, True),
    "rbind": (MS_BIND | MS_REC, True), "relatime": (1 << 21, True), "norelatime": (1 << 21, False),
    "strictatime": (1 << 24, True), "nostrictatime": (1 << 24, False),
}  # fmt: skip
_PROPAGATION_OPTIONS = {
    "private": MS_PRIVATE, "rprivate": MS_PRIVATE | MS_REC, "slave": MS_SLAVE, "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED, "rshared": MS_SHARED | MS_REC,
}  # fmt: skip


class MountFailed(errors.System):
    """The kernel refused a mount; ``errno`` is its reason and the text has the whole call."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno = number


@dataclass(frozen=True)
class MountEntry:
    """One line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).

    ``tags`` are the optional fields: ``shared:7``, ``master:7``.
    """

    mountpoint: str
    root: str
    fstype: str
    source: str
    tags: tuple[str, ...]

    @property
    def is_shared(self) -> bool:
        return any(tag.startswith("shared:") for tag in self.tags)

    @property
    def is_slave(self) -> bool:
        return any(tag.startswith("master:") for tag in self.tags)


def describe_errno(number: int) -> str:
    """Return an errno's text in the lower case that Docker's messages have."""
    text = os.strerror(number)
    return text[:1].lower() + text[1:]


def mount(source: str, target: str | Path, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Call mount(2).

    Raises:
        MountFailed: with Docker's words for it: ``mount SOURCE:TARGET, flags: 0x.., data: ..: reason``.
    """
    call = (os.fsencode(source), os.fsencode(target), os.fsencode(fstype), flags, os.fsencode(data))
    if _libc.mount(*call) != 0:
        number = ctypes.get_errno()
        pieces = [f"mount {source}:{target}"]
        if flags:
            pieces.append(f"flags: {flags:#x}")
        if data:
            pieces.append(f"data: {data}")
        raise MountFailed(f"{', '.join(pieces)}: {describe_errno(number)}", number)


def unmount_now(target: str | Path) -> bool:
    """Take the topmost mount off ``target``, at once for those who look and later for those who hold it open.

    Returns whether there was one; a target that is not mounted, or not there, is no error. It can wait for
    the disk: call it on the loop's thread only for file systems without one.

    Raises:
        MountFailed: the kernel refused.
    """
    if _libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
        return False
    raise MountFailed(f"unmount {target}: {describe_errno(number)}", number)


async def unmount(target: str | Path) -> bool:
    """Like :func:`unmount_now`, in a worker thread; a cancellation waits for its end."""
    return await trio.to_thread.run_sync(unmount_now, target)


async def unmount_tree(root: str | Path) -> list[str]:
    """Unmount everything at and below ``root``, deepest and latest first; returns what was unmounted.

    Raises:
        MountFailed: the kernel refused; the rest has still been tried.
    """
    return await trio.to_thread.run_sync(_unmount_tree, root)


def _unmount_tree(root: str | Path) -> list[str]:
    done: list[str] = []
    refused: MountFailed | None = None
    for entry in reversed(mounts_below(root)):
        try:
            if unmount_now(entry.mountpoint):
                done.append(entry.mountpoint)
        except MountFailed as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return done


def mount_tmpfs(path: Path, options: str = "") -> None:
    """Make a directory and mount a tmpfs on it without devices, programs and setuid: ``/dev/shm`` and the
    like.

    ``options`` are tmpfs data as in tmpfs(5): ``mode=1777,size=67108864``.

    Raises:
        MountFailed: the kernel refused.
    """
    path.mkdir(parents=True, exist_ok=True)
    mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)


def mount_with_options(source: str, target: str | Path, fstype: str, options: str) -> None:
    """Mount as ``mount -t fstype -o options source target`` would, by the kernel alone and without helper
    programs.

    Raises:
        MountFailed: the kernel refused; nothing stays mounted.
    """
    flags, propagation, data = parse_options(options)
    mount(source, target, fstype, flags & ~(MS_RDONLY if flags & MS_BIND else 0), data)
    try:
        if flags & MS_BIND and flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC):
            # The first call ignores all flags of a bind but MS_REC; see mount(2), "Creating a bind mount".
            mount("", target, "", (flags & ~MS_REC) | MS_REMOUNT)
        for change in propagation:
            mount("", target, "", change)
    except MountFailed:
        unmount_now(target)
        raise


def parse_options(options: str) -> tuple[int, list[int], str]:
    """Split options of mount(8) into flags of mount(2), propagation changes to make afterwards, and data."""
    flags = 0
    propagation: list[int] = []
    data: list[str] = []
    for option in filter(None, options.split(",")):
        if option in _FLAG_OPTIONS:
            flag, is_set = _FLAG_OPTIONS[option]
            flags = flags | flag if is_set else flags & ~flag
        elif option in _PROPAGATION_OPTIONS:
            propagation.append(_PROPAGATION_OPTIONS[option])
        else:
            data.append(option)
    return flags, propagation, ",".join(data)


def bind(source: str | Path, target: str | Path, *, recursive: bool = True) -> None:
    """Bind ``source`` on ``target``, private.

    Raises:
        MountFailed: the kernel refused; nothing stays mounted.
    """
    mount_with_options(str(source), target, "", "rbind,rprivate" if recursive else "bind,private")


def has_recursive_read_only() -> bool:
    """Return whether the kernel has mount_setattr(2), by which a bind gets read-only with all below it
    (5.12).
    """
    result = _libc.syscall(_SYS_MOUNT_SETATTR, -1, None, 0, None, 0)
    return result == -1 and ctypes.get_errno() != errno.ENOSYS


def is_mounted(path: str | Path, entries: Iterable[MountEntry] | None = None) -> bool:
    """Return whether ``path``, which must be absolute and without symlinks, is a mount point."""
    return any(entry.mountpoint == str(path) for entry in (read_mounts() if entries is None else entries))


def read_mounts() -> list[MountEntry]:
    """Return all mounts of this mount namespace in the order in which they were made."""
    return [_parse_line(line) for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]


def mounts_below(root: str | Path) -> list[MountEntry]:
    """Return the mounts at ``root`` and below, in the order in which they were made."""
    prefix = f"{str(root).rstrip('/')}/"
    return [entry for entry in read_mounts() if f"{entry.mountpoint}/".startswith(prefix)]


def mount_of(path: str) -> MountEntry:
    """Return the mount that ``path`` lies on, its symlinks resolved.

    Raises:
        errors.System: the path cannot be resolved.
    """
    resolved = os.path.realpath(path)
    found: MountEntry | None = None
    for entry in read_mounts():
        is_above = f"{resolved}/".startswith(f"{entry.mountpoint.rstrip('/')}/")
        if is_above and (found is None or len(entry.mountpoint) >= len(found.mountpoint)):
            found = entry
    if found is None:
        raise errors.System(f"Can't find mount point of {path}")
    return found


def _parse_line(line: bytes) -> MountEntry:
    before, _, after = line.partition(b" - ")
    fields = before.split(b" ")
    fstype, source, *_ = after.split(b" ")
    return MountEntry(
        mountpoint=_unescape(fields[4]),
        root=_unescape(fields[3]),
        fstype=fstype.decode(),
        source=_unescape(source),
        tags=tuple(tag.decode() for tag in fields[6:]),
    )


def _unescape(field: bytes) -> str:
    """Undo the kernel's ``\\040`` for blank, tab, newline and backslash."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field))
