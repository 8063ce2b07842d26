"""Sync, blocking. Flows of datagrams that the kernel remembers, forgotten where they lead to the wrong place.

The packet filter decides where a flow goes by its first packet. A client that keeps sending UDP from one
port is one flow for as long as it does not pause for half a minute, so it would go on reaching a container
that is gone, or the host from before a port was published (https://github.com/moby/moby/issues/8795).

The kernel looks through its whole table for each port: some 8 ms where that has 262,144 buckets.
"""

import errno
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK
from pyroute2.netlink.nfnetlink.nfctsocket import (
    FILTER_FLAG_CTA_PROTO_DST_PORT,
    FILTER_FLAG_CTA_PROTO_NUM,
    IPCTNL_MSG_CT_DELETE,
    IPCTNL_MSG_CT_GET,
    nfct_msg,
)

from proad.host.netlinksocket import CHANGE, DUMP, NetlinkFailed, NetlinkSocket, Request, encode

NETLINK_NETFILTER = 12

_ADDRESSES: dict[int, tuple[str, str]] = {
    socket.AF_INET: ("CTA_IP_V4_SRC", "CTA_IP_V4_DST"),
    socket.AF_INET6: ("CTA_IP_V6_SRC", "CTA_IP_V6_DST"),
}
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
                try:
                    kernel.change([_delete_flow(family, there)])
                except NetlinkFailed as error:
                    if error.errno != errno.ENOENT:  # it may have ended by itself
                        raise
                count += 1
    return count


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
