"""Trio-flavoured. One daemon per state directory: a lock file that says who holds it."""

import fcntl
import os
from pathlib import Path


class AlreadyRunning(Exception):
    """Another daemon holds the directory; the text says which pid."""


def hold(directory: Path) -> int:
    """Take the directory for this process until it ends; returns the lock file's descriptor, to be kept open.

    The kernel drops the lock with the process, however it dies, so a stale file never blocks.

    Raises:
        AlreadyRunning: another process has it.
    """
    descriptor = os.open(directory / "proad.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise AlreadyRunning(f"another proad (pid {holder}) is using {directory}") from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
