"""The resolver inside a network namespace, asked by programs that are there."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rrset
import pytest
import trio
import trio.testing

from proad.engine import forwarding
from proad.engine import resolver as resolver_module
from proad.host.dnssockets import PORTS, DnsSockets, lay_resolver_in
from proad.model.dnsmessage import Query

from .dnslab import (
    RUN,
    Upstream,
    addresses,
    by_container,
    by_host,
    fresh_loopback,
    rcode,
    resolving,
    view,
)
from .dnslab import Upstream as FakeServer
from .links import path as path
from .netlab import ask as ask_address
from .netlab import inside, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def run(test: Callable[[], object]) -> None:
    """Run an async test, which must not take long."""

    async def bounded() -> None:
        with trio.fail_after(30):
            await test()  # type: ignore[misc]

    trio.run(bounded)


# --- what is known --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_names_of_containers_are_answered_in_all_their_forms(path: Path, tcp: bool) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            lab.join("e1", ["web", "www"], "10.1.0.2", "fd00::2")
            lab.join("e2", ["db"], "10.1.0.3")
            for name in ("web.", "WWW.", "web.back."):
                assert addresses(await lab.ask(name, tcp=tcp)) == ["10.1.0.2"]
                assert addresses(await lab.ask(name, "AAAA", tcp=tcp)) == ["fd00::2"]
            assert addresses(await lab.ask("2.0.1.10.in-addr.arpa.", "PTR", tcp=tcp)) == ["web.back."]
            for kind in ("AAAA", "MX", "TXT", "HTTPS", "ANY"):
                empty = await lab.ask("db.", kind, tcp=tcp)
                assert (rcode(empty), empty.answer) == ("NOERROR", [])
            assert rcode(await lab.ask("nobody.", tcp=tcp)) == "NXDOMAIN"
            assert addresses(await lab.ask("localhost.", tcp=tcp)) == ["127.0.0.1"]

    run(test)


def test_changes_are_answered_at_once(path: Path) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            lab.join("e1", ["web"], "10.1.0.2")
            assert addresses(await lab.ask("web.")) == ["10.1.0.2"]
            lab.join("e1", ["web"], "10.1.0.9")
            assert addresses(await lab.ask("web.")) == ["10.1.0.9"]
            lab.names.rename("e1", names=["www"], canonical="www")
            assert rcode(await lab.ask("web.")) == "NXDOMAIN"
            assert addresses(await lab.ask("9.0.1.10.in-addr.arpa.", "PTR")) == ["www.back."]
            lab.resolvers.update(RUN, view(links={"cache": "www"}))
            assert addresses(await lab.ask("cache.")) == ["10.1.0.9"]
            lab.names.leave("network-id", "e1")
            assert rcode(await lab.ask("www.")) == "NXDOMAIN"

    run(test)


def test_many_containers_of_one_alias_come_in_any_order_and_all_of_them_over_tcp(path: Path) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            for number in range(100):
                lab.join(f"e{number}", [f"web{number}", "web"], f"10.1.0.{number + 2}")
            first = await lab.ask("web.")
            assert first.flags & dns.flags.TC
            assert len(addresses(first)) == (512 - 21) // 16
            assert len(addresses(await lab.ask("web.", tcp=True))) == 100
            assert len(addresses(await lab.ask("web.", use_edns=True, payload=4096))) == 100
            firsts = {str((await lab.ask("web.")).answer[0][0]) for _ in range(20)}
            assert len(firsts) > 1

    run(test)


def test_the_containers_own_server_may_have_port_53(path: Path) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            lab.join("e1", ["web"], "10.1.0.2")
            for protocol in ("udp", "tcp"):
                with serving(path, protocol, 53):
                    answer = await trio.to_thread.run_sync(ask_address, path, protocol, "127.0.0.1", 53)
                    assert answer == "127.0.0.1"
                    assert addresses(await lab.ask("web.", tcp=protocol == "tcp")) == ["10.1.0.2"]

    run(test)


def test_what_cannot_be_read_is_refused_and_harms_nobody(path: Path) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            lab.join("e1", ["web"], "10.1.0.2")
            broken = dns.message.make_query("web.", "A", id=7).to_wire()[:-2]
            assert rcode(dns.message.from_wire(await lab.send(broken))) == "FORMERR"
            assert rcode(dns.message.from_wire(await lab.send(broken, tcp=True))) == "FORMERR"
            with pytest.raises(TimeoutError):
                await lab.send(b"x", timeout_s=0.2)
            assert await lab.send(b"x", tcp=True) == b"", "the connection ends"
            assert addresses(await lab.ask("web.")) == ["10.1.0.2"]

    run(test)


# --- what is asked of others ----------------------------------------------------------------------------


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_the_rest_is_asked_of_the_hosts_servers(path: Path, tcp: bool) -> None:
    async def test() -> None:
        with Upstream() as upstream:
            upstream.records["www.example."] = ["192.0.2.1"]
            async with resolving(path, [by_host(upstream)]) as lab:
                assert addresses(await lab.ask("www.example.", tcp=tcp)) == ["192.0.2.1"]
                assert rcode(await lab.ask("no.example.", tcp=tcp)) == "NXDOMAIN"
                assert upstream.protocols == ["tcp" if tcp else "udp"] * 2

    run(test)


def test_names_of_one_label_never_leave_and_questions_of_the_root_do(path: Path) -> None:
    async def test() -> None:
        with Upstream() as upstream:
            async with resolving(path, [by_host(upstream)]) as lab:
                lab.join("e1", ["web"], "10.1.0.2")
                for kind in ("A", "AAAA", "MX", "HTTPS", "TXT"):
                    assert rcode(await lab.ask("db.", kind)) == "NXDOMAIN"
                    assert rcode(await lab.ask("web.", kind)) == "NOERROR"
                    await lab.ask("web.back.", kind)
                assert upstream.names == []
                await lab.ask(".", "NS")
                await lab.ask("com.", "DS")
                assert upstream.names == [".", "com."]

    run(test)


def test_a_server_of_the_containers_own_is_asked_inside_it(path: Path) -> None:
    async def test() -> None:
        address = fresh_loopback()
        async with resolving(path) as lab:
            with FakeServer(address, namespace=path) as upstream:
                upstream.records["www.example."] = ["192.0.2.1"]
                lab.resolvers.update(RUN, view([by_container(upstream)]))
                for tcp in (False, True):
                    assert addresses(await lab.ask("www.example.", tcp=tcp)) == ["192.0.2.1"]
                lab.resolvers.update(RUN, view([by_host(upstream)]))
                assert rcode(await lab.ask("www.example.")) == "SERVFAIL", "nobody is there on the host"

    run(test)


def test_from_internal_networks_alone_nothing_is_asked_of_the_host(path: Path) -> None:
    async def test() -> None:
        with Upstream() as upstream:
            upstream.records["www.example."] = ["192.0.2.1"]
            async with resolving(path, [by_host(upstream)], forwards=False) as lab:
                assert rcode(await lab.ask("www.example.")) == "SERVFAIL"
                assert upstream.names == []

    run(test)


@pytest.mark.parametrize("itself", ["127.0.0.11", "::ffff:127.0.0.11"])
def test_a_question_to_itself_does_not_go_round(
    path: Path, monkeypatch: pytest.MonkeyPatch, itself: str
) -> None:
    opened = []
    open_beside = DnsSockets.open_beside

    async def counted(self: DnsSockets, family: int, kind: int) -> socket.socket:
        opened.append(family)
        return await open_beside(self, family, kind)

    monkeypatch.setattr(DnsSockets, "open_beside", counted)

    async def test() -> None:
        async with resolving(path, [forwarding.Upstream(itself, in_container=True)]) as lab:
            assert rcode(await lab.ask("www.example.")) == "SERVFAIL"

    run(test)
    assert opened == []


def test_the_next_server_is_asked_where_one_is_silent_refuses_or_is_not_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "TRY_TIMEOUT_S", 0.3)

    async def test() -> None:
        with Upstream() as first, Upstream() as second:
            second.records["www.example."] = ["192.0.2.1"]
            nobody = forwarding.Upstream(fresh_loopback(), in_container=False)
            async with resolving(path, [by_host(first), by_host(second)]) as lab:
                first.rcode = dns.rcode.REFUSED
                assert addresses(await lab.ask("www.example.")) == ["192.0.2.1"]
                first.silent = True
                assert addresses(await lab.ask("www.example.")) == ["192.0.2.1"]
                assert len(first.asked) == 2
                assert addresses(await lab.ask("www.example.")) == ["192.0.2.1"]
                assert len(first.asked) == 2, "who was silent is asked last"
                second.rcode = dns.rcode.SERVFAIL
                lab.resolvers.update(RUN, view([nobody, by_host(second)]))
                assert rcode(await lab.ask("www.example.")) == "SERVFAIL"

    run(test)


def test_a_lost_question_is_asked_a_second_time_and_no_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "TRY_TIMEOUT_S", 0.2)

    async def test() -> None:
        with Upstream() as upstream:
            upstream.silent = True
            async with resolving(path, [by_host(upstream)]) as lab:
                assert rcode(await lab.ask("www.example.")) == "SERVFAIL"
                assert len(upstream.asked) == 2

    run(test)


def test_what_is_too_long_for_udp_is_fetched_over_tcp(path: Path) -> None:
    async def test() -> None:
        with Upstream() as upstream:
            upstream.records["big.example."] = [f"192.0.2.{n}" for n in range(60)]
            async with resolving(path, [by_host(upstream)]) as lab:
                plain = await lab.ask("big.example.")
                assert plain.flags & dns.flags.TC, "the client takes 512 bytes, and asks again over TCP"
                assert len(addresses(await lab.ask("big.example.", tcp=True))) == 60
                assert upstream.protocols == ["udp", "tcp", "tcp"]

            def cut(answer: bytes) -> list[bytes]:
                return [answer[:2] + bytes((answer[2] | 2,)) + answer[3:]]  # as if it did not fit

            upstream.spoil = cut
            async with resolving(path.with_name("other"), [by_host(upstream)]) as lab:
                whole = await lab.ask("big.example.", use_edns=True, payload=4096)
                assert not whole.flags & dns.flags.TC
                assert len(addresses(whole)) == 60

    run(test)


def test_edns_goes_through_as_it_is(path: Path) -> None:
    async def test() -> None:
        with Upstream() as upstream:
            async with resolving(path, [by_host(upstream)]) as lab:
                query = dns.message.make_query("www.example.", "A", want_dnssec=True, payload=1400)
                query.use_edns(0, dns.flags.DO, 1400, options=[dns.edns.GenericOption(10, b"cookie01")])
                await lab.send(query.to_wire())
                (_, asked), *_ = upstream.asked
                assert (asked.payload, asked.ednsflags & dns.flags.DO) == (1400, dns.flags.DO)
                assert asked.options == query.options

    run(test)


def test_only_the_answer_to_the_question_is_believed(path: Path) -> None:
    async def test() -> None:
        with Upstream() as upstream:
            upstream.records["www.example."] = ["192.0.2.1"]

            def with_forgeries(answer: bytes) -> list[bytes]:
                evil = dns.message.from_wire(answer)
                evil.answer = [dns.rrset.from_text("www.example.", 60, "IN", "A", "203.0.113.66")]
                wrong_id = dns.message.from_wire(evil.to_wire())
                wrong_id.id ^= 1
                wrong_name = dns.message.make_response(
                    dns.message.make_query("evil.example.", "A", id=evil.id)
                )
                return [wrong_id.to_wire(), wrong_name.to_wire(), b"noise", answer]

            upstream.spoil = with_forgeries
            async with resolving(path, [by_host(upstream)]) as lab:
                for number in range(20):
                    query = dns.message.make_query("www.example.", "A", id=number)
                    answer = dns.message.from_wire(await lab.send(query.to_wire()))
                    assert addresses(answer) == ["192.0.2.1"]
                    assert answer.id == number
                ids = {asked.id for _, asked in upstream.asked}
                ports = {port for _, port in upstream.clients}
                assert len(ids) > 15
                assert len(ports) > 15

    run(test)


def test_a_flood_of_foreign_names_is_bounded_and_others_are_still_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "MAX_PER_RESOLVER", 5)

    async def test() -> None:
        with Upstream() as upstream:
            upstream.silent = True
            async with resolving(path, [by_host(upstream)]) as lab:
                lab.join("e1", ["web"], "10.1.0.2")
                with inside(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as flooding:
                    flooding.connect(("127.0.0.11", 53))
                    flooding.settimeout(2)
                    for number in range(20):
                        flooding.send(dns.message.make_query(f"n{number}.example.", "A", id=number).to_wire())
                    flooding.send(dns.message.make_query("n0.example.", "A", id=0).to_wire())
                    answers = [
                        dns.message.from_wire(await trio.to_thread.run_sync(flooding.recv, 512))
                        for _ in range(15)
                    ]
                    assert {rcode(answer) for answer in answers} == {"REFUSED"}
                    assert {answer.id for answer in answers} == set(range(5, 20))
                    assert addresses(await lab.ask("web.")) == ["10.1.0.2"]

    run(test)


def test_who_asks_for_much_leaves_others_their_share(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "MAX_TOTAL", 8)
    monkeypatch.setattr(forwarding, "SHARE", 2)

    async def test() -> None:
        with Upstream() as silent, Upstream() as upstream:
            silent.silent = True
            upstream.records["www.example."] = ["192.0.2.1"]
            async with resolving(path, [by_host(silent)]) as lab:
                beside = await lab.add(path.with_name("beside"), [by_host(upstream)])
                with inside(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as flooding:
                    flooding.connect(("127.0.0.11", 53))
                    flooding.settimeout(2)
                    for number in range(20):
                        flooding.send(dns.message.make_query(f"n{number}.example.", "A", id=number).to_wire())
                    refused = {
                        dns.message.from_wire(await trio.to_thread.run_sync(flooding.recv, 512)).id
                        for _ in range(12)
                    }
                    assert refused == set(range(8, 20))
                    assert addresses(await beside.ask("www.example.")) == ["192.0.2.1"]
                    assert addresses(await beside.ask("www.example.", tcp=True)) == ["192.0.2.1"]

    run(test)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_hard_questions_are_answered_one_in_a_turn_of_the_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch, tcp: bool
) -> None:
    """However many are there at once: the rest of the daemon has its turns in between."""
    monkeypatch.setattr(resolver_module, "BATCH_S", 0.0)  # all of them are hard
    query = dns.message.make_query("web.", "A", id=1).to_wire()
    turn = 0
    answered_in: list[int] = []
    answer = resolver_module.Resolver.answer

    def noted(self: resolver_module.Resolver, query: Query, limit: int) -> bytes | None:
        answered_in.append(turn)
        return answer(self, query, limit)

    monkeypatch.setattr(resolver_module.Resolver, "answer", noted)

    async def turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await trio.lowlevel.checkpoint()

    async def test() -> None:
        async with resolving(path) as lab, trio.open_nursery() as nursery:
            lab.join("e1", ["web"], "10.1.0.2")
            kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
            askers = [inside(path, lambda: socket.socket(socket.AF_INET, kind)) for _ in range(20)]
            for asker in askers:
                asker.connect(("127.0.0.11", 53))
                asker.sendall(len(query).to_bytes(2, "big") + query if tcp else query)
            nursery.start_soon(turns)
            for asker in askers:
                asker.settimeout(5)
                assert await trio.to_thread.run_sync(asker.recv, 512)
                asker.close()
            nursery.cancel_scope.cancel()

    run(test)
    assert len(answered_in) == len(set(answered_in)) == 20


def test_clients_that_only_connect_are_bounded_and_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "MAX_CLIENTS", 3)
    monkeypatch.setattr(resolver_module, "CLIENT_TIMEOUT_S", 0.3)

    async def test() -> None:
        async with resolving(path) as lab:
            lab.join("e1", ["web"], "10.1.0.2")
            idle = [inside(path, lambda: socket.create_connection(("127.0.0.11", 53), 5)) for _ in range(4)]
            closed = [await trio.to_thread.run_sync(one.recv, 1) for one in idle]
            assert closed == [b""] * 4
            for one in idle:
                one.close()
            assert addresses(await lab.ask("web.", tcp=True)) == ["10.1.0.2"]

    run(test)


# --- lives ----------------------------------------------------------------------------------------------


def test_a_new_daemon_answers_where_the_earlier_one_did(path: Path) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            lab.join("e1", ["web"], "10.1.0.2")
            before = lab.sockets.ports
            lab.resolvers.close(RUN)
            assert RUN not in lab.resolvers
            with pytest.raises((TimeoutError, ConnectionRefusedError)):
                await lab.send(b"x" * 20, timeout_s=0.2)
            sockets = await lay_resolver_in(path)
            assert sockets.ports == before, "the rules need no change"
            assert {before.udp, before.tcp} <= set(PORTS)
            lab.resolvers.open(RUN, sockets, view())
            assert RUN in lab.resolvers
            for tcp in (False, True):
                assert addresses(await lab.ask("web.", tcp=tcp)) == ["10.1.0.2"]

    run(test)


SPOILED = {
    "nothing is left": "flush ruleset",
    "no rules": "flush table ip proa-resolver",
    "no way back": "flush chain ip proa-resolver back",
    "too much": 'add rule ip proa-resolver there counter drop comment "udp 61234"',
    "no such port": "flush chain ip proa-resolver there; "
    'add rule ip proa-resolver there accept comment "udp 99999"; '
    'add rule ip proa-resolver there accept comment "tcp 99999"',
}


@pytest.mark.parametrize("spoiled", list(SPOILED))
def test_rules_that_are_not_whole_any_more_are_made_anew(path: Path, spoiled: str) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            lab.join("e1", ["web"], "10.1.0.2")
            lab.resolvers.close(RUN)
            inside(path, lambda: subprocess.run(["nft", SPOILED[spoiled]], check=True))
            lab.resolvers.open(RUN, await lay_resolver_in(path), view())
            for tcp in (False, True):
                assert addresses(await lab.ask("web.", tcp=tcp)) == ["10.1.0.2"]

    run(test)


def test_a_port_that_somebody_has_taken_meanwhile_is_his(path: Path) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            lab.join("e1", ["web"], "10.1.0.2")
            before = lab.sockets.ports
            lab.resolvers.close(RUN)
            with serving(path, "udp", before.udp):
                sockets = await lay_resolver_in(path)
                assert sockets.ports.udp != before.udp
                lab.resolvers.open(RUN, sockets, view())
                for tcp in (False, True):
                    assert addresses(await lab.ask("web.", tcp=tcp)) == ["10.1.0.2"]

    run(test)


def test_a_closed_resolver_lets_go_of_sockets_and_namespace_at_once(path: Path) -> None:
    async def test() -> None:
        with Upstream() as upstream:
            upstream.silent = True
            before = _descriptors()
            async with resolving(path, [by_host(upstream)]) as lab:
                namespace = path.stat().st_ino
                with pytest.raises(TimeoutError):
                    await lab.send(dns.message.make_query("www.example.", "A").to_wire(), timeout_s=0.2)
                connected = inside(path, lambda: socket.create_connection(("127.0.0.11", 53), 5))
                await trio.testing.wait_all_tasks_blocked(0.05)
                lab.resolvers.close(RUN)
                lab.resolvers.close(RUN)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert await trio.to_thread.run_sync(connected.recv, 1) == b""
                connected.close()
            assert _descriptors() == before
            assert not _is_alive(namespace)

    run(test)


def test_a_resolver_closed_before_it_began_never_begins(path: Path) -> None:
    async def test() -> None:
        async with resolving(path) as lab:
            lab.resolvers.open(RUN, await lay_resolver_in(path), view())
            lab.resolvers.open(RUN, await lay_resolver_in(path), view())
            lab.resolvers.close(RUN)
            await trio.testing.wait_all_tasks_blocked()

    run(test)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _is_alive(inode: int) -> bool:
    """Whether some process of this machine is in the namespace, or a file keeps it."""
    for entry in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if entry.stat().st_ino == inode:
                return True
        except OSError:
            continue
    return any(f"net:[{inode}]" in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
