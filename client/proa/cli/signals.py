"""Sync, blocking. Signals that are meant for the container, and the terminal's changes of size.

Python runs handlers between the main thread's instructions, also while it waits in a system call; each
handler talks to the daemon over a connection of its own, so it can never mix with what it interrupts.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from proa.cli import terminal
from proa.client import Client
from proa.errors import ProaError

# All that a user may send on purpose. Stopping and continuing is between the shell and the client, as is the
# terminal's size; the rest tells of faults of the client itself.
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)
Handler = Callable[[int, FrameType | None], Any] | int | None


class Handlers:
    """While entered, `action(signal number)` runs for some signals."""

    def __init__(self, signals: tuple[signal.Signals, ...], action: Callable[[int], object]) -> None:
        self._signals = signals
        self._action = action
        self._before: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> Handlers:
        for number in self._signals:
            self._before[number] = signal.signal(number, lambda got, _frame: self._action(got))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def forwarding(connect: Callable[[], Client], container_id: str) -> Handlers:
    """Signals go to the container instead of ending the client."""

    def forward(number: int) -> None:
        try:
            with connect() as client:
                client.containers.kill(container_id, signal.Signals(number).name.removeprefix("SIG"))
        except ProaError:
            pass  # not running yet or no longer: there is nobody the signal could reach

    return Handlers(FORWARDED, forward)


def resizing(connect: Callable[[], Client], container_id: str) -> Handlers:
    """The container's terminal follows the size of ours."""
    return Handlers((signal.SIGWINCH,), lambda _number: resize(connect, container_id))


def resize(connect: Callable[[], Client], container_id: str) -> bool:
    """Tell the container the size of our terminal; False when it could not be told."""
    height, width = terminal.size(1)
    if not height or not width:
        return True
    try:
        with connect() as client:
            client.containers.resize(container_id, height=height, width=width)
    except ProaError:
        return False  # not running yet or no longer
    return True
