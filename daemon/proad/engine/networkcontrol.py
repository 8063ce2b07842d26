"""Trio-flavoured. How networks come and go: create, remove, prune.

A network's record says that it is being made before anything is, and that it is being removed before anything
goes: what a crash cuts short in between, :meth:`NetworkControl.recover` takes away. The events tell of what
was finished only.
"""

import secrets
import time
from collections.abc import Sequence

import structlog
import trio
from msgspec.structs import replace

from proad.config import Config
from proad.engine.addresses import Addresses
from proad.engine.bridges import Bridges
from proad.engine.endpoints import Endpoints
from proad.engine.networks import Networks
from proad.engine.passage import Passage
from proad.engine.system import ID_SETTING
from proad.host import netlink
from proad.model import errors, filters
from proad.model.ipam import settle_pools
from proad.model.network import PREDEFINED, Endpoint, Network, NetworkState
from proad.model.networkconflict import private_parent, refuse_beside
from proad.model.networkoptions import GatewayMode, bridge_options, link_options
from proad.model.networkrequest import NetworkRequest, configured
from proad.store.db import Store, Transaction

DRIVERS = ("bridge", "macvlan", "ipvlan")
BRIDGE_PREFIX = "br-"

log = structlog.get_logger(__name__)


class NetworkControl:
    """Creates and removes networks."""

    def __init__(
        self,
        config: Config,
        store: Store,
        networks: Networks,
        bridges: Bridges,
        endpoints: Endpoints,
        addresses: Addresses,
        passage: Passage,
    ) -> None:
        self._config = config
        self._store = store
        self._networks = networks
        self._bridges = bridges
        self._endpoints = endpoints
        self._addresses = addresses
        self._passage = passage
        self._making = trio.Lock()
        """Subnets are chosen against those of all others."""

    async def create(self, request: NetworkRequest) -> tuple[str, list[str]]:
        """Make a network; returns its id and warnings. Event ``create``.

        Raises:
            errors.Forbidden: the name is a predefined one's, the driver has one network only, or its subnet
                overlaps another's.
            errors.Conflict: the name, or the name of the bridge, is taken.
            errors.NotFound: there is no such driver, or no such network to make it from.
            errors.InvalidParameter: no subnet is free.
            errors.System: an address that it needs, or its parent link, is another's; or the kernel refused.
        """
        self._refuse(request)
        async with self._making:
            if request.config_only:
                network = self._note(request)
            else:
                request = self._configured(request)
                network = await self._make(self._plan(request))
        await self._passage.ensure()
        return network.id, list(request.warnings)

    async def remove(self, ref: str) -> None:
        """Remove a network that no running container is on. Event ``destroy``.

        Raises:
            errors.NotFound: there is none.
            errors.Forbidden: it is predefined, or in use.
            errors.System: the kernel refused; recovery goes on with it.
        """
        network = self._networks.find(ref)
        if network.is_predefined:
            raise errors.Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if network.config_only and any(other.config_from == network.name for other in self._everything()):
            raise errors.Forbidden(
                f'error while removing network: configuration network "{network.name}" is in use'
            )
        if users := self._endpoints.on_network(network.id):
            raise errors.Forbidden(
                f"error while removing network: network {network.name} has active endpoints "
                f"({self._describe(network, users)})"
            )
        with self._store.transaction() as tx:
            network = replace(network, state=NetworkState.REMOVING)
            tx.put_network(network)
        self._finish(network)
        await self._passage.ensure()

    async def prune(self, wanted: filters.Filters) -> list[str]:
        """Remove all networks of one's own that no container has anything to do with, and that the filters
        want; returns their names. Event ``prune``, and ``destroy`` of each.
        """
        used = {
            name
            for container in self._store.containers.values()
            for name in self._networks.wanted_by(container)
        }
        removed = []
        for network in self._networks.all():
            if network.is_predefined or network.config_only or network.name in used:
                continue
            if self._endpoints.on_network(network.id):
                continue
            if not _is_wanted(wanted, network):
                continue
            try:
                await self.remove(network.id)
            except errors.ProaError as error:
                log.warning("network not pruned", network=network.name, error=error.message)
                continue
            removed.append(network.name)
        with self._store.transaction(durable=False) as tx:
            tx.emit("network", "prune", "", {"reclaimed": "0"})
        return removed

    def recover(self) -> None:
        """Take away what creations and removals that were cut short have left."""
        for network in list(self._store.networks.values()):
            try:
                if network.state is NetworkState.CREATING and not self._making.locked():
                    self._take_away(network)
                elif network.state is NetworkState.REMOVING:
                    self._finish(network)
            except errors.ProaError as error:
                log.error("network not taken away", network=network.name, error=error.message)

    def open(self) -> None:
        """At boot: what was cut short is taken away, and every network's bridge is made or mended.

        One that cannot be is logged: its containers fail to start, and say why.
        """
        self.recover()
        for network in self._networks.all():
            if network.is_predefined:
                continue
            try:
                self._bridges.make(network)
            except errors.ProaError as error:
                log.error("network not restored", network=network.name, error=error.message)

    # --- steps ------------------------------------------------------------------------------------------

    def _refuse(self, request: NetworkRequest) -> None:
        if request.name in PREDEFINED:
            raise errors.Forbidden(f"operation is not permitted on predefined {request.name} network ")
        if request.config_only:
            return
        if request.driver in ("host", "null"):
            raise errors.Forbidden(f'only one instance of "{request.driver}" network is allowed')
        if request.driver not in DRIVERS:
            raise errors.NotFound(
                f"could not find plugin {request.driver} in v1 plugin registry: "
                f'plugin "{request.driver}" not found'
            )

    def _note(self, request: NetworkRequest) -> Network:
        """A network that others are made from has nothing in the kernel."""
        self._refuse_taken_name(request)
        network = replace(_named(request, secrets.token_hex(32)), config_only=True, asked_pools=request.pools)
        with self._store.transaction(growing=True) as tx:
            tx.put_network(network)
            tell(tx, "create", network)
        return network

    def _configured(self, request: NetworkRequest) -> NetworkRequest:
        if not request.config_from:
            return request
        config = self._networks.named(request.config_from)
        if config is None or not config.config_only:
            raise errors.NotFound(f'configuration network "{request.config_from}" does not exist')
        return configured(request, config)

    async def _make(self, network: Network) -> Network:
        """Put a planned network on record, make it, and say so."""
        with self._store.transaction(growing=True) as tx:
            tx.put_network(network)
        try:
            await trio.lowlevel.checkpoint()
            self._bridges.make(network)
            with self._store.transaction(growing=True) as tx:
                network = replace(network, state=NetworkState.READY)
                tx.put_network(network)
                tell(tx, "create", network)
            self._addresses.admit(network)
        except BaseException:
            self._take_away(network)
            raise
        return network

    def _refuse_taken_name(self, request: NetworkRequest) -> None:
        if self._networks.named(request.name) is not None:
            raise errors.Conflict(f"network with name {request.name} already exists")

    def _plan(self, request: NetworkRequest) -> Network:
        self._refuse_taken_name(request)
        others = [pool for network in self._everything() for pool in network.pools]
        pools = settle_pools(
            request.pools,
            ipv4=request.ipv4,
            ipv6=request.ipv6,
            default_pools=[(pool.base, pool.size) for pool in self._config.default_address_pools],
            taken=netlink.taken_networks(),
            others=others,
            in_use=self._addresses.in_use,
            host_id=self._store.setting(ID_SETTING) or "",
            gateways=_with_gateways(request),
        )
        network_id = secrets.token_hex(32)
        network = replace(
            _named(request, network_id),
            state=NetworkState.CREATING,
            pools=pools,
            interface=_interface(request, network_id),
        )
        refuse_beside(network, self._everything())
        self._bridges.refuse_taken(network)
        return network

    def _everything(self) -> list[Network]:
        """All networks, those included that come or go."""
        predefined = [network for network in self._networks.all() if network.is_predefined]
        return [*predefined, *self._store.networks.values()]

    def _take_away(self, network: Network) -> None:
        """A creation that did not come to its end; what resists is left to recovery."""
        self._unmake(network)
        with self._store.transaction() as tx:
            tx.delete_network(network.id)

    def _finish(self, network: Network) -> None:
        self._unmake(network)
        self._addresses.forget(network)
        with self._store.transaction() as tx:
            tx.delete_network(network.id)
            if not network.config_only:  # nor does Docker tell
                tell(tx, "destroy", network)

    def _unmake(self, network: Network) -> None:
        """Take away what no other network uses: a parent link may be that of several."""
        shared = (other for other in self._everything() if other.interface == network.interface)
        if all(other.id == network.id for other in shared):
            self._bridges.unmake(network)

    def _describe(self, network: Network, users: Sequence[Endpoint]) -> str:
        ids = ((container, endpoint) for container, endpoint in self._networks.members(network) if endpoint)
        told = [f'name:"{container.name}" id:"{endpoint.endpoint_id[:12]}"' for container, endpoint in ids]
        return ", ".join(told) or f"{len(users)} being attached"


