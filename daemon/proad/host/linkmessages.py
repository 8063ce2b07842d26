"""Sync, pure. rtnetlink(7) requests that make and configure links, in the kernel's form.

Packed here because every start sends them: pyroute2 takes a third of a millisecond to encode one veth pair,
longer than the kernel takes to make it. The numbers are those of the kernel's ``linux/if_link.h``,
``linux/if_addr.h`` and ``linux/rtnetlink.h``.
"""

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from pyroute2.netlink import NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from proad.host.netlinksocket import CHANGE, CREATE, Request

LOOPBACK_INDEX = 1  # in every namespace
AF_INET, AF_INET6 = 2, 10
IFF_UP = 1

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_OPERSTATE, IFLA_LINKINFO, IFLA_NET_NS_PID, IFLA_IFALIAS, IFLA_EXT_MASK = 16, 18, 19, 20, 29
IF_OPER_UP = 6
RTEXT_FILTER_SKIP_STATS = 8
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
VETH_INFO_PEER = 1
IFLA_MACVLAN_MODE = 1
IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2
IFLA_VLAN_ID = 1
IFLA_BR_MULTI_BOOLOPT, BR_BOOLOPT_NO_LL_LEARN = 46, 0
IFLA_BRPORT_MODE = 4
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
IFA_F_NODAD = 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 4, 5, 6
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTPROT_BOOT = 3
RTN_UNICAST, RTN_LOCAL = 1, 2
LOOPBACK6_PRIORITY = 10_000

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
LINK_HEADER = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, mask of the flags to change
ADDRESS_HEADER = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
ROUTE_HEADER = struct.Struct(
    "=BBBBBBBBI"
)  # rtmsg: family, lengths of two, tos, table, protocol, scope, type, flags
_U16, _U32 = struct.Struct("=H"), struct.Struct("=I")
_DOWN = LINK_HEADER.pack(0, 0, 0, 0, 0)
_UP = LINK_HEADER.pack(0, 0, 0, IFF_UP, IFF_UP)


# --- links ----------------------------------------------------------------------------------------------


def veth_pair(
    name: str, peer: str, *, bridge: tuple[int, str], mtu: int, mac_address: str, thread_id: int
) -> Request:
    """A pair made at once where its ends belong: a port of ``bridge`` here, and ``peer`` with the MAC address
    in the namespace of a thread. The peer cannot be up yet: it has no other end so far.
    """
    inner = _DOWN + _name(peer) + _mac(mac_address) + _mtu(mtu) + _u32(IFLA_NET_NS_PID, thread_id)
    here = _UP + _name(name) + _mtu(mtu) + _u32(IFLA_MASTER, bridge[0])
    kind = _kind("veth", _attribute(VETH_INFO_PEER, inner))
    return _link(f"create the veth pair {name} on bridge {bridge[1]}", CREATE, here + kind)


def macvlan(
    name: str, *, parent: tuple[int, str], mode: str, mtu: int, mac_address: str, thread_id: int
) -> Request:
    """A ``macvlan`` link in the namespace of a thread; an ``mtu`` of 0 is its parent's."""
    data = _u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode or "bridge"])
    return _sublink("macvlan", name, parent, mtu, thread_id, _mac(mac_address), data)


def ipvlan(name: str, *, parent: tuple[int, str], mode: str, flag: str, mtu: int, thread_id: int) -> Request:
    """An ``ipvlan`` link in the namespace of a thread: it has its parent's MAC address."""
    data = _attribute(IFLA_IPVLAN_MODE, _U16.pack(IPVLAN_MODES[mode or "l2"]))
    if flag:
        data += _attribute(IFLA_IPVLAN_FLAGS, _U16.pack(IPVLAN_FLAGS[flag]))
    return _sublink("ipvlan", name, parent, mtu, thread_id, b"", data)


