"""Trio-flavoured. Making a container: a record, its volumes, event ``create``. Nothing runs and nothing is
mounted.
"""

import secrets
import socket
import time
from dataclasses import dataclass
from random import SystemRandom

import structlog
import trio
from msgspec.structs import replace

from proad.engine.containers import refuse_taken_name
from proad.engine.images import Images
from proad.engine.joining import with_ids
from proad.engine.links import make_links
from proad.engine.lookup import event_attributes, find_container, images_of, named
from proad.engine.mounting import Mounting
from proad.engine.networks import BRIDGE_NAMES, Networks
from proad.engine.volumes import RESIDUE as VOLUME_RESIDUE
from proad.host.cgroup import Cgroups
from proad.host.hostfacts import HostFactsReader
from proad.model import errors
from proad.model.container import Container
from proad.model.createrequest import CreateRequest
from proad.model.defaults import with_default_log
from proad.model.endpointcheck import check_attachments, check_mode
from proad.model.hostcheck import check_against_host, privilege_warnings
from proad.model.hostconfig import ContainerConfig, HostConfig, LogConfig
from proad.model.image import merge_config
from proad.model.logoptions import check_log_options
from proad.model.names import check_name, generate_name
from proad.model.network import DEFAULT_BRIDGE, EndpointSettings
from proad.model.requestcheck import check_request
from proad.store.db import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Created:
    """The new container's id, and what the user should know of it."""

    id: str
    warnings: list[str]


class Creator:
    """Creates containers."""

    def __init__(
        self,
        store: Store,
        images: Images,
        mounting: Mounting,
        networks: Networks,
        facts: HostFactsReader,
        cgroups: Cgroups,
        default_log: LogConfig,
        nursery: trio.Nursery,
    ) -> None:
        self._store = store
        self._images = images
        self._mounting = mounting
        self._networks = networks
        self._facts = facts
        self._cgroups = cgroups
        self._default_log = default_log
        self._nursery = nursery
        self._random = SystemRandom()

    async def create(self, name: str | None, request: CreateRequest, *, for_build: bool = False) -> Created:
        """Create a container from a request that is valid in itself; ``for_build`` marks it as a build's.

        Raises:
            errors.NotFound: no such image or linked container.
            errors.Conflict: the name is taken.
            errors.InvalidParameter: what is asked contradicts the image or this host.
        """
        self._nursery.start_soon(self._cgroups.prepay_migration)  # most are started right after
        image = self._images.resolve(request.config.image)
        request = self._with_names_of_networks(request)
        host_config, warnings = self._check_host(request.host_config)
        config = merge_config(image.config, request.config)
        if not config.entrypoint and not config.cmd:
            raise errors.InvalidParameter("no command specified")
        container_id = secrets.token_hex(32)
        container = Container(
            id=container_id,
            name=self._choose_name(name),
            created_ns=time.time_ns(),
            image_id=image.id,
            image_ref=request.config.image,
            layers=image.chain_ids,
            config=_with_hostname(config, host_config, container_id),
            host_config=host_config,
            networks=request.networks,
            links=make_links(self._store, host_config),
            of_build=for_build,
        )
        mounts = await self._mounting.register(container, lambda ref: find_container(self._store, ref))
        if request.is_read_only_flat:
            mounts = tuple(replace(point, read_only_non_recursive=True) for point in mounts)
        container = replace(container, mounts=mounts)
        if self._networks.withholds_ports(container):
            warnings.append("Published ports are discarded: this daemon has no default bridge network")
        try:
            # While volumes were filled somebody may have taken the name, or removed the image by force.
            refuse_taken_name(self._store, container.name)
            for image_id in images_of(container):
                self._images.resolve(image_id)
            with self._store.transaction(durable=False, growing=True) as tx:
                tx.put_container(container)
                for point in container.mounts:
                    if point.type == "volume" and point.anonymous:
                        tx.clear_residue(VOLUME_RESIDUE, point.name)
                tx.emit("container", "create", container.id, event_attributes(container))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._mounting.unregister(container)
            raise
        self._mounting.settle(container.id)
        await self._store.flush()
        return Created(container.id, [*request.warnings, *warnings])

    def _with_names_of_networks(self, request: CreateRequest) -> CreateRequest:
        """Networks may be named by id, too; from here on they go by name, as the predefined ones are known.

        One that is not there stays as it is: it may be by the time of the start.

        Raises:
            errors.InvalidParameter: now that the mode is known, something contradicts it.
        """
        name_of = self._networks.name_of
        mode = name_of(request.host_config.network_mode)
        networks: dict[str, EndpointSettings] = {}
        for ref, wish in request.networks.items():
            if (name := name_of(ref)) in networks:
                raise errors.InvalidParameter(f"EndpointsConfig: network {name} is given more than once")
            networks[name] = wish
        if not networks and not mode.startswith("container:"):
            networks[DEFAULT_BRIDGE if mode in BRIDGE_NAMES else mode] = EndpointSettings()
        check_mode(mode, networks)
        check_attachments(networks, self._networks.named)
        if mode == request.host_config.network_mode and networks.keys() == request.networks.keys():
            return request
        request = replace(
            request, host_config=replace(request.host_config, network_mode=mode), networks=networks
        )
        check_request(request.config, request.host_config, request.networks)
        return request

    def _check_host(self, asked: HostConfig) -> tuple[HostConfig, list[str]]:
        facts = self._facts.read(asked)
        asked = with_default_log(with_ids(self._store, asked), self._default_log)
        check_log_options(asked.log_config)
        host_config, warnings = check_against_host(asked, facts)
        warnings += privilege_warnings(host_config, facts)
        for warning in warnings:
            log.warning(warning)
        return host_config, warnings

    def _choose_name(self, name: str | None) -> str:
        if name:
            chosen = check_name(name)
            refuse_taken_name(self._store, chosen)
            return chosen
        return generate_name(lambda candidate: named(self._store, candidate) is not None, self._random)


def _with_hostname(config: ContainerConfig, host_config: HostConfig, container_id: str) -> ContainerConfig:
    """The host's name with the host's network or UTS namespace, else the short id where none is asked for."""
    if host_config.network_mode == "host" or host_config.uts_mode == "host":
        return replace(config, hostname=config.hostname or socket.gethostname())
    return replace(config, hostname=config.hostname or container_id[:12])
