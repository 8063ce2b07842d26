"""Trio-flavoured. The verbs remove, of containers and of links, and prune."""

from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from proad.engine.control import Control
from proad.engine.dispose import Disposer
from proad.engine.links import forget_linked
from proad.engine.listing import Filters, prune_predicate
from proad.engine.locks import Locks
from proad.engine.lookup import find_container, find_link
from proad.engine.resources import RunResources
from proad.host.overlay import Overlay
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.store.db import Store

PRUNABLE = (Status.CREATED, Status.EXITED, Status.DEAD)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PruneReport:
    """The ids that went, and the bytes that came free."""

    deleted: list[str]
    space_bytes: int


class Remover:
    """Removes containers because somebody asked for it."""

    def __init__(
        self,
        store: Store,
        locks: Locks,
        control: Control,
        disposer: Disposer,
        resources: RunResources,
        overlay: Overlay,
    ) -> None:
        self._store = store
        self._locks = locks
        self._control = control
        self._disposer = disposer
        self._resources = resources
        self._overlay = overlay

    async def remove(self, ref: str, *, force: bool, volumes: bool) -> None:
        """Remove a container; ``force`` kills it first, ``volumes`` takes its anonymous volumes along.

        Raises:
            errors.NotFound: there is none.
            errors.Conflict: it runs and ``force`` is not given, or it is being removed already.
            errors.System: something of it could not be removed; it stays, ``dead``.
        """
        container = find_container(self._store, ref)
        while True:
            killed = container.run if force and container.status.has_process else None
            if killed is not None:
                await self._kill(container)
            async with self._locks.of(container.id):
                current = self._store.containers.get(container.id)
                if current is None:
                    if force:
                        return  # auto-remove was faster
                    raise errors.NotFound(f"No such container: {ref}")
                if force and _runs_anew(current, killed):
                    container = current  # it was between two runs, and its restart had the lock first
                    continue
                _refuse_removal(current, force=force)
                await self._disposer.dispose_locked(current, volumes=volumes)
                return

    async def _kill(self, container: Container) -> None:
        try:
            await self._control.kill(container.id, "KILL")
        except errors.Conflict:
            log.debug("the container to be removed ended by itself", container=container.id)

    async def remove_link(self, path: str) -> None:
        """Remove the link called ``holder/alias``, and nothing of the container that it leads to.

        It goes from the hosts file of a holder that runs; what is in the environment of its processes stays.

        Raises:
            errors.NotFound: there is no such link, nor a container.
            errors.Conflict: a container's own name.
        """
        path = path.removeprefix("/")
        if (found := find_link(self._store, path)) is None:
            find_container(self._store, path)
            raise errors.Conflict("Conflict, cannot remove the default link name of the container")
        async with self._locks.of(found[0].id):
            if (found := find_link(self._store, path)) is None:
                raise errors.NotFound(f"No such container: {path}")
            holder, link = found
            kept = tuple(other for other in holder.links if other != link)
            with self._store.transaction() as tx:
                tx.put_container(replace(holder, links=kept))
            forget_linked(holder, link, self._resources.hosts_of)

    async def prune(self, filters: Filters) -> PruneReport:
        """Remove all stopped containers that ``filters`` mean.

        Raises:
            errors.InvalidParameter: an unknown filter.
        """
        meant = prune_predicate(filters)
        deleted, freed_bytes = [], 0
        for container_id in list(self._store.containers):
            async with self._locks.of(container_id):
                container = self._store.containers.get(container_id)
                if container is None or container.status not in PRUNABLE or not meant(container):
                    continue
                if container.of_build:
                    continue  # what it wrote is about to become an image
                size_bytes = await self._overlay.size_rw(container.id)
                try:
                    await self._disposer.dispose_locked(container, volumes=False)
                except errors.ProaError as error:
                    log.warning("container not pruned", container=container.id, error=error.message)
                    continue
            deleted.append(container_id)
            freed_bytes += size_bytes
        with self._store.transaction(durable=False) as tx:
            tx.emit("container", "prune", "", {"reclaimed": str(freed_bytes)})
        return PruneReport(deleted, freed_bytes)


def _runs_anew(container: Container, killed: Run | None) -> bool:
    run = container.run
    return container.status.has_process and run is not None and (killed is None or run.id != killed.id)


def _refuse_removal(container: Container, *, force: bool) -> None:
    match container.status:
        case Status.REMOVING if not force:
            raise errors.Conflict(f"removal of container {container.id} is already in progress")
        case Status.PAUSED:
            state, advice = "paused", "must be unpaused first"
            raise errors.Conflict(
                f'cannot remove container "/{container.name}": container is {state} and {advice}'
            )
        case (Status.RUNNING | Status.STARTING) as state:
            _refuse_running(container, state)
        case Status.RESTARTING if not force:
            _refuse_running(container, Status.RESTARTING)


def _refuse_running(container: Container, state: Status) -> None:
    raise errors.Conflict(
        f'cannot remove container "/{container.name}": container is {state.value}: '
        "stop the container before removing or force remove"
    )
