"""Trio-flavoured. Compares what networks should have in the kernel with what they have, and mends it.

At boot, on a timer, and as soon as somebody changes links or the packet filter: a bridge, a veth pair or the
nftables table that was deleted by hand, a firewall that was reloaded over our rules. What is right is not
touched, so healthy traffic does not notice.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import structlog
import trio

from proad.config import Config
from proad.engine.bridges import Bridges, rules_of
from proad.engine.endpoints import Endpoints
from proad.engine.hostrouting import HostRouting
from proad.engine.locks import Locks
from proad.engine.networkcontrol import NetworkControl
from proad.engine.networks import Networks
from proad.engine.passage import Passage
from proad.host import netlink, netns
from proad.host.firewall import BridgeRules, Firewall, Port, Published, Source, Target, published_of
from proad.host.linkwatch import LinkWatch
from proad.host.nftwatch import NftWatch
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.network import DEFAULT_BRIDGE, Endpoint, Network, is_interface_name
from proad.store.db import Store

log = structlog.get_logger(__name__)


class NetworkRepair:
    """Brings the kernel to what the records say of networks."""

    def __init__(
        self,
        config: Config,
        store: Store,
        locks: Locks,
        networks: Networks,
        control: NetworkControl,
        bridges: Bridges,
        endpoints: Endpoints,
        firewall: Firewall,
        passage: Passage,
        routing: HostRouting,
    ) -> None:
        self._config = config
        self._store = store
        self._locks = locks
        self._networks = networks
        self._control = control
        self._bridges = bridges
        self._endpoints = endpoints
        self._firewall = firewall
        self._passage = passage
        self._routing = routing
        self._directory = config.exec_root / "netns"
        self._mending = trio.Lock()

    def open(self) -> None:
        """At boot, before anything is adopted: bridges and rules are there; ports that answer go on.

        Raises:
            errors.ProaError: the default bridge cannot be had, or the kernel refused the rules.
        """
        self._endpoints.open()
        self._networks.open()
        self._routing.open()
        rules = self._rules()
        if rules or self._routing.keeps_apart:
            self._firewall.open(rules)
        else:
            self._firewall.delete()  # an earlier daemon's, which had bridges
        if rules:
            self._routing.switch_on(ipv6=False)
        self._control.open()

    async def recover(self, live: Callable[[], Iterable[Run]]) -> None:
        """Free the links, namespaces, map elements and addresses that no live run owns; mend what they lost.

        ``live`` is asked after the host has been looked at: a run that begins in between is not taken for a
        leftover.

        Raises:
            errors.System: the kernel refused a step.
        """
        async with self._mending:
            self._control.recover()
            kept = netns.kept(self._directory)
            mended = self._mend_bridges()
            ports = await trio.to_thread.run_sync(self._ports_of_all)
            ids = {run.id for run in live()}
            self._forget_dead(ids)
            known = {endpoint.host_interface for endpoint in self._endpoints.attached}
            found = {name for names in ports.values() for name in names}
            left = {name for name in found if is_interface_name(name)} - known
            await trio.to_thread.run_sync(netlink.delete_links, left)
            removed = added = 0
            self._routing.renew()
            rules = self._rules()
            if rules or self._routing.keeps_apart:
                self._firewall.open(rules)
                removed, added = self._firewall.reconcile(self._filter_ports(), self._published())
            for path in kept - {self._directory / run_id for run_id in ids}:
                netns.remove(path)
            lost = await self._bring_back(ports)
            foreign = await self._passage.ensure()
            if removed or added or left or lost or mended or foreign:
                log.info(
                    "networks recovered",
                    rules_removed=removed,
                    rules_added=added,
                    freed=sorted(left),
                    rejoined=sorted(lost),
                    bridges=sorted(mended),
                    other_firewalls=foreign,
                )
            await self._leave_former_bridge()

    async def watch(self, live: Callable[[], Iterable[Run]]) -> None:
        """Mend as soon as somebody takes a link of ours away, or changes the packet filter; for good."""
        links = LinkWatch(self._is_ours)
        rules = NftWatch(self._config.table, lambda: self._firewall.port_ids | self._passage.port_ids)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._mend_after, links.losses, live)
                nursery.start_soon(self._mend_rules_after, rules.changes, live)
        finally:
            links.close()
            rules.close()

    async def _mend_after(
        self, losses: Callable[[], Awaitable[object]], live: Callable[[], Iterable[Run]]
    ) -> None:
        while True:
            await losses()
            await self._try(self.recover(live))

    async def _mend_rules_after(
        self, changes: Callable[[], Awaitable[bool]], live: Callable[[], Iterable[Run]]
    ) -> None:
        """Some programs change rules of theirs all the time; only where ours are concerned too is all looked
        at, which takes a while where there are many endpoints.
        """
        while True:
            is_ours = await changes()
            await self._try(self.recover(live) if is_ours else self._keep_way_through())

    async def _try(self, mending: Awaitable[object]) -> None:
        try:
            await mending
        except errors.ProaError as error:
            log.error("networks not mended; tried again later", error=error.message)

    async def _keep_way_through(self) -> None:
        """Have other firewalls let our bridges' packets through."""
        if await self._passage.ensure():
            log.info("other firewalls let our bridges through again")

    def _is_ours(self, interface: str) -> bool:
        """Whether a link of that name should be there, as things are now."""
        return any(network.interface == interface for network in self._bridged()) or any(
            endpoint.host_interface == interface for endpoint in self._endpoints.live.values()
        )

    # --- what should be there ---------------------------------------------------------------------------

    def _bridged(self) -> Iterator[Network]:
        return (network for network in self._networks.all() if network.driver == "bridge")

    def _rules(self) -> list[BridgeRules]:
        rules = [rules_of(network) for network in self._bridged()]
        if not self._config.has_bridge and (former := self._former_subnet()) is not None:
            subnet = (former.network,)
            rules.append(
                BridgeRules(
                    bridge=self._config.own_bridge, subnets=subnet, internal=False, icc=True, masquerade=True
                )
            )
        return rules

    def _former_subnet(self) -> IPv4Interface | None:
        """That of the default bridge of an earlier daemon, for as long as containers live on it."""
        for container in self._store.containers.values():
            endpoint = container.run.default_endpoint if container.run is not None else None
            if endpoint is not None:
                return endpoint.ipv4_interface
        return None

    def _filter_ports(self) -> dict[str, Port]:
        return {
            endpoint.host_interface: self._endpoints.filter_port(endpoint)
            for endpoint in self._endpoints.attached
            if endpoint.driver == "bridge"
        }

    def _published(self) -> Published:
        wanted: dict[Source, Target] = {}
        for endpoint in self._endpoints.live.values():
            wanted.update(published_of(endpoint.address, endpoint.ipv6_address, endpoint.ports))
        return wanted

    # --- what is there ----------------------------------------------------------------------------------

    def _ports_of_all(self) -> dict[str, set[str]]:
        """Blocking: the interfaces on each of our bridges."""
        return {name: netlink.ports_of(name) for name in self._passage.bridges()}

    def _mend_bridges(self) -> list[str]:
        mended = []
        for network in self._bridged():
            try:
                if self._bridges.ensure(network):
                    mended.append(network.interface)
            except errors.ProaError as error:
                log.error("bridge not mended", bridge=network.interface, error=error.message)
        return mended

    def _forget_dead(self, ids: set[str]) -> None:
        for endpoint in list(self._endpoints.live.values()):
            if Path(endpoint.netns).name not in ids:
                log.warning("freeing an endpoint that no container has", interface=endpoint.host_interface)
                self._endpoints.forget(endpoint)

    async def _bring_back(self, ports: dict[str, set[str]]) -> list[str]:
        """Attach again the endpoints of running containers that have lost their bridge or their link."""
        found = {name for names in ports.values() for name in names}
        lost = [
            (container, endpoint)
            for container, endpoint in self._joined()
            if endpoint.driver == "bridge" and endpoint.host_interface not in found
        ]
        if not lost:
            return []
        names = [endpoint.host_interface for _, endpoint in lost]
        present = await trio.to_thread.run_sync(netlink.links_present, names)
        brought_back = []
        for container, endpoint in lost:
            if not self._config.has_bridge and endpoint.network == DEFAULT_BRIDGE:
                continue
            if endpoint.host_interface in present:
                await trio.to_thread.run_sync(netlink.join_bridge, [endpoint.host_interface], endpoint.master)
            elif not await self._plug_again(container, endpoint):
                continue
            brought_back.append(endpoint.host_interface)
        return brought_back

    async def _plug_again(self, container: Container, endpoint: Endpoint) -> bool:
        async with self._locks.of(container.id):
            current = self._store.containers.get(container.id)
            run = current.run if current is not None and current.status.has_process else None
            if run is None or endpoint not in run.endpoints:
                return False
            try:
                await self._endpoints.replace_link(run, endpoint)
            except errors.ProaError as error:
                log.error("interface not made again", interface=endpoint.host_interface, error=error.message)
                return False
        log.warning("an interface was gone; made again", container=container.id, network=endpoint.network)
        return True

    def _joined(self) -> Iterator[tuple[Container, Endpoint]]:
        for container in list(self._store.containers.values()):
            if container.run is None or not container.status.has_process:
                continue
            for endpoint in container.run.endpoints:
                if endpoint.state == "joined":
                    yield container, endpoint

    async def _leave_former_bridge(self) -> None:
        """Without a default bridge, that of an earlier daemon goes with its last container."""
        if (former := self._passage.former_bridge) and self._former_subnet() is None:
            self._firewall.drop_bridge(former)
            await trio.to_thread.run_sync(self._networks.default_bridge.remove)
            self._passage.former_bridge = ""
            await self._passage.ensure()
