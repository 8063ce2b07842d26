"""Trio-flavoured. Commit: an image of a container as it is now."""

import io
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
import trio
from msgspec.structs import replace

from proad.engine.control import Control
from proad.engine.exports import check_intact, files_of
from proad.engine.imagecommit import Commit
from proad.engine.images import Images
from proad.engine.lookup import event_attributes, find_container
from proad.host.overlay import Overlay
from proad.host.snapshot import Packing, Snapshots
from proad.model import errors
from proad.model.changes import apply_changes
from proad.model.container import Container, Status
from proad.model.hostconfig import ContainerConfig
from proad.model.image import Image, ImageConfig, merge_config
from proad.model.reference import Reference
from proad.store.db import Store, Transaction

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CommitRequest:
    """What to make of a container. ``config`` is laid over the container's own; ``changes`` are Dockerfile
    instructions on top of that.
    """

    config: ContainerConfig | None = None
    changes: Sequence[str] = ()
    reference: Reference | None = None
    author: str = ""
    comment: str = ""
    pause: bool = True


class Committer:
    """Makes images of containers, whether they run or not."""

    def __init__(
        self, store: Store, overlay: Overlay, snapshots: Snapshots, images: Images, control: Control
    ) -> None:
        self._store = store
        self._overlay = overlay
        self._snapshots = snapshots
        self._images = images
        self._control = control

    async def commit(self, ref: str, request: CommitRequest) -> str:
        """Make an image and return its id; events ``tag`` of the image and ``commit`` of the container.

        A running container is paused while its files are read, unless the request says otherwise.

        Raises:
            errors.NotFound: there is no such container, or its image was removed by force.
            errors.Conflict: it is dead or being removed.
            errors.InvalidParameter: a change cannot be taken, or there would be too many layers.
            errors.System: its files cannot be read or kept.
        """
        container = find_container(self._store, ref)
        check_intact(self._store, container, "commit")
        parent = self._images.resolve(container.image_id)
        wanted = Commit(
            parent=parent,
            config=committed_config(container.config, request),
            created_by=" ".join(container.config.cmd or ()),
            author=request.author,
            comment=request.comment,
            reference=request.reference,
        )
        image = await self._make(container, wanted, pause=request.pause)
        return image.id

    async def _make(self, container: Container, wanted: Commit, *, pause: bool) -> Image:
        async with trio.open_nursery() as nursery, self._packing(container, nursery, pause=pause) as packed:
            source, packing = packed

            async def whole() -> int:
                told = await packing.finished()
                check_intact(self._store, container, "commit")
                if told.left_out:
                    log.warning(
                        "names that mean whiteouts in images are left out",
                        container=container.id,
                        paths=told.left_out[:10],
                        count=len(told.left_out),
                    )
                return told.entries

            def announce(tx: Transaction, image: Image) -> None:
                name = wanted.reference.familiar if wanted.reference is not None else ""
                attributes = {"comment": wanted.comment, "imageID": image.id, "imageRef": name}
                now = find_container(self._store, container.id)
                tx.emit("container", "commit", now.id, event_attributes(now, **attributes))

            return await self._images.commit(wanted, source, whole, announce)

    @asynccontextmanager
    async def _packing(
        self, container: Container, nursery: trio.Nursery, *, pause: bool
    ) -> AsyncIterator[tuple[io.FileIO, Packing]]:
        """Have what the container wrote packed, and the container paused for as long as that reads."""
        paused = await self._pause(container) if pause else False
        try:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            with io.FileIO(reading, "rb") as source, io.FileIO(writing, "wb") as output:
                files = files_of(self._overlay, container)
                async with self._snapshots.layer(files, writing) as packing:
                    output.close()  # the helper alone has it now, so that its end is the archive's
                    if paused:
                        nursery.start_soon(self._unpause_after, container, packing)
                    yield source, packing
        finally:
            if paused:
                with trio.CancelScope(shield=True):
                    await self._unpause(container)

    async def _pause(self, container: Container) -> bool:
        """Pause a container that runs; whether it was that."""
        if container.status is not Status.RUNNING:
            return False
        try:
            await self._control.pause(container.id, briefly=True)
        except errors.Conflict:  # it has ended, or somebody else has paused it
            return False
        return True

    async def _unpause_after(self, container: Container, packing: Packing) -> None:
        """Let it go on as soon as its files are read: what becomes of them then takes longer."""
        await packing.ended()
        await self._unpause(container)

    async def _unpause(self, container: Container) -> None:
        try:
            await self._control.unpause(container.id, briefly=True)
        except errors.NotFound:
            log.debug("it was removed meanwhile", container=container.id)
        except errors.System as error:
            log.error("cannot unpause after a commit", container=container.id, error=error.message)


def committed_config(container: ContainerConfig, request: CommitRequest) -> ImageConfig:
    """The configuration of the image: the request's, changed, and where it is silent the container's.

    Raises:
        errors.InvalidParameter: a change cannot be taken.
    """
    asked = request.config if request.config is not None else container
    changed = apply_changes(_image_config(asked), request.changes)
    fields = {name: getattr(changed, name) for name in ImageConfig.__struct_fields__}
    return _image_config(merge_config(_image_config(container), replace(asked, **fields)))


def _image_config(config: ContainerConfig) -> ImageConfig:
    """The part of a container's configuration that images have as well."""
    return ImageConfig(**{name: getattr(config, name) for name in ImageConfig.__struct_fields__})
