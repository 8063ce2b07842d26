"""The state database: transactions, records, and files that cannot be used."""

import sqlite3
from pathlib import Path

import pytest

from proad.model import errors
from proad.model.container import Container, Status
from proad.model.hostconfig import ContainerConfig, HostConfig, RestartPolicy
from proad.store.db import MIGRATIONS, Store, UnusableState, open_store
from proad.store.lock import AlreadyRunning, hold


def open_at(path: Path) -> Store:
    return open_store(path, events_max_count=100, events_max_age_s=3600)


def container(name: str = "one") -> Container:
    return Container(
        id=name * 3,
        name=name,
        created_ns=1,
        image_id="sha256:x",
        image_ref="busybox",
        layers=("sha256:l",),
        config=ContainerConfig(cmd=("sh",), env=("A=1",)),
        host_config=HostConfig(memory=6 << 20, restart_policy=RestartPolicy(name="always")),
    )


def test_records_round_trip(tmp_path: Path) -> None:
    store = open_at(tmp_path / "state.db")
    with store.transaction() as tx:
        tx.put_container(container())
        tx.put_reference("docker.io/library/busybox:latest", "sha256:x")
        tx.put_setting("k", "v")
    store.close()
    again = open_at(tmp_path / "state.db")
    assert again.containers == {"oneoneone": container()}
    assert again.references == {"docker.io/library/busybox:latest": "sha256:x"}
    assert again.setting("k") == "v"
    again.close()


def test_all_or_nothing(tmp_path: Path) -> None:
    store = open_at(tmp_path / "state.db")

    def put_and_fail() -> None:
        with store.transaction() as tx:
            tx.put_container(container())
            raise errors.Conflict("changed my mind")

    with pytest.raises(errors.Conflict):
        put_and_fail()
    assert store.containers == {}
    store.close()
    again = open_at(tmp_path / "state.db")
    assert again.containers == {}
    again.close()


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    store = open_at(tmp_path / "state.db")
    store._connection.execute("PRAGMA max_page_count = 12")

    def put_too_much() -> None:
        with store.transaction() as tx:
            tx.put_container(container())
            tx.put_setting("big", "x" * 100_000)

    with pytest.raises(errors.System, match="full"):
        put_too_much()
    assert store.containers == {}
    assert store.setting("big") is None
    store.close()


def test_corrupt_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database" * 500)
    before = path.read_bytes()
    with pytest.raises(UnusableState, match="cannot be used"):
        open_at(path)
    assert path.read_bytes() == before


def test_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_at(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(UnusableState, match="newer proad"):
        open_at(path)


def test_foreign_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(UnusableState, match="not one of proad"):
        open_at(path)


def test_residue_is_kept_until_it_is_worked_off(tmp_path: Path) -> None:
    store = open_at(tmp_path / "state.db")
    with store.transaction() as tx:
        tx.add_residue("mount", "/x")
    (item,) = store.residue()
    assert (item.kind, item.detail) == ("mount", "/x")
    with store.transaction() as tx:
        tx.remove_residue(item)
    assert store.residue() == []
    store.close()


def test_the_second_holder_learns_who_has_it(tmp_path: Path) -> None:
    import os

    descriptor = hold(tmp_path)
    with pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}\b"):
        hold(tmp_path)
    os.close(descriptor)
    os.close(hold(tmp_path))


def test_moves_that_the_table_does_not_have_are_refused() -> None:
    created = container()
    assert created.with_status(Status.STARTING).with_status(Status.RUNNING).status is Status.RUNNING
    with pytest.raises(errors.System, match="cannot go from created to running"):
        created.with_status(Status.RUNNING)
