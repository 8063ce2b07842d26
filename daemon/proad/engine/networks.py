"""Trio-flavoured. The networks that there are: look-ups, and the predefined ones.

``bridge``, ``host`` and ``none`` are always there (but ``bridge`` with ``--bridge none``); their ids are the
same for every daemon on the same state. The others are records of the store; see ``networkcontrol`` for how
they come and go, and ``endpoints`` for what containers have on them.
"""

import hashlib
import time
from collections.abc import Iterator
from ipaddress import IPv4Interface

from proad.config import Config
from proad.engine.bridge import DefaultBridge
from proad.model import errors
from proad.model.container import Container
from proad.model.network import DEFAULT_BRIDGE, Endpoint, Network, NetworkState, Pool
from proad.store.db import Store

BRIDGE_NAMES = frozenset({"", "default", DEFAULT_BRIDGE})
"""Network modes that mean the default bridge."""


class Networks:
    """Knows all networks by name and id."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._default_bridge = DefaultBridge(config)
        self._predefined: dict[str, Network] = {}

    def open(self) -> None:
        """Make the default bridge be there, or adopt it; nothing that lives is disturbed.

        Raises:
            errors.ProaError: this host has no room for the bridge, or the kernel refused.
        """
        now_ns = time.time_ns()
        found = [
            Network(id=self._id_of("host"), name="host", driver="host", created_ns=now_ns),
            Network(id=self._id_of("none"), name="none", driver="null", created_ns=now_ns),
        ]
        if self._config.has_bridge:
            taken = [pool.subnet for network in self._store.networks.values() for pool in network.pools]
            self._default_bridge.open(former=self._recorded_gateways(), reserved=taken)
            found.insert(0, self._bridge_network(now_ns))
        self._predefined = {network.name: network for network in found}

    @property
    def default_bridge(self) -> DefaultBridge:
        return self._default_bridge

    @property
    def host_gateway(self) -> str:
        """The address at which containers of the default bridge reach their host; empty without one."""
        return str(self._default_bridge.gateway.ip) if self._config.has_bridge else ""

    # --- look-ups ---------------------------------------------------------------------------------------

    def ids(self) -> dict[str, str]:
        """Return the networks' ids by name."""
        return {network.name: network.id for network in self.all()}

    def all(self) -> list[Network]:
        own = (network for network in self._store.networks.values() if network.state is NetworkState.READY)
        return [*self._predefined.values(), *own]

    def find(self, ref: str) -> Network:
        """Return a network by name, id, or an id's unique beginning.

        Raises:
            errors.NotFound: there is none.
            errors.InvalidParameter: the beginning of several ids.
        """
        if (network := self._predefined.get(ref)) is not None:
            return network
        networks = self.all()
        for network in networks:
            if ref in (network.id, network.name):
                return network
        found = [network for network in networks if ref and network.id.startswith(ref)]
        if len(found) > 1:
            raise errors.InvalidParameter(
                f"network {ref} is ambiguous ({len(found)} matches found on ID prefix)"
            )
        if not found:
            raise errors.NotFound(f"network {ref} not found")
        return found[0]

    def named(self, name: str) -> Network | None:
        """The network of exactly that name, in whatever state."""
        found = (network for network in self._store.networks.values() if network.name == name)
        return self._predefined.get(name) or next(found, None)

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
            for endpoint in container.run.endpoints:
                if endpoint.network_id == network.id:
                    yield container, endpoint
            if (
                network.driver in ("host", "null")
                and network.is_predefined
                and network.name in container.networks
            ):
                yield container, None

    # --- what a container asks --------------------------------------------------------------------------

    def connects(self, container: Container) -> bool:
        """Whether its runs get interfaces of their own."""
        return bool(self.wanted_by(container))

    def wanted_by(self, container: Container) -> list[str]:
        """Names of the networks that a run of the container is attached to, in the order of interfaces: the
        default bridge first, then by name. One that was disconnected from all of them has none.
        """
        mode = container.host_config.network_mode
        if container.config.network_disabled or mode == "host" or mode.startswith("container:"):
            return []
        names = set(container.networks) - {"none"}
        if not self._config.has_bridge:
            names.discard(DEFAULT_BRIDGE)
        return sorted(names, key=lambda name: (name != DEFAULT_BRIDGE, name))

    def withholds_ports(self, container: Container) -> bool:
        """Whether it publishes ports on a default bridge that there is not."""
        asked = container.host_config
        return (
            not self._config.has_bridge
            and asked.network_mode in BRIDGE_NAMES
            and bool(asked.port_bindings or asked.publish_all_ports)
        )

    # --- the predefined ones ----------------------------------------------------------------------------

    def _recorded_gateways(self) -> list[IPv4Interface]:
        runs = (container.run for container in self._store.containers.values() if container.run)
        endpoints = (run.default_endpoint for run in runs)
        return [IPv4Interface(f"{ep.gateway}/{ep.prefix_length}") for ep in endpoints if ep is not None]

    def _bridge_network(self, now_ns: int) -> Network:
        bridge = self._default_bridge
        options = {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": bridge.name,
            "com.docker.network.driver.mtu": str(self._config.mtu),
        }
        return Network(
            id=self._id_of(DEFAULT_BRIDGE),
            name=DEFAULT_BRIDGE,
            driver="bridge",
            created_ns=now_ns,
            pools=(Pool(subnet=str(bridge.subnet), gateway=str(bridge.gateway.ip)),),
            interface=bridge.name,
            options=options,
        )

    def _id_of(self, name: str) -> str:
        """The same for every daemon on this state, so that records of endpoints stay right."""
        return hashlib.sha256(f"{self._config.data_root}\0{name}".encode()).hexdigest()
