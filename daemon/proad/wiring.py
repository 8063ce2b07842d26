"""Trio-flavoured. Wiring: which part is given which, in one place, once."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import trio

from proad.config import Config
from proad.engine.acquire import Acquirer
from proad.engine.addresses import Addresses
from proad.engine.archives import Archives
from proad.engine.bridges import Bridges
from proad.engine.build import Builder
from proad.engine.buildcopy import BuildCopies
from proad.engine.buildrun import BuildRuns
from proad.engine.buildstages import Parts
from proad.engine.commit import Committer
from proad.engine.connecting import Connector
from proad.engine.containers import Containers
from proad.engine.control import Control
from proad.engine.create import Creator
from proad.engine.dispose import Disposer
from proad.engine.endpoints import Endpoints
from proad.engine.exec import Execs
from proad.engine.execlife import ExecLives
from proad.engine.exports import Exports
from proad.engine.health import HealthChecks
from proad.engine.heldports import HeldPorts
from proad.engine.hostrouting import HostRouting
from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import ImageKeeping
from proad.engine.images import Images
from proad.engine.importurl import UrlImport
from proad.engine.layerfetch import LayerFetcher
from proad.engine.layerpack import LayerPacker
from proad.engine.limits import Limits
from proad.engine.locks import Locks
from proad.engine.logs import Logs
from proad.engine.mounting import Mounting
from proad.engine.names import Names
from proad.engine.naming import Naming
from proad.engine.networkcontrol import NetworkControl
from proad.engine.networkrepair import NetworkRepair
from proad.engine.networks import Networks
from proad.engine.oom import OomEvents
from proad.engine.passage import Passage
from proad.engine.pull import Puller
from proad.engine.push import Pusher
from proad.engine.recover import Recovery
from proad.engine.registries import RegistryQueries
from proad.engine.remove import Remover
from proad.engine.resolvers import Resolvers
from proad.engine.resources import RunResources
from proad.engine.roles import Roles
from proad.engine.start import Starter
from proad.engine.stats import Stats
from proad.engine.stepimages import StepImages
from proad.engine.streams import Streams
from proad.engine.supervise import Supervisor
from proad.engine.system import System
from proad.engine.volumes import Volumes
from proad.engine.waiting import Waiters
from proad.host.apparmor import AppArmor
from proad.host.archive import Unpacker
from proad.host.blobs import BlobStore
from proad.host.buildtrees import BuildTrees
from proad.host.cgroup import Cgroups, detect_layout
from proad.host.cgrouplimits import LimitFiles
from proad.host.cgroupstats import CgroupStats
from proad.host.conmon import Conmon
from proad.host.firewall import Firewall
from proad.host.foreignfirewall import ForeignFirewalls
from proad.host.helpers import Helpers
from proad.host.hostfacts import HostFactsReader
from proad.host.netcounters import NetworkCounters
from proad.host.oomwatch import OomWatch
from proad.host.overlay import Overlay
from proad.host.registry import Registries, RegistryHosts, Retries
from proad.host.runtime import choose_runtime, known_runtimes
from proad.host.seccomp import SeccompProfiles
from proad.host.snapshot import Snapshots
from proad.model import errors
from proad.model.hostconfig import LogConfig
from proad.model.logoptions import check_log_options
from proad.store.db import Store

INIT_PROGRAMS = ("docker-init", "tini-static", "tini", "catatonit")
SEARCH_PATH = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec/podman:/usr/lib/podman"
)

log = structlog.get_logger(__name__)


@dataclass
class Engine:
    """What the front door holds: the roles for the API, and what it drives itself."""

    roles: Roles
    store: Store
    recovery: Recovery
    supervisor: Supervisor
    acquirer: Acquirer

    def reload(self, config: Config) -> None:
        """Take over what a reload may change."""
        self.roles = replace(self.roles, config=config)
        self.roles.system.reload(config)
        self.acquirer.reload(config)
        self.store.journal.max_count = config.events_max_count
        self.store.journal.max_age_s = config.events_max_age_s

    async def stop_all_containers(self) -> None:
        """Stop what runs, all at once, without restarts: the daemon is told to take its containers along."""
        self.supervisor.draining = self.roles.control.draining = True
        async with trio.open_nursery() as nursery:
            for container in list(self.store.containers.values()):
                if container.status.has_process:
                    nursery.start_soon(self._stop_one, container.id)

    async def _stop_one(self, container_id: str) -> None:
        try:
            await self.roles.control.stop(container_id)
        except errors.NotModified:
            log.debug("it had stopped already", container=container_id)
        except errors.ProaError as error:
            log.error("container not stopped", container=container_id, error=error.message)


async def assemble(config: Config, store: Store, nursery: trio.Nursery) -> Engine:
    """Make all parts and give each what it needs.

    ``nursery`` holds what goes on in the background: supervisors, delayed restarts, clean-up.

    Raises:
        errors.InvalidParameter: the configured log driver, or an option of it, is none.
        errors.Unavailable: this host lacks something that no container can do without; the text says what.
    """
    default_log = LogConfig(type=config.log_driver, config=dict(config.log_options or {}))
    check_log_options(default_log)
    layout = detect_layout()
    choice = choose_runtime(config.default_runtime, config.runtimes, config.exec_root / "runtime", layout)
    log.info(
        "runtime chosen", runtime=choice.runtime.name, path=str(choice.runtime.path), reason=choice.reason
    )
    conmon_path = shutil.which("conmon", path=SEARCH_PATH)
    if conmon_path is None:
        raise errors.Unavailable("conmon is not installed: it keeps containers alive without the daemon")
    conmon = Conmon(Path(conmon_path))
    cgroups = Cgroups(layout)
    overlay = Overlay(config.data_root)
    facts = HostFactsReader(
        layout,
        known_runtimes(config.runtimes),
        choice.runtime.name,
        storage_quota=overlay.limits_sizes,
    )
    locks, waiters = Locks(), Waiters()
    volumes = Volumes(config, store)
    blobs = BlobStore(config.data_root)
    await blobs.prepare()
    garbage = Garbage(store, blobs)
    keeping = ImageKeeping(blobs, garbage)
    unpacker = Unpacker()
    images = Images(store, blobs, unpacker, garbage, keeping)
    registries = Registries(
        RegistryHosts(
            insecure=config.insecure_registries,
            mirrors=config.registry_mirrors,
            nondistributable=config.nondistributable_registries,
        ),
        retries=Retries(attempts=config.max_download_attempts),
    )
    nursery.start_soon(registries.run)
    layers = LayerFetcher(
        store, blobs, unpacker, garbage, nursery, max_concurrent=config.max_concurrent_downloads
    )
    puller = Puller(store, blobs, images, garbage, keeping, registries, layers)
    helpers = Helpers(nursery)
    trees = BuildTrees(helpers, config.data_root / "tmp", overlay.fixed_options)
    step_images = StepImages(store, blobs, unpacker, trees, garbage, keeping)
    snapshots = Snapshots(config.data_root / "tmp")
    mounting = Mounting(config, store, volumes, overlay, images.resolve)
    firewall = Firewall(config.table)
    routing = HostRouting(config, store, firewall)
    networks, bridges = Networks(config, store), Bridges(config, firewall, routing)
    addresses, names = Addresses(networks), Names()
    naming = Naming(config, store, names, Resolvers(names, nursery))
    ports = HeldPorts(config, networks, firewall)
    endpoints = Endpoints(config, networks, addresses, firewall, naming, ports, nursery)
    passage = Passage(config, networks, ForeignFirewalls(config.table))
    network_control = NetworkControl(config, store, networks, bridges, endpoints, addresses, passage)
    network_repair = NetworkRepair(
        config, store, locks, networks, network_control, bridges, endpoints, firewall, passage, routing
    )
    network_repair.open()
    streams = Streams(config, store, Logs(config, nursery))
    resources = RunResources(config, store, overlay, mounting, endpoints, cgroups, nursery)
    disposer = Disposer(config, store, waiters, overlay, volumes, resources, streams)
    exec_lives = ExecLives(config, store, resources, overlay, cgroups, facts, nursery)
    execs = Execs(store, exec_lives, cgroups, nursery)
    health = HealthChecks(store, locks, execs, nursery)
    ooms = OomEvents(store, cgroups, OomWatch(layout))
    nursery.start_soon(ooms.run)
    supervisor = Supervisor(
        store, locks, waiters, resources, disposer, streams, exec_lives, cgroups, health, ooms, nursery
    )
    init_path = config.init_path or next(
        filter(None, (shutil.which(p, path=SEARCH_PATH) for p in INIT_PROGRAMS)), ""
    )
    apparmor = AppArmor()
    nursery.start_soon(apparmor.load_at_start)
    acquirer = Acquirer(
        config,
        store,
        overlay,
        mounting,
        networks,
        endpoints,
        naming,
        resources,
        SeccompProfiles(),
        apparmor,
        conmon,
        choice.runtime,
        init_path,
    )
    starter = Starter(
        store,
        locks,
        waiters,
        facts,
        mounting,
        acquirer,
        resources,
        disposer,
        streams,
        conmon,
        supervisor,
        cgroups,
        nursery,
    )
    supervisor.start_again = starter.start_again
    control = Control(store, locks, waiters, cgroups, streams, starter, health)
    limits = Limits(config, store, facts, LimitFiles(layout))
    connector = Connector(store, locks, networks, endpoints, ports, naming, resources)
    creator = Creator(store, images, mounting, networks, facts, cgroups, default_log, nursery)
    remover = Remover(store, locks, control, disposer, resources, overlay)
    build_runs = BuildRuns(store, creator, starter, remover, streams, waiters, locks, overlay)
    copies = BuildCopies(blobs, trees, step_images)
    parts = Parts(store, images, step_images, copies, build_runs, puller)
    builder = Builder(blobs, trees, parts, registries.download)
    recovery = Recovery(
        config, store, locks, resources, disposer, supervisor, starter, control, limits, streams, exec_lives,
        conmon, cgroups, overlay, endpoints, naming, connector, network_repair, images, volumes, mounting,
        build_runs, nursery,
    )  # fmt: skip
    stats = Stats(store, CgroupStats(layout), NetworkCounters())
    nursery.start_soon(stats.run)
    roles = Roles(
        config=config,
        containers=Containers(store, locks, waiters, images, overlay, cgroups, facts, limits, naming),
        creator=creator,
        starter=starter,
        control=control,
        remover=remover,
        streams=streams,
        execs=execs,
        stats=stats,
        exports=Exports(store, overlay, snapshots),
        archives=Archives(store, overlay, mounting, resources, helpers),
        committer=Committer(store, overlay, snapshots, images, control),
        images=images,
        builder=builder,
        puller=puller,
        pusher=Pusher(
            store,
            blobs,
            garbage,
            LayerPacker(store, blobs, garbage, keeping),
            images,
            registries,
            max_concurrent=config.max_concurrent_uploads,
        ),
        registry_queries=RegistryQueries(registries),
        url_import=UrlImport(images, registries),
        volumes=volumes,
        networks=networks,
        network_control=network_control,
        connector=connector,
        system=System(config, store, layout, choice.runtime, monitor=conmon_path, init=init_path),
    )
    return Engine(roles, store, recovery, supervisor, acquirer)
