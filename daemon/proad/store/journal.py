"""Trio-flavoured. The event journal: numbered, kept on disk, replayable, read through cursors.

An event is written in the same transaction as the change that it tells (:meth:`Journal.append` is called by
the store's transaction and nobody else). Readers have a cursor each: a position in the journal, no queue. A
slow reader lags, costs nothing, and loses nothing that the journal still keeps; recent events are also held
in memory, encoded once however many read them. Times never repeat and never run backwards, so ``since`` and
``until`` cut exactly.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import msgspec

RECENT = 8192
"""How many events stay in memory; readers that lag further read from disk."""
RECENT_BYTES = 16 << 20
"""What the attributes of those may take: labels can be long."""

Matches = Callable[["Event"], bool]
Execute = Callable[[str, Sequence[Any]], object]
"""Runs one statement in the store's open transaction."""


class Event(msgspec.Struct, frozen=True, dict=True):
    """One thing that happened. ``seq`` grows by one; ``time_ns`` is nanoseconds since the epoch."""

    seq: int
    time_ns: int
    type: str
    action: str
    actor_id: str
    attributes: dict[str, str]

    @property
    def size_bytes(self) -> int:
        """About what its attributes take."""
        return sum(len(name) + len(value) for name, value in self.attributes.items())

    @cached_property
    def line(self) -> bytes:
        """Docker's JSON of the event with its newline: today's fields and, where Docker has them, the old
        ones.
        """
        old: dict[str, object] = {}
        if self.type in ("container", "image"):
            old = {"status": self.action, "id": self.actor_id}
        if self.type == "container":
            old["from"] = self.attributes.get("image", "")
        body = {
            **old,
            "Type": self.type,
            "Action": self.action,
            "Actor": {"ID": self.actor_id, "Attributes": self.attributes},
            "scope": "local",
            "time": self.time_ns // 1_000_000_000,
            "timeNano": self.time_ns,
        }
        return msgspec.json.encode(body) + b"\n"


