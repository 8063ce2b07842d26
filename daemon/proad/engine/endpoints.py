"""Trio-flavoured. What runs have on networks: namespaces, interfaces, addresses, published ports, names.

    plan = endpoints.plan(container, run)                 # addresses and sockets that keep the host's ports
    await endpoints.attach(container, plan.run, begun)    # the monitor has inherited plan.fds()
    ...
    await endpoints.detach(run)

What an endpoint has is named after its id, so the kernel's lists tell at any time what belongs to whom; see
``repair`` for how the kernel is compared with what is known here.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import structlog
import trio
from msgspec.structs import replace

from proad.config import Config
from proad.engine.addresses import Addresses
from proad.engine.heldports import HeldPorts, versions_of, wants_ports
from proad.engine.lingering import Lingering
from proad.engine.naming import Naming
from proad.engine.networks import Networks
from proad.host import conntrack, netns, sandbox
from proad.host.announce import announce, needs_announcing
from proad.host.firewall import Firewall, Port, Published, opened_of, published_of
from proad.host.ports import ReservedPorts
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.network import (
    ON_LINK,
    Endpoint,
    EndpointSettings,
    Network,
    check_mac,
    elect_gateways,
    interface_name,
    mac_of,
    random_mac,
)
from proad.model.networkoptions import bridge_options, interface_prefix, link_options
from proad.model.ports import PublishedPort
from proad.model.security import may_configure_network

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    """A run with its endpoints, nothing of which is in the kernel yet but the sockets of ``reserved``.

    ``awaits_ports``: it publishes some that none of its networks can; another that it joins later may.
    """

    run: Run
    reserved: ReservedPorts
    awaits_ports: bool


class Endpoints:
    """Every attachment of a run to a network."""

    def __init__(
        self,
        config: Config,
        networks: Networks,
        addresses: Addresses,
        firewall: Firewall,
        naming: Naming,
        ports: HeldPorts,
        nursery: trio.Nursery,
    ) -> None:
        self._config = config
        self._networks = networks
        self._firewall = firewall
        self._naming = naming
        self._nursery = nursery
        self._addresses = addresses
        self._ports = ports
        self._directory = config.exec_root / "netns"
        self._live: dict[str, Endpoint] = {}
        self._strict: dict[str, bool] = {}
        self._lingering = Lingering(nursery, self._gone)

    def open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o711)

    @property
    def live(self) -> dict[str, Endpoint]:
        """All endpoints that are attached, or being attached, by their ids."""
        return self._live

    @property
    def attached(self) -> list[Endpoint]:
        """The live ones, and those whose interfaces are not gone yet."""
        return [*self._live.values(), *self._lingering.endpoints]

    def on_network(self, network_id: str) -> list[Endpoint]:
        return [endpoint for endpoint in self._live.values() if endpoint.network_id == network_id]

    # --- planning ---------------------------------------------------------------------------------------

    def plan(self, container: Container, run: Run) -> Plan:
        """Choose what a run will have: addresses are taken, host ports are bound.

        The caller closes the sockets once the monitor has its copies, and has :meth:`detach` undo the rest.

        Raises:
            errors.NotFound: a network is not there.
            errors.Forbidden: one is there for others to be made from only.
            errors.InvalidParameter: an address or a binding is malformed, or not of this network.
            errors.Unavailable: no address is free.
            errors.StartFailed: a port is taken.
        """
        names = self._networks.wanted_by(container)
        planned: list[Endpoint] = []
        try:
            for name in names:
                wish = container.networks.get(name, EndpointSettings())
                planned.append(self.plan_one(container, run, self._networks.find(name), wish, planned))
            reserved = self._ports.reserve(container, planned)
        except BaseException:
            for endpoint in planned:
                self.forget(endpoint)
            raise
        endpoints = self._ports.at_gateways(container, planned, reserved.ports)
        for endpoint in endpoints:
            self._live[endpoint.endpoint_id] = endpoint
        return Plan(
            run=replace(run, endpoints=endpoints, held_ports=reserved.ports),
            reserved=reserved,
            awaits_ports=bool(run.netns) and wants_ports(container) and versions_of(reserved.ports) != {4, 6},
        )

    def plan_one(
        self,
        container: Container,
        run: Run,
        network: Network,
        wish: EndpointSettings,
        beside: Iterable[Endpoint],
    ) -> Endpoint:
        """One endpoint, its address taken, for a run that has those ``beside`` it.

        Raises:
            errors.ProaError: as with :meth:`plan`.
        """
        if network.config_only:
            raise errors.Forbidden("cannot create endpoint on configuration-only network")
        endpoint_id = secrets.token_hex(32)
        self._lingering.hurry(network, wish)
        addresses = self._addresses.take(network, wish.ipam_config)
        endpoint = Endpoint(
            network=network.name,
            network_id=network.id,
            driver=network.driver,
            endpoint_id=endpoint_id,
            netns=run.netns,
            interface=_free_interface(network, wish, beside),
            master=network.interface,
            host_interface=interface_name(endpoint_id) if network.driver == "bridge" else "",
            mac_address=_mac(container, network, wish, addresses.ipv4),
            address=str(addresses.ipv4 or ""),
            prefix_length=addresses.ipv4_prefix_length,
            gateway=addresses.ipv4_gateway,
            ipv6_address=str(addresses.ipv6 or ""),
            ipv6_prefix_length=addresses.ipv6_prefix_length,
            ipv6_gateway=addresses.ipv6_gateway,
            gw_priority=wish.gw_priority,
            link_local=tuple((wish.ipam_config.link_local_ips or ()) if wish.ipam_config else ()),
        )
        self._live[endpoint_id] = endpoint
        self._strict[endpoint_id] = not may_configure_network(container.host_config)
        return endpoint

    # --- attaching --------------------------------------------------------------------------------------

    async def attach(self, container: Container, run: Run, begun: Callable[[], None] | None = None) -> None:
        """Make a run's namespace with all its interfaces, open its ports, and answer for its names.

        ``run.netns`` must not exist. ``begun`` is called once the namespace can be joined; its interfaces
        follow, which takes the longest. With no endpoints, the namespace has nothing but ``lo``.

        Raises:
            errors.System: the kernel refused; :meth:`detach` takes back what is there by then.
        """
        prepare = self._naming.prepare(run)
        interfaces = [self._interface(endpoint) for endpoint in run.endpoints]
        sockets = await sandbox.create_sandbox(
            Path(run.netns),
            interfaces,
            gateways_of(run.endpoints),
            prepare=prepare,
            kept=begun,
        )
        for endpoint in run.endpoints:
            self._admit(endpoint)
            self._naming.join(container, endpoint)
        if sockets is not None:
            self._naming.serve(container, run, sockets)
        self._announce(run, interfaces)

    async def detach(self, run: Run) -> None:
        """Take back all that a run has of networks; what is gone already is no error.

        The kernel ends a namespace, and the interfaces with it, in its own time once no process is inside;
        one that somebody still holds loses its interfaces half a second later.

        Raises:
            errors.System: the kernel refused a step; the others are done all the same.
        """
        self._naming.stop(run.id)
        failed: errors.ProaError | None = None
        for endpoint in run.endpoints:
            try:
                self._dismiss(endpoint)
            except errors.ProaError as error:
                failed = error
            self._live.pop(endpoint.endpoint_id, None)
            self._lingering.add(_without_ports(endpoint))
        if run.netns:
            netns.remove(Path(run.netns))
        if failed is not None:
            raise failed

    async def plug(self, container: Container, run: Run, endpoint: Endpoint) -> Run:
        """Attach one more endpoint, which ``run`` has already, to a namespace that lives.

        Returns the run with the published ports where the gateway is now.

        Raises:
            errors.System: the kernel refused; :meth:`unplug` takes back what is there by then.
        """
        interface = self._interface(endpoint)
        self._admit(endpoint)  # first: whoever is inside could send in others' names until then
        await sandbox.plug(Path(run.netns), interface, gateways_of(run.endpoints))
        self._announce(run, [interface])
        self._naming.join(container, endpoint)
        moved = self._move_ports(container, run)
        await self._naming.renew(container, moved)
        return moved

    async def unplug(self, container: Container, run: Run, endpoint: Endpoint) -> Run:
        """Take one endpoint, which ``run`` has no more, out of a namespace that lives; return the run as
        :meth:`plug` does.

        Raises:
            errors.System: the kernel refused a step.
        """
        self._naming.leave(endpoint)
        moved = self._move_ports(container, run, left=endpoint)
        self._live.pop(endpoint.endpoint_id, None)
        # A recovery meanwhile must not take it for one that has lost its rules.
        self._lingering.add(_without_ports(endpoint))
        await sandbox.unplug(Path(run.netns), endpoint.interface, gateways_of(run.endpoints))
        await self._lingering.end(endpoint)
        await self._naming.renew(container, moved)
        return moved

    def _move_ports(self, container: Container, run: Run, left: Endpoint | None = None) -> Run:
        """Have the ports lead to where the gateways are now; ``left`` is an endpoint that goes."""
        former = [*run.endpoints, *([left] if left else [])]
        # A run that an older daemon began has its ports at its endpoints only.
        ports = run.held_ports or [p for endpoint in former for p in endpoint.ports if p.host_port]
        endpoints = self._ports.at_gateways(container, run.endpoints, ports)
        before = {endpoint.endpoint_id: endpoint for endpoint in former}
        after = {endpoint.endpoint_id: endpoint for endpoint in endpoints}
        for endpoint_id, old in before.items():
            if (new := after.get(endpoint_id)) is None or new.ports != old.ports:
                self._withdraw(old)
        for endpoint_id, new in after.items():
            if new.ports != before[endpoint_id].ports:
                self._firewall.admit(self.filter_port(new), _published(new))
            self._live[endpoint_id] = new
        return replace(run, endpoints=endpoints)

    def _interface(self, endpoint: Endpoint) -> sandbox.Interface:
        network = self._networks.find(endpoint.network_id)
        mtu = bridge_options(network.options).mtu
        addresses = endpoint.interfaces
        if endpoint.driver == "bridge":
            return sandbox.Interface(
                name=endpoint.interface,
                kind="veth",
                host_interface=endpoint.host_interface,
                master=endpoint.master,
                mtu=mtu or self._config.mtu,
                mac_address=endpoint.mac_address,
                addresses=tuple(addresses),
                hairpin=bool(endpoint.ports),
            )
        link = link_options(network.options, network.driver)
        return sandbox.Interface(
            name=endpoint.interface,
            kind="macvlan" if endpoint.driver == "macvlan" else "ipvlan",
            master=endpoint.master,
            mode=link.mode,
            flag=link.flag,
            mtu=mtu,
            mac_address=endpoint.mac_address,
            addresses=tuple(addresses),
        )

    def _announce(self, run: Run, interfaces: Iterable[sandbox.Interface]) -> None:
        """Have the neighbours correct what they know of the addresses, where that may be wrong."""
        wanted = [interface for interface in interfaces if needs_announcing(interface)]
        if wanted:
            self._nursery.start_soon(self._announce_now, Path(run.netns), wanted)

    async def _announce_now(self, path: Path, interfaces: list[sandbox.Interface]) -> None:
        try:
            await announce(path, interfaces)
        except errors.System as error:
            log.warning("a new address was not announced to its neighbours", error=error.message)

    def _admit(self, endpoint: Endpoint) -> None:
        """Let the packet filter know the endpoint, and its ports."""
        if endpoint.driver != "bridge":
            return
        self._firewall.admit(self.filter_port(endpoint), _published(endpoint))
        for ipv6 in (False, True):
            if ports := _udp(endpoint.ports, ipv6=ipv6):
                forget = partial(conntrack.forget_untranslated, ports, ipv6=ipv6)
                self._nursery.start_soon(self._forget_flows, forget)

    def filter_port(self, endpoint: Endpoint) -> Port:
        """What the packet filter must know of an endpoint on a bridge."""
        addresses = [address.ip for address in endpoint.interfaces]
        return Port(
            host_interface=endpoint.host_interface,
            bridge=endpoint.master,
            mac=endpoint.mac_address,
            addresses=tuple(addresses),
            strict=self._strict.get(endpoint.endpoint_id, False),
            opened=tuple(opened_of(endpoint.address, endpoint.ipv6_address, endpoint.ports)),
        )

    def _dismiss(self, endpoint: Endpoint) -> None:
        self._naming.leave(endpoint)
        if endpoint.driver != "bridge":
            return
        self._withdraw(endpoint)
        for ipv6, address in ((False, endpoint.address), (True, endpoint.ipv6_address)):
            if ports := _udp(endpoint.ports, ipv6=ipv6):
                self._nursery.start_soon(
                    self._forget_flows, partial(conntrack.forget_translated, ports, address)
                )

    def _withdraw(self, endpoint: Endpoint) -> None:
        """Have nobody reach its ports; what it sends is still watched."""
        self._firewall.dismiss(None, _published(endpoint))
        if self.filter_port(endpoint).opened:
            self._firewall.admit(self.filter_port(_without_ports(endpoint)), {})

    async def _forget_flows(self, forget: Callable[[], int]) -> None:
        try:
            await trio.to_thread.run_sync(forget)
        except errors.System as error:
            log.warning("a UDP client that keeps sending may reach the wrong place", error=error.message)

    def _unguard(self, endpoint: Endpoint) -> None:
        """Its interface is gone: what it may send is no question any more."""
        if endpoint.driver == "bridge":
            self._firewall.dismiss(endpoint.host_interface, {})

    def _gone(self, endpoint: Endpoint) -> None:
        """Its interface is gone, and whom it has talked to is forgotten."""
        try:
            self._unguard(endpoint)
        except errors.System as error:
            log.error("packet filter not told of an end; recovery tries again", error=error.message)
        self._strict.pop(endpoint.endpoint_id, None)
        self._addresses.release(endpoint)

    async def replace_link(self, run: Run, endpoint: Endpoint) -> None:
        """Make an endpoint's interface again that somebody has deleted.

        Raises:
            errors.System: the kernel refused.
        """
        await sandbox.plug(Path(run.netns), self._interface(endpoint), gateways_of(run.endpoints))

    def forget(self, endpoint: Endpoint) -> None:
        """It is not in the kernel, or not any more."""
        self._live.pop(endpoint.endpoint_id, None)
        self._strict.pop(endpoint.endpoint_id, None)
        self._addresses.release(endpoint)

    # --- recovery ---------------------------------------------------------------------------------------

    def adopt(self, container: Container, run: Run) -> None:
        """Know the endpoints of a run that an earlier daemon made."""
        for endpoint in run.endpoints:
            self._live[endpoint.endpoint_id] = endpoint
            self._strict[endpoint.endpoint_id] = not may_configure_network(container.host_config)
            self._addresses.adopt(endpoint)
            self._naming.join(container, endpoint)
        self._ports.adopt(container.id, run)


def gateways_of(endpoints: Iterable[Endpoint]) -> sandbox.Gateways:
    """The default routes of a namespace with these endpoints."""
    gateway4, gateway6 = elect_gateways(endpoints)
    return sandbox.Gateways(
        ipv4=(gateway4.interface, _via(gateway4.gateway)) if gateway4 is not None else None,
        ipv6=(gateway6.interface, _via(gateway6.ipv6_gateway)) if gateway6 is not None else None,
    )


def _via(gateway: str) -> str:
    return "" if gateway in ON_LINK else gateway


def _free_interface(network: Network, wish: EndpointSettings, beside: Iterable[Endpoint]) -> str:
    """The interface's name in the container: the first free one of the network's prefix."""
    taken = {endpoint.interface for endpoint in beside}
    if (
        asked := (wish.driver_opts or {}).get("com.docker.network.endpoint.ifname", "")
    ) and asked not in taken:
        return asked
    prefix = interface_prefix(network.options)
    return next(name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken)


def _mac(
    container: Container, network: Network, wish: EndpointSettings, address: IPv4Address | IPv6Address | None
) -> str:
    if network.driver == "ipvlan":
        return ""  # its interfaces have their parent's
    is_mode = container.host_config.network_mode in (network.name, network.id, "default", "")
    asked = wish.mac_address or (container.config.mac_address if is_mode else "")
    if asked:
        return check_mac(asked)
    return mac_of(address) if isinstance(address, IPv4Address) else random_mac(secrets.token_bytes(5))


def _without_ports(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, ports=())


def _published(endpoint: Endpoint) -> Published:
    return published_of(endpoint.address, endpoint.ipv6_address, endpoint.ports)


def _udp(ports: Iterable[PublishedPort], *, ipv6: bool) -> list[int]:
    udp = (port for port in ports if port.protocol == "udp" and (":" in port.host_ip) == ipv6)
    return [port.host_port for port in udp if port.host_port]
