"""Trio-flavoured. The verbs remove and prune."""

from dataclasses import dataclass

import structlog

from proad.engine.control import Control
from proad.engine.dispose import Disposer
from proad.engine.listing import Filters, prune_predicate
from proad.engine.locks import Locks
from proad.engine.lookup import find_container
from proad.host.overlay import Overlay
from proad.model import errors
from proad.model.container import Container, Status
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
        self, store: Store, locks: Locks, control: Control, disposer: Disposer, overlay: Overlay
    ) -> None:
        self._store = store
        self._locks = locks
        self._control = control
        self._disposer = disposer
        self._overlay = overlay

    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        """Remove a container; ``force`` kills it first, ``volumes`` takes its anonymous volumes along.

        Raises:
            errors.NotFound: there is none.
            errors.Conflict: it runs and ``force`` is not given, or it is being removed already.
            errors.System: something of it could not be removed; it stays, ``dead``.
        """
        container = find_container(self._store, ref)
        if link:
            raise errors.NotImplemented(
                "link: links are part of a container here and cannot be removed by themselves"
            )
        if force and container.status.has_process:
            try:
                await self._control.kill(container.id, "KILL")
            except errors.Conflict:
                log.debug("the container to be removed ended by itself", container=container.id)
        async with self._locks.of(container.id):
            current = self._store.containers.get(container.id)
            if current is None:
                if force:
                    return  # auto-remove was faster
                raise errors.NotFound(f"No such container: {ref}")
            _refuse_removal(current, force=force)
            await self._disposer.dispose_locked(current, volumes=volumes)

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
