"""asyncio-flavoured. Trying again: what may succeed a little later is, some times, with growing pauses."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from proad.model.registrywire import RegistryError

T = TypeVar("T")


@dataclass(frozen=True)
class Retries:
    """``attempts`` in all; pauses of ``first_s``, doubled each time, or what the registry asks for, but never
    more than ``longest_s``.
    """

    attempts: int = 5
    first_s: float = 1.0
    longest_s: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def pause(self, failures: int, error: RegistryError) -> None:
        """Wait before the next attempt, after so many in a row have failed.

        Raises:
            RegistryError: ``error`` itself, where another attempt is of no use or there have been enough.
        """
        if not error.is_transient or failures >= self.attempts:
            raise error
        wanted = self.first_s * 2 ** (failures - 1) if error.retry_after_s is None else error.retry_after_s
        await self.sleep(min(wanted, self.longest_s))

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """``work()``, again where it fails with what may pass."""
        failures = 0
        while True:
            try:
                return await work()
            except RegistryError as error:
                failures += 1
                await self.pause(failures, error)
