"""Sync, blocking. What is said to a monitor while it runs: one line at a time, into its fifo ``ctl``.

``1 HEIGHT WIDTH`` resizes the terminal, ``2 0 0`` has it go on in a new log file. Nothing is ever answered.
"""

import errno
import fcntl
import os
import struct
import termios
from pathlib import Path

from proad.model import errors


def write_control(path: Path, message: str, container_id: str) -> None:
    """Write one message into a monitor's control fifo.

    Raises:
        errors.Conflict: the monitor has gone, and the container with it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            raise errors.Conflict(f"container {container_id} is not running") from error
        raise errors.System(f"{path}: {error.strerror}") from error
    try:
        os.write(descriptor, message.encode())
    finally:
        os.close(descriptor)


def pending_control(path: Path) -> int:
    """Bytes in the fifo that the monitor has not read yet; 0 also where there is no fifo any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        answer = fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0")
    finally:
        os.close(descriptor)
    return int(struct.unpack("i", answer)[0])
