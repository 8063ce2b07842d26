"""Sync, blocking. Elements of nftables maps, changed without a look at anything else.

libnftables reads all tables of the host before each command, so that its cost grows with other people's
rules, and begins again whenever one of them changes. What a port needs is one message to the kernel
(https://wiki.nftables.org/wiki-nftables/index.php/Portal:DeveloperDocs/nftables_internals); pyroute2
encodes it.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pyroute2.netlink import NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWSETELEM,
    nft_set_elem_list_msg,
)

from proad.host.netlinksocket import CHANGE, CREATE, Envelope, NetlinkSocket, Request, encode

NETLINK_NETFILTER = 12
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11


@dataclass(frozen=True)
class Element:
    """An element of a map in the kernel's form: big-endian; fields that are concatenated have four bytes."""

    map_name: str
    key: bytes
    value: bytes
    shown: str


class ElementWriter:
    """Changes the elements of one ``ip`` table; the table need not be there yet.

    Its socket stays open for good: when one is closed, the kernel waits until everything that was removed
    lately is out of every processor's sight, some 15 ms.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._kernel = NetlinkSocket(NETLINK_NETFILTER)

    def exchange(self, removed: Sequence[Element], added: Sequence[Element]) -> None:
        """Remove and add elements in one transaction: all or nothing.

        Raises:
            NetlinkFailed: the kernel refused the first one that it names: ``ENOENT`` for one that is not
            there,
                ``EEXIST`` for one whose key leads elsewhere.
        """
        requests = [_request("remove", NFT_MSG_DELSETELEM, CHANGE, self._table, item) for item in removed]
        requests += [_request("add", NFT_MSG_NEWSETELEM, CREATE, self._table, item) for item in added]
        self._kernel.change(requests, envelope=_envelope())


def _request(verb: str, kind: int, flags: int, table: str, element: Element) -> Request:
    fields = {
        "nfgen_family": socket.AF_INET,
        "attrs": [
            ("NFTA_SET_ELEM_LIST_TABLE", table),
            ("NFTA_SET_ELEM_LIST_SET", element.map_name),
            (
                "NFTA_SET_ELEM_LIST_ELEMENTS",
                [
                    {
                        "attrs": [
                            ("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", element.key)]}),
                            ("NFTA_SET_ELEM_DATA", {"attrs": [("NFTA_DATA_VALUE", element.value)]}),
                        ]
                    }
                ],
            ),
        ],
    }
    what = f"{verb} {element.shown} in map {element.map_name} of nftables table {table}"
    return encode(what, NFNL_SUBSYS_NFTABLES << 8 | kind, flags, nft_set_elem_list_msg, fields)


@cache
def _envelope() -> Envelope:
    fields = {"res_id": NFNL_SUBSYS_NFTABLES}
    begin = encode("begin the transaction", NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, nfgen_msg, fields)
    end = encode("commit the transaction", NFNL_MSG_BATCH_END, NLM_F_REQUEST, nfgen_msg, fields)
    return Envelope(begin, end)