def tell(tx: Transaction, action: str, network: Network) -> None:
    """Event of a network itself."""
    tx.emit("network", action, network.id, {"name": network.name, "type": network.driver})


def _named(request: NetworkRequest, network_id: str) -> Network:
    """The record of a new network, without what is found for it."""
    return Network(
        id=network_id,
        name=request.name,
        driver=request.driver,
        created_ns=time.time_ns(),
        ipv4=request.ipv4,
        ipv6=request.ipv6,
        internal=request.internal,
        attachable=request.attachable,
        ipam_driver=request.ipam_driver,
        ipam_options=request.ipam_options,
        options=request.options,
        labels=request.labels,
        config_from=request.config_from,
    )


def _interface(request: NetworkRequest, network_id: str) -> str:
    """The host's interface: the one that is named, else one called after the network's id, as with Docker."""
    if request.driver == "bridge":
        return bridge_options(request.options).name or BRIDGE_PREFIX + network_id[:12]
    parent = link_options(request.options, request.driver).parent
    return parent or private_parent(request.driver, network_id)


def _with_gateways(request: NetworkRequest) -> list[int]:
    """Of which IP versions it needs a gateway's address: none where nothing leads out, or the link does."""
    if request.driver == "bridge":
        modes = bridge_options(request.options).modes
        return [version for version, mode in modes.items() if mode is not GatewayMode.ISOLATED]
    options = link_options(request.options, request.driver)
    return [4, 6] if options.parent and not (request.internal or options.routes_itself) else []


def _is_wanted(wanted: filters.Filters, network: Network) -> bool:
    return (
        filters.match_labels(network.labels, wanted.get("label", ()))
        and not (wanted.get("label!") and filters.match_labels(network.labels, wanted["label!"]))
        and filters.is_before(wanted, "until", network.created_ns)
    )
