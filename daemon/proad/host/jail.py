"""Sync, blocking. Jails for helper processes: their own mounts, one directory as the root, nothing to gain.

    jail.die_with(parent)              # nobody reads its answers once the daemon is gone
    jail.leave_mounts()                # what is mounted from here on, nobody else sees
    jail.bind(target, target)
    jail.enter(target)                 # what else the host has mounted is out of reach
    jail.restrict(capabilities)

Whatever a helper mounts goes away with it, killed or not: the kernel ends a namespace with its last process.
All functions raise OSError with the name of the call that the kernel refused.
"""

import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Iterable

CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID = 0, 1, 2, 3, 4
SYS_CHROOT, SYS_ADMIN, MKNOD, SETFCAP = 18, 21, 27, 31
"""Numbers of capabilities(7)."""

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8

BIND, REC = 4096, 16384
"""Flags of mount(2)."""

_REMOUNT, _PRIVATE = 32, 1 << 18
_CLONE_NEWNS, _MNT_DETACH = 0x20000, 2
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CAPABILITY_VERSION_3 = 0x20080522
_SYS_MOUNT_SETATTR, _AT_RECURSIVE = 442, 0x8000

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have this process get a signal, else be killed, when the process ``parent``, which spawned it, ends.

    Raises:
        OSError: it has ended already.
    """
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the daemon is gone")


def leave_mounts() -> None:
    """Move into a mount namespace of its own, to which and from which nothing propagates."""
    _checked(_libc.unshare(_CLONE_NEWNS), "unshare")
    mount("", "/", flags=REC | _PRIVATE)


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Call mount(2)."""
    texts = [os.fsencode(text) if text else None for text in (source, target, fstype)]
    _checked(_libc.mount(*texts, ctypes.c_ulong(flags), os.fsencode(data) if data else None), "mount")


def bind(source: str, target: str, flags: int = 0) -> None:
    """Bind a directory without what is mounted below it: no setuid, devices or programs, and ``flags``."""
    mount(source, target, flags=BIND)
    confine_one(target, NOSUID | NODEV | NOEXEC | flags)


def confine_one(target: str, flags: int) -> None:
    """Set the flags of the one mount at ``target``, as this namespace sees it."""
    mount("", target, flags=_REMOUNT | BIND | flags)


def confine(target: str, flags: int) -> bool:
    """Add ``flags`` to the mount at ``target`` and all below it; False if the kernel cannot (before 5.12)."""
    attributes = (ctypes.c_uint64 * 4)(flags, 0, 0, 0)  # MOUNT_ATTR_* of these flags are the same numbers
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(-1), ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(_AT_RECURSIVE), ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)),
    )  # fmt: skip
    if result < 0 and ctypes.get_errno() == errno.ENOSYS:
        return False
    _checked(result, "mount_setattr")
    return True


def enter(target: str) -> None:
    """Make the mount point ``target`` the root directory, and the working one; the old root is gone.

    Nothing can be imported any more: what stands where modules were could be anybody's.
    """
    sys.meta_path.clear()
    sys.path.clear()
    os.chdir(target)
    # The old root lands on top of the new one and is taken off it: pivot_root(2), "pivot_root(".", ".")".
    _checked(_libc.pivot_root(b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")


def restrict(capabilities: Iterable[int], *, memory_bytes: int, descriptors: int) -> None:
    """Keep only these capabilities, of those that are there, and gain none; bound memory and descriptors."""
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_NOFILE, descriptors),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    _keep_capabilities(capabilities)


def _keep_capabilities(capabilities: Iterable[int]) -> None:
    """capabilities(7), capset(2)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(header, sets), "capget")
    wanted = [0, 0]
    for capability in capabilities:
        wanted[capability // 32] |= 1 << capability % 32
    for word in (0, 1):
        kept = sets[3 * word + 1] & wanted[word]
        sets[3 * word], sets[3 * word + 1], sets[3 * word + 2] = kept, kept, 0
    _checked(_libc.capset(header, sets), "capset")


def sync(directory: str) -> None:
    """Put the file system of a directory on the disk: one call, where there would be one for each file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _checked(_libc.syncfs(descriptor), "syncfs")
    finally:
        os.close(descriptor)


def _checked(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
