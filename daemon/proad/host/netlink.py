"""Sync, blocking. The host's links: bridges and their ports, parent links, addresses, routes (rtnetlink(7)).

What containers have on them is in ``sandbox``. All of this is quick, except that the kernel has one lock for
the links of all namespaces: on a busy host a change waits for others.
"""

import errno
import re
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from typing import Any

from pyroute2.netlink import NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from proad.host import linkmessages, sysctls
from proad.host.linkmessages import (
    ADDRESS_HEADER,
    AF_INET,
    AF_INET6,
    IFA_ADDRESS,
    IFA_LOCAL,
    IFF_UP,
    IFLA_IFNAME,
    IFLA_MASTER,
    ROUTE_HEADER,
    RT_SCOPE_LINK,
    RT_TABLE_LOCAL,
    RTA_DST,
    RTA_OIF,
)
from proad.host.netlinksocket import DUMP, NetlinkFailed, NetlinkSocket, Request, encode
from proad.model import errors

PRIVATE_PREFIXES = ("dm-", "di-")
"""Names of parent links that stand for no hardware, with ``macvlan`` and ``ipvlan``, as Docker has them."""
PEER_PREFIX = "dp-"

RTPROT_RA = 9
IFF_LOOPBACK = 8
RTEXT_FILTER_SKIP_STATS = 8

_FAMILIES = (AF_INET, AF_INET6)
_IFINFOMSG_BYTES = 16
_INDEX = struct.Struct("=I")
_MADE_HERE = "made by proa"
_OUR_BRIDGE = "bridge made by proa"
"""Another mark: a bridge of ours that a network takes for its parent link is no parent that it has made."""
_VLAN_NAME = re.compile(r"([^.]+)\.(\d{1,4})")

HostInterface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class Link:
    """A network interface of the host; ``kind`` is empty for hardware, ``addresses`` are of both families.

    The address that IPv6 gives every interface by itself (link-local) is not among them. ``is_our_bridge``:
    it bears the mark of :func:`create_bridge`.
    """

    index: int
    name: str
    kind: str
    is_up: bool
    addresses: tuple[HostInterface, ...] = ()
    is_our_bridge: bool = False


# --- looking --------------------------------------------------------------------------------------------


def index_of(name: str) -> int:
    """Return an interface's index in the calling thread's namespace.

    Raises:
        NetlinkFailed: there is no such interface.
    """
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise NetlinkFailed(f"find network interface {name}", error.errno or errno.ENODEV) from error


