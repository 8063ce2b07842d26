"""Sync. A command on a pseudo-terminal of its own, to talk with as a person would."""

import os
import pty
import select
import signal
import termios
import time

PATIENCE_S = 20.0


class Dialogue:
    """`expect()` what it prints, `type()` at it, `resize()` its terminal, and `end()` it."""

    def __init__(self, argv: list[str], env: dict[str, str], *, rows: int, columns: int) -> None:
        self.shown = b""
        self._seen = 0
        self._status: int | None = None
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            termios.tcsetwinsize(0, (rows, columns))
            os.execvpe(argv[0], argv, env)

    def expect(self, text: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until `text` has been printed after what was expected before."""
        deadline = time.monotonic() + patience_s
        wanted = text.encode()
        while (found := self.shown.find(wanted, self._seen)) < 0:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{text!r} did not come; shown since: {self.shown[self._seen :]!r}")
        self._seen = found + len(wanted)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self._fd, (rows, columns))

    def is_raw(self) -> bool:
        """Whether the command has put its terminal into raw mode."""
        return not termios.tcgetattr(self._fd)[3] & termios.ICANON

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for its end; returns the exit code."""
        deadline = time.monotonic() + patience_s
        while self._read(deadline - time.monotonic()):
            pass
        if self._status is None:
            _, status = os.waitpid(self.pid, 0 if time.monotonic() < deadline else os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def close(self) -> None:
        """End it however it stands."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def _read(self, patience_s: float) -> bool:
        """Take in what it prints next; False at its end, or when nothing came in time."""
        if not select.select([self._fd], [], [], max(patience_s, 0))[0]:
            return False
        try:
            piece = os.read(self._fd, 65536)
        except OSError:  # how a terminal says that its other side has gone
            return False
        self.shown += piece
        return bool(piece)