class Journal:
    """The events of one state database. Not thread-safe: it lives on the loop's thread, as its readers do."""

    def __init__(self, connection: sqlite3.Connection, *, max_count: int, max_age_s: int) -> None:
        self._connection = connection
        self.max_count = max_count
        self.max_age_s = max_age_s
        rows = connection.execute("SELECT * FROM events ORDER BY seq DESC LIMIT ?", (RECENT,)).fetchall()
        self._recent: deque[Event] = deque()
        self._recent_bytes = 0
        self._remember(map(_event, reversed(rows)))
        last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        self._last_seq: int = last[0] if last else 0
        self._last_time_ns = self._recent[-1].time_ns if self._recent else 0
        self._cursors: set[Cursor] = set()

    @property
    def readers(self) -> int:
        """How many cursors are open."""
        return len(self._cursors)

    def append(
        self,
        execute: Execute,
        type_: str,
        action: str,
        actor_id: str,
        attributes: Mapping[str, str],
        time_ns: int = 0,
    ) -> Event:
        """Write one event inside the store's open transaction; :meth:`publish` follows its commit."""
        at_ns = max(time_ns or time.time_ns(), self._last_time_ns + 1)
        event = Event(self._last_seq + 1, at_ns, type_, action, actor_id, dict(attributes))
        execute(
            "INSERT INTO events (seq, time_ns, type, action, actor_id, attributes) VALUES (?, ?, ?, ?, ?, ?)",
            (event.seq, at_ns, type_, action, actor_id, msgspec.json.encode(event.attributes)),
        )
        self._last_seq, self._last_time_ns = event.seq, at_ns
        return event

    def forget(self, events: list[Event]) -> None:
        """The transaction that appended ``events`` was rolled back: their numbers are free again."""
        if events:
            self._last_seq = events[0].seq - 1
            self._last_time_ns = self._recent[-1].time_ns if self._recent else 0

    def publish(self, events: list[Event]) -> None:
        """The transaction is committed: wake whoever waits."""
        self._remember(events)
        for cursor in list(self._cursors):
            cursor.wake()

    def _remember(self, events: Iterable[Event]) -> None:
        """Keep events in memory; the oldest go where they are too many or too much, never the last."""
        for event in events:
            self._recent.append(event)
            self._recent_bytes += event.size_bytes
            while len(self._recent) > RECENT or (self._recent_bytes > RECENT_BYTES and len(self._recent) > 1):
                self._recent_bytes -= self._recent.popleft().size_bytes

    def cursor(
        self, since_ns: int | None, until_ns: int | None, matches: Matches, after_seq: int | None = None
    ) -> "Cursor":
        """Open a reader.

        It begins after event ``after_seq`` if given, else at the first event at or after ``since_ns``, else,
        where only ``until_ns`` is given, at the oldest event, else with the next one. It ends with the last
        at or before ``until_ns``.
        """
        if after_seq is not None:
            position = min(after_seq, self._last_seq)  # a power cut may have taken the last few numbers back
        elif since_ns is not None:
            row = self._connection.execute(
                "SELECT min(seq) FROM events WHERE time_ns >= ?", (since_ns,)
            ).fetchone()
            position = row[0] - 1 if row[0] is not None else self._last_seq
        else:
            position = self._last_seq if until_ns is None else 0
        cursor = Cursor(self, position, until_ns, matches)
        self._cursors.add(cursor)
        return cursor

    def after(self, seq: int, limit: int) -> list[Event]:
        """Up to ``limit`` committed events after number ``seq``, oldest first."""
        if not self._recent or seq >= self._recent[-1].seq:
            return []
        first = self._recent[0].seq
        if seq + 1 >= first:
            begin = seq + 1 - first
            return list(islice(self._recent, begin, begin + limit))
        rows = self._connection.execute(
            "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
        )
        return list(map(_event, rows))

    def prune(self) -> None:
        """Drop what is too old or too many. Called on a timer."""
        oldest_ns = time.time_ns() - self.max_age_s * 1_000_000_000
        self._connection.execute(
            "DELETE FROM events WHERE seq <= ? OR time_ns < ?", (self._last_seq - self.max_count, oldest_ns)
        )

    def discard(self, cursor: "Cursor") -> None:
        self._cursors.discard(cursor)


class Cursor:
    """One reader's place in the journal."""

    def __init__(self, journal: Journal, position: int, until_ns: int | None, matches: Matches) -> None:
        self._journal = journal
        self._position = position
        self._until_ns = until_ns
        self._matches = matches
        self._news: Callable[[], None] | None = None
        self.exhausted = False
        """``until`` has been passed: nothing more will come."""

    def take(self, limit: int = 500) -> list[Event]:
        """The next matching events, never waiting. Empty means caught up (or exhausted)."""
        while not self.exhausted:
            batch = self._journal.after(self._position, limit)
            if not batch:
                self.exhausted = self._until_ns is not None and time.time_ns() > self._until_ns
                return []
            self._position = batch[-1].seq
            if self._until_ns is not None and batch[-1].time_ns > self._until_ns:
                self.exhausted = True
                batch = [event for event in batch if event.time_ns <= self._until_ns]
            if matching := [event for event in batch if self._matches(event)]:
                return matching
        return []

    def on_news(self, callback: Callable[[], None] | None) -> None:
        """Have ``callback`` called, on the loop's thread, whenever there may be more to take."""
        self._news = callback

    def wake(self) -> None:
        if self._news is not None:
            self._news()

    def close(self) -> None:
        self._news = None
        self._journal.discard(self)


def _event(row: tuple[int, int, str, str, str, bytes]) -> Event:
    seq, time_ns, type_, action, actor_id, attributes = row
    return Event(seq, time_ns, type_, action, actor_id, msgspec.json.decode(attributes, type=dict[str, str]))
