"""Who waits for whom when containers are started at boot."""

from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from proad.engine.bootorder import needs_of, start_in_order
from proad.model.container import Container
from proad.model.hostconfig import ContainerConfig, HostConfig
from proad.model.links import Link
from proad.store.db import Store


def container(name: str, links: tuple[str, ...] = (), **host_config: Any) -> Container:
    return Container(
        id=name * 64,
        name=name,
        created_ns=0,
        image_id="",
        image_ref="",
        layers=(),
        config=ContainerConfig(),
        host_config=HostConfig(**host_config),
        links=tuple(Link(target * 64, target, target) for target in links),
    )


def needs(*containers: Container) -> dict[str, set[str]]:
    store = cast(Store, SimpleNamespace(containers={one.id: one for one in containers}))
    found = needs_of(store, containers)
    return {container_id[0]: {needed[0] for needed in found[container_id]} for container_id in found}


def test_joined_namespaces_and_links_are_waited_for() -> None:
    a = container("a", network_mode="container:b")
    b = container("b", ipc_mode="container:c")
    c = container("c")
    d = container("d", links=("a",), pid_mode="container:b")
    assert needs(a, b, c, d) == {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a", "b"}}


def test_what_is_not_started_is_not_waited_for() -> None:
    assert needs(container("a", network_mode="container:gone", links=("x",))) == {"a": set()}


def test_a_circle_is_cut() -> None:
    a, b = container("a", network_mode="container:b"), container("b", network_mode="container:a")
    assert needs(a, b) == {"a": {"b"}, "b": set()}
    assert needs(container("a", network_mode="container:a")) == {"a": set()}


def test_the_needed_is_tried_first() -> None:
    begun: list[str] = []
    ended: list[str] = []

    async def start(container_id: str) -> None:
        begun.append(container_id)
        await trio.sleep({"c": 3, "b": 2, "a": 1, "x": 1}[container_id])
        ended.append(container_id)

    async def main() -> None:
        await start_in_order({"a": ["b"], "b": ["c"], "c": [], "x": []}, start)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert sorted(begun[:2]) == ["c", "x"]
    assert begun[2:] == ["b", "a"]
    assert ended == ["x", "c", "b", "a"]
