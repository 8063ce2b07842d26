"""Trio-flavoured. Recovery: the kernel is the truth for what it owns, the database holds intent, and they are
compared.

At boot, before the API is served: adopt what runs, finish what exited meanwhile, undo starts that were cut in
half, finish removals. Then, and again on a timer, free what nobody owns. Everything on the host that belongs
to a container bears its id (overlay mount, run directory, runtime state, cgroup, monitor), so each is freed
under that container's lock, after looking whether it is alive now; network pieces bear the run's id and are
compared as a whole.
"""

import shutil
import signal
import sys
import time
from pathlib import Path

import structlog
import trio
from msgspec.structs import replace

from proad.config import Config
from proad.engine.bootorder import needs_of, start_in_order
from proad.engine.buildrun import BuildRuns
from proad.engine.connecting import Connector
from proad.engine.control import Control
from proad.engine.dispose import Disposer
from proad.engine.endpoints import Endpoints
from proad.engine.execlife import ExecLives
from proad.engine.hostrouting import boot_id
from proad.engine.images import Images
from proad.engine.limits import Limits
from proad.engine.locks import Locks
from proad.engine.lookup import event_attributes
from proad.engine.mounting import Mounting
from proad.engine.naming import Naming
from proad.engine.networkrepair import NetworkRepair
from proad.engine.resources import RunResources
from proad.engine.start import Starter
from proad.engine.streams import Streams
from proad.engine.supervise import Supervisor, awaits_restart
from proad.engine.volumes import RESIDUE as VOLUME_RESIDUE
from proad.engine.volumes import Volumes
from proad.host import mounts
from proad.host.cgroup import Cgroups
from proad.host.conmon import Conmon, ExitReport, find_monitors, read_exit
from proad.host.overlay import Overlay
from proad.host.process import ProcessId
from proad.host.runtime import containers_at, find_runtime, known_runtimes
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.restart import restarts_at_boot
from proad.store.db import Store

CUT_SHORT = "the daemon ended while the container was being started"
REBOOTED_EXIT_CODE = 255
"""What a container ends with that was running when the host went down, as with Docker."""
LIVE = frozenset({Status.STARTING, Status.RUNNING, Status.PAUSED})

log = structlog.get_logger(__name__)


