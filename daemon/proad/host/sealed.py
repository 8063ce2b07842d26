"""Sync, blocking. A program as a sealed copy in memory, which nobody can write to.

A container's root could reach the runtime that starts it through ``/proc/self/exe`` and overwrite it
(CVE-2019-5736). So crun copies itself into a sealed memfd and executes that, each time it is called: 1.5 ms.
It does not if it finds itself sealed already, and its authors name sharing such a copy as the way to save it
(https://github.com/containers/crun/blob/main/src/libcrun/cloned_binary.c). We make the copy once.
"""

import fcntl
import os
from pathlib import Path

MAX_BYTES = 4 << 20
"""A larger program (runc has 9 MB) is not worth the memory."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

_copies: dict[Path, tuple[tuple[int, int, int, int], int]] = {}


def sealed(program: Path) -> Path:
    """A path that executes a sealed copy of ``program``, for this process and its children while it lives.

    A program that has been replaced is copied anew; one that is missing, or too large, is returned as it is.
    """
    try:
        status = program.stat()
    except OSError:
        return program
    if status.st_size > MAX_BYTES:
        return program
    version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
    known = _copies.get(program)
    if known is None or known[0] != version:
        if known is not None:
            os.close(known[1])
        _copies[program] = known = (version, _copy(program))
    return Path(f"/proc/{os.getpid()}/fd/{known[1]}")


def _copy(program: Path) -> int:
    descriptor = os.memfd_create(program.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    content = memoryview(program.read_bytes())
    while content:
        content = content[os.write(descriptor, content) :]
    os.fchmod(descriptor, 0o755)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor
