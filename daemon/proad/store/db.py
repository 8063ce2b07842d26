"""Trio-flavoured. The state database: schema, migrations, transactions, rows to records and back.

SQLite in WAL mode with one writer. Everything but old events is small and held in memory as well, so reads
are look-ups in dictionaries that never wait; a transaction writes the rows, commits, and only then swaps the
records in memory and wakes the readers of the journal. A commit that does not flush the disk costs 30 µs and
stays on the loop; one that does costs what the disk costs, and is for what is seldom done.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import structlog

from proad.model import errors
from proad.model.container import Container
from proad.model.exec import ExecRecord
from proad.model.image import Image
from proad.model.network import Network
from proad.model.volume import Volume
from proad.store.flusher import Flusher
from proad.store.journal import Event, Journal
from proad.store.reserve import Reserve

log = structlog.get_logger(__name__)

APPLICATION_ID = 0x70726F61  # "proa"

MIGRATIONS = (
    """
    CREATE TABLE containers (id TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE images (id TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE image_references (reference TEXT PRIMARY KEY, image_id TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE volumes (name TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE residue (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT
        NULL, actor_id TEXT NOT NULL, attributes BLOB NOT NULL
    ) STRICT;
    CREATE INDEX events_by_time ON events (time_ns);
    """,
    "CREATE TABLE execs (id TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;",
    "CREATE TABLE networks (id TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;",
)
"""Applied in order; the database's ``user_version`` is how many it has had. Never edit one that was released.
"""


class UnusableState(Exception):
    """The state database is corrupt, newer than this engine, or not ours; it has not been touched."""


class Residue(NamedTuple):
    """Something an undo could not remove: ``kind`` says what (``mount``, ``netns``, ``cgroup``…), ``detail``
    which.
    """

    id: int
    kind: str
    detail: str


class Store:
    """All state of one daemon. Lives on the loop's thread."""

    def __init__(
        self, connection: sqlite3.Connection, journal: Journal, reserve: Reserve, flusher: Flusher
    ) -> None:
        self._connection = connection
        self._reserve = reserve
        self._flusher = flusher
        self.journal = journal
        self._containers = _load(connection, "containers", "id", Container)
        self._images = _load(connection, "images", "id", Image)
        self._volumes = _load(connection, "volumes", "name", Volume)
        self._execs = _load(connection, "execs", "id", ExecRecord)
        self._networks = _load(connection, "networks", "id", Network)
        self._references = dict(connection.execute("SELECT reference, image_id FROM image_references"))
        self._synchronous = "FULL"
        self.containers: Mapping[str, Container] = MappingProxyType(self._containers)
        self.images: Mapping[str, Image] = MappingProxyType(self._images)
        self.volumes: Mapping[str, Volume] = MappingProxyType(self._volumes)
        self.execs: Mapping[str, ExecRecord] = MappingProxyType(self._execs)
        """Those that were started and have not ended."""
        self.networks: Mapping[str, Network] = MappingProxyType(self._networks)
        """Those that users made; the predefined ones are in no table."""
        self.references: Mapping[str, str] = MappingProxyType(self._references)
        """Canonical reference to image id."""

    @contextmanager
    def transaction(self, *, durable: bool = True, growing: bool = False) -> Iterator["Transaction"]:
        """One state change with the events that tell it: all of it happens or none.

        With ``durable`` it survives a power cut; without, it survives the death of any process, which is
        enough for starts and ends: a power cut ends what runs anyhow, and the next flush takes them along.
        :meth:`flush` makes it durable without the loop waiting for the disk. ``growing`` is for what takes
        space for something new: on a full disk it fails, where all else may still use the reserve.

        Raises:
            errors.System: the disk is full or fails; nothing was changed.
        """
        transaction = Transaction(self._connection, self.journal)
        try:
            self._set_synchronous("FULL" if durable else "NORMAL")
            self._connection.execute("BEGIN IMMEDIATE")
            yield transaction
            self._commit(transaction, may_use_reserve=not growing)
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self.journal.forget(transaction.events)
            if isinstance(error, sqlite3.Error):
                raise errors.System(f"state database: {error}") from error
            raise
        for table, key, record in transaction.changes:
            cache: dict[str, Any] = getattr(self, f"_{table}")
            if record is None:
                cache.pop(key, None)
            else:
                cache[key] = record
        self._flusher.committed()
        self.journal.publish(transaction.events)

    async def flush(self) -> None:
        """Return when all that was committed so far survives a power cut.

        Raises:
            errors.System: the disk fails.
        """
        await self._flusher.flush()

    def _commit(self, transaction: "Transaction", *, may_use_reserve: bool) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            is_full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            if not (is_full and may_use_reserve and self._reserve.give_up()):
                raise
            log.error("the disk is full: the state database lives on its reserve now")
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            for statement, values in transaction.statements:
                self._connection.execute(statement, values)
            self._connection.execute("COMMIT")

    def _set_synchronous(self, mode: str) -> None:
        if mode != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def residue(self) -> list[Residue]:
        return [
            Residue(*row)
            for row in self._connection.execute("SELECT id, kind, detail FROM residue ORDER BY id")
        ]

    def setting(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def tidy(self) -> None:
        """Drop the events that are too old or too many, and make the reserve again if it was used.

        Raises:
            errors.System: the disk is full or fails; nothing was dropped.
        """
        self._reserve.keep()
        with self.transaction(durable=False):
            self.journal.prune()

    def close(self) -> None:
        self._flusher.close()
        self._connection.close()


class Transaction:
    """What one transaction writes. Made by :meth:`Store.transaction`."""

    def __init__(self, connection: sqlite3.Connection, journal: Journal) -> None:
        self._connection = connection
        self._journal = journal
        self.events: list[Event] = []
        self.changes: list[tuple[str, str, Any]] = []
        self.statements: list[tuple[str, Sequence[Any]]] = []

    def _execute(self, statement: str, values: Sequence[Any]) -> None:
        self.statements.append((statement, values))
        self._connection.execute(statement, values)

    def put_container(self, container: Container) -> None:
        self._put("containers", "id", container.id, container)

    def delete_container(self, container_id: str) -> None:
        self._delete("containers", "id", container_id)

    def put_image(self, image: Image) -> None:
        self._put("images", "id", image.id, image)

    def delete_image(self, image_id: str) -> None:
        self._delete("images", "id", image_id)

    def put_volume(self, volume: Volume) -> None:
        self._put("volumes", "name", volume.name, volume)

    def delete_volume(self, name: str) -> None:
        self._delete("volumes", "name", name)

    def put_exec(self, record: ExecRecord) -> None:
        self._put("execs", "id", record.id, record)

    def delete_exec(self, exec_id: str) -> None:
        self._delete("execs", "id", exec_id)

    def put_network(self, network: Network) -> None:
        self._put("networks", "id", network.id, network)

    def delete_network(self, network_id: str) -> None:
        self._delete("networks", "id", network_id)

    def put_reference(self, reference: str, image_id: str) -> None:
        self._execute("INSERT OR REPLACE INTO image_references VALUES (?, ?)", (reference, image_id))
        self.changes.append(("references", reference, image_id))

    def delete_reference(self, reference: str) -> None:
        self._execute("DELETE FROM image_references WHERE reference = ?", (reference,))
        self.changes.append(("references", reference, None))

    def add_residue(self, kind: str, detail: str) -> None:
        self._execute("INSERT INTO residue (kind, detail) VALUES (?, ?)", (kind, detail))

    def remove_residue(self, residue: Residue) -> None:
        self._execute("DELETE FROM residue WHERE id = ?", (residue.id,))

    def clear_residue(self, kind: str, detail: str) -> None:
        """It has gone after all, or is owned again."""
        self._execute("DELETE FROM residue WHERE kind = ? AND detail = ?", (kind, detail))

    def put_setting(self, key: str, value: str) -> None:
        self._execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))

    def emit(
        self, type: str, action: str, actor_id: str, attributes: Mapping[str, str], time_ns: int = 0
    ) -> None:
        """Tell the journal; ``time_ns`` is given only where the thing happened before now (found out after a
        restart).
        """
        self.events.append(self._journal.append(self._execute, type, action, actor_id, attributes, time_ns))

    def _put(self, table: str, key_column: str, key: str, record: msgspec.Struct) -> None:
        self._execute(
            f"INSERT INTO {table} ({key_column}, record) VALUES (?1, ?2) "
            f"ON CONFLICT ({key_column}) DO UPDATE SET record = ?2",
            (key, msgspec.json.encode(record)),
        )
        self.changes.append((table, key, record))

    def _delete(self, table: str, key_column: str, key: str) -> None:
        self._execute(f"DELETE FROM {table} WHERE {key_column} = ?", (key,))
        self.changes.append((table, key, None))


def open_store(path: Path, *, events_max_count: int, events_max_age_s: int) -> Store:
    """Open the database at ``path``, make it if it is not there, bring it up to date.

    Raises:
        UnusableState: it is corrupt, not ours, or newer than this engine.
    """
    reserve = Reserve(path.with_name("reserve"))
    reserve.give_up_if_scarce()
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=True)
    try:
        _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection)
        journal = Journal(connection, max_count=events_max_count, max_age_s=events_max_age_s)
        reserve.keep()
        return Store(connection, journal, reserve, Flusher(path.with_name(f"{path.name}-wal")))
    except (sqlite3.DatabaseError, msgspec.ValidationError, msgspec.DecodeError) as error:
        connection.close()
        raise UnusableState(f"the state database {path} cannot be used: {error}") from error
    except BaseException:
        connection.close()
        raise


def _check(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and application != APPLICATION_ID:
        raise UnusableState(f"{path} is a database, but not one of proad")
    if version > len(MIGRATIONS):
        raise UnusableState(
            f"{path} was written by a newer proad (schema {version}; this one knows {len(MIGRATIONS)}): "
            "run that one, or give this one another --data-root"
        )
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise UnusableState(f"the state database {path} is corrupt: {verdict}")


def _migrate(connection: sqlite3.Connection) -> None:
    done = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, script in enumerate(MIGRATIONS[done:], start=done + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {script} "
            f"PRAGMA user_version = {number}; COMMIT;"
        )


def _load(connection: sqlite3.Connection, table: str, key: str, type_: type[Any]) -> dict[str, Any]:
    decoder = msgspec.json.Decoder(type_)
    return {
        row[0]: decoder.decode(row[1]) for row in connection.execute(f"SELECT {key}, record FROM {table}")
    }
