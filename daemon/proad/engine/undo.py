"""Trio-flavoured. Acquire, register the undo, go on; and time each step where it is named.

undo = UndoStack(store)
try:
    with timer.step("rootfs"):
        rootfs = overlay.mount(...)
    undo.push("rootfs", overlay.unmount, container_id, residue=("rootfs", container_id))
    ...
except BaseException:
    await undo.unwind()
    raise
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from proad.model import errors
from proad.model.container import StepTime
from proad.store.db import Store

UNDO_TIMEOUT_S = 20.0
log = structlog.get_logger(__name__)

Action = Callable[[], Awaitable[None] | None]


@dataclass(frozen=True)
class Undo:
    """How to take one step back; ``residue`` is what recovery shall work off if that fails."""

    name: str
    action: Action
    residue: tuple[str, str]


class UndoStack:
    """The undos of what has been done so far, run last-in-first-out."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._undos: list[Undo] = []

    def push(
        self,
        name: str,
        action: Callable[..., Awaitable[None] | None],
        *args: object,
        residue: tuple[str, str],
    ) -> None:
        self._undos.append(Undo(name, partial(action, *args), residue))

    async def unwind(self) -> None:
        """Run all undos, shielded from cancellation, each time-boxed.

        One that fails is logged, what it left is written down as residue, and the next one runs all the same.
        """
        with trio.CancelScope(shield=True):
            while self._undos:
                await run_undo(self._store, self._undos.pop())

    def dismiss(self) -> None:
        """All went well: there is nothing to take back."""
        self._undos.clear()


async def run_undo(store: Store, undo: Undo) -> bool:
    """Run one undo within its time; returns whether it succeeded, and leaves a residue row where not."""
    try:
        with trio.fail_after(UNDO_TIMEOUT_S):
            outcome = undo.action()
            if outcome is not None:
                await outcome
    except Exception as error:  # whatever went wrong, the other undos must still run
        log.error("undo failed", step=undo.name, residue=undo.residue, exc_info=error)
        try:
            with store.transaction() as tx:
                tx.add_residue(*undo.residue)
        except errors.System as unwritten:  # recovery looks for what is left behind without being told, too
            log.error("residue not recorded", residue=undo.residue, error=unwritten.message)
        return False
    return True


class StepTimer:
    """Measures the named steps of one start, in milliseconds since it was made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._steps: list[StepTime] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = self._now_ms()
        try:
            yield
        finally:
            self._steps.append(StepTime(name, begin, self._now_ms()))

    def _now_ms(self) -> float:
        return round((time.perf_counter() - self._begun) * 1000, 3)

    @property
    def steps(self) -> tuple[StepTime, ...]:
        return tuple(sorted(self._steps, key=lambda step: step.begin_ms))

    @property
    def durations_ms(self) -> dict[str, float]:
        """For the log line of the start."""
        return {step.name: round(step.end_ms - step.begin_ms, 2) for step in self.steps}
