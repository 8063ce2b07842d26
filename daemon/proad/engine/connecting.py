"""Trio-flavoured. Connecting containers to networks and disconnecting them, while they run or not.

For a container that does not run only its record changes. For one that runs, the record says first that an
endpoint is joining or leaving; what a crash cuts short there, :meth:`Connector.settle` takes back or
finishes.
"""

from collections.abc import Collection

import structlog
import trio
from msgspec.structs import replace

from proad.engine.endpoints import Endpoints
from proad.engine.etc import rewrite_for_networks
from proad.engine.heldports import HeldPorts
from proad.engine.locks import Locks
from proad.engine.lookup import find_container
from proad.engine.naming import Naming
from proad.engine.networks import Networks
from proad.engine.resources import RunResources
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.endpointcheck import check_endpoint
from proad.model.network import Endpoint, EndpointSettings, Network
from proad.store.db import Store, Transaction

log = structlog.get_logger(__name__)


class Connector:
    """Attaches containers to networks after their creation."""

    def __init__(
        self,
        store: Store,
        locks: Locks,
        networks: Networks,
        endpoints: Endpoints,
        ports: HeldPorts,
        naming: Naming,
        resources: RunResources,
    ) -> None:
        self._store = store
        self._locks = locks
        self._networks = networks
        self._endpoints = endpoints
        self._ports = ports
        self._naming = naming
        self._resources = resources

    async def connect(self, ref: str, container_ref: str, wish: EndpointSettings) -> None:
        """Connect a container to a network; event ``connect`` if it runs.

        Raises:
            errors.NotFound: there is no such network or container.
            errors.Forbidden: it is connected already.
            errors.InvalidParameter: its network mode allows no other, or what ``wish`` asks is not to be had
                on this network.
            errors.Unavailable: no address is free.
            errors.System: the kernel refused; nothing is changed.
        """
        container = find_container(self._store, container_ref)
        network = self._networks.find(ref)
        async with self._locks.of(container.id):
            container = self._still_there(container)
            _refuse_mode(container, network, self._connected(container))
            check_endpoint(network, wish)
            if container.status in (Status.REMOVING, Status.DEAD):
                raise _marked(container)
            if network.name in self._connected(container):
                raise errors.Forbidden(
                    f"endpoint with name {container.name} already exists in network {network.name}"
                )
            networks = {**container.networks, network.name: wish}
            if not container.status.has_process:
                with self._store.transaction() as tx:
                    tx.put_container(replace(container, networks=networks))
                return
            with trio.CancelScope(shield=True):  # the client may go; half of a connection helps nobody
                await self._plug(replace(container, networks=networks), container, network, wish)

    async def disconnect(self, ref: str, container_ref: str, *, force: bool) -> None:
        """Disconnect a container from a network; event ``disconnect`` if it runs.

        One that does not run may name a network that is gone by now, and leaves it all the same.

        Raises:
            errors.NotFound: there is no such network or container.
            errors.Forbidden: it is not connected.
            errors.InvalidParameter: the network is the host's.
            errors.System: the kernel refused; recovery goes on with it.
        """
        container = find_container(self._store, container_ref)
        async with self._locks.of(container.id):
            container = self._still_there(container)
            if not container.status.has_process and self._forget_lost(container, ref):
                return
            network = self._networks.find(ref)
            if container.host_config.network_mode == "host" or network.name == "host":
                raise errors.InvalidParameter(
                    "container cannot be disconnected from host network or connected to host network"
                )
            if container.status in (Status.REMOVING, Status.DEAD):
                raise _marked(container)
            if network.name not in self._connected(container):
                raise errors.Forbidden(f"container {container.id} is not connected to network {network.name}")
            bare = _without(container, network.name)
            endpoint = _endpoint_on(container, network)
            if endpoint is None:
                with self._store.transaction() as tx:
                    tx.put_container(bare)
                return
            with trio.CancelScope(shield=True):
                await self._unplug(bare, endpoint)

    async def settle(self, container: Container) -> Container:
        """After a restart: take back what was joining, finish what was leaving. The caller holds the lock.

        Raises:
            errors.System: the kernel refused.
        """
        for endpoint in container.run.endpoints if container.run is not None else ():
            if endpoint.state == "joining":
                bare = _without(container, endpoint.network)
                container = await self._unplug(bare, endpoint, tells=False)
            elif endpoint.state == "leaving":
                container = await self._unplug(container, endpoint)
        return container

    # --- running containers -----------------------------------------------------------------------------

    async def _plug(
        self, connected: Container, before: Container, network: Network, wish: EndpointSettings
    ) -> None:
        run = before.run
        assert run is not None
        endpoint = self._endpoints.plan_one(connected, run, network, wish, run.endpoints)
        endpoint = replace(endpoint, state="joining")
        run = replace(run, endpoints=(*run.endpoints, endpoint))
        try:
            connected, run = self._begin_to_plug(connected, run, before)
        except BaseException:
            self._endpoints.forget(endpoint)
            raise
        try:
            run = await self._endpoints.plug(connected, run, endpoint)
            joined = tuple(replace(one, state="joined") for one in run.endpoints)
            run = replace(run, endpoints=joined)
            with self._store.transaction(durable=False) as tx:
                connected = replace(self._store.containers[connected.id], run=run)
                tx.put_container(connected)
                tell_endpoint(tx, "connect", connected, endpoint)
        except BaseException:
            bare = replace(self._store.containers[connected.id], networks=before.networks)
            await self._unplug(bare, endpoint, tells=False)
            raise
        self._rewrite_files(connected, run)

    def _begin_to_plug(self, connected: Container, run: Run, before: Container) -> tuple[Container, Run]:
        """The joining endpoint is on record, and ports that it is the first to publish are kept."""
        with self._ports.reserve_late(connected, run) as reserved:
            if reserved.ports:
                run = replace(run, held_ports=(*run.held_ports, *reserved.ports), late_ports=True)
            connected = self._put(connected, run)
            try:
                self._ports.keep(connected.id, run, reserved)
            except errors.System:
                with self._store.transaction(durable=False) as tx:
                    tx.put_container(before)
                raise
        return connected, run

    async def _unplug(self, bare: Container, endpoint: Endpoint, *, tells: bool = True) -> Container:
        """Take an endpoint away; ``bare`` is the record as it is to be but for its run."""
        run = bare.run
        assert run is not None
        leaving = replace(endpoint, state="leaving" if tells else "joining")
        others = tuple(one for one in run.endpoints if one.endpoint_id != endpoint.endpoint_id)
        bare = self._put(bare, replace(run, endpoints=(*others, leaving)))
        run = await self._endpoints.unplug(bare, replace(run, endpoints=others), endpoint)
        with self._store.transaction(durable=False) as tx:
            bare = replace(self._store.containers[bare.id], run=run)
            tx.put_container(bare)
            if tells:
                tell_endpoint(tx, "disconnect", bare, endpoint)
        self._rewrite_files(bare, run)
        return bare

    def _put(self, container: Container, run: Run) -> Container:
        container = replace(container, run=run)
        with self._store.transaction(durable=False) as tx:
            tx.put_container(container)
        return container

    def _rewrite_files(self, container: Container, run: Run) -> None:
        """The hosts file has a line for each of the container's addresses, and resolv.conf our resolver."""
        paths = self._resources.paths(container.id)
        rewrite_for_networks(container, run.endpoints, paths, resolver=self._naming.resolves(run))

    # --- records ----------------------------------------------------------------------------------------

    def _forget_lost(self, container: Container, name: str) -> bool:
        """Have a container name a network no more that is gone; returns whether it did."""
        if name not in container.networks or self._networks.named(name) is not None:
            return False
        with self._store.transaction() as tx:
            tx.put_container(_without(container, name))
        return True

    def _still_there(self, container: Container) -> Container:
        found = self._store.containers.get(container.id)
        if found is None:
            raise errors.NotFound(f"No such container: {container.id}")
        return found

    def _connected(self, container: Container) -> set[str]:
        if container.status.has_process and container.run is not None:
            without = {"none"} & container.networks.keys()
            return {endpoint.network for endpoint in container.run.endpoints} | without
        return set(container.networks)


