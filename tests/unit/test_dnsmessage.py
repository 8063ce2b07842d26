"""DNS messages as bytes, against dnspython."""

import struct
import time
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proad.model import dnsmessage
from proad.model.dnsmessage import Query, read_plain, reply, wire_name
from proad.model.dnsodd import read_odd


def ask(name: str, kind: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]


def plain(data: bytes) -> Query:
    query = read_plain(data)
    assert query is not None
    return query


def test_a_plain_question_is_read() -> None:
    query = plain(ask("WEB.Back.", "AAAA", id=4711))
    assert (query.id, query.name, query.type, query.class_) == (4711, b"\3web\4back\0", 28, 1)
    assert query.question == b"\3WEB\4Back\0\0\x1c\0\1"
    assert (query.has_edns, query.udp_bytes) == (False, 512)
    assert not query.is_single_label
    assert plain(ask("web.")).is_single_label
    assert not plain(ask(".", "NS")).is_single_label


def test_edns_says_how_much_may_come_back() -> None:
    assert plain(ask("web.", use_edns=True, payload=4096)).udp_bytes == 4096
    assert plain(ask("web.", use_edns=True, payload=100)).udp_bytes == 512
    with_cookie = dns.message.make_query("web.", "A", use_edns=True)
    with_cookie.use_edns(options=[dns.edns.GenericOption(10, b"12345678")])
    assert plain(with_cookie.to_wire()).has_edns


@pytest.mark.parametrize("spoil", ["short", "answer", "update", "two", "trailing", "version", "label"])
def test_anything_unusual_is_for_dnspython(spoil: str) -> None:
    data = ask("web.back.", use_edns=0 if spoil != "version" else 1)
    spoiled = {
        "short": data[:15],
        "answer": data[:2] + b"\x81" + data[3:],
        "update": data[:2] + b"\x29" + data[3:],
        "two": data[:4] + b"\0\2" + data[6:],
        "trailing": data + b"x",
        "version": data,
        "label": data[:12] + b"\xc0\x0c" + data[14:],
    }[spoil]
    assert read_plain(spoiled) is None


def test_what_cannot_be_read_is_refused_with_the_reason() -> None:
    def rcode(data: bytes) -> str:
        answer = read_odd(data)
        assert isinstance(answer, bytes)
        message = dns.message.from_wire(answer)
        assert message.flags & dns.flags.QR
        assert message.id == int.from_bytes(data[:2], "big")
        return dns.rcode.to_text(message.rcode())

    good = ask("web.")
    assert rcode(good[:-3]) == "FORMERR"
    assert rcode(good[:12] + b"\xc0\x0c" + good[14:]) == "FORMERR"
    assert rcode(good[:2] + b"\x29" + good[3:]) == "NOTIMP"
    assert rcode(good[:4] + b"\0\0" + good[6:12]) == "FORMERR"
    assert rcode(ask("web.", use_edns=3)) == "BADVERS"
    assert read_odd(b"") is None
    assert read_odd(good[:2] + b"\x81" + good[3:]) is None, "an answer to an answer never ends"


def test_a_question_with_something_more_is_a_question_all_the_same() -> None:
    query = read_odd(ask("Web.back.") + b"trailing")
    assert isinstance(query, Query)
    assert (query.name, query.question) == (b"\3web\4back\0", b"\3Web\4back\0\0\1\0\1")
    query = read_odd(ask("web.", use_edns=True, payload=1400) + b"trailing")
    assert isinstance(query, Query)
    assert (query.has_edns, query.udp_bytes) == (True, 1400)


def test_a_message_with_all_names_leading_to_one_is_read_in_no_time() -> None:
    """It takes half a minute to follow them all."""
    name = b"\1a" * 126 + b"\0"
    alias = b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 0, 2) + b"\xc0\x0c"
    count = 4600
    head = struct.pack(">HHHHHH", 7, 0x100, 1, count, 0, 0)
    data = head + name + b"\0\1\0\1" + alias * count
    assert 64_000 < len(data) < 65_536
    before = time.process_time()
    query = read_odd(data)
    assert isinstance(query, Query)
    assert query.name == name
    assert time.process_time() - before < 1
    many = struct.pack(">HHHHHH", 7, 0x100, count, 0, 0, 0) + name + b"\xc0\x0c\0\1\0\1" * count
    assert read_odd(many) == dnsmessage.header_reply(many, dnsmessage.FORMERR)


