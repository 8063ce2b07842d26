"""Sync, blocking. Elements of nftables sets and maps, changed and read without a look at anything else.

libnftables reads all tables of the host before each command, so that its cost grows with other people's
rules, and begins again whenever one of them changes. What a port needs is a few messages to the kernel
(https://wiki.nftables.org/wiki-nftables/index.php/Portal:DeveloperDocs/nftables_internals).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from pyroute2.netlink import NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import nfgen_msg

from proad.host.netlinksocket import CHANGE, DUMP, NetlinkSocket, Request, attributes_between
from proad.host.nftmessages import (
    DELETE_ELEMENT,
    FAMILY_HEADER_BYTES,
    GET_ELEMENT,
    GET_GENERATION,
    GET_RULE,
    LIST_ELEMENT,
    NESTED,
    NETLINK_NETFILTER,
    NEW_ELEMENT,
    TABLE,
    attribute,
    comment_in,
    message,
    text_attribute,
    text_in,
    transaction,
    value_attribute,
    value_in,
)

_SET, _ELEMENTS = 2, 3
_KEY, _DATA, _KEY_END = 1, 2, 10
_GENERATION = 1
_RULE_CHAIN, _RULE_USERDATA = 2, 7
_MOST_IN_MESSAGE = 400  # the length of the attribute that lists them has 16 bits
_SEND_BUFFER_BYTES = 8 << 20  # a transaction is one datagram; the kernel takes memory for what is sent only
_MOST_READS = 8


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a set, or of a map where it has a ``value``, in the kernel's form.

    Addresses and ports are big-endian, names have 16 bytes, and fields that are concatenated are filled up
    to four. ``end`` is the last key of a range, where the set is one of ranges. ``shown`` is for error texts.
    """

    family: int
    set_name: str
    key: bytes
    value: bytes = b""
    end: bytes = b""
    shown: str = field(default="", compare=False)

    @property
    def place(self) -> tuple[str, bytes]:
        """What there can be one element of in all tables of ours: no two sets have the same name."""
        return self.set_name, self.key


class ElementWriter:
    """Changes and reads the elements in tables of one name; the tables need not be there yet.

    Its socket stays open for good: when one is closed, the kernel waits until everything that was removed
    lately is out of every processor's sight, some 15 ms.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._kernel = NetlinkSocket(NETLINK_NETFILTER, send_buffer_bytes=_SEND_BUFFER_BYTES)

    @property
    def port_id(self) -> int:
        """The number that the kernel knows the socket by, and names in its news of changes."""
        return self._kernel.port_id

    def exchange(self, removed: Iterable[Element], added: Iterable[Element]) -> None:
        """Remove and add elements in one transaction: all or nothing.

        Raises:
            NetlinkFailed: the kernel refused: ``ENOENT`` for one that is not there to be removed, or that has
                no set, ``EEXIST`` or ``EBUSY`` for one whose key leads elsewhere.
        """
        requests = [*self._requests("remove", removed), *self._requests("add", added)]
        if requests:
            self._kernel.change(requests, envelope=transaction())

    def read(self, sets: Iterable[tuple[int, str]]) -> list[Element]:
        """Return all elements of ``sets``, given by family and name.

        Raises:
            NetlinkFailed: one of them is not there (``ENOENT``), or the kernel refused.
        """
        wanted = list(sets)
        for _ in range(_MOST_READS):
            before = self.generation()
            found = [element for family, name in wanted for element in self._elements(family, name)]
            if self.generation() == before:
                break  # else somebody has changed a table in the meantime, perhaps one of these
        return found

    def comments(self, family: int) -> list[tuple[str, str]]:
        """Return chain and comment of each rule of the table; none where there is no table.

        Raises:
            NetlinkFailed: the kernel refused.
        """
        request = self._ask("list the rules", GET_RULE, family, text_attribute(TABLE, self._table))
        return [
            (text_in(rule[_RULE_CHAIN]), comment_in(rule.get(_RULE_USERDATA, b"")))
            for rule in self._kernel.dump_attributes(request, FAMILY_HEADER_BYTES)
        ]

    def generation(self) -> int:
        """The number of the ruleset, of all tables: each transaction of anybody makes it one more.

        Raises:
            NetlinkFailed: the kernel refused.
        """
        data = message(GET_GENERATION, NLM_F_REQUEST, 0, b"")
        request = Request("ask for the generation of nftables", nfgen_msg, data)
        return int.from_bytes(self._kernel.get_attributes(request, FAMILY_HEADER_BYTES)[_GENERATION], "big")

    def _elements(self, family: int, name: str) -> Iterator[Element]:
        which = text_attribute(TABLE, self._table) + text_attribute(_SET, name)
        request = self._ask(f"list set {name}", GET_ELEMENT, family, which)
        for part in self._kernel.dump_attributes(request, FAMILY_HEADER_BYTES):
            for _, item in attributes_between(part.get(_ELEMENTS, b"")):
                fields = dict(attributes_between(item))
                key, value, end = (value_in(fields.get(kind, b"")) for kind in (_KEY, _DATA, _KEY_END))
                yield Element(family, name, key, value, end, shown=key.hex())

    def _ask(self, what: str, kind: int, family: int, attributes: bytes) -> Request:
        data = message(kind, DUMP, family, attributes)
        return Request(f"{what} of nftables table {self._table}", nfgen_msg, data)

    def _requests(self, verb: str, elements: Iterable[Element]) -> Iterator[Request]:
        """One message for all of a set, as far as it holds them."""
        kind, flags = (NEW_ELEMENT, CHANGE | NLM_F_CREATE) if verb == "add" else (DELETE_ELEMENT, CHANGE)
        ordered = sorted(elements, key=lambda element: (element.family, element.set_name))
        for (family, name), group in groupby(ordered, lambda element: (element.family, element.set_name)):
            members = list(group)
            for start in range(0, len(members), _MOST_IN_MESSAGE):
                some = members[start : start + _MOST_IN_MESSAGE]
                yield Request(
                    self._described(verb, some),
                    nfgen_msg,
                    message(
                        kind,
                        flags,
                        family,
                        text_attribute(TABLE, self._table)
                        + text_attribute(_SET, name)
                        + attribute(_ELEMENTS | NESTED, b"".join(map(_encoded, some))),
                    ),
                )

    def _described(self, verb: str, elements: Sequence[Element]) -> str:
        first = elements[0]
        others = f" and {len(elements) - 1} more" if len(elements) > 1 else ""
        where = f"{'map' if first.value else 'set'} {first.set_name} of nftables table {self._table}"
        return f"{verb} {first.shown}{others} in {where}"


def _encoded(element: Element) -> bytes:
    fields = value_attribute(_KEY, element.key)
    if element.value:
        fields += value_attribute(_DATA, element.value)
    if element.end:
        fields += value_attribute(_KEY_END, element.end)
    return attribute(LIST_ELEMENT | NESTED, fields)
