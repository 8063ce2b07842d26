"""The journal: numbers, replay, cursors that lag, and what a rolled-back transaction leaves."""

from pathlib import Path

import msgspec
import pytest

from proad.model import errors
from proad.store.db import Store, open_store
from proad.store.journal import RECENT, RECENT_BYTES, Cursor


@pytest.fixture
def store(tmp_path: Path):
    opened = open_store(tmp_path / "state.db", events_max_count=100_000, events_max_age_s=3600)
    yield opened
    opened.close()


def emit(store: Store, count: int, action: str = "start") -> None:
    with store.transaction(durable=False) as tx:
        for number in range(count):
            tx.emit("container", action, f"id{number}", {"image": "busybox", "name": f"n{number}"})


def everything(_event: object) -> bool:
    return True


def drain(cursor: Cursor) -> list[int]:
    numbers: list[int] = []
    while batch := cursor.take(limit=100):
        numbers += [event.seq for event in batch]
    return numbers


def test_a_live_cursor_sees_what_comes_after_it(store: Store) -> None:
    emit(store, 3)
    cursor = store.journal.cursor(None, None, everything)
    assert cursor.take() == []
    emit(store, 2)
    assert drain(cursor) == [4, 5]


def test_since_and_until_cut_exactly(store: Store) -> None:
    emit(store, 10)
    events = store.journal.cursor(0, None, everything).take()
    third, seventh = events[2].time_ns, events[6].time_ns
    cursor = store.journal.cursor(third, seventh, everything)
    assert drain(cursor) == [3, 4, 5, 6, 7]
    assert cursor.exhausted


def test_times_never_repeat(store: Store) -> None:
    emit(store, 1000)
    times = [e.time_ns for e in store.journal.cursor(0, None, everything).take(limit=1000)]
    assert times == sorted(set(times))


def test_a_reader_that_lags_behind_memory_loses_nothing(store: Store) -> None:
    cursor = store.journal.cursor(None, None, everything)
    emit(store, RECENT + 500)
    assert drain(cursor) == list(range(1, RECENT + 501))


def test_events_survive_a_reopening_and_numbers_go_on(store: Store, tmp_path: Path) -> None:
    emit(store, 5)
    store.close()
    again = open_store(tmp_path / "state.db", events_max_count=10, events_max_age_s=3600)
    emit(again, 1)
    assert drain(again.journal.cursor(None, None, everything, after_seq=3)) == [4, 5, 6]
    again.close()


def test_a_rolled_back_transaction_tells_nothing(store: Store) -> None:
    woken: list[bool] = []
    cursor = store.journal.cursor(None, None, everything)
    cursor.on_news(lambda: woken.append(True))

    def tell_and_fail() -> None:
        with store.transaction() as tx:
            tx.emit("container", "start", "x", {})
            raise errors.Conflict("no")

    with pytest.raises(errors.Conflict):
        tell_and_fail()
    assert cursor.take() == []
    assert woken == []
    emit(store, 1)
    assert woken == [True]
    assert drain(cursor) == [1]


def test_pruning_keeps_the_newest(store: Store) -> None:
    emit(store, 50)
    store.journal.max_count = 10
    store.journal.prune()
    rows = store._connection.execute("SELECT min(seq), max(seq) FROM events").fetchone()
    assert rows == (41, 50)


def test_filters_pass_over_what_does_not_match(store: Store) -> None:
    cursor = store.journal.cursor(None, None, lambda event: event.action == "die")
    emit(store, 700, "start")
    emit(store, 1, "die")
    assert drain(cursor) == [701]


def test_the_line_has_old_and_new_fields(store: Store) -> None:
    emit(store, 1)
    (event,) = store.journal.cursor(0, None, everything).take()
    body = msgspec.json.decode(event.line)
    assert body["status"] == body["Action"] == "start"
    assert body["id"] == body["Actor"]["ID"] == "id0"
    assert body["from"] == "busybox"
    assert body["timeNano"] // 10**9 == body["time"]
    assert event.line.endswith(b"\n")


def test_closing_forgets_the_reader(store: Store) -> None:
    cursor = store.journal.cursor(None, None, everything)
    assert store.journal.readers == 1
    cursor.close()
    assert store.journal.readers == 0


def test_long_labels_do_not_fill_the_memory(store: Store) -> None:
    cursor = store.journal.cursor(None, None, everything)
    for _ in range(40):
        with store.transaction(durable=False) as tx:
            tx.emit("container", "start", "id", {"label": "x" * (1 << 20)})
    assert sum(event.size_bytes for event in store.journal._recent) <= RECENT_BYTES
    assert drain(cursor) == list(range(1, 41))
