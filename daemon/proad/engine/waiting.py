"""Trio-flavoured. Who waits for a container to stop, or to go away."""

from collections import defaultdict
from dataclasses import dataclass, field

import trio

from proad.model import errors

CONDITIONS = ("not-running", "next-exit", "removed")


@dataclass(frozen=True)
class WaitResult:
    """How the wait ended: the exit code, and the error text of a container that could not be started or
    removed.
    """

    exit_code: int
    error: str = ""


@dataclass(eq=False)
class Waiter:
    """One client's wait. Made before the answer's header is sent, so that nothing is missed in between."""

    outcome: WaitResult | None = None
    _done: trio.Event = field(default_factory=trio.Event)

    def settle(self, outcome: WaitResult) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self._done.set()

    async def result(self) -> WaitResult:
        await self._done.wait()
        assert self.outcome is not None
        return self.outcome


class Waiters:
    """All waits, by container id."""

    def __init__(self) -> None:
        self._for_exit: dict[str, list[Waiter]] = defaultdict(list)
        self._for_removal: dict[str, list[Waiter]] = defaultdict(list)

    def add(self, container_id: str, condition: str) -> Waiter:
        """Wait for the end of a run (``not-running``, ``next-exit``) or for ``removed``.

        Raises:
            errors.InvalidParameter: no such condition.
        """
        if condition not in CONDITIONS:
            raise errors.InvalidParameter(f'invalid condition: "{condition}"')
        waiter = Waiter()
        (self._for_removal if condition == "removed" else self._for_exit)[container_id].append(waiter)
        return waiter

    def discard(self, container_id: str, waiter: Waiter) -> None:
        """The client went away."""
        for waits in (self._for_exit, self._for_removal):
            if waiter in waits.get(container_id, ()):
                waits[container_id].remove(waiter)
                if not waits[container_id]:
                    del waits[container_id]

    def run_ended(self, container_id: str, outcome: WaitResult) -> None:
        for waiter in self._for_exit.pop(container_id, ()):
            waiter.settle(outcome)

    def removed(self, container_id: str, outcome: WaitResult) -> None:
        self.run_ended(container_id, outcome)
        for waiter in self._for_removal.pop(container_id, ()):
            waiter.settle(outcome)
