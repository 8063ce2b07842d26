"""Sync, pure. Networks that cannot be side by side, in Docker's words (moby: ``libnetwork/drivers``)."""

from collections.abc import Iterable
from ipaddress import ip_network

from proad.model import errors
from proad.model.ipam import AnyNetwork, overlap
from proad.model.network import Network
from proad.model.networkoptions import link_options

_PARENT_PREFIXES = {"macvlan": "dm-", "ipvlan": "di-"}
_PASSTHRU = "passthru"


def private_parent(driver: str, network_id: str) -> str:
    """What the parent link of a network is called that names none."""
    return _PARENT_PREFIXES[driver] + network_id[:12]


def refuse_beside(network: Network, others: Iterable[Network]) -> None:
    """Refuse what a new network's driver cannot have beside its ``others``.

    Raises:
        errors.Forbidden: two bridges of one name, or with one subnet.
        errors.System: a parent link that another has for itself.
    """
    for other in others:
        if other.driver != network.driver:
            continue
        if network.driver == "bridge" and (conflict := _conflict(network, other)):
            raise errors.Forbidden(
                f"cannot create network {network.id} ({network.interface}): conflicts with network "
                f"{other.id} ({other.interface}): {conflict}"
            )
        if network.interface == other.interface and (problem := _parent_problem(network, other)):
            raise errors.System(problem)


def _conflict(network: Network, other: Network) -> str:
    if other.interface == network.interface:
        return "networks have same bridge name"
    for version in (4, 6):
        theirs = _subnets(other, version)
        if any(overlap(one, another) for one in _subnets(network, version) for another in theirs):
            return f"networks have overlapping IPv{version}"
    return ""


def _subnets(network: Network, version: int) -> list[AnyNetwork]:
    found = [ip_network(pool.subnet) for pool in network.pools]
    return [subnet for subnet in found if subnet.version == version]


def _parent_problem(network: Network, other: Network) -> str:
    parent = network.interface
    if network.driver == "ipvlan":
        return f"network {private_parent('ipvlan', other.id)} is already using parent interface {parent}"
    if _is_passthru(network):
        return (
            f"cannot use mode passthru, macvlan network {other.id} is already using parent interface {parent}"
        )
    if _is_passthru(other):
        return f"macvlan network {other.id} is already using parent interface {parent} in mode passthru"
    return ""


def _is_passthru(network: Network) -> bool:
    return link_options(network.options, network.driver).mode == _PASSTHRU