def test_answers_are_what_dnspython_reads() -> None:
    query = plain(ask("Web.", "AAAA", use_edns=True))
    data = reply(query, kind=dnsmessage.AAAA, records=(ip_address("fd00::2").packed,))
    message = dns.message.from_wire(data)
    assert dns.message.make_query("Web.", "AAAA", id=query.id).is_response(message)
    assert [str(rrset) for rrset in message.answer] == ["Web. 600 IN AAAA fd00::2"]
    assert message.flags & dns.flags.RA
    assert message.flags & dns.flags.RD
    assert message.edns == 0
    assert dns.message.from_wire(reply(query, dnsmessage.NXDOMAIN)).rcode() == dns.rcode.NXDOMAIN


def test_what_is_too_long_is_cut_at_a_record_and_says_so() -> None:
    query = plain(ask("web.", use_edns=True, payload=600))
    records = [ip_address(f"10.0.0.{n}").packed for n in range(250)]
    short = dns.message.from_wire(data := reply(query, records=records, limit=query.udp_bytes))
    assert len(data) <= 600
    assert len(short.answer[0]) == (600 - 21 - 11) // 16
    assert short.flags & dns.flags.TC
    assert short.edns == 0
    whole = dns.message.from_wire(reply(query, records=records))
    assert len(whole.answer[0]) == 250
    assert not whole.flags & dns.flags.TC
    cut = dns.message.from_wire(dnsmessage.truncated(query))
    assert cut.flags & dns.flags.TC
    assert not cut.answer


def test_an_answer_is_told_from_what_only_looks_like_one() -> None:
    query = plain(ask("web.example.", id=1))
    sent = dns.message.make_query("WEB.example.", "A", id=77)
    answer = dns.message.make_response(sent).to_wire()
    assert dnsmessage.answers(answer, 77, query)
    assert not dnsmessage.answers(answer, 78, query)
    assert not dnsmessage.answers(sent.to_wire(), 77, query)
    other = dns.message.make_response(dns.message.make_query("evil.example.", "A", id=77)).to_wire()
    assert not dnsmessage.answers(other, 77, query)
    assert not dnsmessage.answers(answer[:11], 77, query)
    bare = dnsmessage.header_reply(dnsmessage.with_id(sent.to_wire(), 77), dnsmessage.REFUSED)
    assert bare is not None
    assert dnsmessage.answers(bare, 77, query)
    assert not dnsmessage.answers(bare[:3] + b"\0" + bare[4:], 77, query), "no error, and no question"


def test_names_in_the_wires_form() -> None:
    assert wire_name("Web.back.") == b"\3web\4back\0"
    assert wire_name("a" * 63) == b"\x3f" + b"a" * 63 + b"\0"
    for impossible in ("a" * 64, "", ".", "a..b", ".".join(["a" * 60] * 5)):
        assert wire_name(impossible) is None
    assert dnsmessage.wire_names(["a", "", "b"]) == [b"\1a\0", b"\1b\0"]
    assert dnsmessage.reverse_name(ip_address("10.1.2.3")) == wire_name("3.2.1.10.in-addr.arpa")
    assert dnsmessage.suffixes(b"\1a\1b\1c\0") == [(b"\1a\1b\0", b"\1c\0"), (b"\1a\0", b"\1b\1c\0")]
    assert dnsmessage.suffixes(b"\1a\0") == dnsmessage.suffixes(b"\0") == []


@given(st.binary(max_size=80))
def test_noise_is_read_or_refused_and_never_an_error(data: bytes) -> None:
    if read_plain(data) is None:
        read_odd(data)


@given(st.binary(min_size=1, max_size=40), st.integers(min_value=0, max_value=60))
def test_a_spoiled_question_is_read_as_dnspython_reads_it(noise: bytes, at: int) -> None:
    good = ask("one.two.example.", use_edns=True, id=5)
    data = good[:at] + noise + good[at + len(noise) :]
    query = read_plain(data)
    if query is None:
        read_odd(data)
        return
    message = dns.message.from_wire(data)
    assert message.question[0].name.to_wire().lower() == query.name  # type: ignore[union-attr]
    assert int(message.question[0].rdtype) == query.type
    assert (message.edns >= 0) == query.has_edns
