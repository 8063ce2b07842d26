"""Trio-flavoured. Which addresses of which network are in use: one pool in memory for each of its pools.

Networks with ranges of one subnet share its addresses: none has one that another has.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from proad.engine.networks import Networks
from proad.model import errors
from proad.model.ipam import AddressPool, own_addresses_of
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
        self._pools: dict[tuple[str, str, str], AddressPool] = {}
        self._used: dict[str, set[int]] = {}
        """By subnet; endpoints have them, or networks themselves."""

    def in_use(self, subnet: str) -> set[int]:
        """The addresses of a subnet that somebody has, as numbers."""
        if subnet not in self._used:
            pools = [pool for network in self._networks.all() for pool in network.pools]
            own = [own_addresses_of(pool) for pool in pools if pool.subnet == subnet]
            self._used[subnet] = set().union(*own)
        return self._used[subnet]

    def admit(self, network: Network) -> None:
        """A network has come: nobody gets what it keeps for itself."""
        for pool in network.pools:
            self.in_use(pool.subnet).update(own_addresses_of(pool))

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

    def forget(self, network: Network) -> None:
        """A network is gone."""
        for pool in network.pools:
            self.in_use(pool.subnet).difference_update(own_addresses_of(pool))
            if (present := self._pools.pop(_key(network, pool), None)) is not None:
                present.close()

    def _take(
        self, network: Network, version: int, wanted: str
    ) -> tuple[Pool, IPv4Address | IPv6Address] | None:
        pools = [pool for pool in network.pools if ip_network(pool.subnet).version == version]
        if wanted:
            if (pool := _pool_of(network, ip_address(wanted))) is None:
                raise errors.InvalidParameter(
                    f"no configured subnet or ip-range contain the IP address {wanted}"
                )
            pools = [pool]
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
        key = _key(network, pool)
        if key not in self._pools:
            name, used = f"{network.name} ({network.id})", self.in_use(pool.subnet)
            self._pools[key] = AddressPool(pool, name, used=used)
        return self._pools[key]

    def _held(self, endpoint: Endpoint) -> list[tuple[AddressPool, IPv4Address | IPv6Address]]:
        try:
            network = self._networks.find(endpoint.network_id)
        except errors.NotFound:
            return []
        found = (endpoint.ipv4_interface, endpoint.ipv6_interface)
        addresses = [interface.ip for interface in found if interface is not None]
        return [
            (self._pool(network, pool), address)
            for address in addresses
            if (pool := _pool_of(network, address)) is not None
        ]


def _key(network: Network, pool: Pool) -> tuple[str, str, str]:
    return network.id, pool.subnet, pool.ip_range


def _pool_of(network: Network, address: IPv4Address | IPv6Address) -> Pool | None:
    """The pool that an address is of: one that gives it out by itself, if there is one."""
    pools = [pool for pool in network.pools if address in ip_network(pool.subnet)]
    own = (pool for pool in pools if address in ip_network(pool.ip_range or pool.subnet))
    return next(own, pools[0] if pools else None)


def _gateway(network: Network, pool: Pool, on_link: str) -> str:
    """Where what is for none of the network's own goes; empty for nowhere."""
    if network.internal:
        return ""
    if network.driver == "ipvlan":
        options = link_options(network.options, network.driver)
        if options.parent and options.routes_itself:
            return on_link
    return pool.gateway
