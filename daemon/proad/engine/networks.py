"""Trio-flavoured. The networks of the host: the default bridge with its endpoints, and ``host`` and ``none``.

    reserved = networks.reserve_ports(container)              # sockets that keep the host's ports
    endpoint = await networks.attach(run.id, container, netns_path=path, reserved=reserved)
    ...                                                       # the monitor inherits reserved.fds()
    await networks.detach(endpoint)

An endpoint is a network namespace with a veth pair to the bridge, an address, and elements of the firewall's
maps. What a run has is named after the run's id, so the kernel's lists tell at any time what belongs to whom,
and :meth:`Networks.recover` frees what belongs to nobody. Addresses are kept in memory and known again after
a restart from the endpoints of the runs that live.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import structlog
import trio

from proad.config import Config
from proad.engine.bridge import Bridge
from proad.host import conntrack, netlink, netns
from proad.host.firewall import Firewall, Published, published_of
from proad.host.ports import PortReserver, PortTaken, ReservedPorts
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.network import (
    Endpoint,
    Network,
    PublishedPort,
    check_mac,
    interface_name,
    is_interface_name,
    mac_of,
    next_address,
    requested_ports,
)
from proad.store.db import Store

SWEEP_AFTER_S = 0.5
BRIDGE_NAMES = frozenset({"", "default", "bridge"})
"""Network modes that mean the default bridge."""

log = structlog.get_logger(__name__)


class Networks:
    """The predefined networks, and every attachment to them."""

    def __init__(self, config: Config, store: Store, firewall: Firewall, nursery: trio.Nursery) -> None:
        self._config = config
        self._store = store
        self._firewall = firewall
        self._nursery = nursery
        self._bridge = Bridge(config)
        self._has_former_bridge = not config.has_bridge
        self._reserver = PortReserver(config.port_range)
        self._directory = config.exec_root / "netns"
        self._networks: dict[str, Network] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._lingering: dict[str, IPv4Address] = {}
        self._last_address = IPv4Address(0)

    async def open(self) -> None:
        """Make the bridge and the firewall's table be there, or adopt them; nothing that lives is disturbed.

        Without a default bridge, those of an earlier daemon stay for as long as containers live on them.

        Raises:
            errors.ProaError: this host has no room for the bridge, or the kernel refused.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        if self._config.has_bridge:
            self._bridge.open(former=self._recorded_gateways())
            self._firewall.open(self._bridge.subnet)
            self._last_address = self._bridge.gateway.ip
        else:
            self._firewall.read()
        self._networks = {network.name: network for network in self._predefined()}

    @property
    def host_gateway(self) -> str:
        """The address at which containers of the default bridge reach their host; empty without one."""
        return str(self._bridge.gateway.ip) if self._config.has_bridge else ""

    def connects(self, container: Container) -> bool:
        """Whether its runs get an interface of their own: on the default bridge, if there is one."""
        return (
            self._config.has_bridge
            and container.host_config.network_mode in BRIDGE_NAMES
            and not container.config.network_disabled
        )

    def withholds_ports(self, container: Container) -> bool:
        """Whether it publishes ports on a default bridge that there is not."""
        asked = container.host_config
        return (
            not self._config.has_bridge
            and asked.network_mode in BRIDGE_NAMES
            and bool(asked.port_bindings or asked.publish_all_ports)
        )

    # --- endpoints --------------------------------------------------------------------------------------

    def reserve_ports(self, container: Container) -> ReservedPorts:
        """Bind the host ports that ``container`` publishes.

        The caller closes what it gets once the monitor has its copies.

        Raises:
            errors.InvalidParameter: a binding is malformed.
            errors.StartFailed: a port is taken.
        """
        settings = container.host_config
        requests = requested_ports(
            container.config.exposed_ports,
            {key: [(b.host_ip, b.host_port) for b in found] for key, found in settings.port_bindings.items()},
            settings.publish_all_ports,
        )
        taken = ((source.protocol, source.address, source.port) for source in self._firewall.published)
        endpoint_id = secrets.token_hex(32)
        try:
            return self._reserver.reserve(endpoint_id, requests, taken)
        except PortTaken as error:
            where = f"endpoint {container.name} ({endpoint_id})"
            message = f"driver failed programming external connectivity on {where}: {error}"
            raise errors.StartFailed(message) from error

    async def attach(
        self,
        run_id: str,
        container: Container,
        *,
        netns_path: Path,
        reserved: ReservedPorts,
        begun: Callable[[Endpoint], None] | None = None,
    ) -> Endpoint:
        """Give a run its namespace, interface, address and published ports.

        ``netns_path`` is ``<exec root>/netns/<run id>`` and must not exist. ``begun`` is called once the
        namespace can be joined and all but its interface is settled, which takes the longest.

        Raises:
            errors.InvalidParameter: the MAC address asked for is none.
            errors.Unavailable: no address is free.
            errors.System: the kernel refused; nothing is left.
        """
        endpoint = self._plan(run_id, container, netns_path, reserved)
        self._endpoints[endpoint.host_interface] = endpoint
        try:
            await netlink.create_veth(self._veth(endpoint), partial(begun, endpoint) if begun else None)
            self._firewall.publish(published_of(endpoint.address, endpoint.ports))
        except BaseException:
            self._give_back(endpoint)
            raise
        if ports := _udp(endpoint.ports):
            self._nursery.start_soon(self._forget_flows, lambda: conntrack.forget_untranslated(ports))
        return endpoint

    async def detach(self, endpoint: Endpoint) -> None:
        """Take back all that :meth:`attach` gave; what is gone already is no error.

        The kernel ends a namespace, and the veth pair with it, in its own time once no process is inside;
        one that somebody still holds loses its interface half a second later.

        Raises:
            errors.System: the kernel refused a step; the others are done all the same.
        """
        self._give_back(endpoint)
        if ports := _udp(endpoint.ports):
            address = endpoint.address
            self._nursery.start_soon(self._forget_flows, lambda: conntrack.forget_translated(ports, address))

    async def loopback_only(self, netns_path: Path) -> None:
        """Make a namespace that has nothing but ``lo``, for the network mode ``none``.

        Raises:
            errors.System: the kernel refused; nothing is left.
        """
        await netlink.create_loopback_only(netns_path)

    def remove_netns(self, netns_path: str | Path) -> None:
        """Let go of a namespace that is no endpoint's; what is gone already is no error."""
        netns.remove(Path(netns_path))

    def _plan(self, run_id: str, container: Container, netns_path: Path, reserved: ReservedPorts) -> Endpoint:
        gateway = self._bridge.gateway
        taken = {IPv4Address(endpoint.address) for endpoint in self._endpoints.values()}
        asked = container.networks.get("bridge") or container.networks.get("default")
        mac = (asked.mac_address if asked else "") or container.config.mac_address
        address = next_address(gateway, taken.union(self._lingering.values()), self._last_address)
        endpoint = Endpoint(
            network="bridge",
            network_id=self._networks["bridge"].id,
            endpoint_id=reserved.endpoint_id,
            netns=str(netns_path),
            host_interface=interface_name(run_id),
            address=str(address),
            prefix_length=gateway.network.prefixlen,
            gateway=str(gateway.ip),
            mac_address=check_mac(mac) if mac else mac_of(address),
            ports=reserved.ports,
        )
        self._last_address = address
        return endpoint

    def _veth(self, endpoint: Endpoint) -> netlink.Veth:
        return netlink.Veth(
            netns=Path(endpoint.netns),
            host_interface=endpoint.host_interface,
            bridge=self._bridge.name,
            mtu=self._config.mtu,
            mac_address=endpoint.mac_address,
            address=IPv4Interface(f"{endpoint.address}/{endpoint.prefix_length}"),
            gateway=IPv4Address(endpoint.gateway),
            hairpin=bool(endpoint.ports),
        )

    def _give_back(self, endpoint: Endpoint) -> None:
        self._endpoints.pop(endpoint.host_interface, None)
        try:
            self._firewall.withdraw(published_of(endpoint.address, endpoint.ports))
        finally:
            netns.remove(Path(endpoint.netns))
            self._linger(endpoint.host_interface, IPv4Address(endpoint.address))

    # --- what outlives its endpoint for a moment --------------------------------------------------------

    def _linger(self, interface: str, address: IPv4Address) -> None:
        """Keep an address from being given out while the interface that has it may still be there."""
        if not self._lingering:
            self._nursery.start_soon(self._sweep)
        self._lingering[interface] = address

    async def _sweep(self) -> None:
        """Delete the interfaces that did not go with their namespaces: some process is still inside."""
        while self._lingering:
            await trio.sleep(SWEEP_AFTER_S)
            seen = list(self._lingering)
            try:
                await trio.to_thread.run_sync(netlink.delete_links, seen)
            except errors.System as error:
                log.error("interface not deleted; recovery tries again", error=error.message)
            for interface in seen:
                del self._lingering[interface]

    async def _forget_flows(self, forget: Callable[[], int]) -> None:
        try:
            await trio.to_thread.run_sync(forget)
        except errors.System as error:
            log.warning("a UDP client that keeps sending may reach the wrong place", error=error.message)

    # --- recovery ---------------------------------------------------------------------------------------

    def adopt(self, runs: Iterable[Run]) -> None:
        """Know the endpoints of runs that an earlier daemon made."""
        for run in runs:
            if run.endpoint is not None:
                self._endpoints[run.endpoint.host_interface] = run.endpoint

    async def recover(self, live: Callable[[], Iterable[Run]]) -> None:
        """Free the links, namespaces, map elements and addresses that no live run owns; mend what they lost.

        ``live`` is asked after the host has been looked at: a run that begins in between is not taken for a
        leftover. What is right is not touched.

        Raises:
            errors.System: the kernel refused a step.
        """
        kept = netns.kept(self._directory)
        ports = await trio.to_thread.run_sync(netlink.ports_of, self._bridge.name)
        runs = list(live())
        names = {interface_name(run.id) for run in runs}
        for interface in self._endpoints.keys() - names:
            log.warning("freeing an endpoint that no container has", interface=interface)
            del self._endpoints[interface]
        if self._config.has_bridge:
            self._firewall.open(self._bridge.subnet)
        removed, added = self._firewall.reconcile(self._wanted())
        for path in kept - {self._directory / run.id for run in runs}:
            netns.remove(path)
        left = {port for port in ports if is_interface_name(port)} - names - self._lingering.keys()
        lost = self._endpoints.keys() - ports if self._config.has_bridge else set()
        await trio.to_thread.run_sync(self._mend, left, lost)
        if removed or added or left or lost:
            log.info(
                "networks recovered",
                ports_removed=removed,
                ports_added=added,
                freed=sorted(left),
                rejoined=sorted(lost),
            )

        if self._has_former_bridge and not self._endpoints:
            self._firewall.delete()
            await trio.to_thread.run_sync(self._bridge.remove)
            self._has_former_bridge = False

    def _mend(self, left: set[str], lost: set[str]) -> None:
        netlink.delete_links(left)
        if lost:
            netlink.join_bridge(lost, self._bridge.name)

    def _wanted(self) -> Published:
        wanted = {}
        for endpoint in self._endpoints.values():
            wanted.update(published_of(endpoint.address, endpoint.ports))
        if self._config.has_bridge:
            return wanted
        # What somebody has deleted of the former bridge's table has no table to go back to.
        return {source: wanted[source] for source in wanted.keys() & self._firewall.published.keys()}

    # --- reading ----------------------------------------------------------------------------------------

    def ids(self) -> dict[str, str]:
        """Return the networks' ids by name."""
        return {name: network.id for name, network in self._networks.items()}

    def all(self) -> list[Network]:
        return list(self._networks.values())

    def find(self, ref: str) -> Network:
        """Return a network by name, id, or an id's unique beginning.

        Raises:
            errors.NotFound: there is none.
            errors.InvalidParameter: the beginning of several ids.
        """
        for network in self._networks.values():
            if ref in (network.name, network.id):
                return network
        found = [network for network in self._networks.values() if ref and network.id.startswith(ref)]
        if len(found) > 1:
            raise errors.InvalidParameter(
                f"network {ref} is ambiguous ({len(found)} matches found on ID prefix)"
            )
        if not found:
            raise errors.NotFound(f"network {ref} not found")
        return found[0]

    def name_of(self, ref: str) -> str:
        """Return the name of the network that ``ref`` means, ``ref`` itself where that is not one."""
        try:
            return self.find(ref).name
        except (errors.NotFound, errors.InvalidParameter):
            return ref

    def members(self, network: Network) -> Iterator[tuple[Container, Endpoint | None]]:
        """Yield the containers that run on a network; those of ``host`` and ``none`` have no endpoint."""
        for container in self._store.containers.values():
            if container.run is None or not container.status.has_process:
                continue
            endpoint = container.run.endpoint
            mode = container.host_config.network_mode
            if endpoint.network_id == network.id if endpoint else mode == network.name:
                yield container, endpoint

    def _recorded_gateways(self) -> list[IPv4Interface]:
        runs = (container.run for container in self._store.containers.values() if container.run)
        endpoints = (run.endpoint for run in runs if run.endpoint)
        return [IPv4Interface(f"{endpoint.gateway}/{endpoint.prefix_length}") for endpoint in endpoints]

    def _predefined(self) -> Iterator[Network]:
        now_ns = time.time_ns()
        if self._config.has_bridge:
            yield self._default_bridge(now_ns)
        yield Network(id=self._id_of("host"), name="host", driver="host", created_ns=now_ns)
        yield Network(id=self._id_of("none"), name="none", driver="null", created_ns=now_ns)

    def _default_bridge(self, now_ns: int) -> Network:
        options = {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": self._bridge.name,
            "com.docker.network.driver.mtu": str(self._config.mtu),
        }
        return Network(
            id=self._id_of("bridge"),
            name="bridge",
            driver="bridge",
            created_ns=now_ns,
            subnet=str(self._bridge.subnet),
            gateway=str(self._bridge.gateway.ip),
            options=options,
        )

    def _id_of(self, name: str) -> str:
        """The same for every daemon on this state, so that records of endpoints stay right."""
        return hashlib.sha256(f"{self._config.data_root}\0{name}".encode()).hexdigest()


def _udp(ports: Iterable[PublishedPort]) -> list[int]:
    return [port.host_port for port in ports if port.protocol == "udp"]
