"""Sync, pure. Messages of nftables to and from the kernel: numbers, nested attributes, comments.

The numbers are those of linux/netfilter/nf_tables.h. Messages are put together here: pyroute2's general
encoder takes longer for one than the kernel takes for a whole transaction.
"""

import struct
from functools import cache

from pyroute2.netlink import NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg

from proad.host.netlinksocket import Envelope, Request, attributes_between

NETLINK_NETFILTER = 12
INET, IPV4, BRIDGE, IPV6 = 1, 2, 7, 10
"""Families of tables, as NFPROTO_INET."""
FAMILY_NAMES = {INET: "inet", IPV4: "ip", IPV6: "ip6", BRIDGE: "bridge"}

GET_TABLE, GET_CHAIN, GET_RULE, NEW_ELEMENT, GET_ELEMENT, DELETE_ELEMENT, NEW_GENERATION, GET_GENERATION = (
    1, 4, 7, 12, 13, 14, 15, 16
)  # fmt: skip
NESTED = 0x8000
LIST_ELEMENT = 1
TABLE = 1
"""The attribute with the table's name, the same in all messages."""
FAMILY_HEADER_BYTES = 4

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_COMMENT = 0  # in a rule's user data: type, length, and the text with its NUL
_HEADER = struct.Struct("=IHHIIBB2s")  # nlmsghdr, nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")
_VALUE = 1


def message(
    kind: int, flags: int, family: int, attributes: bytes, *, subsystem: int = NFNL_SUBSYS_NFTABLES
) -> bytes:
    length = _HEADER.size + len(attributes)
    return _HEADER.pack(length, subsystem << 8 | kind, flags, 0, 0, family, 0, bytes(2)) + attributes


def attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def text_attribute(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def value_attribute(kind: int, value: bytes) -> bytes:
    """Data, such as a set's key, which is wrapped once more."""
    return attribute(kind | NESTED, attribute(_VALUE, value))


def value_in(data: bytes) -> bytes:
    """What :func:`value_attribute` has wrapped."""
    return dict(attributes_between(data)).get(_VALUE, b"")


def text_in(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="replace")


def comment_in(userdata: bytes) -> str:
    """The comment in a rule's user data, empty for none."""
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == _COMMENT:
            return text_in(userdata[at + 2 : at + 2 + length])
        at += 2 + length
    return ""


@cache
def transaction() -> Envelope:
    """What stands around the messages of a transaction."""
    return Envelope(
        _envelope("begin the transaction", _BATCH_BEGIN), _envelope("commit the transaction", _BATCH_END)
    )


def _envelope(what: str, kind: int) -> Request:
    resource = NFNL_SUBSYS_NFTABLES.to_bytes(2, "big")
    return Request(what, nfgen_msg, _HEADER.pack(_HEADER.size, kind, NLM_F_REQUEST, 0, 0, 0, 0, resource))
