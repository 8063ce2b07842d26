"""Trio-flavoured. Taking a stopped container off the host, with its lock held: for remove, prune and
auto-remove.
"""

import shutil

from msgspec.structs import replace

from proad.config import Config
from proad.engine.lookup import event_attributes
from proad.engine.resources import RunResources
from proad.engine.streams import Streams
from proad.engine.volumes import RESIDUE as VOLUME_RESIDUE
from proad.engine.volumes import Volumes
from proad.engine.waiting import Waiters, WaitResult
from proad.host.overlay import Overlay
from proad.model import errors
from proad.model.container import Container, Status
from proad.store.db import Store


class Disposer:
    """Takes containers away, with their writable layer, logs and, if asked, their anonymous volumes."""

    def __init__(
        self,
        config: Config,
        store: Store,
        waiters: Waiters,
        overlay: Overlay,
        volumes: Volumes,
        resources: RunResources,
        streams: Streams,
    ) -> None:
        self._config = config
        self._store = store
        self._waiters = waiters
        self._overlay = overlay
        self._volumes = volumes
        self._resources = resources
        self._streams = streams

    async def dispose_locked(self, container: Container, *, volumes: bool) -> None:
        """Remove a container that does not run; the caller holds its lock. Event ``destroy``.

        Raises:
            errors.System: something of it could not be removed; the container stays, ``dead``, and can be
            removed again.
        """
        if container.status is not Status.REMOVING:
            container = container.with_status(Status.REMOVING)
            with self._store.transaction(durable=False) as tx:
                tx.put_container(container)
                for point in container.mounts if volumes else ():
                    if point.type == "volume" and point.anonymous:
                        tx.add_residue(VOLUME_RESIDUE, point.name)
        try:
            await self._remove_files(container.id)
        except (OSError, errors.ProaError) as error:
            message = f'driver "overlay" failed to remove root filesystem: {error}'
            with self._store.transaction() as tx:
                tx.put_container(replace(container.with_status(Status.DEAD), error=message))
            self._waiters.removed(container.id, WaitResult(container.exit_code, message))
            raise errors.System(f"container {container.id}: {message}") from error
        with self._store.transaction(durable=False) as tx:
            tx.delete_container(container.id)
            tx.emit("container", "destroy", container.id, event_attributes(container))
        self._streams.run_ended(container.id)  # clients may be attached to what never started
        if volumes:
            await self._volumes.remove_anonymous(container)
        # No error: the removal went well. Why a start failed before it is the start's to tell.
        self._waiters.removed(container.id, WaitResult(container.exit_code))
        await self._store.flush()

    async def _remove_files(self, container_id: str) -> None:
        await self._resources.finish_previous_run(container_id)
        await self._overlay.remove(container_id)
        directory = self._config.data_root / "containers" / container_id
        if directory.exists():
            shutil.rmtree(directory)
