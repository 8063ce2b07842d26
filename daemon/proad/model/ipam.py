"""Sync, pure. The choice of subnets and addresses (IP address management)."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from msgspec.structs import replace

from proad.model import errors
from proad.model.network import Pool, mac_of, random_mac

AnyAddress = IPv4Address | IPv6Address
AnyNetwork = IPv4Network | IPv6Network

_ULA_SIZE = 64


# --- subnets --------------------------------------------------------------------------------------------


def choose_subnet(pools: Iterable[tuple[str, int]], taken: Collection[IPv4Network]) -> IPv4Interface:
    """Return the gateway's address in the first piece of a pool that overlaps nothing taken.

    ``pools`` are pairs of a base and a prefix length: ``("172.17.0.0/12", 16)`` gives 172.17.0.0/16,
    172.18.0.0/16 and so on to the end of 172.16.0.0/12; those of IPv6 are passed over. ``taken`` are the
    networks that this host has routes or addresses in.

    Raises:
        errors.Unavailable: all pieces overlap something.
    """
    found = _free_piece(pools, taken, 4)
    if not isinstance(found, IPv4Network):
        raise errors.Unavailable(
            "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to "
            "the network"
        )
    return IPv4Interface((found.network_address + 1, found.prefixlen))


def settle_pools(
    asked: Sequence[Pool],
    *,
    ipv4: bool,
    ipv6: bool,
    default_pools: Iterable[tuple[str, int]],
    taken: Collection[AnyNetwork],
    others: Iterable[Pool],
    in_use: Callable[[str], Collection[int]] = lambda subnet: (),
    host_id: str = "",
    gateways: Collection[int] = (4, 6),
) -> tuple[Pool, ...]:
    """Return the pools that a network gets: those ``asked`` for, and one of each family that none is for.

    Pools are chosen among ``default_pools`` so that they overlap neither ``taken``, the host's routes, nor
    the ``others`` of networks; without one of IPv6 among them, among the 65,536 of a unique local prefix that
    follows from ``host_id``. Of the IP versions ``gateways``, pools that name none get the first free address
    for it; ``in_use`` are the addresses of a subnet, as numbers, that somebody has already.

    A pool that is asked for with a range of its own may overlap others, as with Docker: it is the drivers
    that know where that does harm.

    Raises:
        errors.Forbidden: a pool asked for overlaps another.
        errors.System: its gateway, or one of its auxiliary addresses, is in use.
        errors.InvalidParameter: nothing is left to choose.
    """
    settled: list[Pool] = []
    known = list(others)
    for pool in asked:
        if any(_collide(pool, other) for other in known):
            raise errors.Forbidden("invalid pool request: Pool overlaps with other one on this address space")
        known.append(pool)
        settled.append(pool)
    available = list(default_pools)
    if not any(_version(base) == 6 for base, _ in available):
        available.append((_local_prefix(host_id), _ULA_SIZE))
    for version, wanted in ((4, ipv4), (6, ipv6)):
        if wanted and not any(_version(pool.subnet) == version for pool in settled):
            present = [ip_network(pool.subnet) for pool in known]
            found = _free_piece(available, [*present, *taken], version)
            if found is None:
                raise errors.InvalidParameter("all predefined address pools have been fully subnetted")
            settled.append(Pool(subnet=str(found), chosen=True))
    settled.sort(key=lambda pool: _version(pool.subnet))
    used: dict[str, set[int]] = {}
    return tuple(
        _with_gateway(
            pool,
            used.setdefault(pool.subnet, set(in_use(pool.subnet))),
            choose=_version(pool.subnet) in gateways,
        )
        for pool in settled
    )


def mac_for(pools: Sequence[Pool]) -> str:
    """The MAC address of a network's bridge, always the same: that of its IPv4 gateway, if it has one."""
    gateways = [pool.gateway for pool in pools if pool.gateway]
    for gateway in map(ip_address, gateways):
        if isinstance(gateway, IPv4Address):
            return mac_of(gateway)
    own = gateways or [pool.subnet for pool in pools]
    return random_mac(hashlib.sha256("\0".join(own).encode()).digest()[:5])


def own_addresses_of(pool: Pool) -> set[int]:
    """What a network keeps of a subnet for itself: the gateway and the auxiliary addresses, as numbers."""
    return {int(ip_address(text)) for text in (pool.gateway, *pool.auxiliary.values()) if text}


def _with_gateway(pool: Pool, used: set[int], *, choose: bool) -> Pool:
    """The pool with its gateway, the one it names or else its first free address; what it keeps is added to
    ``used``.
    """
    bare = replace(pool, gateway="", auxiliary={})
    if pool.gateway:
        _take(AddressPool(bare, used=used), pool.gateway, f"gateway ({pool.gateway})")
    elif choose:
        # Docker takes the first one, auxiliary or not, and fails then.
        without = used | own_addresses_of(pool)
        pool = replace(pool, gateway=str(AddressPool(bare, used=without).take()))
        used.add(int(ip_address(pool.gateway)))
    for name, address in pool.auxiliary.items():
        _take(AddressPool(bare, used=used), address, f"secondary ip address ({name}:{address})")
    return pool


def _take(pool: "AddressPool", address: str, what: str) -> None:
    try:
        pool.take(address)
    except errors.Forbidden as error:
        raise errors.System(f"failed to allocate {what}: {error.message}") from error


