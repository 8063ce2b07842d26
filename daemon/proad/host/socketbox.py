"""Sync, blocking. Sockets kept by a process that does not know of them.

A message in the queue of a unix socket keeps the descriptors that were sent with it (unix(7), SCM_RIGHTS)
until somebody receives it, or until the last process that has the socket ends. So a process that inherits
such a box, and never reads it, keeps what is put in for as long as it lives, whoever put it in and whenever.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from proad.model import errors

_MOST_IN_MESSAGE = 253  # SCM_MAX_FD of the kernel's net/scm.h


def make_box(path: Path) -> socket.socket:
    """Return a box that is found by ``path``, which must not exist, for a process to inherit.

    Raises:
        errors.System: the file cannot be made.
    """
    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        with _address(path) as address:
            box.bind(address)
    except OSError as error:
        box.close()
        raise errors.System(f"make {path}: {error.strerror}") from error
    return box


def put_in_box(path: Path, sockets: Sequence[socket.socket]) -> None:
    """Have whoever holds the box at ``path`` keep copies of ``sockets``, too; there is no taking them out.

    Raises:
        errors.System: there is no box, nobody holds it any more, or it is full.
    """
    try:
        with _address(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # a full box never gets emptier
            sender.connect(address)
            for start in range(0, len(sockets), _MOST_IN_MESSAGE):
                some = sockets[start : start + _MOST_IN_MESSAGE]
                socket.send_fds(sender, [b"\0"], [kept.fileno() for kept in some])
    except OSError as error:
        raise errors.System(f"put sockets into {path}: {error.strerror}") from error


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The path in the 107 bytes that there are for a socket's."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