def vlan(name: str, *, parent: int, vlan_id: int) -> Request:
    """A link of the host, up, for what a parent carries with a VLAN's tag (802.1Q)."""
    data = _attribute(IFLA_VLAN_ID, _U16.pack(vlan_id))
    body = _UP + _name(name) + _u32(IFLA_LINK, parent) + _kind("vlan", data)
    return _link(f"create VLAN link {name}", CREATE, body)


def private_pair(name: str, peer: str) -> Request:
    """A pair that leads nowhere; its peer is down."""
    kind = _kind("veth", _attribute(VETH_INFO_PEER, _DOWN + _name(peer)))
    return _link(f"create parent link {name}", CREATE, _UP + _name(name) + kind)


def bridge(name: str, *, mac_address: str, mtu: int) -> Request:
    body = _UP + _name(name) + _mac(mac_address) + _mtu(mtu) + _kind("bridge")
    return _link(f"create bridge {name}", CREATE, body)


def without_link_local_learning(index: int, name: str) -> Request:
    """Have a bridge take no note of who sends it frames for itself alone, as those of LLDP.

    The packet filter does not see all of them, and whoever sends one in another's name is sent what is for
    that other from then on.
    """
    option = 1 << BR_BOOLOPT_NO_LL_LEARN
    data = _attribute(IFLA_BR_MULTI_BOOLOPT, _U32.pack(option) * 2)  # values, and which of them are meant
    body = LINK_HEADER.pack(0, 0, index, 0, 0) + _kind("bridge", data)
    return _link(f"set the options of bridge {name}", CHANGE, body)


def hairpin(name: str) -> Request:
    """Let the bridge send a packet back to the port it came from.

    A container that reaches itself by a port it publishes needs this where br_netfilter is loaded: then the
    packet's address is translated while it passes the bridge, which does not take it up to the host's routing
    any more but back to where it came from.
    """
    mode = _attribute(IFLA_BRPORT_MODE, b"\x01")
    info = _attribute(IFLA_INFO_SLAVE_KIND, b"bridge\0") + _attribute(IFLA_INFO_SLAVE_DATA, mode)
    body = _DOWN + _name(name) + _attribute(IFLA_LINKINFO, info)
    return _link(f"set hairpin mode of {name}", CHANGE, body)


def alias(name: str, text: str) -> Request:
    """Note something at a link, for people and for later."""
    body = _DOWN + _name(name) + _attribute(IFLA_IFALIAS, text.encode())
    return _link(f"set the alias of {name}", CHANGE, body)


def master(name: str, bridge: tuple[int, str]) -> Request:
    body = _DOWN + _name(name) + _u32(IFLA_MASTER, bridge[0])
    return _link(f"add {name} to bridge {bridge[1]}", CHANGE, body)


def link_up(index: int, name: str) -> Request:
    return _link(f"set interface {name} up", CHANGE, LINK_HEADER.pack(0, 0, index, IFF_UP, IFF_UP))


def named_link_up(name: str) -> Request:
    return _link(f"set interface {name} up", CHANGE, _UP + _name(name))


def get_link(name: str) -> Request:
    """What there is to know of a link but for its statistics."""
    body = _DOWN + _name(name) + _u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return Request(f"find {name}", ifinfmsg, _message(RTM_GETLINK, NLM_F_REQUEST, body))


def delete_link(name: str) -> Request:
    data = _message(RTM_DELLINK, CHANGE, _DOWN + _name(name))
    return Request(f"delete interface {name}", ifinfmsg, data)


def _sublink(
    kind: str, name: str, parent: tuple[int, str], mtu: int, thread_id: int, address: bytes, data: bytes
) -> Request:
    body = _DOWN + _name(name) + _u32(IFLA_LINK, parent[0]) + address + _mtu(mtu)
    body += _u32(IFLA_NET_NS_PID, thread_id) + _kind(kind, data)
    return _link(f"create {kind} link {name} on {parent[1]}", CREATE, body)


def _link(what: str, flags: int, body: bytes) -> Request:
    return Request(what, ifinfmsg, _message(RTM_NEWLINK, flags, body))


