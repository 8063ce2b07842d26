"""Trio-flavoured. What one run of a container holds on the host, and how each piece is given back.

A start acquires the pieces in its steps and registers these same functions as undos; the supervisor calls
them when the process has ended, recovery when the daemon died in between. Each is idempotent: what is gone
already is fine.

    piece      where                                   given back
    rootfs     overlay mount in the data root          before ``die`` is told
    mounts     volumes mounted for the container       before
    shm        tmpfs under the run's directory         before
    network    netns, veth, address, nft elements      before
    runtime    the OCI runtime's state, the cgroup     after, out of the way; the next start waits for it
    run files  bundle, pidfile, exit file, sockets          after, likewise
"""

from functools import lru_cache, partial
from pathlib import Path

import structlog
import trio

from proad.config import Config
from proad.engine.endpoints import Endpoints
from proad.engine.mounting import Mounting
from proad.engine.runpaths import RunPaths
from proad.engine.undo import Undo, run_undo
from proad.host import mounts
from proad.host.cgroup import Cgroups
from proad.host.overlay import Overlay
from proad.host.runtime import find_runtime
from proad.host.trees import remove_own
from proad.model.container import Container, Run
from proad.store.db import Store

log = structlog.get_logger(__name__)


class RunResources:
    """Gives back what runs hold."""

    def __init__(
        self,
        config: Config,
        store: Store,
        overlay: Overlay,
        mounting: Mounting,
        endpoints: Endpoints,
        cgroups: Cgroups,
        nursery: trio.Nursery,
    ) -> None:
        self._config = config
        self._store = store
        self._overlay = overlay
        self._mounting = mounting
        self._endpoints = endpoints
        self._cgroups = cgroups
        self._nursery = nursery
        self._finishing: dict[str, trio.Event] = {}
        self._paths = lru_cache(maxsize=1024)(partial(RunPaths, config))  # a start asks a dozen times

    def paths(self, container_id: str) -> RunPaths:
        return self._paths(container_id)

    def hosts_of(self, container_id: str) -> Path:
        """Where a container's hosts file is; it is mounted into the container while that runs."""
        return self.paths(container_id).hosts

    async def release(self, container: Container, run: Run) -> None:
        """Give back what must be free before ``die`` is told; what fails is logged and left to recovery."""
        pieces = [
            Undo("mounts", lambda: self._mounting.release(container), ("mounts", container.id)),
            Undo("shm", lambda: self.unmount_shm(container.id), ("shm", container.id)),
            Undo("rootfs", lambda: self._overlay.unmount(container.id), ("rootfs", container.id)),
        ]
        async with trio.open_nursery() as nursery:
            if run.netns:
                undo = Undo("network", lambda: self._endpoints.detach(run), ("network", run.id))
                nursery.start_soon(run_undo, self._store, undo)
            for piece in pieces:
                await run_undo(self._store, piece)

    def finish_later(self, container: Container, run: Run) -> None:
        """Delete the runtime's state, the cgroup and the run's files in the background."""
        done = trio.Event()
        self._finishing[container.id] = done
        self._nursery.start_soon(self._finish, container.id, run, done)

    async def finish_previous_run(self, container_id: str) -> None:
        """Return when nothing of an earlier run is in the way any more."""
        if (done := self._finishing.get(container_id)) is not None:
            await done.wait()

    def is_finishing(self, container_id: str) -> bool:
        """Whether the last run's pieces are being deleted in the background right now."""
        return container_id in self._finishing

    async def _finish(self, container_id: str, run: Run, done: trio.Event) -> None:
        try:
            with trio.CancelScope(shield=True):
                undo = Undo(
                    "runtime", lambda: self.delete_runtime(container_id, run), ("runtime", container_id)
                )
                await run_undo(self._store, undo)
                undo = Undo("run files", lambda: self.remove_files(container_id), ("run-files", container_id))
                await run_undo(self._store, undo)
        finally:
            done.set()
            if self._finishing.get(container_id) is done:
                del self._finishing[container_id]

    async def delete_runtime(self, container_id: str, run: Run) -> None:
        """Delete the OCI runtime's state of a container whose run has ended, and its cgroup.

        A process of the host's PID namespace may have stayed behind in it, and goes.
        """
        removed = self._cgroups.remove_empty(run.cgroup)
        if not removed:
            await self._cgroups.kill(run.cgroup)
        if run.runtime:
            runtime = find_runtime(run.runtime, self._config.runtimes, self._config.exec_root / "runtime")
            await runtime.delete_ended(container_id)
        if not removed:
            await self._cgroups.remove(run.cgroup)

    def unmount_shm(self, container_id: str) -> None:
        """Unmount the shared memory of a shareable container; a tmpfs, so nothing waits for a disk."""
        mounts.unmount_now(self.paths(container_id).shm)

    def remove_files(self, container_id: str) -> None:
        remove_own(self.paths(container_id).bundle)
