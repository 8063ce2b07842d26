"""Sync, blocking. Follows what containers use: a thread and a connection for each, as each has its stream.

The threads are daemons: they wait for a daemon's next reading for ever, and shall not keep the command alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from proa.cli.rows.stats import Tracked, Usage, reckon
from proa.client import Client
from proa.errors import ProaError
from proa.system import Events


class Followed(Tracked):
    """One container that is followed. Its thread alone writes; a reader sees whole values."""

    def __init__(self, asked: str) -> None:
        super().__init__(asked)
        self.error: ProaError | None = None
        self.is_over = False
        self.heard = threading.Event()
        """Set when the first reading, or an error, is there."""


class UsageWatch:
    """All containers that are followed, in the order in which they came."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._followed: dict[str, Followed] = {}
        self._lock = threading.Lock()
        self.lost: ProaError | None = None
        """Why no containers are added or dropped any more, where that was to be done."""

    def all(self) -> list[Followed]:
        with self._lock:
            return list(self._followed.values())

    def add(self, ref: str) -> None:
        """Follow a container, unless it is followed already."""
        with self._lock:
            if ref in self._followed and not self._followed[ref].is_over:
                return
            followed = self._followed[ref] = Followed(ref)
        threading.Thread(target=self._follow, args=(followed,), daemon=True).start()

    def drop(self, ref: str) -> None:
        """Follow it no more; its thread ends with the next reading."""
        with self._lock:
            followed = self._followed.pop(ref, None)
        if followed is not None:
            followed.is_over = True

    def add_all(self, *, stopped: bool) -> None:
        """Follow what runs (or everything, with `stopped`), and from now on what comes and goes.

        Raises ProaError when the daemon cannot be asked.
        """
        client = self._connect()
        events = client.system.events(filters={"type": ["container"]})
        threading.Thread(target=self._keep_up, args=(client, events, stopped), daemon=True).start()
        with self._connect() as lister:
            for container in lister.containers.list(all=stopped):
                self.add(container["Id"][:12])

    def _keep_up(self, client: Client, events: Events, stopped: bool) -> None:
        came, went = ("create", "destroy") if stopped else ("start", "die")
        try:
            with client, events as stream:
                for event in stream:
                    ref = (event.get("Actor") or {}).get("ID", "")[:12]
                    if event.get("Action") == came:
                        self.add(ref)
                    elif event.get("Action") == went:
                        self.drop(ref)
        except ProaError as error:
            self.lost = error

    def _follow(self, followed: Followed) -> None:
        try:
            with self._connect() as client, client.containers.watch_stats(followed.asked) as readings:
                for reading in readings:
                    if followed.is_over:
                        return
                    followed.take(reckon(reading))
                    followed.heard.set()
        except ProaError as error:
            followed.error = error
        finally:
            followed.usage = None
            followed.is_over = True
            followed.heard.set()


def read_all(connect: Callable[[], Client], refs: Sequence[str]) -> list[tuple[str, Usage | ProaError]]:
    """What containers use now, or why that cannot be told. It takes a second, for two readings to compare."""

    def read(ref: str) -> tuple[str, Usage | ProaError]:
        try:
            with connect() as client:
                return ref, reckon(client.containers.stats(ref))
        except ProaError as error:
            return ref, error

    with ThreadPoolExecutor(max(1, len(refs))) as pool:
        return list(pool.map(read, refs))
