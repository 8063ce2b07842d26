"""Sync, blocking. The rules that lead port 53 of the resolver's address to other ports (see ``dnssockets``).

    table ip proa-resolver {
        chain there { type filter hook output priority -310;        # before connection tracking
            ip daddr 127.0.0.11 udp dport 53 udp dport set 61234     and the same for TCP
        }
        chain back { type filter hook postrouting priority 310;
            ip saddr 127.0.0.11 udp sport 61234 udp sport set 53     and the same for TCP
        }
    }

The messages are encoded once, by pyroute2, with ports that stand for those that are not known yet.
"""

import errno
import re
import socket
import struct
from functools import cache
from ipaddress import IPv4Address
from typing import Any

from pyroute2.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELTABLE,
    NFT_MSG_GETRULE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    nft_chain_msg,
    nft_rule_msg,
    nft_table_msg,
)

from proad.host.netlinksocket import (
    CHANGE,
    CREATE,
    DUMP,
    Envelope,
    NetlinkFailed,
    NetlinkSocket,
    Request,
    encode,
)

TABLE = "proa-resolver"
DNS_PORT = 53

_NETLINK_NETFILTER = 12
_NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 0x10, 0x11
_APPEND = CHANGE | NLM_F_CREATE | NLM_F_APPEND
_NFGENMSG_BYTES = 4
_RULE_CHAIN, _RULE_USERDATA = 2, 7
_NFGENMSG_BYTES = 4
_RULE_CHAIN, _RULE_USERDATA = 2, 7
_COMMENT = re.compile(rb"(udp|tcp) (\d{5})\0")
_MAX_PORT = 0xFFFF
_LOCAL_OUT, _POST_ROUTING = 3, 4
_BEFORE_TRACKING, _AFTER_TRACKING = -310, 310
_NETWORK, _TRANSPORT = 1, 2  # bases of offsets
_SOURCE_ADDRESS, _DESTINATION_ADDRESS = 12, 16  # offsets
_SOURCE_PORT, _DESTINATION_PORT = 0, 2
_CHECKSUM = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}
_REGISTER, _META_L4PROTO, _CSUM_INET = 1, 16, 1
_STAND_INS = {socket.IPPROTO_UDP: 0xA55A, socket.IPPROTO_TCP: 0xB66B}


def redirect(address: str, *, udp: int, tcp: int) -> None:
    """Lead port 53 of ``address``, in the calling thread's network namespace, to these ports of it.

    Raises:
        NetlinkFailed: the kernel refused; what was there before still is.
    """
    ports = {socket.IPPROTO_UDP: udp, socket.IPPROTO_TCP: tcp}
    table = [_with_ports(one, ports) for one in _table(address)]
    with NetlinkSocket(_NETLINK_NETFILTER) as kernel:
        try:
            kernel.change(table, envelope=_envelope())
        except NetlinkFailed as error:
            if error.errno != errno.EEXIST:
                raise
            kernel.change([_deletion(), *table], envelope=_envelope())


def redirected() -> tuple[int, int] | None:
    """Return the UDP and TCP ports that :func:`redirect` led to before; None where its rules are not whole.

    To change them takes some 10 ms: after a deletion the kernel waits until no processor sees them any more.

    Raises:
        NetlinkFailed: the kernel refused.
    """
    with NetlinkSocket(_NETLINK_NETFILTER) as kernel:
        rules = list(kernel.dump_attributes(_listing(), _NFGENMSG_BYTES))
    found = {(rule[_RULE_CHAIN], rule.get(_RULE_USERDATA, b"")[2:]) for rule in rules}
    ports = {match[1]: int(match[2]) for _, comment in found if (match := _COMMENT.fullmatch(comment))}
    whole = {
        (chain, f"{_comment(protocol, ports.get(name, 0))}\0".encode())
        for chain in (b"there\0", b"back\0")
        for protocol, name in ((socket.IPPROTO_UDP, b"udp"), (socket.IPPROTO_TCP, b"tcp"))
    }
    if len(rules) != len(found) or found != whole or max(ports.values()) > _MAX_PORT:
        return None
    return ports[b"udp"], ports[b"tcp"]


def _with_ports(request: Request, ports: dict[int, int]) -> Request:
    data = request.data
    for protocol, port in ports.items():
        stand_in = _STAND_INS[protocol]
        data = data.replace(_packed(stand_in), _packed(port))
        data = data.replace(_comment(protocol, stand_in).encode(), _comment(protocol, port).encode())
    return Request(request.what, request.message, data)


