"""Sync. A process that has the sabotaged ``proad`` loaded, and forks it as often as a test kills it.

Loading all modules takes most of a daemon's start, and these tests start some hundreds. What is forked has
only loaded them: no loop ran in this process, no state was opened.

``python -m tests.fault.nursery FD DIRECTORY``: on the socket FD come orders, each a JSON object with ``argv``
and ``environ``, and a descriptor for the log. The answers to one are the new daemon's pid and a pidfd, then
its exit status as ``subprocess`` tells it. DIRECTORY is there to be seen on the command lines of all of them.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

_MAX_BYTES = 1 << 17


class Forked:
    """A daemon that the nursery forked, as ``subprocess.Popen`` shows a process."""

    def __init__(self, pid: int, pidfd: int, news: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._news = news

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._news.settimeout(timeout)
            try:
                said = self._news.recv(_MAX_BYTES)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired("a forked daemon", timeout or 0) from None
            assert said, "the nursery has ended"
            self.returncode = int(said)
            os.close(self._pidfd)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process, as the tests see it."""

    def __init__(self, directory: Path) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), f"{directory}/"],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self, argv: list[str], log: int, **environ: str) -> Forked:
        """Start a daemon with these arguments; the one before must have been seen to end."""
        order = json.dumps({"argv": argv, "environ": {**os.environ, **environ}}).encode()
        self._socket.settimeout(30)
        socket.send_fds(self._socket, [order], [log])
        pid, descriptors, _, _ = socket.recv_fds(self._socket, _MAX_BYTES, 1)
        return Forked(int(pid), descriptors[0], self._socket)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(30)


def _serve(orders: socket.socket) -> int:
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, _MAX_BYTES, 1)
        if not order:
            return 0
        (log,) = descriptors
        pid = os.fork()
        if not pid:
            orders.close()
            _become(log, **json.loads(order))
        os.close(log)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(orders, [str(pid).encode()], [pidfd])
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        orders.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(log: int, argv: list[str], environ: dict[str, str]) -> NoReturn:
    os.setsid()
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    os.environ.clear()
    os.environ.update(environ)
    sys.exit(sabotage.main(argv))


if __name__ == "__main__":
    from tests.fault import sabotage

    sabotage.install()
    gc.freeze()
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
