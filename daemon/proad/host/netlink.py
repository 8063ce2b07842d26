"""Trio-flavoured. Links, addresses and routes of the host and of new namespaces, through rtnetlink(7).

What may take long on a busy host (the kernel has one lock for all links) is done in the thread that making a
namespace needs anyway, so pyroute2's ``AsyncIPRoute`` and its crossing to asyncio would only add to it: one
``link`` call of it costs three times the whole request here.
"""

import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import trio
from pyroute2.netlink import NLM_F_REQUEST
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from proad.host import netns
from proad.host.netlinksocket import CHANGE, CREATE, DUMP, NetlinkFailed, NetlinkSocket, Request, encode

CONTAINER_INTERFACE = "eth0"
LOOPBACK_INDEX = 1  # in every namespace

IFF_UP = 1
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTPROT_BOOT = 3
RTN_UNICAST = 1
RTEXT_FILTER_SKIP_STATS = 8

_IFINFOMSG_BYTES = 16
_IFLA_IFNAME, _IFLA_MASTER = 3, 10
_INDEX = struct.Struct("=I")


@dataclass(frozen=True)
class Veth:
    """A veth pair to be made: one end a port of ``bridge``, the other ``eth0`` of a new namespace."""

    netns: Path
    host_interface: str
    bridge: str
    mtu: int
    mac_address: str
    address: IPv4Interface
    gateway: IPv4Address
    hairpin: bool = False
    """Whether the bridge may send a packet back to the port it came from; see :func:`_hairpin`."""


@dataclass(frozen=True)
class Link:
    """A network interface of the host; ``kind`` is empty for hardware, ``addresses`` are its IPv4 ones."""

    index: int
    name: str
    kind: str
    is_up: bool
    addresses: tuple[IPv4Interface, ...] = ()


# --- endpoints ------------------------------------------------------------------------------------------


async def create_veth(veth: Veth, kept: Callable[[], None] | None = None) -> None:
    """Make a namespace, and in it a configured ``eth0`` on the bridge; nothing is left where that fails.

    ``kept`` is called, on the loop's thread, as soon as the namespace is there to be joined; its interface
    follows.

    Raises:
        errors.System: the kernel refused a step; the text says which.
    """
    token = trio.lowlevel.current_trio_token()
    tell = partial(token.run_sync_soon, kept) if kept is not None else None
    await netns.in_own_thread(lambda: _create_veth(veth, tell))


async def create_loopback_only(path: Path) -> None:
    """Make a namespace with nothing but ``lo``, which is up.

    Raises:
        errors.System: the kernel refused a step; nothing is left.
    """
    await netns.in_own_thread(lambda: _create_loopback_only(path))


def _create_veth(veth: Veth, tell_kept: Callable[[], None] | None) -> None:
    bridge = index_of(veth.bridge)
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        netns.unshare_into(veth.netns)
        if tell_kept is not None:
            tell_kept()
        try:
            host.change([_veth_pair(veth, bridge), *([_hairpin(veth)] if veth.hairpin else [])])
            with NetlinkSocket(socket.NETLINK_ROUTE) as inside:
                inside.change(_configuration(veth, index_of(CONTAINER_INTERFACE)))
        except BaseException:
            netns.remove(veth.netns)  # and with it the pair: the namespace ends with this thread
            raise


def _create_loopback_only(path: Path) -> None:
    netns.unshare_into(path)
    try:
        with NetlinkSocket(socket.NETLINK_ROUTE) as inside:
            inside.change([_link_up(LOOPBACK_INDEX, "lo")])
    except BaseException:
        netns.remove(path)
        raise


def _veth_pair(veth: Veth, bridge: int) -> Request:
    """The pair, made at once where its ends belong. The peer cannot be up yet: it has no other end so far.

    Encoding it takes a third of a millisecond, more than the kernel takes to make the pair; so it is encoded
    once, and what differs from one container to the next is put in.
    """
    name = veth.host_interface
    data = (
        _veth_template(bridge, veth.mtu, len(name))
        .replace(_blank_name(len(name)).encode(), name.encode())
        .replace(_mac_bytes(_BLANK_MAC), _mac_bytes(veth.mac_address))
        .replace(_THREAD_ID.pack(_BLANK_ID), _THREAD_ID.pack(threading.get_native_id()))
    )
    return Request(f"create the veth pair {name} on bridge {veth.bridge}", ifinfmsg, data)


