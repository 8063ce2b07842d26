"""Trio-flavoured. What a container changed, and all its files as an archive."""

import io

from proad.engine.lookup import event_attributes, find_container
from proad.host.overlay import Overlay
from proad.host.snapshot import Change, Files, Snapshots
from proad.model import errors
from proad.model.container import Container, Status
from proad.store.db import Store


class Exports:
    """Reads containers' files, whether they run or not. It takes no lock: what is written meanwhile may be
    seen or not.
    """

    def __init__(self, store: Store, overlay: Overlay, snapshots: Snapshots) -> None:
        self._store = store
        self._overlay = overlay
        self._snapshots = snapshots

    async def changes(self, ref: str) -> list[Change]:
        """What was added, changed and deleted since it was created, in order of the paths.

        Raises:
            errors.NotFound: there is no such container.
            errors.System: its files cannot be read.
        """
        container = find_container(self._store, ref)
        try:
            return await self._snapshots.changes(files_of(self._overlay, container))
        except errors.System:
            find_container(self._store, container.id)  # it may be that it was removed meanwhile
            raise

    async def export(self, ref: str, output: io.FileIO) -> None:
        """Write all files, but what is mounted into it, as a tar into ``output``, and close that. Event
        ``export``.

        Raises:
            errors.NotFound: there is no such container.
            errors.Conflict: it is dead or being removed.
            errors.System: the archive is not whole.
        """
        with output:
            container = find_container(self._store, ref)
            check_intact(self._store, container, "export")
            async with self._snapshots.whole(files_of(self._overlay, container), output.fileno()) as packing:
                output.close()  # the helper alone has it now
                await packing.finished()
        check_intact(self._store, container, "export")
        with self._store.transaction(durable=False) as tx:
            tx.emit("container", "export", container.id, event_attributes(container))


def files_of(overlay: Overlay, container: Container) -> Files:
    """Where the files of a container are at this moment."""
    upper, rootfs = overlay.upper_path(container.id), overlay.rootfs_path(container.id)
    return Files(
        lower=overlay.layer_paths(container.layers),
        upper=upper if upper.is_dir() else None,
        rootfs=rootfs if overlay.is_mounted(container.id) else None,
    )


def check_intact(store: Store, container: Container, verb: str) -> None:
    """Refuse a container whose files are going, or have gone.

    Raises:
        errors.NotFound: it was removed.
        errors.Conflict: it is dead, or being removed; in Docker's words.
    """
    status = find_container(store, container.id).status
    if status is Status.DEAD:
        raise errors.Conflict(f"You cannot {verb} container {container.id} which is Dead")
    if status is Status.REMOVING:
        raise errors.Conflict(f"You cannot {verb} container {container.id} which is being removed")
