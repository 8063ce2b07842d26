"""Trio-flavoured. The standard streams of an exec: pipes, or a terminal, and who holds which end."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from proad.host.terminals import ConsoleSocket, open_pair


@dataclass
class ExecStreams:
    """Our ends of a command's streams, non-blocking. With a terminal there is only its master.

    ``is_runtimes`` tells of all that has come from stderr, or the terminal, whether it is a complaint of the
    runtime's.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    terminal: int | None = None
    is_runtimes: Callable[[bytes], bool] = field(default=lambda _: False)

    def close(self) -> None:
        for descriptor in {self.stdin, self.stdout, self.stderr, self.terminal}:
            if descriptor is not None:
                os.close(descriptor)
        self.stdin = self.stdout = self.stderr = self.terminal = None


class Plumbing:
    """All ends of one exec's streams while it is being spawned.

    ``theirs`` are those for the runtime, ``/dev/null`` where None; ``console`` waits for a terminal that the
    runtime makes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.streams = ExecStreams()
        self.theirs: list[int | None] = [None, None, None]
        self.console: ConsoleSocket | None = None

    def lay_input(self) -> None:
        self.theirs[0], self.streams.stdin = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.streams.stdin, False)

    def lay_outputs(self, *, stdout: bool, stderr: bool, joined: bool) -> None:
        if stdout:
            self.streams.stdout, self.theirs[1] = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.streams.stdout, False)
        if stderr and joined:
            self.theirs[2] = self.theirs[1]
        elif stderr:
            self.streams.stderr, self.theirs[2] = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.streams.stderr, False)

    def lay_console(self) -> None:
        self.console = ConsoleSocket(self._directory / "console")

    def lay_relay(self, height: int, width: int, *, keep: bool) -> None:
        """A terminal of the host's; without ``keep`` its master is the other side's standard input, to be
        read there.
        """
        master, terminal = open_pair(height, width)
        self.theirs = [terminal, terminal, terminal]
        if keep:
            os.set_blocking(master, False)
            self.streams.terminal = master
        else:
            self.theirs[0] = master

    @property
    def console_address(self) -> str:
        return self.console.address if self.console is not None else ""

    def close_theirs(self) -> None:
        for descriptor in set(self.theirs) - {None}:
            assert descriptor is not None
            os.close(descriptor)
        self.theirs = [None, None, None]

    def close_rest(self) -> None:
        """What is not in ``streams``."""
        self.close_theirs()
        if self.console is not None:
            self.console.close()
            self.console = None

    def close(self) -> None:
        self.streams.close()
        self.close_rest()