@cache
def _listing() -> Request:
    fields = {"nfgen_family": socket.AF_INET, "attrs": [("NFTA_RULE_TABLE", TABLE)]}
    kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE
    return encode(f"list the rules of nftables table {TABLE}", kind, DUMP, nft_rule_msg, fields)


@cache
def _deletion() -> Request:
    return _request("delete table", NFT_MSG_DELTABLE, CHANGE, nft_table_msg, {"NFTA_TABLE_NAME": TABLE})


@cache
def _table(address: str) -> tuple[Request, ...]:
    """All of it, where there is no such table yet."""
    where = IPv4Address(address).packed
    return (
        _request("add table", NFT_MSG_NEWTABLE, CREATE, nft_table_msg, {"NFTA_TABLE_NAME": TABLE}),
        _chain("there", _LOCAL_OUT, _BEFORE_TRACKING),
        _chain("back", _POST_ROUTING, _AFTER_TRACKING),
        *(_rule_there(where, protocol) for protocol in _STAND_INS),
        *(_rule_back(where, protocol) for protocol in _STAND_INS),
    )


def _rule_there(address: bytes, protocol: int) -> Request:
    stand_in = _packed(_STAND_INS[protocol])
    return _rule(
        "there", protocol, _DESTINATION_ADDRESS, address, _DESTINATION_PORT, _packed(DNS_PORT), stand_in
    )


def _rule_back(address: bytes, protocol: int) -> Request:
    stand_in = _packed(_STAND_INS[protocol])
    return _rule("back", protocol, _SOURCE_ADDRESS, address, _SOURCE_PORT, stand_in, _packed(DNS_PORT))


def _rule(
    chain: str, protocol: int, address_at: int, address: bytes, port_at: int, port: bytes, other: bytes
) -> Request:
    expressions = [
        _payload(_NETWORK, address_at, len(address)),
        _equals(address),
        _expression("meta", key=_META_L4PROTO, dreg=_REGISTER),
        _equals(bytes((protocol,))),
        _payload(_TRANSPORT, port_at, len(port)),
        _equals(port),
        _expression("immediate", dreg=_REGISTER, data=_data(other)),
        _expression(
            "payload",
            sreg=_REGISTER,
            base=_TRANSPORT,
            offset=port_at,
            len=len(other),
            csum_type=_CSUM_INET,
            csum_offset=_CHECKSUM[protocol],
        ),
    ]
    fields = {
        "NFTA_RULE_TABLE": TABLE,
        "NFTA_RULE_CHAIN": chain,
        "NFTA_RULE_EXPRESSIONS": expressions,
        "NFTA_RULE_USERDATA": {"value": _comment(protocol, _STAND_INS[protocol])},
    }
    return _request(f"add a rule to chain {chain}", NFT_MSG_NEWRULE, _APPEND, nft_rule_msg, fields)


def _chain(name: str, hook: int, priority: int) -> Request:
    fields = {
        "NFTA_CHAIN_TABLE": TABLE,
        "NFTA_CHAIN_NAME": name,
        "NFTA_CHAIN_HOOK": {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]},
        "NFTA_CHAIN_TYPE": "filter",
    }
    return _request(f"add chain {name}", NFT_MSG_NEWCHAIN, CREATE, nft_chain_msg, fields)


def _payload(base: int, offset: int, length: int) -> dict[str, Any]:
    return _expression("payload", dreg=_REGISTER, base=base, offset=offset, len=length)


def _equals(value: bytes) -> dict[str, Any]:
    return _expression("cmp", sreg=_REGISTER, op=0, data=_data(value))


def _data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _expression(name: str, **attributes: Any) -> dict[str, Any]:
    pairs = [(f"NFTA_{name}_{key}".upper(), value) for key, value in attributes.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": pairs})]}


def _request(verb: str, kind: int, flags: int, message: Any, attributes: dict[str, Any]) -> Request:
    fields = {"nfgen_family": socket.AF_INET, "attrs": list(attributes.items())}
    what = f"{verb}, nftables table {TABLE}"
    return encode(what, NFNL_SUBSYS_NFTABLES << 8 | kind, flags, message, fields)


@cache
def _envelope() -> Envelope:
    fields = {"res_id": NFNL_SUBSYS_NFTABLES}
    begin = encode("begin the transaction", _NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, nfgen_msg, fields)
    end = encode("commit the transaction", _NFNL_MSG_BATCH_END, NLM_F_REQUEST, nfgen_msg, fields)
    return Envelope(begin, end)


def _comment(protocol: int, port: int) -> str:
    """What stands on each rule; always of the same length."""
    return f"{'udp' if protocol == socket.IPPROTO_UDP else 'tcp'} {port:05}"


def _packed(port: int) -> bytes:
    return struct.pack(">H", port)