# --- addresses and routes -------------------------------------------------------------------------------


def new_address(index: int, name: str, address: IPv4Interface | IPv6Interface) -> Request:
    """An address, at work at once: nobody else has it, so IPv6 need not ask around for a second first."""
    data = _message(RTM_NEWADDR, CREATE, _address_body(index, address))
    return Request(f"add address {address} to {name}", ifaddrmsg, data)


def remove_address(index: int, name: str, address: IPv4Interface | IPv6Interface) -> Request:
    data = _message(RTM_DELADDR, CHANGE, _address_body(index, address))
    return Request(f"remove address {address} from {name}", ifaddrmsg, data)


def _address_body(index: int, address: IPv4Interface | IPv6Interface) -> bytes:
    own = address.ip.packed
    length = address.network.prefixlen
    if address.version == 6:
        head = ADDRESS_HEADER.pack(AF_INET6, length, IFA_F_NODAD, 0, index)
        return head + _attribute(IFA_LOCAL, own) + _attribute(IFA_ADDRESS, own)
    head = ADDRESS_HEADER.pack(AF_INET, length, 0, 0, index)
    broadcast = address.network.broadcast_address.packed
    return (
        head
        + _attribute(IFA_LOCAL, own)
        + _attribute(IFA_ADDRESS, own)
        + (_attribute(IFA_BROADCAST, broadcast) if length < 31 else b"")
    )


def loopback_route(index: int, name: str) -> Request:
    """Let ::1 be an address that answers to it may come back to by a bridge, from a published port.

    IPv6 asks for a route by that very interface. All other traffic to ::1 takes the one by ``lo``, which is
    preferred; what a bridge brings that was sent to ::1 is dropped before anybody asks for a route.
    """
    head = ROUTE_HEADER.pack(
        AF_INET6, 128, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_LOCAL, 0
    )
    body = _attribute(RTA_DST, IPv6Address("::1").packed) + _u32(RTA_OIF, index)
    priority = _u32(RTA_PRIORITY, LOOPBACK6_PRIORITY + index)  # no two routes may have the same
    data = _message(RTM_NEWROUTE, CHANGE | NLM_F_CREATE | NLM_F_REPLACE, head + body + priority)
    return Request(f"add a route to ::1 by {name}", rtmsg, data)


def default_route(
    index: int, name: str, gateway: IPv4Address | IPv6Address | None, *, family: int, replace: bool = False
) -> Request:
    """The default route of a family, by a gateway, or by the link itself where there is none.

    With ``replace`` it takes the place of another one with the kernel's usual metric, if there is one.
    """
    scope = RT_SCOPE_UNIVERSE if gateway is not None or family == AF_INET6 else RT_SCOPE_LINK
    head = ROUTE_HEADER.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
    via = _attribute(RTA_GATEWAY, gateway.packed) if gateway is not None else b""
    flags = CHANGE | NLM_F_CREATE | NLM_F_REPLACE if replace else CREATE
    data = _message(RTM_NEWROUTE, flags, head + via + _u32(RTA_OIF, index))
    return Request(f"add the default route via {gateway or name}", rtmsg, data)


# --- packing --------------------------------------------------------------------------------------------


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length & 3)


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, _U32.pack(value))


def _name(name: str) -> bytes:
    return _attribute(IFLA_IFNAME, name.encode() + b"\0")


def _mac(mac_address: str) -> bytes:
    """Blank: the kernel chooses one."""
    return _attribute(IFLA_ADDRESS, bytes.fromhex(mac_address.replace(":", ""))) if mac_address else b""


def _mtu(mtu: int) -> bytes:
    """0: the kernel chooses one."""
    return _u32(IFLA_MTU, mtu) if mtu else b""


def _kind(kind: str, data: bytes = b"") -> bytes:
    info = _attribute(IFLA_INFO_KIND, kind.encode() + b"\0")
    return _attribute(IFLA_LINKINFO, info + (_attribute(IFLA_INFO_DATA, data) if data else b""))
