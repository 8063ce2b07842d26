"""Sync, blocking. Other programs' nftables chains that see forwarded packets, and whether they stop ours.

They are read message by message: libnftables would read whole tables, and cannot say what stands in the
comments of rules that iptables has written.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pyroute2.netlink.nfnetlink import nfgen_msg

from proad.host.netlinksocket import DUMP, NetlinkSocket, Request, attributes_between
from proad.host.nftmessages import (
    FAMILY_HEADER_BYTES,
    FAMILY_NAMES,
    GET_CHAIN,
    GET_RULE,
    INET,
    IPV4,
    IPV6,
    NETLINK_NETFILTER,
    TABLE,
    comment_in,
    message,
    text_attribute,
    text_in,
    value_in,
)

_NAME, _HOOK, _POLICY, _TYPE = 3, 4, 5, 7
_HOOK_NUMBER, _FORWARD = 1, 2
_CHAIN, _HANDLE, _EXPRESSIONS, _USERDATA = 2, 3, 4, 7
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_NUMBER = struct.Struct(">i")
_LONG = struct.Struct(">Q")
_IMMEDIATE_DATA, _VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2, 2, 1, 2
_VERDICTS = {0: "drop", 1: "accept", -3: "jump", -4: "goto", -5: "return"}
_COMPARED, _XT_NAME, _XT_INFO = 3, 1, 3
_META_KEY = 2
_META_NAMES = {6: "iifname", 7: "oifname"}
_ALWAYS_TRUE = {"counter", "log", "immediate", "reject"}
"""Expressions that no packet fails; of iptables' own, which are ``match`` and ``target``, some are too."""


@dataclass(frozen=True)
class ForeignRule:
    """A rule, as far as it matters here.

    ``verdict`` is what it does with every packet, empty where it does nothing or depends on the packet;
    ``interface`` is what it asks of the packet's, as ``iifname br0``.
    """

    handle: int
    comment: str
    verdict: str
    target: str
    interface: str


@dataclass(frozen=True)
class ForeignChain:
    """A base chain on the hook ``forward``, in nft's words."""

    family: int
    table: str
    name: str
    drops: bool
    """What happens to a packet that no rule decides on."""

    def __str__(self) -> str:
        return f"{FAMILY_NAMES[self.family]} {self.table} {self.name}"


class ForwardChains:
    """Reads them. Its socket stays open, as that of ``nftelements``, and for the same reason."""

    def __init__(self) -> None:
        self._kernel = NetlinkSocket(NETLINK_NETFILTER)

    def all(self) -> Iterator[ForeignChain]:
        """Yield every base chain that filters forwarded packets, ours among them.

        Raises:
            NetlinkFailed: the kernel refused.
        """
        for family in (IPV4, IPV6, INET):
            data = message(GET_CHAIN, DUMP, family, b"")
            request = Request("list nftables chains", nfgen_msg, data)
            for fields in list(self._kernel.dump_attributes(request, FAMILY_HEADER_BYTES)):
                hook = dict(attributes_between(fields.get(_HOOK, b""))).get(_HOOK_NUMBER)
                if hook is None or _NUMBER.unpack(hook)[0] != _FORWARD:
                    continue
                if text_in(fields.get(_TYPE, b"filter")) == "filter":
                    drops = _POLICY in fields and _NUMBER.unpack(fields[_POLICY])[0] == 0
                    yield ForeignChain(family, text_in(fields[TABLE]), text_in(fields[_NAME]), drops)

    def rules(self, chain: ForeignChain, name: str = "") -> list[ForeignRule]:
        """Return the rules of a chain, or of the one with another name in its table.

        Raises:
            NetlinkFailed: the chain has gone, or the kernel refused.
        """
        which = text_attribute(TABLE, chain.table) + text_attribute(_CHAIN, name or chain.name)
        data = message(GET_RULE, DUMP, chain.family, which)
        request = Request(f"list the rules of nftables chain {chain}", nfgen_msg, data)
        return [_rule(fields) for fields in self._kernel.dump_attributes(request, FAMILY_HEADER_BYTES)]

    def stops(self, chain: ForeignChain, rules: Iterable[ForeignRule]) -> bool:
        """Whether a packet that no rule of a chain is about ends there.

        A rule that is about some packets is somebody's intention, and no reason to act; a policy, or a last
        rule for all others, is the reason why nobody's containers get anywhere.

        Raises:
            NetlinkFailed: the kernel refused.
        """
        verdict = self._verdict(chain, rules, {chain.name})
        return verdict == "drop" or (verdict == "" and chain.drops)

    def _verdict(self, chain: ForeignChain, rules: Iterable[ForeignRule], seen: set[str]) -> str:
        for rule in rules:
            if rule.verdict in ("drop", "accept"):
                return rule.verdict
            if rule.verdict == "return":
                return ""
            if rule.verdict in ("jump", "goto") and rule.target not in seen:
                seen.add(rule.target)
                verdict = self._verdict(chain, self.rules(chain, rule.target), seen)
                if verdict or rule.verdict == "goto":
                    return verdict
        return ""


def _rule(fields: Mapping[int, bytes]) -> ForeignRule:
    comment = comment_in(fields.get(_USERDATA, b""))
    verdict = target = interface = meta = ""
    is_for_all = True
    for _, expression in attributes_between(fields.get(_EXPRESSIONS, b"")):
        parts = dict(attributes_between(expression))
        name = text_in(parts[_EXPRESSION_NAME])
        data = dict(attributes_between(parts.get(_EXPRESSION_DATA, b"")))
        if name == "immediate":
            verdict, target = _immediate(data, (verdict, target))
        elif name == "reject":
            verdict = "drop"
        elif name == "match" and text_in(data[_XT_NAME]) == "comment":
            comment = text_in(data[_XT_INFO])
        elif name == "target" and (kind := text_in(data[_XT_NAME])) in ("REJECT", "DROP", "LOG", "NFLOG"):
            verdict = "drop" if kind in ("REJECT", "DROP") else verdict
        else:
            is_for_all = is_for_all and name in _ALWAYS_TRUE
            if name == "meta" and _META_KEY in data:
                meta = _META_NAMES.get(_NUMBER.unpack(data[_META_KEY])[0], "")
            elif name == "cmp" and meta:
                interface = f"{meta} {text_in(value_in(data.get(_COMPARED, b'')))}"
    (handle,) = _LONG.unpack(fields[_HANDLE])
    return ForeignRule(handle, comment, verdict if is_for_all else "", target, interface)


def _immediate(data: Mapping[int, bytes], otherwise: tuple[str, str]) -> tuple[str, str]:
    """Verdict and the chain it leads to; ``otherwise`` where the expression loads a number."""
    wrapped = dict(attributes_between(data.get(_IMMEDIATE_DATA, b""))).get(_VERDICT)
    if wrapped is None:
        return otherwise
    fields = dict(attributes_between(wrapped))
    (code,) = _NUMBER.unpack(fields[_VERDICT_CODE])
    return _VERDICTS.get(code, ""), text_in(fields.get(_VERDICT_CHAIN, b""))
