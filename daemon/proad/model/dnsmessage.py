"""Sync, pure. DNS messages as the resolver of a container reads and writes them.

Nearly all questions that programs ask look the same: one question, perhaps an EDNS record, nothing else
(:func:`read_plain`). Those are read and answered as bytes; what looks otherwise goes through dnspython
(``dnsodd``). Names stay in the form of the wire, in lower case: the bytes that say how long a label is are
below 64 and no letters, so ``bytes.lower`` leaves them alone.

Sources: RFC 1035 section 4 (format), RFC 6891 (EDNS), RFC 3596 (AAAA).
"""

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

A, NS, SOA, PTR, AAAA, OPT, DS, RRSIG, NSEC, DNSKEY = 1, 2, 6, 12, 28, 41, 43, 46, 47, 48
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

TTL_S = 600
MIN_UDP_BYTES = 512
MAX_BYTES = 0xFFFF
OWN_UDP_BYTES = 1232
"""What we say that we take over UDP: fits into any packet of IPv6 (dnsflagday.net/2020)."""

HEADER = struct.Struct(">HHHHHH")
_TYPE_CLASS = struct.Struct(">HH")
_RECORD = struct.Struct(">HHHIH")  # name (compressed), type, class, TTL, length
_RESPONSE, _OPCODE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x7800, 0x200, 0x100, 0x80
_RCODE = 0xF
_QUESTION_NAME = 0xC00C  # a pointer to where the name of the question always stands
_MAX_LABEL, _MAX_NAME = 63, 255
_OPT = b"\0" + struct.pack(">HHIH", OPT, OWN_UDP_BYTES, 0, 0)


class Query(NamedTuple):
    """One question. ``name`` is in lower case, ``question`` as it was asked, both in the wire's form.

    ``udp_bytes`` is how long an answer over UDP may be.
    """

    id: int
    flags: int
    name: bytes
    type: int
    class_: int
    question: bytes
    has_edns: bool
    udp_bytes: int

    @property
    def is_single_label(self) -> bool:
        return len(self.name) > 1 and self.name[0] == len(self.name) - 2


def read_plain(data: bytes) -> Query | None:
    """Return the question of a plain message; None for one that has anything unusual to it."""
    size = len(data)
    if size < 17:
        return None
    number, flags, questions, answers, authorities, additional = HEADER.unpack_from(data)
    if (
        flags & (_RESPONSE | _OPCODE | _TRUNCATED)
        or questions != 1
        or answers
        or authorities
        or additional > 1
    ):
        return None
    at = HEADER.size
    while length := data[at]:
        at += length + 1
        if length > _MAX_LABEL or at >= size:
            return None
    end = at + 1 + _TYPE_CLASS.size
    if end > size or end - HEADER.size > _MAX_NAME + _TYPE_CLASS.size:
        return None
    kind, class_ = _TYPE_CLASS.unpack_from(data, at + 1)
    udp_bytes = MIN_UDP_BYTES
    if additional:
        udp_bytes = _edns_bytes(data, end)
        if not udp_bytes:
            return None
    elif end != size:
        return None
    name = data[HEADER.size : at + 1].lower()
    return Query(number, flags, name, kind, class_, data[HEADER.size : end], bool(additional), udp_bytes)


def _edns_bytes(data: bytes, at: int) -> int:
    """The size that the EDNS record at the end of a message allows; 0 where there stands something else."""
    if len(data) < at + len(_OPT) or data[at] != 0:
        return 0
    kind: int
    size: int
    kind, size, extended, length = struct.unpack_from(">HHIH", data, at + 1)
    version = extended >> 16 & 0xFF
    if kind != OPT or version != 0 or at + len(_OPT) + length != len(data):
        return 0
    return max(size, MIN_UDP_BYTES)


