"""Trio-flavoured. In which order containers are started at boot: whoever needs another waits for it.

A container needs those whose namespaces it joins, and those that it links to by legacy links.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

import trio

from proad.engine.joining import PREFIX
from proad.engine.lookup import find_container
from proad.model import errors
from proad.model.container import Container
from proad.store.db import Store

Needs = Mapping[str, Collection[str]]
"""Ids of containers to the ids of those that they wait for."""


def needs_of(store: Store, containers: Collection[Container]) -> Needs:
    """Which of ``containers`` wait for which others of them. Where they need each other in a circle, one of
    them waits for nobody: its start tells what is wrong.
    """
    ids = {container.id for container in containers}
    needs: dict[str, set[str]] = {}
    for container in containers:
        needs[container.id] = set()
        for needed in set(_needed(store, container)) & ids - {container.id}:
            if not _leads_to(needs, needed, container.id):
                needs[container.id].add(needed)
    return needs


async def start_in_order(needs: Needs, start: Callable[[str], Awaitable[None]]) -> None:
    """Start all, each after those that it needs have been tried; what does not depend starts at once.

    ``start`` does not raise.
    """
    tried = {container_id: trio.Event() for container_id in needs}

    async def start_one(container_id: str) -> None:
        for needed in needs[container_id]:
            await tried[needed].wait()
        try:
            await start(container_id)
        finally:
            tried[container_id].set()

    async with trio.open_nursery() as nursery:
        for container_id in needs:
            nursery.start_soon(start_one, container_id)


def _needed(store: Store, container: Container) -> Iterator[str]:
    asked = container.host_config
    for mode in (asked.network_mode, asked.ipc_mode, asked.pid_mode):
        if mode.startswith(PREFIX):
            try:
                yield find_container(store, mode.removeprefix(PREFIX)).id
            except errors.ProaError:  # its start will say that it is not there
                continue
    yield from (link.id for link in container.links)


def _leads_to(needs: Mapping[str, Collection[str]], begin: str, end: str) -> bool:
    seen: set[str] = set()
    ahead = [begin]
    while ahead:
        here = ahead.pop()
        if here == end:
            return True
        if here not in seen:
            seen.add(here)
            ahead.extend(needs.get(here, ()))
    return False