def find_link(name: str) -> Link | None:
    """Return an interface of the host by name, with its addresses; None where there is none."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return None
    # Each port of a bridge has an address too: decoding those of a thousand takes 0.1 s.
    with NetlinkSocket(socket.NETLINK_ROUTE, filters=True) as host:
        try:
            link = _get_link(host, index, name)
            found = host.dump(_get_addresses(index))
        except NetlinkFailed as error:
            if error.errno == errno.ENODEV:  # it has gone since
                return None
            raise
    addresses = [_interface_of(item) for item in found if item["index"] == index]
    return Link(
        index=index,
        name=name,
        kind=link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
        is_up=bool(link["flags"] & IFF_UP),
        addresses=tuple(a for a in addresses if a.version == 4 or not a.is_link_local),
        is_our_bridge=link.get_attr("IFLA_IFALIAS") == _OUR_BRIDGE,
    )


def links_present(names: Iterable[str]) -> set[str]:
    """Return those of ``names`` that the host has interfaces of; each is asked for, as a list may be long."""
    return {name for name in names if _is_present(name)}


def _is_present(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def ports_of(bridge: str) -> set[str]:
    """Return the names of the interfaces on a bridge; none where there is no such bridge."""
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        try:
            index = socket.if_nametoindex(bridge)
        except OSError:
            return set()
        wanted = _get_links({"attrs": [("IFLA_MASTER", index), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]})
        links = list(host.dump_attributes(wanted, _IFINFOMSG_BYTES))
    master = _INDEX.pack(index)
    return {link[IFLA_IFNAME].rstrip(b"\0").decode() for link in links if link.get(IFLA_MASTER) == master}


def host_links() -> dict[str, str]:
    """Return the kinds of all interfaces by their names, but for ``lo``, the bridges made here, and the ports
    of any; the kind is empty for hardware.
    """
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        links = host.dump(_get_links({"attrs": [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]}))
    return {
        link.get_attr("IFLA_IFNAME"): link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
        for link in links
        if not link["flags"] & IFF_LOOPBACK
        and link.get_attr("IFLA_MASTER") is None
        and link.get_attr("IFLA_IFALIAS") != _OUR_BRIDGE
    }


def advertised_routers() -> set[str]:
    """Return the interfaces by which the kernel knows a router for all of IPv6 that has advertised itself."""
    request = encode("list routes", RTM_GETROUTE, DUMP, rtmsg, {"family": AF_INET6})
    found = set()
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        for fields, attributes in host.dump_with_headers(request, ROUTE_HEADER):
            _, length, _, _, _, protocol, *_ = fields
            if protocol == RTPROT_RA and not length and RTA_OIF in attributes:
                found.add(socket.if_indextoname(_INDEX.unpack(attributes[RTA_OIF])[0]))
    return found


def taken_networks() -> set[IPv4Network | IPv6Network]:
    """Return every network that the host has a route to or an address in; default routes are none, nor is
    what IPv6 has on every interface (link-local, multicast).
    """
    # Not by pyroute2: a thousand ports of bridges have some 4,000 routes and addresses of IPv6's own.
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        found = {*_routed(host), *_attached(host)}
    taken = {ip_network(network, strict=False) for network in found}
    return {network for network in taken if network.version == 4 or not _is_everywhere(network)}


def _routed(host: NetlinkSocket) -> Iterator[tuple[bytes, int]]:
    """Address and prefix length of each route to somewhere but the host itself; default ones are none."""
    request = encode("list routes", RTM_GETROUTE, DUMP, rtmsg, {"family": socket.AF_UNSPEC})
    for (family, length, _, _, table, *_), attributes in host.dump_with_headers(request, ROUTE_HEADER):
        if family in _FAMILIES and length and table != RT_TABLE_LOCAL:
            yield attributes[RTA_DST], length


def _attached(host: NetlinkSocket) -> Iterator[tuple[bytes, int]]:
    """Address and prefix length of each address of the host, but for the link-local ones of IPv6."""
    for fields, attributes in host.dump_with_headers(_get_addresses(), ADDRESS_HEADER):
        family, length, _, scope, _ = fields
        if family == AF_INET or (family == AF_INET6 and scope != RT_SCOPE_LINK):
            yield attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS], length


def _is_everywhere(network: IPv4Network | IPv6Network) -> bool:
    return network.is_link_local or network.is_multicast or network.is_loopback


def _get_link(host: NetlinkSocket, index: int, name: str) -> Any:
    return host.get(encode(f"find {name}", RTM_GETLINK, NLM_F_REQUEST, ifinfmsg, {"index": index}))


def _get_links(fields: dict[str, Any]) -> Request:
    return encode("list interfaces", RTM_GETLINK, DUMP, ifinfmsg, fields)


def _get_addresses(index: int = 0) -> Request:
    """``index`` is of the link whose addresses are wanted, 0 for all."""
    fields = {"family": socket.AF_UNSPEC, "index": index}
    return encode("list addresses", RTM_GETADDR, DUMP, ifaddrmsg, fields)


def _interface_of(address: Any) -> HostInterface:
    local = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
    return ip_interface((local, address["prefixlen"]))


# --- bridges --------------------------------------------------------------------------------------------


def create_bridge(name: str, addresses: Sequence[HostInterface], mac_address: str, mtu: int) -> None:
    """Make a bridge that is up, its MAC address fixed: else it would change with every port that comes.

    Raises:
        NetlinkFailed: the kernel refused; the bridge may be there by then.
    """
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        host.change(
            [
                linkmessages.bridge(name, mac_address=mac_address, mtu=mtu),
                linkmessages.alias(name, _OUR_BRIDGE),
            ]
        )
    configure_bridge(name, add=addresses)


def configure_bridge(
    name: str, *, add: Sequence[HostInterface] = (), drop: Sequence[HostInterface] = ()
) -> None:
    """Set a bridge up, as we need it, and change its addresses.

    Raises:
        errors.Unavailable: IPv6 is off, and may not be switched on here.
        NetlinkFailed: the kernel refused a change.
    """
    index = index_of(name)
    has_ipv6 = any(address.version == 6 for address in add)
    if has_ipv6:
        sysctls.set_up_bridge_ipv6(name)
    changes = [
        *(linkmessages.remove_address(index, name, old) for old in drop),
        *(linkmessages.new_address(index, name, new) for new in add),
        linkmessages.without_link_local_learning(index, name),
        linkmessages.link_up(index, name),
        *([linkmessages.loopback_route(index, name)] if has_ipv6 else []),
    ]
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        host.change(changes)


def join_bridge(names: Iterable[str], bridge: str) -> None:
    """Make interfaces ports of a bridge; one that is not there is no error.

    Raises:
        NetlinkFailed: refused for another reason.
    """
    index = index_of(bridge)
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        for name in names:
            try:
                host.change([linkmessages.master(name, (index, bridge))])
            except NetlinkFailed as error:
                if error.errno != errno.ENODEV:
                    raise


def delete_links(names: Iterable[str]) -> None:
    """Delete interfaces of the host; one that is not there is no error. Takes the kernel some 20 ms for each.

    Raises:
        NetlinkFailed: refused for another reason; the others are deleted all the same.
    """
    failed = None
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        for name in names:
            try:
                host.change([linkmessages.delete_link(name)])
            except NetlinkFailed as error:
                if error.errno != errno.ENODEV:
                    failed = error
    if failed:
        raise failed


# --- parent links ---------------------------------------------------------------------------------------


def create_parent(name: str, *, internal: bool) -> None:
    """Make be there what ``macvlan`` and ``ipvlan`` links lie on; one that is there is left as it is.

    A name with a number after a dot is made as that VLAN of the interface before the dot. Where no interface
    is named (:data:`PRIVATE_PREFIXES`), or where an ``internal`` network names one that is not there, the
    parent leads nowhere: containers reach each other by it and nobody else. It is one end of a veth pair,
    because not every kernel has dummy links, and a bridge without ports has no carrier.

    Raises:
        errors.InvalidParameter: there is no such interface, and the name is none of a VLAN.
        NetlinkFailed: the kernel refused; nothing is left.
    """
    if links_present([name]):
        return
    if internal or name.startswith(PRIVATE_PREFIXES):
        peer = _peer_of(name)
        requests = [linkmessages.private_pair(name, peer), linkmessages.named_link_up(peer)]
    else:
        requests = [_vlan(name)]
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        try:
            # At once, so that no link is ever there that nobody knows to be made here.
            host.change([*requests, linkmessages.alias(name, _MADE_HERE)])
        except NetlinkFailed as error:
            if error.errno != errno.EEXIST:
                delete_links([name])
            raise


def delete_parent(name: str) -> None:
    """Delete a parent link that :func:`create_parent` has made; one of the user's stays.

    Raises:
        NetlinkFailed: the kernel refused.
    """
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        try:
            if _get_link(host, index, name).get_attr("IFLA_IFALIAS") == _MADE_HERE:
                host.change([linkmessages.delete_link(name)])
        except NetlinkFailed as error:
            if error.errno != errno.ENODEV:
                raise


def _vlan(name: str) -> Request:
    match = _VLAN_NAME.fullmatch(name)
    if match is None:
        raise errors.InvalidParameter(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    vlan_id = int(match[2])
    if not links_present([match[1]]):
        raise errors.InvalidParameter(f"-o parent interface was not found on the host: {match[1]}")
    if not 1 <= vlan_id <= 4094:
        raise errors.InvalidParameter(f"vlan id must be between 1-4094, received: {vlan_id}")
    return linkmessages.vlan(name, parent=index_of(match[1]), vlan_id=vlan_id)


def _peer_of(name: str) -> str:
    for prefix in PRIVATE_PREFIXES:
        name = name.removeprefix(prefix)
    return (PEER_PREFIX + name)[:15]