def reply(
    query: Query,
    rcode: int = NOERROR,
    *,
    kind: int = A,
    records: Sequence[bytes] = (),
    limit: int = MAX_BYTES,
) -> bytes:
    """Return an answer: the question again, and ``records`` of type ``kind``, each its data.

    What makes it longer than ``limit`` bytes is left out, and it is marked as truncated then.
    """
    opt = _OPT if query.has_edns else b""
    flags = _RESPONSE | _RECURSION_AVAILABLE | query.flags & _RECURSION_DESIRED | rcode
    room = limit - HEADER.size - len(query.question) - len(opt)
    body = bytearray()
    count = 0
    for data in records:
        if len(body) + _RECORD.size + len(data) > room:
            flags |= _TRUNCATED
            break
        body += _RECORD.pack(_QUESTION_NAME, kind, IN, TTL_S, len(data)) + data
        count += 1
    return b"".join((HEADER.pack(query.id, flags, 1, count, 0, len(opt) and 1), query.question, body, opt))


def truncated(query: Query) -> bytes:
    """Return the answer that has the client ask again over TCP."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | _TRUNCATED | query.flags & _RECURSION_DESIRED
    opt = _OPT if query.has_edns else b""
    return b"".join((HEADER.pack(query.id, flags, 1, 0, 0, len(opt) and 1), query.question, opt))


def header_reply(data: bytes, rcode: int) -> bytes | None:
    """Return the answer to something that cannot be read: a header alone; None where silence is right.

    That is where there is not even a header, or it is that of an answer: two servers would go on for ever.
    """
    if len(data) < HEADER.size:
        return None
    number, flags, *_ = HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None
    kept = flags & (_OPCODE | _RECURSION_DESIRED)
    return HEADER.pack(number, _RESPONSE | _RECURSION_AVAILABLE | kept | rcode, 0, 0, 0, 0)


# --- of others ------------------------------------------------------------------------------------------


def with_id(data: bytes, number: int) -> bytes:
    return number.to_bytes(2, "big") + data[2:]


def answers(data: bytes, number: int, query: Query) -> bool:
    """Whether ``data`` is an answer to ``query`` as it was forwarded under the id ``number``.

    A server that did not understand the question need not repeat it.
    """
    if len(data) < HEADER.size:
        return False
    found, flags, questions, *_ = HEADER.unpack_from(data)
    if found != number or not flags & _RESPONSE or flags & _OPCODE:
        return False
    if questions == 0:
        return flags & _RCODE in (FORMERR, SERVFAIL, NOTIMP, REFUSED)
    asked = data[HEADER.size : HEADER.size + len(query.question)]
    return questions == 1 and asked.lower() == query.question.lower()


def is_truncated(data: bytes) -> bool:
    return bool(data[2] & _TRUNCATED >> 8)


def rcode_of(data: bytes) -> int:
    return data[3] & _RCODE


# --- names ----------------------------------------------------------------------------------------------


def wire_name(text: str) -> bytes | None:
    """Return a name in the wire's form, in lower case; None for one that cannot be asked for."""
    labels = [label.encode("utf-8", "surrogateescape") for label in text.rstrip(".").lower().split(".")]
    if not all(0 < len(label) <= _MAX_LABEL for label in labels):
        return None
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return name if len(name) <= _MAX_NAME else None


def wire_names(texts: Iterable[str]) -> list[bytes]:
    return [name for name in map(wire_name, texts) if name is not None]


def reverse_name(address: IPv4Address | IPv6Address) -> bytes:
    """Return the name that is asked for to learn what an address is called."""
    name = wire_name(address.reverse_pointer)
    assert name is not None
    return name


def suffixes(name: bytes) -> list[tuple[bytes, bytes]]:
    """Return each way to cut a name in two, the shortest end first: ``a.b.c`` is ``a.b``, ``c`` and ``a``,
    ``b.c``.
    """
    cuts = []
    at = name[0] + 1
    while at < len(name) - 1:
        cuts.append((name[:at] + b"\0", name[at:]))
        at += name[at] + 1
    return cuts[::-1]
