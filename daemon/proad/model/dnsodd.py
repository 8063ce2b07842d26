"""Sync, pure. DNS questions with anything unusual to them, read by dnspython.

Kept apart because dnspython takes some 2 MB and 50 ms to import; most daemons never need it.
"""

import dns.exception
import dns.flags
import dns.message
import dns.opcode

from proad.model.dnsmessage import (
    FORMERR,
    HEADER,
    MIN_UDP_BYTES,
    NOTIMP,
    Query,
    header_reply,
)


def read_odd(data: bytes) -> Query | bytes | None:
    """Return the question of a message, or the answer that refuses it, or None where silence is right."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    if data[2] >> 3 & 0xF != dns.opcode.QUERY:
        return header_reply(data, NOTIMP)
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
    except dns.message.UnknownTSIGKey:
        return header_reply(data, NOTIMP)
    except (dns.exception.DNSException, ValueError):
        return header_reply(data, FORMERR)
    if message.edns > 0:
        response = dns.message.make_response(message)
        response.set_rcode(dns.rcode.BADVERS)
        return response.to_wire()
    if len(message.question) != 1 or message.flags & dns.flags.TC:
        return header_reply(data, FORMERR)
    asked = message.question[0]
    question = asked.name.to_wire() or b""
    question += int(asked.rdtype).to_bytes(2, "big") + int(asked.rdclass).to_bytes(2, "big")
    return Query(
        id=message.id,
        flags=int(message.flags),
        name=question[:-4].lower(),
        type=int(asked.rdtype),
        class_=int(asked.rdclass),
        question=question,
        has_edns=message.edns >= 0,
        udp_bytes=max(message.payload, MIN_UDP_BYTES),
    )
