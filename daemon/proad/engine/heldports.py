"""Trio-flavoured. The ports of the host that runs publish: chosen, kept from others, led to the gateways.

A run's monitor keeps the sockets of those that were chosen at its start, whatever becomes of the daemon.
Those that no network could publish then are chosen when one can; the daemon keeps them, and keeps them again
when it has been away.
"""

from collections.abc import Iterable

import structlog
from msgspec.structs import replace

from proad.engine.networks import Networks
from proad.host.firewall import Firewall
from proad.host.ports import PortReserver, PortTaken, ReservedPorts
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.network import Endpoint, elect_gateways
from proad.model.networkoptions import bridge_options
from proad.model.ports import PortRequest, PublishedPort, requested_ports

NO_PORTS = ReservedPorts((), ())

log = structlog.get_logger(__name__)


class HeldPorts:
    """Chooses ports, and keeps those that no monitor keeps."""

    def __init__(self, networks: Networks, firewall: Firewall, port_range: tuple[int, int]) -> None:
        self._networks = networks
        self._firewall = firewall
        self._reserver = PortReserver(port_range)
        self._late: dict[str, ReservedPorts] = {}
        """By run; its monitor has no copies of their sockets."""

    def reserve(self, container: Container, endpoints: Iterable[Endpoint]) -> ReservedPorts:
        """Bind the host ports that ``container`` publishes by the endpoints that have its gateways.

        Raises:
            errors.InvalidParameter: a binding is malformed, or of a family that there is no gateway of.
            errors.StartFailed: a port is taken.
        """
        gateway4, gateway6 = elect_gateways(endpoints)
        serving = [endpoint for endpoint in (gateway4, gateway6) if endpoint and endpoint.driver == "bridge"]
        if not serving:
            return NO_PORTS
        asked = container.host_config
        network = self._networks.find(serving[0].network_id)
        requests = requested_ports(
            container.config.exposed_ports,
            {key: [(b.host_ip, b.host_port) for b in found] for key, found in asked.port_bindings.items()},
            asked.publish_all_ports,
            default_host_ip=bridge_options(network.options).host_binding_ipv4,
            ipv4=gateway4 in serving,
            ipv6=gateway6 in serving,
        )
        try:
            return self._reserver.reserve(requests, self._firewall.published)
        except PortTaken as error:
            where = f"endpoint {container.name} ({serving[0].endpoint_id})"
            message = f"driver failed programming external connectivity on {where}: {error}"
            raise errors.StartFailed(message) from error

    def reserve_late(self, container: Container, run: Run) -> Run:
        """Reserve the ports that no network of a run could publish when it started, if one can now.

        Raises:
            errors.ProaError: as with :meth:`reserve`.
        """
        if run.held_ports or run.ports:
            return run
        reserved = self.reserve(container, run.endpoints)
        if not reserved.ports:
            return run
        self._late[run.id] = reserved
        return replace(run, held_ports=reserved.ports, late_ports=True)

    def adopt(self, run: Run) -> None:
        """Keep again what an earlier daemon kept."""
        if not run.late_ports:
            return
        requests = [
            PortRequest(
                container_port=port.container_port,
                protocol=port.protocol,
                host_ips=(port.host_ip,),
                first=port.host_port,
                last=port.host_port,
            )
            for port in run.held_ports
        ]
        try:
            self._late[run.id] = self._reserver.reserve(requests)
        except PortTaken as error:
            log.warning("a published port was taken while the daemon was away", run=run.id, error=str(error))

    def let_go(self, run: Run) -> None:
        """The run is over."""
        if (late := self._late.pop(run.id, None)) is not None:
            late.close()


def at_gateways(endpoints: Iterable[Endpoint], ports: Iterable[PublishedPort]) -> tuple[Endpoint, ...]:
    """The endpoints with the published ports at those that have the gateways."""
    endpoints = list(endpoints)
    gateway4, gateway6 = elect_gateways(endpoints)
    ports = list(ports)

    def of(endpoint: Endpoint) -> tuple[PublishedPort, ...]:
        four = ports if gateway4 is not None and endpoint.endpoint_id == gateway4.endpoint_id else []
        six = ports if gateway6 is not None and endpoint.endpoint_id == gateway6.endpoint_id else []
        return tuple(
            [port for port in four if ":" not in port.host_ip] + [port for port in six if ":" in port.host_ip]
        )

    return tuple(replace(endpoint, ports=of(endpoint)) for endpoint in endpoints)
