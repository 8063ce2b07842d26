"""Sync, blocking. What the kernel counts of a network interface of the host (rtnetlink(7), RTM_GETSTATS).

One interface costs one small question and answer on a socket that is kept open, where sysfs would cost eight
files.
"""

import errno
import socket
import struct
from pathlib import Path

from pyroute2.netlink import NLM_F_REQUEST
from pyroute2.netlink.rtnl.ifstatsmsg import ifstatsmsg

from proad.host.netlinksocket import NetlinkFailed, NetlinkSocket, Request
from proad.model.stats import NetworkStats

RTM_GETSTATS = 94
IFLA_STATS_LINK_64 = 1

_QUESTION = struct.Struct("=IHHIIBBHII")  # nlmsghdr; if_stats_msg: family, padding, index, filter
_STATS_HEADER_BYTES = 12
_COUNTERS = struct.Struct("=8Q")  # the first of rtnl_link_stats64


class NetworkCounters:
    """Reads counters in the network namespace of the thread that asks first."""

    def __init__(self) -> None:
        self._socket: NetlinkSocket | None = None

    def read_peer(self, interface: str) -> NetworkStats | None:
        """The counters of the other end of a veth pair, told by its end here; None if it is gone.

        What one end has sent the other has received.

        Raises:
            NetlinkFailed: the kernel refused.
        """
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            return None
        if self._socket is None:
            self._socket = NetlinkSocket(socket.NETLINK_ROUTE)
        header = (_QUESTION.size, RTM_GETSTATS, NLM_F_REQUEST, 0, 0)
        data = _QUESTION.pack(*header, 0, 0, 0, index, 1 << (IFLA_STATS_LINK_64 - 1))
        try:
            found = self._socket.get_attributes(
                Request(f"read the counters of {interface}", ifstatsmsg, data), _STATS_HEADER_BYTES
            )
        except NetlinkFailed as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        ours = _COUNTERS.unpack_from(found[IFLA_STATS_LINK_64])
        in_packets, out_packets, in_bytes, out_bytes, in_errors, out_errors, in_dropped, out_dropped = ours
        return NetworkStats(
            rx_bytes=out_bytes,
            rx_packets=out_packets,
            rx_errors=out_errors,
            rx_dropped=out_dropped,
            tx_bytes=in_bytes,
            tx_packets=in_packets,
            tx_errors=in_errors,
            tx_dropped=in_dropped,
        )


def read_inside(pid: int) -> dict[str, NetworkStats]:
    """The counters of all interfaces that a process sees but ``lo``, by name (proc_pid_net(5), ``dev``): for
    those that have no other end on the host. None where the process is gone.
    """
    try:
        _, _, *lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    found = {}
    for line in lines:
        name, _, rest = line.partition(":")
        counts = [int(word) for word in rest.split()]
        if name.strip() != "lo":
            found[name.strip()] = NetworkStats(
                rx_bytes=counts[0],
                rx_packets=counts[1],
                rx_errors=counts[2],
                rx_dropped=counts[3],
                tx_bytes=counts[8],
                tx_packets=counts[9],
                tx_errors=counts[10],
                tx_dropped=counts[11],
            )
    return found
