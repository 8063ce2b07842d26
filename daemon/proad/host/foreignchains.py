"""Sync, blocking. Other programs' nftables chains that see forwarded packets, and where they stop ours.

They are read message by message: libnftables would read whole tables, and cannot say what stands in the
comments of rules that iptables has written.
"""

import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pyroute2.netlink.nfnetlink import nfgen_msg

from proad.host.netlinksocket import DUMP, NetlinkSocket, Request, attributes_between
from proad.host.nftmessages import (
    FAMILY_HEADER_BYTES,
    FAMILY_NAMES,
    GET_CHAIN,
    GET_RULE,
    GET_TABLE,
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
_TABLE_FLAGS, _OWNED = 2, 2
_HOOK_NUMBER, _FORWARD = 1, 2
_CHAIN, _HANDLE, _EXPRESSIONS, _USERDATA = 2, 3, 4, 7
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_NUMBER = struct.Struct(">i")
_FLAGS = struct.Struct(">I")
_LONG = struct.Struct(">Q")
_IMMEDIATE_DATA, _VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2, 2, 1, 2
_VERDICTS = {0: "drop", 1: "accept", -3: "jump", -4: "goto", -5: "return"}
_COMPARED, _XT_NAME, _XT_INFO = 3, 1, 3
_META_KEY = 2
_META_NAMES = {6: "iifname", 7: "oifname"}
_ALWAYS_TRUE = {"counter", "log", "immediate", "reject", "queue", "meta"}
"""Expressions that no packet fails; of iptables' own, which are ``match`` and ``target``, some are too.
``meta`` alone, that nothing is compared with, is iptables' way to say that any interface will do.
"""
_XT_VERDICTS = {"REJECT": "drop", "DROP": "drop", "LOG": "log", "NFLOG": "log"}
_UNKNOWN = "unknown"
"""The verdict of what may do anything: hand packets to a program, or mark them for later."""
_ACTS = {"reject": "drop", "queue": _UNKNOWN, "log": "log"}


@dataclass(frozen=True)
class ForeignRule:
    """A rule, as far as it matters here.

    ``verdict`` is what it does with the packets that it is about, which are all of them or not, empty where
    that is nothing, and ``log`` where it only tells of them; ``interface`` is what it asks of the packet's,
    as ``iifname br0``.
    """

    handle: int
    comment: str
    verdict: str
    is_for_all: bool
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
    is_owned: bool
    """Whether nobody but the program that has made the table may change it."""

    def __str__(self) -> str:
        return f"{FAMILY_NAMES[self.family]} {self.table} {self.name}"


class Way(NamedTuple):
    """After how many rules of others ours may stand, and where best: before any that complains of what is
    stopped later.
    """

    first: int
    best: int
    last: int


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
            owned = self._owned_tables(family)
            data = message(GET_CHAIN, DUMP, family, b"")
            request = Request("list nftables chains", nfgen_msg, data)
            for fields in list(self._kernel.dump_attributes(request, FAMILY_HEADER_BYTES)):
                hook = dict(attributes_between(fields.get(_HOOK, b""))).get(_HOOK_NUMBER)
                if hook is None or _NUMBER.unpack(hook)[0] != _FORWARD:
                    continue
                if text_in(fields.get(_TYPE, b"filter")) == "filter":
                    drops = _POLICY in fields and _NUMBER.unpack(fields[_POLICY])[0] == 0
                    table = text_in(fields[TABLE])
                    yield ForeignChain(family, table, text_in(fields[_NAME]), drops, table in owned)

    def rules(self, chain: ForeignChain, name: str = "") -> list[ForeignRule]:
        """Return the rules of a chain, or of the one with another name in its table.

        Raises:
            NetlinkFailed: the chain has gone, or the kernel refused.
        """
        which = text_attribute(TABLE, chain.table) + text_attribute(_CHAIN, name or chain.name)
        data = message(GET_RULE, DUMP, chain.family, which)
        request = Request(f"list the rules of nftables chain {chain}", nfgen_msg, data)
        return [_rule(fields) for fields in self._kernel.dump_attributes(request, FAMILY_HEADER_BYTES)]

    def way_through(self, chain: ForeignChain, rules: Sequence[ForeignRule]) -> Way | None:
        """Where among ``rules`` of a chain those may stand that let packets through which it would stop; None
        where a packet that no rule is about does not end there.

        A rule that is about some packets is somebody's intention, and no reason to act; a policy, or a last
        rule for all others, is the reason why nobody's containers get anywhere. All that may take away some
        packets before has its turn first, so that it holds for containers as well.

        Raises:
            NetlinkFailed: the kernel refused.
        """
        first, complains = 0, len(rules)
        for number, rule in enumerate(rules):
            verdict = self._verdict(chain, [rule], {chain.name})
            if verdict == "drop" or (verdict == "return" and chain.drops):
                return Way(first, min(complains, number), number)
            if verdict:
                return None
            if self._does(chain, rule, ("drop", _UNKNOWN)) or (rule.verdict == "return" and chain.drops):
                first, complains = number + 1, len(rules)
            elif complains == len(rules) and self._does(chain, rule, ("log",)):
                complains = number
        return Way(first, complains, len(rules)) if chain.drops else None

    def interfaces(self, chain: ForeignChain) -> dict[str, str]:
        """The chains that rules lead to which ask for an interface alone, by what they ask.

        Raises:
            NetlinkFailed: the kernel refused.
        """
        found: dict[str, str] = {}
        seen, left = {chain.name}, [chain.name]
        while left:
            for rule in self.rules(chain, left.pop()):
                if rule.interface and rule.target:
                    found.setdefault(rule.interface, rule.target)
                if rule.target and rule.target not in seen:
                    seen.add(rule.target)
                    left.append(rule.target)
        return found

    def _owned_tables(self, family: int) -> set[str]:
        request = Request("list nftables tables", nfgen_msg, message(GET_TABLE, DUMP, family, b""))
        return {
            text_in(fields[TABLE])
            for fields in self._kernel.dump_attributes(request, FAMILY_HEADER_BYTES)
            if _FLAGS.unpack(fields.get(_TABLE_FLAGS, bytes(4)))[0] & _OWNED
        }

    def _verdict(self, chain: ForeignChain, rules: Iterable[ForeignRule], seen: set[str]) -> str:
        """What becomes of a packet that none of ``rules`` is about but those for all."""
        for rule in rules:
            if not rule.is_for_all:
                continue
            if rule.verdict in ("drop", "accept", "return"):
                return rule.verdict
            if rule.verdict in ("jump", "goto") and rule.target not in seen:
                seen.add(rule.target)
                verdict = self._verdict(chain, self.rules(chain, rule.target), seen)
                if verdict in ("drop", "accept"):
                    return verdict
                if rule.verdict == "goto":
                    return "return"
        return ""

    def _does(self, chain: ForeignChain, rule: ForeignRule, what: Container[str]) -> bool:
        """Whether a rule, or one of those it leads to, does such a thing to some packets."""
        seen, left = {chain.name}, [rule]
        while left:
            if (found := left.pop()).verdict in what:
                return True
            if found.verdict in ("jump", "goto") and found.target not in seen:
                seen.add(found.target)
                left += self.rules(chain, found.target)
        return False


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
        elif name in _ACTS:
            verdict = verdict or _ACTS[name]
        elif name == "match" and text_in(data[_XT_NAME]) == "comment":
            comment = text_in(data[_XT_INFO])
        elif name == "target":
            verdict = _XT_VERDICTS.get(text_in(data[_XT_NAME]), _UNKNOWN)
        else:
            is_for_all = is_for_all and name in _ALWAYS_TRUE
            if name == "meta" and _META_KEY in data:
                meta = _META_NAMES.get(_NUMBER.unpack(data[_META_KEY])[0], "")
            elif name == "cmp" and meta:
                interface = f"{meta} {text_in(value_in(data.get(_COMPARED, b'')))}"
    (handle,) = _LONG.unpack(fields[_HANDLE])
    return ForeignRule(handle, comment, verdict, is_for_all, target, interface)


def _immediate(data: Mapping[int, bytes], otherwise: tuple[str, str]) -> tuple[str, str]:
    """Verdict and the chain it leads to; ``otherwise`` where the expression loads a number."""
    wrapped = dict(attributes_between(data.get(_IMMEDIATE_DATA, b""))).get(_VERDICT)
    if wrapped is None:
        return otherwise
    fields = dict(attributes_between(wrapped))
    (code,) = _NUMBER.unpack(fields[_VERDICT_CODE])
    return _VERDICTS.get(code, ""), text_in(fields.get(_VERDICT_CHAIN, b""))
