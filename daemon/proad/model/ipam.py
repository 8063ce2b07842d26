"""Sync, pure. The choice of subnets and addresses (IP address management)."""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from proad.model import errors


def choose_subnet(pools: Iterable[tuple[str, int]], taken: Collection[IPv4Network]) -> IPv4Interface:
    """Return the gateway's address in the first piece of a pool that overlaps nothing taken.

    ``pools`` are pairs of a base and a prefix length: ``("172.17.0.0/12", 16)`` gives 172.17.0.0/16,
    172.18.0.0/16 and so on to the end of 172.16.0.0/12. ``taken`` are the networks that this host has
    routes or addresses in.

    Raises:
        errors.Unavailable: all pieces overlap something.
    """
    for base, size in pools:
        start = IPv4Interface(base)
        for subnet in start.network.subnets(new_prefix=size):
            if subnet.broadcast_address < start.ip:
                continue
            if not any(subnet.overlaps(other) for other in taken):
                return IPv4Interface((subnet.network_address + 1, size))
    raise errors.Unavailable(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the "
        "network"
    )


def next_address(gateway: IPv4Interface, taken: Collection[IPv4Address], last: IPv4Address) -> IPv4Address:
    """Return the first free address after ``last``, going round: a released one rests as long as it can.

    Raises:
        errors.Unavailable: every host address of the subnet is taken.
    """
    subnet = gateway.network
    lowest, highest = int(subnet.network_address) + 1, int(subnet.broadcast_address) - 1
    count = highest - lowest + 1
    start = int(last) + 1 if lowest <= int(last) < highest else lowest
    for step in range(count):
        address = IPv4Address(lowest + (start - lowest + step) % count)
        if address != gateway.ip and address not in taken:
            return address
    raise errors.Unavailable(f"no available IPv4 addresses on this network's address pool: {subnet}")
