"""Trio-flavoured. Pseudo terminals (pty(7)): pairs, sizes, masters that come through a socket."""

import array
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import termios
from pathlib import Path

import trio

from proad.model import errors

_TERMINAL_MAJORS = range(136, 144)
"""Of Unix98 terminals (linux/Documentation/admin-guide/devices.txt)."""
_SIZE = struct.Struct("HHHH")


def open_pair(height: int, width: int) -> tuple[int, int]:
    """A master and its terminal, in the host's devpts.

    Raises:
        errors.System: there are too many.
    """
    try:
        master, terminal = os.openpty()
    except OSError as error:
        raise errors.System(f"no terminal: {error.strerror}") from error
    resize(master, height, width)
    return master, terminal


def resize(descriptor: int, height: int, width: int) -> None:
    """Set a terminal's size; its foreground processes get SIGWINCH. One that is gone is fine."""
    try:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, _SIZE.pack(height, width, 0, 0))
    except OSError as error:
        if error.errno != errno.EIO:
            raise errors.System(f"terminal: {error.strerror}") from error


def resize_of(pid: int, height: int, width: int) -> None:
    """Set the size of the terminal that a process has as one of its standard streams; none is fine.

    What its descriptors are the process decides: so each is looked at before it is opened.
    """
    for number in (0, 1, 2):
        try:
            found = os.open(f"/proc/{pid}/fd/{number}", os.O_PATH | os.O_CLOEXEC)
        except OSError:  # closed, or the process has gone
            continue
        try:
            if not _is_terminal(os.fstat(found)):
                continue
            flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
            terminal = os.open(f"/proc/self/fd/{found}", flags)
            try:
                resize(terminal, height, width)
            finally:
                os.close(terminal)
            return
        except OSError:  # hung up meanwhile
            return
        finally:
            os.close(found)


def _is_terminal(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _TERMINAL_MAJORS


class ConsoleSocket:
    """Where an OCI runtime sends a terminal's master to (``--console-socket``), once."""

    def __init__(self, path: Path) -> None:
        """Listen at ``path``.

        Raises:
            OSError: no room.
        """
        self._directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(f"/proc/self/fd/{self._directory}/{path.name}")
            self._socket.listen(1)
        except BaseException:
            self.close()
            raise
        # A socket's address holds 107 bytes at most; through our descriptor it is short.
        self.address = f"/proc/{os.getpid()}/fd/{self._directory}/{path.name}"

    def has_come(self) -> bool:
        """Whether the runtime has called, and :meth:`receive` has not answered yet."""
        called = select.poll()
        called.register(self._socket, select.POLLIN)
        return bool(called.poll(0))

    async def receive(self) -> int:
        """Wait for the master; returns it, non-blocking. Once the runtime has called, nothing cancels it.

        Raises:
            errors.System: something else came.
        """
        await trio.lowlevel.wait_readable(self._socket)
        connection, _ = self._socket.accept()
        with connection:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.wait_readable(connection)
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        received = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
        if len(received) != 1:
            raise errors.System("the runtime sent no terminal")
        os.set_blocking(received[0], False)
        return received[0]

    def close(self) -> None:
        self._socket.close()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
