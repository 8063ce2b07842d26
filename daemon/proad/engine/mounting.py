"""Trio-flavoured. From what a container asks to mount, through its record, to the mounts of one run.

    register    at create: volumes are found or made and filled, mount points are returned
    settle      at create: the record is stored
    unregister  the undo of register
    prepare     at start: volumes mounted, sources checked, mounts of the OCI config returned
    release     the undo of prepare, and what follows a run's end

The two undos can be repeated, and work for runs that another daemon process began.
"""

import os
from collections.abc import Callable
from pathlib import Path

import structlog
import trio
from msgspec.structs import replace

from proad.config import Config
from proad.engine.staging import Staging, open_below
from proad.engine.volumes import Volumes
from proad.host import mounts
from proad.host.overlay import Overlay
from proad.host.rootfs import Rootfs
from proad.host.trees import copy_tree, empty_tree, open_directory
from proad.model import errors
from proad.model.container import Container
from proad.model.image import Image
from proad.model.mountparse import PlannedMount, parse_volumes_from, plan_mounts
from proad.model.mounts import MountPoint, SpecMount, bind_mount, by_depth, tmpfs_mount
from proad.model.storage import parse_storage_opt
from proad.store.db import Store

log = structlog.get_logger(__name__)


class Mounting:
    """Mounts of containers: binds, volumes, images and tmpfs.

    ``find_image`` finds an image by what users call it.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        volumes: Volumes,
        overlay: Overlay,
        find_image: Callable[[str], Image],
    ) -> None:
        self._config = config
        self._store = store
        self._volumes = volumes
        self._overlay = overlay
        self._find_image = find_image
        self._staging = Staging(config.exec_root, overlay)
        self._has_recursive_read_only = mounts.has_recursive_read_only()
        self._sockets = {host.removeprefix("unix://") for host in config.hosts if host.startswith("unix://")}

    # --- create ---------------------------------------------------------------------------------------------

    async def register(
        self, container: Container, find: Callable[[str], Container]
    ) -> tuple[MountPoint, ...]:
        """Return the mount points of a container that is being created, with their volumes made and filled.

        ``container`` is the record that is about to be stored; ``find`` looks up another one by what the user
        calls it. The volumes are held for the container until
        :meth:`settle` or :meth:`unregister`.

        Raises:
            errors.InvalidParameter: in Docker's words; see :func:`proad.model.mountparse.plan_mounts`.
            errors.NotFound: a volume driver, or an image, that is not there.
            errors.System: a volume cannot be made or filled.
            After any of them, nothing is left that was not there before but named volumes, as with Docker.
        """
        plans = plan_mounts(
            container.config,
            container.host_config,
            self._inherited(container, find),
            str(self._config.data_root),
        )
        points: list[MountPoint] = []
        try:
            for plan in plans:
                points.append(await self._settle(plan, container.id))
            await self._fill(replace(container, mounts=tuple(points)))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.unregister(replace(container, mounts=tuple(points)))
            raise
        return tuple(points)

    def settle(self, container_id: str) -> None:
        """The record is stored and refers to its volumes by itself; the last step of a creation that went
        well.
        """
        self._volumes.let_go(container_id)

    async def unregister(self, container: Container) -> None:
        """Let go of a container's volumes and remove those that the engine named for it alone."""
        self._volumes.let_go(container.id)
        await self._volumes.remove_anonymous(container)

    @staticmethod
    def _inherited(
        container: Container, find: Callable[[str], Container]
    ) -> list[tuple[str, tuple[MountPoint, ...]]]:
        inherited = []
        for spec in container.host_config.volumes_from:
            ref, mode = parse_volumes_from(spec)
            try:
                inherited.append((mode, find(ref).mounts))
            except errors.NotFound as error:
                raise errors.InvalidParameter(error.message) from error
        return inherited

    async def _settle(self, plan: PlannedMount, container_id: str) -> MountPoint:
        point = plan.point
        if plan.is_source_required and not Path(point.source).exists():
            raise errors.InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
            )
        wish = plan.wish
        if wish is None:
            if point.type == "volume":
                self._volumes.hold(point.name, container_id)
            if point.type == "image" and not point.source:  # else it is inherited
                image = self._find_image(point.name)
                return replace(point, source=image.id, layers=image.chain_ids)
            return point
        volume = await self._volumes.create(
            wish.name, driver=wish.driver, options=wish.options, labels=wish.labels, holder=container_id
        )
        return replace(
            point, name=volume.name, driver=volume.driver, source=str(self._volumes.mountpoint(volume))
        )

    # --- initial content ------------------------------------------------------------------------------------

    async def _fill(self, container: Container) -> None:
        """Copy what the image has at the destinations of empty volumes, with owners and modes."""
        empty = [
            point
            for point in container.mounts
            if point.type == "volume" and not point.no_copy and self._may_be_empty(point)
        ]
        if not empty:
            return
        was_mounted = self._overlay.is_mounted(container.id)
        size_bytes = parse_storage_opt(container.host_config.storage_opt)
        rootfs = self._overlay.mount(container.id, container.layers, size_bytes=size_bytes)
        try:
            for point in empty:
                await self._fill_one(container.id, point, rootfs)
        finally:
            if not was_mounted:
                with trio.CancelScope(shield=True):
                    await self._overlay.unmount(container.id)

    def _may_be_empty(self, point: MountPoint) -> bool:
        volume = self._volumes.find(point.name)
        return volume.is_mounted_on_use or not _has_entries(self._volumes.mountpoint(volume))

    async def _fill_one(self, container_id: str, point: MountPoint, rootfs: Path) -> None:
        with Rootfs(rootfs) as inside:
            if not inside.exists(point.destination):
                return
            if not inside.is_directory(point.destination):
                raise errors.InvalidParameter(
                    f"cannot mount volume over existing file, file exists {rootfs}{point.destination}"
                )
            source = inside.open(point.destination, os.O_RDONLY | os.O_DIRECTORY)
        user = f"fill-{container_id}"
        try:
            path = await self._volumes.mount(point.name, user)
            try:
                await trio.to_thread.run_sync(self._copy, source, point, path)
            finally:
                with trio.CancelScope(shield=True):
                    await self._volumes.unmount(point.name, user)
        finally:
            os.close(source)

    def _copy(self, source: int, point: MountPoint, path: Path) -> None:
        """Fill an empty volume; a failure, or the daemon's death, leaves it empty where the volume allows it.

        A plain volume that no container sees gets its content whole, by a rename. In one that is mounted
        somewhere a rename would not be seen, so there it is filled in place.
        """
        volume = self._volumes.find(point.name)
        target = open_below(path, point.subpath) if point.subpath else open_directory(path)
        try:
            if os.listdir(target):
                return
            is_seen = volume.is_mounted_on_use or point.subpath or self._volumes.users(point.name) > 1
            if is_seen:
                try:
                    copy_tree(source, target)
                except errors.System:
                    empty_tree(target)
                    raise
                return
        finally:
            os.close(target)
        staging = self._volumes.staging(volume)
        staging.mkdir(mode=0o755, exist_ok=True)
        target = open_directory(staging)
        try:
            empty_tree(target)
            copy_tree(source, target)
            staging.rename(path)
        except errors.System:
            empty_tree(target)
            staging.rmdir()
            raise
        finally:
            os.close(target)

    # --- start ----------------------------------------------------------------------------------------------

    async def prepare(self, container: Container, rootfs: Path, *, user: str = "") -> list[SpecMount]:
        """Make a container's mounts ready for a run and return them, shallow destinations first.

        ``rootfs`` is where the root filesystem is mounted. ``user`` is who uses them beside the run, which
        goes by the container's id. Event ``mount`` for each volume.

        Raises:
            errors.InvalidParameter: a bind's source is missing or cannot propagate as asked, a subpath is not
            there.
            errors.NotFound: a volume is gone.
            errors.System: the kernel refused. After any error, nothing stays mounted.
        """
        user = user or container.id
        hidden = set(container.host_config.tmpfs)
        ready: list[SpecMount] = []
        mounted: list[MountPoint] = []
        try:
            for index, point in enumerate(container.mounts):
                if point.destination in hidden:
                    continue
                ready.append(await self._prepare_one(user, index, point))
                if point.type == "volume":
                    mounted.append(point)
            for destination, options in container.host_config.tmpfs.items():
                ready.append(tmpfs_mount(destination, options))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._release_quietly(user)
            raise
        if mounted:
            with self._store.transaction(durable=False) as tx:
                for point in mounted:
                    attributes = {
                        "driver": point.driver,
                        "container": container.id,
                        "destination": point.destination,
                        "read/write": str(point.read_write).lower(),
                        "propagation": point.propagation,
                    }
                    tx.emit("volume", "mount", point.name, attributes)
        return by_depth(ready)

    async def recover(self) -> None:
        """After a restart, once it is known which containers live: unmount what was staged for all others."""

        def is_used(container_id: str) -> bool:
            container = self._store.containers.get(container_id)
            return bool(self._volumes.used_by(container_id)) or (
                container is not None and container.status.has_process
            )

        await self._staging.recover(is_used)

    async def release(self, container: Container, *, user: str = "") -> None:
        """Give back what :meth:`prepare` took for ``user``; event ``unmount`` for each volume. Nothing taken
        is no error.

        Raises:
            errors.System: the kernel refused to unmount something; the rest is released.
        """
        names = await self._release_quietly(user or container.id)
        if names:
            with self._store.transaction(durable=False) as tx:
                for name in names:
                    tx.emit("volume", "unmount", name, {"driver": "local", "container": container.id})

    async def _release_quietly(self, user: str) -> list[str]:
        refused: errors.System | None = None
        try:
            await self._staging.clear(user)
        except errors.System as error:
            refused = error
        released = []
        for name in self._volumes.used_by(user):
            try:
                if await self._volumes.unmount(name, user):
                    released.append(name)
            except errors.System as error:
                refused = refused or error
        if refused is not None:
            raise refused
        return released

    async def _prepare_one(self, user: str, index: int, point: MountPoint) -> SpecMount:
        match point.type:
            case "tmpfs":
                return tmpfs_mount(point.destination, point.tmpfs_options)
            case "volume":
                path = await self._volumes.mount(point.name, user)
                if point.subpath:
                    path = self._staging.part(user, str(index), path, point.subpath)
                return self._bind(point, str(path))
            case "image":
                path = self._staging.image(user, str(index), point.layers, point.subpath)
                return self._bind(point, str(path))
            case _:
                self._check_source(point)
                return self._bind(self._with_possible_propagation(point), point.source)

    def _bind(self, point: MountPoint, source: str) -> SpecMount:
        if point.read_write:
            return bind_mount(point, source)
        if not os.path.isdir(source):
            # Nothing is mounted below a file, and crun 1.8 cannot make a bound file recursively read-only.
            return bind_mount(replace(point, read_only_non_recursive=True), source)
        if self._has_recursive_read_only:
            return bind_mount(point, source)
        if point.read_only_force_recursive:
            raise errors.InvalidParameter(
                "BindOptions.ReadOnlyForceRecursive: this kernel cannot mount recursively read-only"
            )
        return bind_mount(replace(point, read_only_non_recursive=True), source)

    def _check_source(self, point: MountPoint) -> None:
        """See that a bind's source is there; Docker makes a directory where ``-v`` names nothing."""
        if os.path.exists(point.source):
            return
        if not point.create_source:
            raise errors.InvalidParameter(
                f'invalid mount config for type "bind": bind source path does not exist: {point.source}'
            )
        if point.source in self._sockets:
            raise errors.Conflict(
                f"Failed to create mountpoint '{point.source}': it is the daemon's own socket, which is gone"
            )
        try:
            os.makedirs(point.source, mode=0o755, exist_ok=True)
        except OSError as error:
            raise errors.InvalidParameter(
                f"error while creating mount source path '{point.source}': mkdir {point.source}: "
                f"{mounts.describe_errno(error.errno or 0)}"
            ) from error

    def _with_possible_propagation(self, point: MountPoint) -> MountPoint:
        """Check that the mount below a bind's source can propagate as asked.

        Raises:
            errors.InvalidParameter: it cannot; in Docker's words.
        """
        kind = point.propagation.removeprefix("r")
        if kind not in ("shared", "slave"):
            return point
        below = mounts.mount_of(point.source)
        if below.is_shared or (kind == "slave" and below.is_slave):
            return point
        if point.is_propagation_default:
            return replace(point, propagation="rprivate")
        wanted = "a shared" if kind == "shared" else "a shared or slave"
        raise errors.InvalidParameter(
            f"path {point.source} is mounted on {below.mountpoint} but it is not {wanted} mount"
        )


def _has_entries(directory: Path) -> bool:
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
