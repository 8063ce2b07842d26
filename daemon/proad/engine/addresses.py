"""Trio-flavoured. Which addresses of which network are in use: one pool in memory for each subnet."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from proad.engine.networks import Networks
from proad.model import errors
from proad.model.ipam import AddressPool
from proad.model.network import ON_LINK, Endpoint, IpamWish, Network, Pool
from proad.model.networkoptions import link_options


@dataclass(frozen=True)
class Taken:
    """What one endpoint gets; None, 0 and empty where the network has none of a family."""

    ipv4: IPv4Address | None = None
    ipv4_prefix_length: int = 0
    ipv4_gateway: str = ""
    ipv6: IPv6Address | None = None
    ipv6_prefix_length: int = 0
    ipv6_gateway: str = ""


class Addresses:
    """Hands out the addresses of all networks. Known again after a restart from the endpoints that live."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._pools: dict[tuple[str, str], AddressPool] = {}

    def take(self, network: Network, wish: IpamWish | None) -> Taken:
        """Take the addresses for one endpoint, those of ``wish`` where it names some.

        Raises:
            errors.InvalidParameter: a wish is in no subnet of the network.
            errors.Forbidden: a wish is in use.
            errors.Unavailable: none is free.
        """
        four = self._take(network, 4, wish.ipv4_address if wish else "")
        try:
            six = self._take(network, 6, wish.ipv6_address if wish else "")
        except BaseException:
            if four is not None:
                self._pool(network, four[0]).release(four[1])
            raise
        return Taken(
            ipv4=four[1] if four and isinstance(four[1], IPv4Address) else None,
            ipv4_prefix_length=ip_network(four[0].subnet).prefixlen if four else 0,
            ipv4_gateway=_gateway(network, four[0], ON_LINK[0]) if four else "",
            ipv6=six[1] if six and isinstance(six[1], IPv6Address) else None,
            ipv6_prefix_length=ip_network(six[0].subnet).prefixlen if six else 0,
            ipv6_gateway=_gateway(network, six[0], ON_LINK[1]) if six else "",
        )

    def adopt(self, endpoint: Endpoint) -> None:
        """Know that an endpoint has its addresses."""
        for pool, address in self._held(endpoint):
            pool.adopt(address)

    def release(self, endpoint: Endpoint) -> None:
        """They are free again; the network may be gone."""
        for pool, address in self._held(endpoint):
            pool.release(address)

    def forget(self, network_id: str) -> None:
        """A network is gone."""
        for key in [key for key in self._pools if key[0] == network_id]:
            del self._pools[key]

    def _take(
        self, network: Network, version: int, wanted: str
    ) -> tuple[Pool, IPv4Address | IPv6Address] | None:
        pools = [pool for pool in network.pools if ip_network(pool.subnet).version == version]
        if wanted:
            asked = ip_address(wanted)
            pools = [pool for pool in pools if asked in ip_network(pool.subnet)]
            if not pools:
                raise errors.InvalidParameter(
                    f"no configured subnet or ip-range contain the IP address {wanted}"
                )
        full: errors.ProaError | None = None
        for pool in pools:
            try:
                return pool, self._pool(network, pool).take(wanted)
            except errors.Unavailable as error:
                full = error
        if full is not None:
            raise full
        return None

    def _pool(self, network: Network, pool: Pool) -> AddressPool:
        key = (network.id, pool.subnet)
        if key not in self._pools:
            self._pools[key] = AddressPool(pool, f"{network.name} ({network.id})")
        return self._pools[key]

    def _held(self, endpoint: Endpoint) -> list[tuple[AddressPool, IPv4Address | IPv6Address]]:
        try:
            network = self._networks.find(endpoint.network_id)
        except errors.NotFound:
            return []
        held = []
        for found in (endpoint.ipv4_interface, endpoint.ipv6_interface):
            if found is not None:
                for pool in network.pools:
                    subnet = ip_network(pool.subnet)
                    if subnet.version == found.version and found.ip in subnet:
                        held.append((self._pool(network, pool), found.ip))
        return held


def _gateway(network: Network, pool: Pool, on_link: str) -> str:
    """Where what is for none of the network's own goes; empty for nowhere."""
    if network.internal:
        return ""
    if network.driver == "ipvlan":
        options = link_options(network.options, network.driver)
        if options.parent and options.routes_itself:
            return on_link
    return pool.gateway
