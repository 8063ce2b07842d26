"""Trio-flavoured. The kernel's side of networks: their bridges and parent links, and the packet filter's
view.

A network of driver ``bridge`` has a bridge, the addresses of its gateways on it, and rules; ``macvlan`` and
``ipvlan`` have a parent link of the host's, which is made where it is a VLAN or is not named at all; ``host``
and ``null`` have nothing.
"""

from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network

import structlog

from proad.config import Config
from proad.engine.hostrouting import HostRouting
from proad.host import netlink, sysctls
from proad.host.firewall import BridgeRules, Firewall
from proad.model import errors
from proad.model.ipam import mac_for
from proad.model.network import Network
from proad.model.networkoptions import BridgeOptions, GatewayMode, bridge_options

log = structlog.get_logger(__name__)


class Bridges:
    """Makes, mends and removes what networks have on the host. All methods are quick, and idempotent."""

    def __init__(self, config: Config, firewall: Firewall, routing: HostRouting) -> None:
        self._config = config
        self._firewall = firewall
        self._routing = routing

    def make(self, network: Network) -> None:
        """Make a network's bridge or parent link.

        Raises:
            errors.Conflict: another program has an interface of that name.
            errors.System: the kernel refused; :meth:`unmake` takes away what is there by then.
        """
        if network.driver == "bridge":
            self._make_bridge(network)
            self._firewall.set_bridge(rules_of(network))
            self._routing.switch_on(ipv6=network.ipv6)
        elif network.driver in ("macvlan", "ipvlan"):
            netlink.create_parent(network.interface, internal=network.internal)

    def ensure(self, network: Network) -> bool:
        """Make what somebody has taken away; returns whether anything was missing."""
        if network.driver != "bridge":
            return False
        link = netlink.find_link(network.interface)
        if link is None:
            self._make_bridge(network)
            log.warning("bridge was gone; made again", bridge=network.interface, network=network.name)
            return True
        missing = [address for address in gateways_of(network) if address not in link.addresses]
        if missing or not link.is_up:
            netlink.configure_bridge(network.interface, add=missing)
            return True
        return False

    def unmake(self, network: Network) -> None:
        """Take it away; what is gone already is no error.

        Raises:
            errors.System: the kernel refused.
        """
        if network.driver == "bridge":
            self._firewall.drop_bridge(network.interface)
            self._unmake_bridge(network)
        elif network.driver in ("macvlan", "ipvlan"):
            netlink.delete_parent(network.interface)

    def refuse_taken(self, network: Network) -> None:
        """Refuse the bridge of a new network where its name is taken; one that a user has made may serve.

        Raises:
            errors.Conflict: it is no bridge, or one of another network, of whichever daemon.
        """
        link = netlink.find_link(network.interface) if network.driver == "bridge" else None
        if link is not None and link.kind != "bridge":
            raise errors.Conflict(f"an interface named {network.interface} exists that is no bridge")
        if link is not None and link.is_our_bridge:
            raise errors.Conflict(f"the bridge {network.interface} is that of another network")

    def _unmake_bridge(self, network: Network) -> None:
        """Delete it; one that a user has made stays, without the addresses of the gateways."""
        link = netlink.find_link(network.interface)
        if link is not None and link.is_our_bridge:
            netlink.delete_links([network.interface])
        elif link is not None and link.kind == "bridge":
            drop = [address for address in gateways_of(network) if address in link.addresses]
            netlink.configure_bridge(network.interface, drop=drop)

    def _make_bridge(self, network: Network) -> None:
        options = bridge_options(network.options)
        if (link := netlink.find_link(network.interface)) is not None:
            if link.kind != "bridge":
                raise errors.Conflict(f"an interface named {network.interface} exists that is no bridge")
            add = [address for address in gateways_of(network) if address not in link.addresses]
            netlink.configure_bridge(network.interface, add=add)
        else:
            netlink.create_bridge(
                network.interface,
                gateways_of(network),
                mac_for(network.pools),
                options.mtu or self._config.mtu,
            )
        if options.modes[6] is GatewayMode.ISOLATED:
            sysctls.switch_ipv6_off(network.interface)
        sysctls.set_up_bridge(network.interface)


def gateways_of(network: Network) -> list[IPv4Interface | IPv6Interface]:
    """The addresses that the bridge itself has."""
    modes = bridge_options(network.options).modes
    found = [
        ip_interface(f"{pool.gateway}/{pool.subnet.partition('/')[2]}")
        for pool in network.pools
        if pool.gateway
    ]
    return [address for address in found if modes[address.version] is not GatewayMode.ISOLATED]


def rules_of(network: Network) -> BridgeRules:
    """What the packet filter must know of a network of driver ``bridge``."""
    options = bridge_options(network.options)
    return BridgeRules(
        bridge=network.interface,
        subnets=tuple(ip_network(pool.subnet) for pool in network.pools),
        internal=network.internal,
        icc=options.icc,
        masquerade=options.masquerade,
        routed=_versions(options, GatewayMode.ROUTED),
        unprotected=_versions(options, GatewayMode.NAT_UNPROTECTED),
    )


def _versions(options: BridgeOptions, mode: GatewayMode) -> frozenset[int]:
    return frozenset(version for version, asked in options.modes.items() if asked is mode)
