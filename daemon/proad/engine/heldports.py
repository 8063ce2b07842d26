"""Trio-flavoured. The ports of the host that runs publish: chosen, kept from others, led to the gateways.

A run's monitor keeps their sockets for as long as the run lasts, whatever becomes of the daemon: it inherits
those that are chosen at the start, and is given those that no network could publish then when one can.
"""

from collections.abc import Collection, Iterable, Mapping

import structlog
from msgspec.structs import replace

from proad.config import Config
from proad.engine.networks import Networks
from proad.engine.runpaths import RunPaths
from proad.host.conmon import keep_sockets
from proad.host.firewall import Firewall
from proad.host.ports import PortReserver, PortTaken, ReservedPorts
from proad.model import errors
from proad.model.container import Container, Run
from proad.model.network import Endpoint, elect_gateways
from proad.model.networkoptions import GatewayMode, bridge_options
from proad.model.ports import PortRequest, PublishedPort, opened_ports, requested_ports

NO_PORTS = ReservedPorts((), ())
ROUTED = GatewayMode.ROUTED

log = structlog.get_logger(__name__)


class HeldPorts:
    """Chooses ports, and has them kept."""

    def __init__(self, config: Config, networks: Networks, firewall: Firewall) -> None:
        self._config = config
        self._networks = networks
        self._firewall = firewall
        self._reserver = PortReserver(config.port_range)

    def reserve(
        self, container: Container, endpoints: Iterable[Endpoint], held: Collection[int] = ()
    ) -> ReservedPorts:
        """Bind the host ports that ``container`` publishes by the endpoints that have its gateways, but for
        the IP versions of which some are ``held`` already.

        Raises:
            errors.InvalidParameter: a binding is malformed, or of a family that there is no gateway of.
            errors.StartFailed: a port is taken.
        """
        gateways = dict(zip((4, 6), elect_gateways(endpoints), strict=True))
        passed = self._routed(gateways) | set(held)
        serving = {
            version: gateway
            for version, gateway in gateways.items()
            if gateway is not None and gateway.driver == "bridge" and version not in passed
        }
        if not serving:
            return NO_PORTS
        first = next(iter(serving.values()))
        network = self._networks.find(first.network_id)
        requests = requested_ports(
            *_wishes(container),
            default_host_ip=bridge_options(network.options).host_binding_ipv4,
            ipv4=4 in serving,
            ipv6=6 in serving,
            passed=passed,
        )
        try:
            return self._reserver.reserve(requests, self._firewall.published)
        except PortTaken as error:
            where = f"endpoint {container.name} ({first.endpoint_id})"
            message = f"driver failed programming external connectivity on {where}: {error}"
            raise errors.StartFailed(message) from error

    def reserve_late(self, container: Container, run: Run) -> ReservedPorts:
        """Reserve the ports of the families that no network of a run could publish so far, if one can now.

        Raises:
            errors.ProaError: as with :meth:`reserve`.
        """
        held = versions_of(run.held_ports or (port for port in run.ports if port.host_port))
        return self.reserve(container, run.endpoints, held)

    def keep(self, container_id: str, run: Run, reserved: ReservedPorts) -> None:
        """Have a run's monitor keep what was reserved late.

        Raises:
            errors.System: it has ended, or an older daemon began it.
        """
        if reserved.sockets:
            keep_sockets(RunPaths(self._config, container_id).bundle, run.id, reserved.sockets)

    def at_gateways(
        self, container: Container, endpoints: Iterable[Endpoint], ports: Iterable[PublishedPort]
    ) -> tuple[Endpoint, ...]:
        """The endpoints with what they publish: those that have the gateways, ``ports`` of the host or, where
        their network routes, the container's own.
        """
        endpoints = list(endpoints)
        gateways = dict(zip((4, 6), elect_gateways(endpoints), strict=True))
        routed = self._routed(gateways)
        of_version = {
            version: opened_ports(*_wishes(container), version)
            if version in routed
            else [port for port in ports if (":" in port.host_ip) == (version == 6)]
            for version in gateways
        }

        def of(endpoint: Endpoint) -> tuple[PublishedPort, ...]:
            if endpoint.driver != "bridge":
                return ()
            own = [version for version, gateway in gateways.items() if _is(gateway, endpoint)]
            return tuple(port for version in own for port in of_version[version])

        return tuple(replace(endpoint, ports=of(endpoint)) for endpoint in endpoints)

    def _routed(self, gateways: Mapping[int, Endpoint | None]) -> set[int]:
        """The IP versions of which others have a route to where the ``gateways`` are."""
        return {
            version
            for version, gateway in gateways.items()
            if gateway is not None and gateway.driver == "bridge" and self._mode(gateway, version) is ROUTED
        }

    def _mode(self, endpoint: Endpoint, version: int) -> GatewayMode:
        return bridge_options(self._networks.find(endpoint.network_id).options).modes[version]

    def adopt(self, container_id: str, run: Run) -> None:
        """Have late ports kept that an earlier daemon had recorded only, when it died."""
        for port in run.held_ports if run.late_ports else ():
            request = PortRequest(
                container_port=port.container_port,
                protocol=port.protocol,
                host_ips=(port.host_ip,),
                first=port.host_port,
                last=port.host_port,
            )
            try:
                with self._reserver.reserve([request]) as reserved:
                    self.keep(container_id, run, reserved)
            except PortTaken:
                continue  # by its monitor, as it should be
            except errors.System as error:
                log.warning("a published port is not kept from others", run=run.id, error=error.message)


def _is(gateway: Endpoint | None, endpoint: Endpoint) -> bool:
    return gateway is not None and gateway.endpoint_id == endpoint.endpoint_id


def _wishes(container: Container) -> tuple[list[str], dict[str, list[tuple[str, str]]], bool]:
    """Its exposed ports, its bindings, and whether all that is exposed is published."""
    asked = container.host_config
    bindings = {key: [(b.host_ip, b.host_port) for b in found] for key, found in asked.port_bindings.items()}
    return list(container.config.exposed_ports), bindings, asked.publish_all_ports


def versions_of(ports: Iterable[PublishedPort]) -> set[int]:
    """The IP versions of the host's addresses that ports are on."""
    return {6 if ":" in port.host_ip else 4 for port in ports}


def wants_ports(container: Container) -> bool:
    """Whether it publishes anything."""
    asked = container.host_config
    return bool(asked.port_bindings or (asked.publish_all_ports and container.config.exposed_ports))
