"""Trio-flavoured. What a start acquires before anything runs: root filesystem, network, files, mounts, OCI
config.

Each step registers its undo before the next begins. The root filesystem and the network do not depend on each
other and are made side by side; all that follows needs one of them or both.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio
from msgspec.structs import replace

from proad.config import Config
from proad.engine.endpoints import Endpoints
from proad.engine.etc import write_etc_files
from proad.engine.joining import Joined, find_joined, live_run
from proad.engine.links import find_linked, linked_environment
from proad.engine.mounting import Mounting
from proad.engine.naming import Naming
from proad.engine.networks import Networks
from proad.engine.resources import RunResources
from proad.engine.runpaths import RunPaths
from proad.engine.undo import StepTimer, UndoStack
from proad.host import filters, journal, mounts
from proad.host.apparmor import AppArmor
from proad.host.conmon import Conmon, Launched, MonitorRequest
from proad.host.devices import block_numbers, devices_of
from proad.host.overlay import Overlay
from proad.host.ports import ReservedPorts
from proad.host.rootfs import Rootfs
from proad.host.runtime import Runtime, find_runtime
from proad.host.seccomp import SeccompProfiles
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.environment import container_environment
from proad.model.hostconfig import HostConfig
from proad.model.hostfacts import HostFacts
from proad.model.links import LinkedContainer
from proad.model.logoptions import JOURNALD, log_driver, writes_file
from proad.model.logtag import log_tag
from proad.model.mounts import SpecMount
from proad.model.network import DEFAULT_BRIDGE, ON_LINK, own_addresses
from proad.model.ownpaths import DOCKERENV
from proad.model.spec import DEFAULT_SHM_BYTES, SpecInputs, build_spec, wants_init
from proad.model.storage import parse_storage_opt
from proad.model.user import ProcessUser, resolve_user
from proad.store.db import Store

NO_LOGGER = "failed to create task for container: failed to initialize logging driver"


@dataclass(frozen=True)
class Acquisition:
    """All that a run needs: the run with its places, and the monitor that waits to create it.

    The network may still be on its way.
    """

    run: Run
    runtime: Runtime
    monitor: Launched


class Connection:
    """How far the network of a start has come, beside the rest: begun (it can be joined), then done."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.done = trio.Event()

    def finish(self) -> None:
        self.begun.set()
        self.done.set()