class Recovery:
    """Makes state and kernel agree."""

    def __init__(
        self,
        config: Config,
        store: Store,
        locks: Locks,
        resources: RunResources,
        disposer: Disposer,
        supervisor: Supervisor,
        starter: Starter,
        control: Control,
        limits: Limits,
        streams: Streams,
        execs: ExecLives,
        conmon: Conmon,
        cgroups: Cgroups,
        overlay: Overlay,
        endpoints: Endpoints,
        naming: Naming,
        connector: Connector,
        network_repair: NetworkRepair,
        images: Images,
        volumes: Volumes,
        mounting: Mounting,
        build_runs: BuildRuns,
        nursery: trio.Nursery,
    ) -> None:
        self._config = config
        self._store = store
        self._locks = locks
        self._resources = resources
        self._disposer = disposer
        self._supervisor = supervisor
        self._starter = starter
        self._control = control
        self._limits = limits
        self._streams = streams
        self._execs = execs
        self._conmon = conmon
        self._cgroups = cgroups
        self._overlay = overlay
        self._endpoints = endpoints
        self._naming = naming
        self._connector = connector
        self._network_repair = network_repair
        self._images = images
        self._volumes = volumes
        self._mounting = mounting
        self._build_runs = build_runs
        self._nursery = nursery

    async def at_boot(self) -> None:
        """Bring every record to the truth, free what nobody owns, and start what policy wants started."""
        rebooted = self._note_boot()
        for container in self._store.containers.values():
            if container.status in LIVE and container.run is not None:
                self._endpoints.adopt(container, container.run)
        was_running = {
            c.id for c in self._store.containers.values() if c.status in LIVE | {Status.RESTARTING}
        }
        await self._execs.recover()
        for container in sorted(self._store.containers.values(), key=self._ended_ns):
            async with self._locks.of(container.id):
                await self._settle(container, rebooted=rebooted)
        await self._build_runs.recover()
        await self._images.recover()
        await self._volumes.recover()
        await self._mounting.recover()
        await self._free_unowned()
        wanted = []
        for container in list(self._store.containers.values()):
            if container.run is not None and container.run.ending is not None:
                self._nursery.start_soon(self._control.carry_on, container.id, container.run.id)
            elif self._starts_by_policy(container, was_running=container.id in was_running):
                wanted.append(container)
        self._nursery.start_soon(self._network_repair.watch, self.live_runs)
        self._nursery.start_soon(start_in_order, needs_of(self._store, wanted), self._start_at_boot)

    async def on_timer(self) -> None:
        """Free what nobody owns: what undos could not remove, and what was left by things that died."""
        await self._free_unowned()
        await self._images.sweep()  # layers that only containers held whose images were removed by force

    # --- records ----------------------------------------------------------------------------------------

    def _note_boot(self) -> bool:
        """Whether the host was rebooted since the last daemon ran on this state."""
        now = boot_id()
        before = self._store.setting("boot_id")
        if before != now:
            with self._store.transaction() as tx:
                tx.put_setting("boot_id", now)
        return before is not None and before != now

    async def _settle(self, container: Container, *, rebooted: bool) -> None:
        """Bring one record to the truth; the caller holds its lock."""
        match container.status:
            case Status.STARTING:
                await self._undo_start(container)
            case Status.RUNNING | Status.PAUSED:
                await self._adopt(container, rebooted=rebooted)
            case Status.RESTARTING if container.run is not None:
                self._supervisor.restart_later(container, container.run)
            case Status.REMOVING:
                await self._finish_removal(container)
            case Status.EXITED if awaits_restart(container):
                pass  # started when all is settled, and not removed automatically
            case Status.EXITED | Status.CREATED if container.host_config.auto_remove and container.run:
                await self._supervisor.auto_remove_locked(container)

    def _ended_ns(self, container: Container) -> int:
        """When it ended while no daemon looked: in this order the ends are told, each with its time."""
        run = container.run
        if container.status not in (Status.RUNNING, Status.PAUSED) or run is None:
            return sys.maxsize
        if ProcessId(run.monitor_pid, run.monitor_start).is_alive():
            return sys.maxsize
        return read_exit(self._resources.paths(container.id).bundle, run.id).finished_ns

    async def _undo_start(self, container: Container) -> None:
        """A start that was cut in half: take everything back, as its own undos would have."""
        run = container.run
        assert run is not None
        await self._free_container(container.id)
        status = Status.EXITED if container.has_been_started else Status.CREATED
        ended = replace(
            container.with_status(status),
            exit_code=128,
            error=CUT_SHORT,
            finished_ns=time.time_ns() if container.has_been_started else 0,
            run=replace(run, endpoints=(), netns=""),
        )
        with self._store.transaction() as tx:
            tx.put_container(ended)
            tx.emit("container", "die", ended.id, event_attributes(ended, exitCode="128", execDuration="0"))
        log.warning("a start that was cut in half is undone", container=container.id)
        if ended.host_config.auto_remove:
            await self._supervisor.auto_remove_locked(ended)

    async def _adopt(self, container: Container, *, rebooted: bool) -> None:
        """Follow a container that runs, or finish one that ended while no daemon looked."""
        run = container.run
        assert run is not None
        monitor = ProcessId(run.monitor_pid, run.monitor_start)
        bundle = self._resources.paths(container.id).bundle
        if not rebooted and monitor.is_alive():
            monitored = self._conmon.adopt(bundle, run.id, monitor, ProcessId(run.pid, run.pid_start))
            await self._streams.adopt(container.id, monitored)
            self._supervisor.watch(container, run, monitored)
            await self._finish_verbs(container, run)
            await self._adopt_networks(container)
            log.info("container adopted", container=container.id, pid=run.pid)
            return
        if rebooted:
            report = ExitReport(REBOOTED_EXIT_CODE, False, time.time_ns())
        else:
            gone = self._conmon.adopt(bundle, run.id, monitor, ProcessId(run.pid, run.pid_start))
            report = await gone.exited()
            gone.close()
        await self._supervisor.end_run_locked(container, run, report)

    async def _adopt_networks(self, container: Container) -> None:
        """Answer for its names again, and finish what was being connected or disconnected when the daemon
        died; what resists is logged.
        """
        try:
            container = await self._connector.settle(self._store.containers[container.id])
            if container.run is not None:
                await self._naming.renew(container, container.run)
        except errors.ProaError as error:
            log.error("networks not settled", container=container.id, error=error.message)

    async def _finish_verbs(self, container: Container, run: Run) -> None:
        """What was being done to a running container when the daemon died: finish it, or take it back."""
        if run.signal:
            self._control.send_again(container)
        if run.limits_in_doubt:
            await self._limits.restore(container)
        if run.paused_briefly and self._cgroups.exists(run.cgroup):
            self._cgroups.thaw(run.cgroup)  # what it was paused for has died with the daemon
        self._match_freezer(self._store.containers[container.id], run)

    def _match_freezer(self, container: Container, run: Run) -> None:
        """A pause may have been cut between the freezer and the record: the freezer is the truth."""
        frozen = self._cgroups.is_frozen(run.cgroup)
        if frozen != (container.status is Status.PAUSED):
            status = Status.PAUSED if frozen else Status.RUNNING
            with self._store.transaction() as tx:
                tx.put_container(container.with_status(status))
                action = "pause" if frozen else "unpause"
                tx.emit("container", action, container.id, event_attributes(container))

    async def _finish_removal(self, container: Container) -> None:
        await self._free_container(container.id)
        try:
            await self._disposer.dispose_locked(container, volumes=container.host_config.auto_remove)
        except errors.ProaError as error:
            log.error("removal not finished", container=container.id, error=error.message)

    def _starts_by_policy(self, container: Container, *, was_running: bool) -> bool:
        if container.status is not Status.EXITED or not container.has_been_started:
            return False
        return restarts_at_boot(
            container.host_config.restart_policy,
            was_running=was_running,
            exit_code=container.exit_code,
            stopped_by_user=container.stopped_by_user,
        )

    async def _start_at_boot(self, container_id: str) -> None:
        try:
            await self._starter.start_if_stopped(container_id)
        except errors.ProaError as error:
            log.error("container not started at boot", container=container_id, error=error.message)

    # --- what nobody owns -------------------------------------------------------------------------------

    def _is_live(self, container_id: str) -> bool:
        container = self._store.containers.get(container_id)
        return container is not None and container.status in LIVE

    def live_runs(self) -> list[Run]:
        """The runs that own something on the host: those that are alive, or come to life."""
        live = (c for c in self._store.containers.values() if c.status in LIVE)
        return [c.run for c in live if c.run is not None]

    async def _free_unowned(self) -> None:
        """Free what bears the id of no live container; one thing that resists does not stop the others.

        What undos had left is worked off only where nothing resisted; else its rows stay for the next time.
        """
        all_free = True
        residue = [item for item in self._store.residue() if item.kind != VOLUME_RESIDUE]
        for container_id in await self._found():
            async with self._locks.of(container_id):
                if not self._is_live(container_id) and not self._resources.is_finishing(container_id):
                    log.warning("freeing what was left behind", container=container_id)
                    all_free &= await self._free_container(container_id)
        await self._network_repair.recover(self.live_runs)
        if residue and all_free:
            with self._store.transaction() as tx:
                for item in residue:
                    tx.remove_residue(item)

    async def _found(self) -> set[str]:
        """Ids of containers that are not alive by their records, but have something on the host."""
        runs = self._config.exec_root / "runs"
        found = {entry.name for entry in runs.iterdir()} if runs.exists() else set()
        found |= containers_at(self._config.exec_root / "runtime")
        found |= self._overlay.mounted() | self._cgroups.children(self._config.cgroup_parent)
        directories = {entry.name for entry in (self._config.data_root / "containers").iterdir()}
        found |= directories - set(self._store.containers)
        found |= {c.id for c in self._store.containers.values() if self._has_cgroup_elsewhere(c)}
        return {id_ for id_ in found if not self._is_live(id_) and not self._resources.is_finishing(id_)}

    def _has_cgroup_elsewhere(self, container: Container) -> bool:
        """Whether its last run left a group below another parent than the daemon's: one that it asked for."""
        cgroup = container.run.cgroup if container.run is not None else ""
        if not cgroup or cgroup.startswith(f"{self._config.cgroup_parent}/"):
            return False
        return self._cgroups.exists(cgroup)

    async def _free_container(self, container_id: str) -> bool:
        """Kill and free all that bears this id, which shall not live; returns whether nothing resisted.

        The caller holds its lock.
        """
        all_free = True
        bundle = self._resources.paths(container_id).bundle
        steps = (
            ("monitor", self._kill_monitor),
            ("cgroup", self._kill_cgroup),
            ("runtime", self._delete_runtime_state),
            ("mounts", self._unmount),
        )
        for name, step in steps:
            try:
                await step(container_id, bundle)
            except (errors.ProaError, OSError) as error:
                log.error(
                    "cannot free what was left behind", container=container_id, piece=name, error=str(error)
                )
                all_free = False
        return all_free

    async def _kill_monitor(self, container_id: str, bundle: Path) -> None:
        monitor = find_monitors(self._config.exec_root).get(bundle)
        handle = monitor.open() if monitor is not None else None
        if handle is None:
            return
        try:
            handle.signal(signal.SIGKILL)
            await handle.wait()
        finally:
            handle.close()

    async def _kill_cgroup(self, container_id: str, bundle: Path) -> None:
        container = self._store.containers.get(container_id)
        run = container.run if container is not None else None
        for cgroup in {f"{self._config.cgroup_parent}/{container_id}", run.cgroup if run else ""} - {""}:
            await self._cgroups.kill(cgroup)
            await self._cgroups.remove(cgroup)

    async def _delete_runtime_state(self, container_id: str, bundle: Path) -> None:
        root = self._config.exec_root / "runtime"
        for name in known_runtimes(self._config.runtimes):
            await find_runtime(name, self._config.runtimes, root).delete(container_id, force=True)

    async def _unmount(self, container_id: str, bundle: Path) -> None:
        await mounts.unmount_tree(bundle)
        await self._overlay.unmount(container_id)
        if bundle.exists():
            shutil.rmtree(bundle)
        if container_id not in self._store.containers:
            await self._overlay.remove(container_id)
