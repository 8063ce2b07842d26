"""Trio-flavoured. The limits of a container that runs, changed in the kernel.

Between the kernel and the record the daemon may die: the record says that its limits are in doubt before they
are touched, and recovery then makes the kernel agree with it again.
"""

from collections.abc import Collection

import structlog
from msgspec.structs import replace

from proad.config import Config
from proad.host import cgrouplimits
from proad.host.cgrouplimits import LimitFiles
from proad.host.devices import block_numbers
from proad.host.hostfacts import HostFactsReader
from proad.host.runtime import find_runtime
from proad.model import errors
from proad.model.container import Container
from proad.model.hostconfig import HostConfig
from proad.model.spec import runtime_resources
from proad.store.db import Store

log = structlog.get_logger(__name__)


class Limits:
    """Applies limits through the OCI runtime, and lifts them by file. Callers hold the container's lock."""

    def __init__(self, config: Config, store: Store, facts: HostFactsReader, limit_files: LimitFiles) -> None:
        self._config = config
        self._store = store
        self._facts = facts
        self._limit_files = limit_files

    async def change(self, container: Container, host_config: HostConfig) -> None:
        """Apply other limits than the record's; they are in doubt until the caller has recorded them.

        Raises:
            errors.System: the kernel refused one; the recorded ones hold.
        """
        self._doubt(container.id, doubt=True)
        try:
            await self._apply(container, host_config)
        except errors.ProaError:
            await self.restore(container)
            raise

    async def restore(self, container: Container) -> None:
        """Apply the limits of the record and no others, which ends the doubt. What the kernel refuses is
        logged.
        """
        try:
            await self._apply(container, container.host_config, lifting=cgrouplimits.ALL)
        except errors.ProaError as error:
            log.error("limits of a container not restored", container=container.id, error=error.message)
        else:
            self._doubt(container.id, doubt=False)

    async def _apply(
        self, container: Container, host_config: HostConfig, *, lifting: Collection[str] = ()
    ) -> None:
        assert container.run is not None
        root = self._config.exec_root / "runtime"
        runtime = find_runtime(container.run.runtime, self._config.runtimes, root)
        can_lift = self._facts.read(host_config).can_limit_swap
        resources = runtime_resources(host_config, block_numbers(host_config), lift_swap=can_lift)
        unlimited = set(lifting)
        if host_config.pids_limit is not None and host_config.pids_limit <= 0:
            unlimited.add("pids")
            del resources["pids"]
        if host_config.cpu_quota < 0:
            unlimited.add("quota")
        self._limit_files.lift(container.run.cgroup, unlimited)
        if resources:
            await runtime.update(container.id, resources)

    def _doubt(self, container_id: str, *, doubt: bool) -> None:
        container = self._store.containers[container_id]
        if container.run is not None:
            run = replace(container.run, limits_in_doubt=doubt)
            with self._store.transaction(durable=False) as tx:
                tx.put_container(replace(container, run=run))