_BLANK_MAC = "fe:dc:ba:98:76:54"
_BLANK_ID = 0x7EDCBA98
_THREAD_ID = struct.Struct("=I")


def _blank_name(length: int) -> str:
    return "?" * length


def _mac_bytes(mac_address: str) -> bytes:
    return bytes.fromhex(mac_address.replace(":", ""))


@lru_cache(maxsize=64)
def _veth_template(bridge: int, mtu: int, name_length: int) -> bytes:
    peer = {
        "attrs": [
            ("IFLA_IFNAME", CONTAINER_INTERFACE),
            ("IFLA_ADDRESS", _BLANK_MAC),
            ("IFLA_MTU", mtu),
            ("IFLA_NET_NS_PID", _BLANK_ID),
        ]
    }
    data = {"attrs": [("VETH_INFO_PEER", peer)]}
    fields = {
        "flags": IFF_UP,
        "change": IFF_UP,
        "attrs": [
            ("IFLA_IFNAME", _blank_name(name_length)),
            ("IFLA_MTU", mtu),
            ("IFLA_MASTER", bridge),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}),
        ],
    }
    return encode("", RTM_NEWLINK, CREATE, ifinfmsg, fields).data


def _hairpin(veth: Veth) -> Request:
    """A container that reaches itself by a port it publishes needs this where br_netfilter is loaded.

    Then the packet's address is translated while it passes the bridge, which does not take it up to the
    host's routing any more but back to where it came from.
    """
    slave = [
        ("IFLA_INFO_SLAVE_KIND", "bridge"),
        ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]}),
    ]
    fields = {"attrs": [("IFLA_IFNAME", veth.host_interface), ("IFLA_LINKINFO", {"attrs": slave})]}
    return encode(f"set hairpin mode of {veth.host_interface}", RTM_NEWLINK, CHANGE, ifinfmsg, fields)


def _configuration(veth: Veth, index: int) -> list[Request]:
    return [
        _link_up(LOOPBACK_INDEX, "lo"),
        _link_up(index, CONTAINER_INTERFACE),
        _new_address(index, CONTAINER_INTERFACE, veth.address),
        _default_route(index, veth.gateway),
    ]


@lru_cache(maxsize=64)
def _default_route(index: int, gateway: IPv4Address) -> Request:
    fields = {
        "family": socket.AF_INET,
        "table": RT_TABLE_MAIN,
        "proto": RTPROT_BOOT,
        "type": RTN_UNICAST,
        "attrs": [("RTA_GATEWAY", str(gateway)), ("RTA_OIF", index)],
    }
    return encode(f"add the default route via {gateway}", RTM_NEWROUTE, CREATE, rtmsg, fields)


@lru_cache(maxsize=64)
def _link_up(index: int, name: str) -> Request:
    fields = {"index": index, "flags": IFF_UP, "change": IFF_UP}
    return encode(f"set interface {name} up", RTM_NEWLINK, CHANGE, ifinfmsg, fields)


def _new_address(index: int, name: str, address: IPv4Interface) -> Request:
    what = f"add address {address} to {name}"
    return encode(what, RTM_NEWADDR, CREATE, ifaddrmsg, _address_fields(index, address))


def _address_fields(index: int, address: IPv4Interface) -> dict[str, Any]:
    return {
        "family": socket.AF_INET,
        "prefixlen": address.network.prefixlen,
        "index": index,
        "attrs": [
            ("IFA_LOCAL", str(address.ip)),
            ("IFA_ADDRESS", str(address.ip)),
            ("IFA_BROADCAST", str(address.network.broadcast_address)),
        ],
    }


# --- the host's links -----------------------------------------------------------------------------------


def index_of(name: str) -> int:
    """Return an interface's index in the calling thread's namespace.

    Raises:
        NetlinkFailed: there is no such interface.
    """
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise NetlinkFailed(f"find network interface {name}", error.errno or errno.ENODEV) from error