def _local_prefix(host_id: str) -> str:
    """A unique local prefix of 48 bits that stays this host's (RFC 4193, 3.2.2)."""
    digest = hashlib.sha256(host_id.encode()).digest()
    return str(IPv6Network((b"\xfd" + digest[3:8] + bytes(10), 48)))


def _free_piece(
    pools: Iterable[tuple[str, int]], taken: Iterable[AnyNetwork], version: int
) -> AnyNetwork | None:
    """The first piece of a pool that overlaps nothing taken; what is taken is jumped over whole."""
    spans = sorted(
        (int(network.network_address), int(network.broadcast_address))
        for network in taken
        if network.version == version
    )
    for base, size in pools:
        if _version(base) != version:
            continue
        address, _, _ = base.partition("/")
        whole = ip_network(base, strict=False)
        step = 1 << (whole.max_prefixlen - size)
        start = int(ip_address(address)) // step * step
        for low, high in spans:
            if low < start + step and high >= start:
                start = (high // step + 1) * step
        if start + step - 1 <= int(whole.broadcast_address):
            return ip_network((start, size)) if version == 4 else IPv6Network((start, size))
    return None


def overlap(one: AnyNetwork, other: AnyNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _collide(asked: Pool, other: Pool) -> bool:
    """Whether a pool is not to be had beside another: one subnet may be shared by its ranges."""
    if not asked.ip_range:
        return overlap(ip_network(asked.subnet), ip_network(other.subnet))
    return (asked.subnet, asked.ip_range) == (other.subnet, other.ip_range)


def _version(text: str) -> int:
    return 6 if ":" in text else 4


# --- addresses ------------------------------------------------------------------------------------------


class AddressPool:
    """The addresses of one pool: which are given out, and which is next. No step looks through many.

    Addresses that were never given out come first, in their order; then those that came back, the one that
    has rested for longest before the others.
    """

    def __init__(self, pool: Pool, network: str = "", *, used: set[int] | None = None) -> None:
        """``network`` is what errors call the network, ``web (4f3a…)``; ``used`` are the addresses of the
        subnet that are in use, as numbers, which all pools of one subnet share.
        """
        self._subnet = ip_network(pool.subnet)
        self._network = network or str(self._subnet)
        self._make = IPv4Address if self._subnet.version == 4 else IPv6Address
        self._reserved = frozenset(self._reserve(pool))
        self._used: set[int] = set() if used is None else used
        self._given: set[int] = set()
        """Those among them that are of this pool."""
        self._rested: OrderedDict[int, None] = OrderedDict()
        self._passed: list[int] = []
        """Those that were in use when it was their turn, perhaps by others."""
        chosen_from = ip_network(pool.ip_range) if pool.ip_range else self._subnet
        self._fresh = int(chosen_from.network_address)
        self._range = range(self._fresh, int(chosen_from.broadcast_address) + 1)

    def take(self, wanted: str = "") -> AnyAddress:
        """Give out an address: ``wanted``, or the next.

        Raises:
            errors.InvalidParameter: ``wanted`` is not in the subnet.
            errors.Forbidden: ``wanted`` is in use, or reserved.
            errors.Unavailable: none is free.
        """
        number = self._check(wanted) if wanted else self._next()
        self._give(number)
        return self._make(number)

    def adopt(self, address: AnyAddress) -> None:
        """Know that an address is in use; knowing it twice is no error."""
        self._give(int(address))

    def _give(self, number: int) -> None:
        self._rested.pop(number, None)
        self._used.add(number)
        self._given.add(number)

    def release(self, address: AnyAddress) -> None:
        """Take an address back, to rest behind all others; one that is not in use is none of ours."""
        number = int(address)
        if number not in self._given:
            return
        self._given.discard(number)
        self._used.discard(number)
        if number in self._range:
            self._rested[number] = None

    def close(self) -> None:
        """Take back all that are still out: the network is gone."""
        self._used -= self._given
        self._given.clear()

    def _check(self, wanted: str) -> int:
        address = ip_address(wanted)
        if address not in self._subnet:
            raise errors.InvalidParameter(f"no configured subnet or ip-range contain the IP address {wanted}")
        if int(address) in self._used or int(address) in self._reserved:
            raise errors.Forbidden("Address already in use")
        return int(address)

    def _next(self) -> int:
        while self._fresh in self._range:
            number = self._fresh
            self._fresh += 1
            if number in self._used:
                self._passed.append(number)
            elif not (number in self._rested or number in self._reserved):
                return number
        while self._rested:
            number, _ = self._rested.popitem(last=False)
            if number not in self._used:
                return number
            self._passed.append(number)
        for number in self._passed:
            if number not in self._used:
                return number
        family = f"IPv{self._subnet.version}"
        raise errors.Unavailable(
            f"no available {family} addresses on this network's address pools: {self._network}"
        )

    def _reserve(self, pool: Pool) -> Iterable[int]:
        yield from (int(ip_address(text)) for text in (pool.gateway, *pool.auxiliary.values()) if text)
        host_bits = self._subnet.max_prefixlen - self._subnet.prefixlen
        if self._subnet.version == 6 or host_bits > 1:
            # The network's own address; of IPv6, the anycast address of its routers.
            yield int(self._subnet.network_address)
        if self._subnet.version == 4 and host_bits > 1:
            yield int(self._subnet.broadcast_address)