def tell_endpoint(tx: Transaction, action: str, container: Container, endpoint: Endpoint) -> None:
    attributes = {"container": container.id, "name": endpoint.network, "type": endpoint.driver}
    tx.emit("network", action, endpoint.network_id, attributes)


def _without(container: Container, network: str) -> Container:
    networks = {name: wish for name, wish in container.networks.items() if name != network}
    return replace(container, networks=networks)


def _endpoint_on(container: Container, network: Network) -> Endpoint | None:
    if container.run is None or not container.status.has_process:
        return None
    found = (endpoint for endpoint in container.run.endpoints if endpoint.network_id == network.id)
    return next(found, None)


def _marked(container: Container) -> errors.Conflict:
    return errors.Conflict(
        f"Container {container.id} is marked for removal and cannot be connected or disconnected to the "
        "network"
    )


def _refuse_mode(container: Container, network: Network, connected: Collection[str]) -> None:
    """Who shares a namespace, or shall have none of his own, cannot be connected to anything."""
    mode = container.host_config.network_mode
    if mode == "host" or network.name == "host":
        raise errors.InvalidParameter(
            "container cannot be disconnected from host network or connected to host network"
            if network.name == "host" and mode != "host"
            else "container sharing network namespace with another container or host cannot be connected to "
            "any other network"
        )
    if mode.startswith("container:"):
        raise errors.InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any "
            "other network"
        )
    if "none" in connected or network.name == "none":
        raise errors.InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) "
            "mode"
        )
