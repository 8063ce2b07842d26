"""Forced removal of a container whose restart gets in between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from proad.engine.locks import Locks
from proad.engine.remove import Remover
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.hostconfig import ContainerConfig, HostConfig
from proad.store.db import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "state.db", events_max_count=100, events_max_age_s=3600)
    yield opened
    opened.close()


class Control:
    """Kills at once, or finds that what it kills does not die."""

    def __init__(self, store: Store, *, mortal: bool = True) -> None:
        self._store = store
        self._mortal = mortal
        self.killed: list[str] = []

    async def kill(self, ref: str, signal: str) -> None:
        container = self._store.containers[ref]
        assert (signal, container.run is not None) == ("KILL", True)
        self.killed.append(container.run.id if container.run else "")
        if self._mortal:
            put(self._store, container.with_status(Status.EXITED))


class Disposer:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def dispose_locked(self, container: Container, *, volumes: bool) -> None:
        assert not container.status.has_process
        with self._store.transaction() as tx:
            tx.delete_container(container.id)


def put(store: Store, container: Container) -> None:
    with store.transaction() as tx:
        tx.put_container(container)


def restarting() -> Container:
    made = Container(
        id="one",
        name="one",
        created_ns=1,
        image_id="sha256:x",
        image_ref="busybox",
        layers=(),
        config=ContainerConfig(cmd=("true",)),
        host_config=HostConfig(),
    )
    return replace(made, status=Status.RESTARTING, run=Run(id="first", begun_ns=1, cgroup="/x"))


def remover(store: Store, locks: Locks, control: Control) -> Remover:
    unused: Any = None
    parts: Any = (store, locks, control, Disposer(store), unused, unused)
    return Remover(*parts)


def test_a_restart_that_had_the_lock_first_is_killed_as_well(store: Store) -> None:
    async def main() -> None:
        put(store, restarting())
        locks, control = Locks(), Control(store)
        async with trio.open_nursery() as nursery, locks.of("one"):

            async def remove() -> None:
                await remover(store, locks, control).remove("one", force=True, volumes=False)

            nursery.start_soon(remove)
            await wait_all_tasks_blocked()
            again = Run(id="second", begun_ns=2, cgroup="/x")
            put(store, replace(restarting(), status=Status.RUNNING, run=again))
        assert control.killed == ["second"]
        assert not store.containers

    trio.run(main)


def test_what_does_not_die_is_refused_and_not_killed_for_ever(store: Store) -> None:
    async def main() -> None:
        put(store, replace(restarting(), status=Status.RUNNING))
        control = Control(store, mortal=False)
        with pytest.raises(errors.Conflict, match="container is running"):
            await remover(store, Locks(), control).remove("one", force=True, volumes=False)
        assert control.killed == ["first"]

    trio.run(main)
