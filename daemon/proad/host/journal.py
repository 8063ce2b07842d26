"""Sync, blocking. The systemd journal: whether it is there, and reading it by ``journalctl``.

Writing to it is conmon's. Where there is no journal, conmon's messages vanish without a word, so somebody has
to look before.
"""

import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence

from proad.host.process import Child, spawn
from proad.host.runtime import SEARCH_PATH
from proad.model import errors
from proad.model.journalexport import FIELDS, ID_FIELD

JOURNAL_SOCKET = "/run/systemd/journal/socket"
_READ_BYTES = 64 << 10
_PIPE_BYTES = 1 << 20
_SYNC_TIMEOUT_S = 10.0


def is_running() -> bool:
    """Whether a journal takes messages on this host."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(JOURNAL_SOCKET)
        except OSError:
            return False
    return True


def journalctl() -> str | None:
    """The program that reads the journal, if it is installed."""
    return shutil.which("journalctl", path=SEARCH_PATH)


class JournalStream:
    """What ``journalctl`` says of one container, through a pipe that can be watched by any event loop.

    One journalctl may follow another on the same pipe: the first waits for what comes, the second ends.
    """

    def __init__(self, program: str, container_id: str) -> None:
        self._program = program
        self._match = f"{ID_FIELD}={container_id}"
        self._child: Child | None = None
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_fd, False)
        fcntl.fcntl(self._write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def fileno(self) -> int:
        return self._read_fd

    def begin(self, arguments: Sequence[str], *, is_last: bool) -> None:
        """Have it told what ``arguments`` choose; with ``is_last`` the pipe ends after it.

        Raises:
            errors.System: journalctl cannot be executed.
        """
        argv = [
            self._program, "--quiet", "--no-pager", "--output=export", f"--output-fields={','.join(FIELDS)}",
            *arguments, self._match,
        ]  # fmt: skip
        self._child = spawn(argv, stdout=self._write_fd)
        if is_last:
            self._close_write_end()

    def read(self) -> bytes | None:
        """What there is; None if there is nothing yet, empty at the end."""
        try:
            return os.read(self._read_fd, _READ_BYTES)
        except BlockingIOError:
            return None

    def break_off(self) -> None:
        """End the journalctl that runs, and forget what it has said and was not read. Blocks for moments."""
        self._end_child()
        while self.read():
            pass

    def sync(self) -> None:
        """Return when what was sent to the journal can be read from it. Blocks."""
        command = [self._program, "--sync"]
        try:
            subprocess.run(command, capture_output=True, timeout=_SYNC_TIMEOUT_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            raise errors.System(f"journalctl --sync: {error}") from error

    def close(self) -> None:
        """End what runs, close the pipe; may be called again."""
        self._end_child()
        self._close_write_end()
        if self._read_fd >= 0:
            os.close(self._read_fd)
            self._read_fd = -1

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            # It reads files and writes into a pipe: SIGKILL ends it at once.
            os.waitid(os.P_PIDFD, self._child.pidfd, os.WEXITED | os.WNOWAIT)
            self._child.poll()
            self._child.close()
            self._child = None

    def _close_write_end(self) -> None:
        if self._write_fd >= 0:
            os.close(self._write_fd)
            self._write_fd = -1
