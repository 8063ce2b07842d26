"""Sync, pure. DNS questions with anything unusual to them, read by dnspython.

It reads the question alone. A message of 64 kB can be made of names that stand for long ones and lead to each
other, and whoever reads all of it is busy for half a minute.

Kept apart because dnspython takes some 2 MB and 50 ms to import; most daemons never need it.
"""

import struct

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode

from proad.model.dnsmessage import (
    FORMERR,
    HEADER,
    MIN_UDP_BYTES,
    NOTIMP,
    OPT,
    Query,
    header_reply,
)

_OPT_HEAD = struct.Struct(">BHHBB")  # an empty name, type, size, extended code of the answer, version


def read_odd(data: bytes) -> Query | bytes | None:
    """Return the question of a message, or the answer that refuses it, or None where silence is right."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    if data[2] >> 3 & 0xF != dns.opcode.QUERY:
        return header_reply(data, NOTIMP)
    _, flags, questions, *others = HEADER.unpack_from(data)
    if questions != 1 or flags & dns.flags.TC:
        return header_reply(data, FORMERR)
    try:
        message = dns.message.from_wire(data, question_only=True)
    except (dns.exception.DNSException, ValueError):
        return header_reply(data, FORMERR)
    asked = message.question[0]
    question = asked.name.to_wire() or b""
    question += int(asked.rdtype).to_bytes(2, "big") + int(asked.rdclass).to_bytes(2, "big")
    version, udp_bytes = _edns(data, HEADER.size + len(question), others)
    if version > 0:
        message.use_edns(version)
        response = dns.message.make_response(message)
        response.set_rcode(dns.rcode.BADVERS)
        return response.to_wire()
    return Query(
        id=message.id,
        flags=flags,
        name=question[:-4].lower(),
        type=int(asked.rdtype),
        class_=int(asked.rdclass),
        question=question,
        has_edns=version == 0,
        udp_bytes=max(udp_bytes, MIN_UDP_BYTES),
    )


def _edns(data: bytes, at: int, others: list[int]) -> tuple[int, int]:
    """Version and size that the first record behind the question says, if that is one of EDNS; -1 and 0 else.

    ``others`` are the numbers of records of each kind that follow.
    """
    answers, authorities, additional = others
    if answers or authorities or not additional or len(data) < at + _OPT_HEAD.size:
        return -1, 0
    name, kind, udp_bytes, _, version = _OPT_HEAD.unpack_from(data, at)
    return (version, udp_bytes) if (name, kind) == (0, OPT) else (-1, 0)
