"""Trio-flavoured. One async lock for each container, there while somebody holds it or waits for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Locks:
    """Locks by container id. Different containers never wait for each other; readers take none."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, container_id: str) -> AsyncIterator[None]:
        """Hold the lock of one container; first come, first served."""
        lock = self._locks.setdefault(container_id, trio.Lock())
        self._users[container_id] = self._users.get(container_id, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[container_id] -= 1
            if not self._users[container_id]:
                del self._users[container_id], self._locks[container_id]
