"""Sync, pure. openat2(2): open a path while the kernel keeps its resolution inside a directory.

The C library has no wrapper for it; the number is the same on all architectures that the call was added to
(5.6).
"""

import ctypes
import os

RESOLVE_NO_XDEV = 0x01
"""Fail with EXDEV instead of crossing into another mount, bind mounts too."""
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
"""Fail with EXDEV where ``..``, a symlink or an absolute path would lead out of the directory."""
RESOLVE_IN_ROOT = 0x10
"""Take the directory for ``/``: absolute paths, symlinks and ``..`` stay inside, as after chroot(2)."""

_SYS_OPENAT2 = 437
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open ``path`` relative to the open ``directory``; returns a descriptor that programs do not inherit.

    Raises:
        OSError: as open(2), and EXDEV or ELOOP where ``resolve`` forbids the way.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        descriptor = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(directory), ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)),
        )  # fmt: skip
        if descriptor >= 0:
            return int(descriptor)
        number = ctypes.get_errno()
        # EAGAIN: something was renamed under the resolution, which the kernel then cannot vouch for; look
        # again.
        if number not in (11, 4):
            raise OSError(number, os.strerror(number), path)