class Acquirer:
    """Acquires what runs need."""

    def __init__(
        self,
        config: Config,
        store: Store,
        overlay: Overlay,
        mounting: Mounting,
        networks: Networks,
        endpoints: Endpoints,
        naming: Naming,
        resources: RunResources,
        seccomp: SeccompProfiles,
        apparmor: AppArmor,
        conmon: Conmon,
        default_runtime: Runtime,
        init_path: str,
    ) -> None:
        self._config = config
        self._store = store
        self._overlay = overlay
        self._mounting = mounting
        self._networks = networks
        self._endpoints = endpoints
        self._naming = naming
        self._resources = resources
        self._seccomp = seccomp
        self._apparmor = apparmor
        self._conmon = conmon
        self._default_runtime = default_runtime
        self._init_path = init_path

    def reload(self, config: Config) -> None:
        """Starts from now on go by ``config`` (default ulimits)."""
        self._config = config

    async def acquire(
        self,
        container: Container,
        run: Run,
        facts: HostFacts,
        undo: UndoStack,
        timer: StepTimer,
        beside: trio.Nursery,
    ) -> Acquisition:
        """Acquire everything, in order; on failure the caller runs the undos registered so far.

        What does not have to be there before the container is created goes on in the nursery ``beside``.

        Raises:
            errors.ProaError: whatever a step cannot do, in Docker's words.
        """
        joined = find_joined(self._store, container)
        linked = find_linked(self._store, container) if self._is_on_default_bridge(container) else []
        runtime = self._runtime_of(container.host_config)
        security_opt, privileged = container.host_config.security_opt, container.host_config.privileged
        run = replace(
            run,
            apparmor=await self._apparmor.for_container(security_opt, privileged=privileged),
            runtime=container.host_config.runtime or self._config.default_runtime or runtime.name,
            netns=self._own_netns(container, run),
        )
        paths = self._resources.paths(container.id)
        undo.push(
            "run files", self._resources.remove_files, container.id, residue=("run-files", container.id)
        )
        paths.bundle.mkdir(mode=0o700)
        paths.state.mkdir(mode=0o710, exist_ok=True)
        connection = Connection()
        with timer.step("addresses"):
            plan = self._endpoints.plan(container, run)
            run = plan.run
            undo.push("network", self._endpoints.detach, run, residue=("network", run.id))
        with timer.step("monitor"), plan.reserved as reserved:
            request = self._monitor_request(container, run, runtime, paths, reserved, plan.awaits_ports)
            monitor = self._conmon.launch(request)
            undo.push("monitor", self._conmon.withdraw, monitor, residue=("monitor", container.id))
        beside.start_soon(self._connect, container, run, connection, timer)
        await trio.lowlevel.checkpoint()  # the network's work is under way in its own thread from here
        await self._prepare_files(container, run, runtime, facts, joined, linked, undo, timer)
        if joined.network is None:
            with timer.step("hosts"):
                self._write_etc_files(container, run, linked, paths)
        await connection.begun.wait()
        if _sets_interfaces(container.host_config):
            await connection.done.wait()
        return Acquisition(run, runtime, monitor)

    def cgroup_of(self, container: Container) -> str:
        """The container's control group, below the parent that it asks for, else below the daemon's."""
        parent = container.host_config.cgroup_parent or self._config.cgroup_parent
        return f"/{parent.strip('/')}/{container.id}"

    def _runtime_of(self, host_config: HostConfig) -> Runtime:
        if not host_config.runtime:
            return self._default_runtime
        return find_runtime(host_config.runtime, self._config.runtimes, self._config.exec_root / "runtime")

    # --- network ----------------------------------------------------------------------------------------

    def _is_on_default_bridge(self, container: Container) -> bool:
        return DEFAULT_BRIDGE in self._networks.wanted_by(container)

    def _own_netns(self, container: Container, run: Run) -> str:
        """Where the run's own network namespace will be; empty where it shares one."""
        mode = container.host_config.network_mode
        if mode == "host" or mode.startswith("container:"):
            return ""
        return str(self._config.exec_root / "netns" / run.id)

    async def _connect(
        self, container: Container, run: Run, connection: Connection, timer: StepTimer
    ) -> None:
        """Namespace, interfaces, ports and names, where the container has a network of its own."""
        if run.netns:
            with timer.step("network"):
                await self._endpoints.attach(container, run, connection.begun.set)
        connection.finish()

    def _write_etc_files(
        self, container: Container, run: Run, linked: list[LinkedContainer], paths: RunPaths
    ) -> None:
        gateway = next(
            (endpoint.gateway for endpoint in run.endpoints if endpoint.gateway not in ("", *ON_LINK)), ""
        )
        write_etc_files(
            self._config,
            container,
            own_addresses(run.endpoints),
            linked,
            paths,
            self._networks.host_gateway or gateway,
            resolver=self._naming.resolves(run),
        )

    # --- files ------------------------------------------------------------------------------------------

    async def _prepare_files(
        self,
        container: Container,
        run: Run,
        runtime: Runtime,
        facts: HostFacts,
        joined: Joined,
        linked: list[LinkedContainer],
        undo: UndoStack,
        timer: StepTimer,
    ) -> None:
        """Root filesystem, working directory, environment, shared memory, mounts, and the OCI config."""
        paths = self._resources.paths(container.id)
        with timer.step("rootfs"):
            undo.push("rootfs", self._overlay.unmount, container.id, residue=("rootfs", container.id))
            size_bytes = parse_storage_opt(container.host_config.storage_opt)
            rootfs = self._overlay.mount(container.id, container.layers, size_bytes=size_bytes)
        with timer.step("links"):
            link_variables = linked_environment(container, linked)
        with Rootfs(rootfs) as tree:
            with timer.step("working directory"):
                tree.make_file(DOCKERENV)
                self._make_working_directory(container, tree)
            user = _find_user(container, tree)
        with timer.step("environment"):
            env = container_environment(container, _hostname(container, joined), link_variables)
        with timer.step("ipc"):
            shm = self._make_shm(container, joined, paths, undo)
        with timer.step("mounts"):
            undo.push("mounts", self._mounting.release, container, residue=("mounts", container.id))
            user_mounts = await self._mounting.prepare(container, rootfs)
        with timer.step("spec"):
            all_mounts = [*self._etc_mounts(container, joined), *user_mounts]
            inputs = self._spec_inputs(container, run, rootfs, user, env, all_mounts, shm, joined, facts)
            spec = build_spec(inputs)
            filters.annotate(spec, runtime, container.id)
            (paths.bundle / "config.json").write_bytes(msgspec.json.encode(spec))

    def _etc_mounts(self, container: Container, joined: Joined) -> list[SpecMount]:
        """hostname, hosts and resolv.conf: its own, or those of the container whose network it joins."""
        paths = self._resources.paths((joined.network or container).id)
        files = {
            "/etc/resolv.conf": paths.resolv_conf,
            "/etc/hostname": paths.hostname,
            "/etc/hosts": paths.hosts,
        }
        taken = {point.destination for point in container.mounts}
        return [
            SpecMount(destination, "bind", str(path), ("rbind", "rprivate"))
            for destination, path in files.items()
            if destination not in taken
        ]

    def _make_working_directory(self, container: Container, tree: Rootfs) -> None:
        if (directory := container.config.working_dir) and directory != "/":
            tree.make_directory(directory)

    def _make_shm(self, container: Container, joined: Joined, paths: RunPaths, undo: UndoStack) -> str:
        """The directory to bind on /dev/shm; empty where the container has a private one, made by the
        runtime.
        """
        mode = container.host_config.ipc_mode
        if mode == "host":
            return "/dev/shm"
        if joined.ipc is not None:
            return str(self._resources.paths(joined.ipc.id).shm)
        if mode != "shareable":
            return ""
        paths.shm.mkdir(mode=0o1777)
        undo.push("shm", self._resources.unmount_shm, container.id, residue=("shm", container.id))
        size_bytes = container.host_config.shm_size or DEFAULT_SHM_BYTES
        mounts.mount_tmpfs(paths.shm, f"mode=1777,size={size_bytes}")
        return str(paths.shm)

    # --- what the runtime and the monitor are told ------------------------------------------------------

    def _spec_inputs(
        self,
        container: Container,
        run: Run,
        rootfs: Path,
        user: ProcessUser,
        env: list[str],
        all_mounts: list[SpecMount],
        shm: str,
        joined: Joined,
        facts: HostFacts,
    ) -> SpecInputs:
        host_config = container.host_config
        if wants_init(host_config) and not self._init_path:
            raise errors.StartFailed(
                "no init program on this host for --init: install tini, or give --init-path"
            )
        without_raise = "CAP_SYS_RESOURCE" not in facts.capabilities
        return SpecInputs(
            container=container,
            rootfs=str(rootfs),
            user=user,
            env=env,
            hostname=_hostname(container, joined),
            cgroup_path=run.cgroup,
            mounts=all_mounts,
            shm=shm,
            netns=f"/proc/{live_run(joined.network).pid}/ns/net" if joined.network is not None else run.netns,
            ipc_namespace=f"/proc/{live_run(joined.ipc).pid}/ns/ipc" if joined.ipc is not None else "",
            pid_namespace=f"/proc/{live_run(joined.pid).pid}/ns/pid" if joined.pid is not None else "",
            held_capabilities=facts.capabilities,
            devices=devices_of(host_config),
            block_devices=block_numbers(host_config),
            seccomp=self._seccomp.for_container(host_config, facts.capabilities),
            apparmor=run.apparmor,
            init_path=self._init_path,
            default_ulimits=self._config.default_ulimits or {},
            hard_limits=facts.hard_limits,
            oom_score_floor=facts.oom_score_adj if without_raise else None,
        )

    def _monitor_request(
        self,
        container: Container,
        run: Run,
        runtime: Runtime,
        paths: RunPaths,
        reserved: ReservedPorts,
        awaits_ports: bool,
    ) -> MonitorRequest:
        log_config = container.host_config.log_config
        return MonitorRequest(
            container_id=container.id,
            run_id=run.id,
            name=container.name,
            bundle=paths.bundle,
            runtime=runtime,
            log_path=paths.log if writes_file(log_config) else None,
            journal_tag=_journal_tag(container) if log_driver(log_config) == JOURNALD else None,
            terminal=container.config.tty,
            open_stdin=container.config.open_stdin,
            # A terminal's stdin outlives its clients, so that one can detach and another attach.
            stdin_once=container.config.stdin_once and not container.config.tty,
            inherit_fds=reserved.fds(),
            keeps_more=awaits_ports,
        )


def _journal_tag(container: Container) -> str:
    """What the container is called in the journal, which has to be there.

    Raises:
        errors.System: it is not.
    """
    if not journal.is_running():
        raise errors.System(f"{NO_LOGGER}: journald is not enabled on this host")
    return log_tag(container)


def _sets_interfaces(host_config: HostConfig) -> bool:
    """Whether the runtime will look for the network's interfaces while it creates the container."""
    return any(name.startswith("net.") for name in host_config.sysctls)


def _hostname(container: Container, joined: Joined) -> str:
    """Its own, or that of the container whose network it joins, which its hosts file knows."""
    return (joined.network or container).config.hostname


def _find_user(container: Container, tree: Rootfs) -> ProcessUser:
    return resolve_user(
        container.config.user,
        tree.read_text("/etc/passwd") or "",
        tree.read_text("/etc/group") or "",
        container.host_config.group_add,
    )
