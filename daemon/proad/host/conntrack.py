"""Sync, blocking. Flows that the kernel remembers, forgotten where they lead to the wrong place.

The packet filter decides where a flow goes by its first packet. A client that keeps sending UDP from one
port is one flow for as long as it does not pause for half a minute, so it would go on reaching a container
that is gone, or the host from before a port was published (https://github.com/moby/moby/issues/8795). And
whom a container has talked to could go on, and would reach the next one that has its address.

The kernel looks through its whole table each time: some 4 to 8 ms where that has 262,144 buckets.
"""

import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK, nfgen_msg
from pyroute2.netlink.nfnetlink.nfctsocket import (
    FILTER_FLAG_CTA_IP_SRC,
    FILTER_FLAG_CTA_PROTO_DST_PORT,
    FILTER_FLAG_CTA_PROTO_NUM,
    IPCTNL_MSG_CT_DELETE,
    IPCTNL_MSG_CT_GET,
    nfct_msg,
)

from proad.host.netlinksocket import (
    CHANGE,
    DUMP,
    NetlinkFailed,
    NetlinkSocket,
    Request,
    attributes_between,
    encode,
)
from proad.host.nftmessages import FAMILY_HEADER_BYTES, NESTED, NETLINK_NETFILTER, attribute, message

_ADDRESSES: dict[int, tuple[str, str]] = {
    socket.AF_INET: ("CTA_IP_V4_SRC", "CTA_IP_V4_DST"),
    socket.AF_INET6: ("CTA_IP_V6_SRC", "CTA_IP_V6_DST"),
}
_SOURCES = {socket.AF_INET: 1, socket.AF_INET6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_ORIGINAL, _REPLY, _ID, _ZONE = 1, 2, 12, 18  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE
_IP = 1  # CTA_TUPLE_IP
_FILTER, _FILTER_FLAGS = 25, {_ORIGINAL: 1, _REPLY: 2}
_U32 = struct.Struct("=I")
_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_FEW = 20_000
"""So many flows are read at once sooner than they are looked through by the kernel for each address."""
_BY_PROTOCOL_AND_PORT = FILTER_FLAG_CTA_PROTO_NUM | FILTER_FLAG_CTA_PROTO_DST_PORT


@dataclass(frozen=True)
class Side:
    """One direction of a flow: addresses and ports of its packets."""

    source: str
    source_port: int
    destination: str
    destination_port: int

    def reversed(self) -> "Side":
        return Side(self.destination, self.destination_port, self.source, self.source_port)


def forget_untranslated(ports: Iterable[int], *, ipv6: bool = False) -> int:
    """Forget the UDP flows to ``ports`` that go where they are addressed to; returns how many there were.

    They are those of IPv4, or of IPv6.

    Raises:
        NetlinkFailed: the kernel refused.
    """
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    return _forget(family, ports, lambda there, back: back == there.reversed())


def forget_translated(ports: Iterable[int], address: str) -> int:
    """Forget the UDP flows to ``ports`` of the host that ``address`` answers; returns how many there were.

    Raises:
        NetlinkFailed: the kernel refused.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return _forget(family, ports, lambda there, back: back.source == address)


def forget_flows_of(addresses: Collection[str]) -> int:
    """Forget all flows, of whatever protocol, that ``addresses`` have begun or answer; returns how many there
    were.

    Raises:
        NetlinkFailed: the kernel refused.
    """
    if not _COUNT.exists():
        return 0  # the kernel remembers none
    packed = {ip_address(address).packed for address in addresses}
    count = 0
    with NetlinkSocket(NETLINK_NETFILTER) as kernel:
        for request in _list_flows_of(packed):
            for fields in list(kernel.dump_attributes(request, FAMILY_HEADER_BYTES)):
                if _source(fields[_ORIGINAL]) in packed or _source(fields[_REPLY]) in packed:
                    count += _delete(kernel, _delete_as_listed(fields))
    return count


def _forget(family: int, ports: Iterable[int], is_meant: Callable[[Side, Side], bool]) -> int:
    count = 0
    with NetlinkSocket(NETLINK_NETFILTER) as kernel:
        for port in ports:
            for flow in kernel.dump(_list_flows(family, port)):
                there, back = _side(flow, "CTA_TUPLE_ORIG"), _side(flow, "CTA_TUPLE_REPLY")
                if (
                    there is None
                    or back is None
                    or there.destination_port != port
                    or not is_meant(there, back)
                ):
                    continue
                count += _delete(kernel, _delete_flow(family, there))
    return count


def _delete(kernel: NetlinkSocket, request: Request) -> bool:
    """Returns whether it was there: it may have ended by itself."""
    try:
        kernel.change([request])
    except NetlinkFailed as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def _list_flows_of(packed: Collection[bytes]) -> Iterator[Request]:
    if int(_COUNT.read_text()) <= _FEW:
        yield _list(socket.AF_UNSPEC, b"")
        return
    for address in packed:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        source = attribute(_IP | NESTED, attribute(_SOURCES[family], address))
        for side, flags in _FILTER_FLAGS.items():
            wanted = attribute(flags, _U32.pack(FILTER_FLAG_CTA_IP_SRC))
            yield _list(family, attribute(side | NESTED, source) + attribute(_FILTER | NESTED, wanted))


def _list(family: int, attributes: bytes) -> Request:
    data = message(IPCTNL_MSG_CT_GET, DUMP, family, attributes, subsystem=NFNL_SUBSYS_CTNETLINK)
    return Request("list flows", nfgen_msg, data)


def _source(side: bytes) -> bytes:
    addresses = dict(attributes_between(dict(attributes_between(side)).get(_IP, b"")))
    return addresses.get(_SOURCES[socket.AF_INET]) or addresses.get(_SOURCES[socket.AF_INET6], b"")


def _delete_as_listed(fields: dict[int, bytes]) -> Request:
    family = socket.AF_INET if len(_source(fields[_ORIGINAL])) == 4 else socket.AF_INET6
    which = attribute(_ORIGINAL | NESTED, fields[_ORIGINAL])
    which += b"".join(attribute(kind, fields[kind]) for kind in (_ID, _ZONE) if kind in fields)
    data = message(IPCTNL_MSG_CT_DELETE, CHANGE, family, which, subsystem=NFNL_SUBSYS_CTNETLINK)
    return Request("forget a flow", nfgen_msg, data)


def _list_flows(family: int, port: int) -> Request:
    fields = {
        "nfgen_family": family,
        "attrs": [
            ("CTA_TUPLE_ORIG", {"attrs": [("CTA_TUPLE_PROTO", _udp([("CTA_PROTO_DST_PORT", port)]))]}),
            ("CTA_FILTER", {"attrs": [("CTA_FILTER_ORIG_FLAGS", _BY_PROTOCOL_AND_PORT)]}),
        ],
    }
    kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET
    return encode(f"list UDP flows to port {port}", kind, DUMP, nfct_msg, fields)


def _delete_flow(family: int, side: Side) -> Request:
    source, destination = _ADDRESSES[family]
    addresses = {"attrs": [(source, side.source), (destination, side.destination)]}
    ports = _udp([("CTA_PROTO_SRC_PORT", side.source_port), ("CTA_PROTO_DST_PORT", side.destination_port)])
    side_attrs = {"attrs": [("CTA_TUPLE_IP", addresses), ("CTA_TUPLE_PROTO", ports)]}
    fields = {"nfgen_family": family, "attrs": [("CTA_TUPLE_ORIG", side_attrs)]}
    kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
    return encode(f"forget the UDP flow {side}", kind, CHANGE, nfct_msg, fields)


def _udp(ports: list[tuple[str, int]]) -> dict[str, Any]:
    return {"attrs": [("CTA_PROTO_NUM", socket.IPPROTO_UDP), *ports]}


def _side(flow: Any, name: str) -> Side | None:
    """Return one direction of a flow of UDP; None for anything else."""
    addresses, ports = flow.get_nested(name, "CTA_TUPLE_IP"), flow.get_nested(name, "CTA_TUPLE_PROTO")
    if addresses is None or ports is None or ports.get_attr("CTA_PROTO_NUM") != socket.IPPROTO_UDP:
        return None
    for family in _ADDRESSES.values():
        source, destination = map(addresses.get_attr, family)
        if source is not None and destination is not None:
            numbers = ports.get_attr("CTA_PROTO_SRC_PORT"), ports.get_attr("CTA_PROTO_DST_PORT")
            return Side(source, numbers[0], destination, numbers[1])
    return None