def create_bridge(name: str, address: IPv4Interface, mac_address: str, mtu: int) -> None:
    """Make a bridge that is up, its MAC address fixed: else it would change with every port that comes.

    Raises:
        NetlinkFailed: the kernel refused; the bridge may be there by then.
    """
    fields = {
        "attrs": [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac_address),
            ("IFLA_MTU", mtu),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge")]}),
        ]
    }
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        host.change([encode(f"create bridge {name}", RTM_NEWLINK, CREATE, ifinfmsg, fields)])
    configure_bridge(name, add=address)


def configure_bridge(
    name: str, *, add: IPv4Interface | None = None, drop: Sequence[IPv4Interface] = ()
) -> None:
    """Set a bridge up and change its addresses.

    Raises:
        NetlinkFailed: the kernel refused a change.
    """
    index = index_of(name)
    requests = [
        encode(
            f"remove address {old} from {name}", RTM_DELADDR, CHANGE, ifaddrmsg, _address_fields(index, old)
        )
        for old in drop
    ]
    requests += [_new_address(index, name, add)] if add else []
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        host.change([*requests, _link_up(index, name)])


def find_link(name: str) -> Link | None:
    """Return an interface of the host by name, with its IPv4 addresses; None where there is none."""
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return None
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        link = host.get(encode(f"find {name}", RTM_GETLINK, NLM_F_REQUEST, ifinfmsg, {"index": index}))
        addresses = host.dump(_get_addresses())
    return Link(
        index=index,
        name=name,
        kind=link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
        is_up=bool(link["flags"] & IFF_UP),
        addresses=tuple(_interface_of(item) for item in addresses if item["index"] == index),
    )


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
    return {link[_IFLA_IFNAME].rstrip(b"\0").decode() for link in links if link.get(_IFLA_MASTER) == master}


def taken_networks() -> set[IPv4Network]:
    """Return every IPv4 network that the host has a route to or an address in; the default route is none."""
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        routes = host.dump(encode("list routes", RTM_GETROUTE, DUMP, rtmsg, {"family": socket.AF_INET}))
        addresses = host.dump(_get_addresses())
    taken = {_interface_of(address).network for address in addresses}
    for route in routes:
        if route["dst_len"] and route["table"] != RT_TABLE_LOCAL:
            taken.add(IPv4Network((route.get_attr("RTA_DST"), route["dst_len"])))
    return taken


def delete_links(names: Iterable[str]) -> None:
    """Delete interfaces of the host; one that is not there is no error. Takes the kernel some 20 ms for each.

    Raises:
        NetlinkFailed: refused for another reason; the others are deleted all the same.
    """
    failed = None
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        for name in names:
            fields = {"attrs": [("IFLA_IFNAME", name)]}
            try:
                host.change([encode(f"delete interface {name}", RTM_DELLINK, CHANGE, ifinfmsg, fields)])
            except NetlinkFailed as error:
                if error.errno != errno.ENODEV:
                    failed = error
    if failed:
        raise failed


def join_bridge(names: Iterable[str], bridge: str) -> None:
    """Make interfaces ports of a bridge; one that is not there is no error.

    Raises:
        NetlinkFailed: refused for another reason.
    """
    index = index_of(bridge)
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        for name in names:
            fields = {"attrs": [("IFLA_IFNAME", name), ("IFLA_MASTER", index)]}
            try:
                host.change([encode(f"add {name} to bridge {bridge}", RTM_NEWLINK, CHANGE, ifinfmsg, fields)])
            except NetlinkFailed as error:
                if error.errno != errno.ENODEV:
                    raise


def _get_links(fields: dict[str, Any]) -> Request:
    return encode("list interfaces", RTM_GETLINK, DUMP, ifinfmsg, fields)


def _get_addresses() -> Request:
    return encode("list addresses", RTM_GETADDR, DUMP, ifaddrmsg, {"family": socket.AF_INET})


def _interface_of(address: Any) -> IPv4Interface:
    local = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
    return IPv4Interface((local, address["prefixlen"]))
