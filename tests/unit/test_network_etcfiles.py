"""The files that tell a container its names and servers."""

import pytest

from proad.model import errors
from proad.model.etcfiles import (
    extra_hosts,
    host_hosts_text,
    hosts_text,
    nameservers,
    resolv_text,
    split_extra_host,
    uses_resolved_stub,
    with_host_at,
    with_own_addresses,
    with_resolver,
    without_host,
    without_resolver,
)


def test_hosts_has_localhost_extras_links_and_the_containers_own_names() -> None:
    text = hosts_text(
        addresses=["172.17.0.2"],
        hostname="web",
        domainname="example.com",
        extra=[("10.0.0.9", ("db",))],
        links=[("172.17.0.3", ("cache", "0123456789ab", "redis"))],
    )
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[1] == "::1\tlocalhost ip6-localhost ip6-loopback"
    assert lines[-3:] == [
        "10.0.0.9\tdb",
        "172.17.0.3\tcache 0123456789ab redis",
        "172.17.0.2\tweb.example.com web",
    ]
    assert hosts_text(addresses=["172.17.0.2"], hostname="a.b.c").endswith("172.17.0.2\ta.b.c a\n")


LINKED = hosts_text(
    addresses=["172.17.0.2"],
    hostname="db",
    extra=[("10.0.0.9", ("dba",))],
    links=[("172.17.0.3", ("db", "0123456789ab", "mysql")), ("172.17.0.3", ("db.b", "mysql"))],
)


def test_a_linked_container_moves_and_nothing_else_does() -> None:
    text = LINKED + "9.9.9.9 mine db\n#172.17.0.3\tdb\n"
    moved = with_host_at(text, "172.17.0.2", name="db", address="172.17.0.7")
    assert moved == text.replace("172.17.0.3\tdb 0", "172.17.0.7\tdb 0")
    assert with_host_at(text, "172.17.0.2", name="d", address="172.17.0.7") == text


def test_a_linked_container_goes_and_nothing_else_does() -> None:
    gone = without_host(LINKED, "172.17.0.2", name="db")
    assert gone == LINKED.replace("172.17.0.3\tdb 0123456789ab mysql\n", "")
    assert without_host(LINKED, "172.17.0.2", name="db.b") == LINKED.replace("172.17.0.3\tdb.b mysql\n", "")


def test_hosts_of_a_container_without_an_address_has_no_name_of_its_own() -> None:
    assert "web" not in hosts_text(hostname="web")


def test_hosts_in_the_hosts_network_is_the_hosts() -> None:
    assert host_hosts_text("127.0.0.1 localhost") == "127.0.0.1 localhost\n"
    assert host_hosts_text("1.1.1.1 one\n", [("2.2.2.2", ("two",))]) == "1.1.1.1 one\n2.2.2.2\ttwo\n"


def test_extra_hosts_in_both_forms() -> None:
    entries = ["db:10.0.0.9", "six:::1", "six=[fe80::1]", "host.docker.internal:host-gateway"]
    assert extra_hosts(entries, "172.17.0.1") == [
        ("10.0.0.9", ("db",)),
        ("::1", ("six",)),
        ("fe80::1", ("six",)),
        ("172.17.0.1", ("host.docker.internal",)),
    ]
    for bad in ("db", "db:", ":10.0.0.9", "d b:10.0.0.9", "db:10.0.0.9\n1.1.1.1 evil"):
        with pytest.raises(errors.InvalidParameter, match="add-host"):
            split_extra_host(bad)
    with pytest.raises(errors.InvalidParameter, match="host-gateway"):
        extra_hosts(["x:host-gateway"], "")


HOST = """\
# made by hand
nameserver 127.0.0.53
nameserver 192.0.2.53
nameserver fe80::1%eth0
search old.example
options edns0 trust-ad
domain lan
"""


def test_resolv_conf_leaves_out_what_only_the_host_reaches() -> None:
    assert resolv_text(HOST) == "nameserver 192.0.2.53\nsearch lan\noptions edns0 trust-ad\n"
    assert resolv_text("nameserver 127.0.0.1\n") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert resolv_text("") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    shared = resolv_text(HOST, shares_host_network=True)
    assert shared.splitlines()[:3] == [
        "nameserver 127.0.0.53",
        "nameserver 192.0.2.53",
        "nameserver fe80::1%eth0",
    ]


def test_resolv_conf_as_asked() -> None:
    text = resolv_text(
        HOST, dns=["127.0.0.1", "10.0.0.53"], search=["a.example", "b.example"], options=["ndots:1"]
    )
    assert text == "nameserver 127.0.0.1\nnameserver 10.0.0.53\nsearch a.example b.example\noptions ndots:1\n"
    assert "search" not in resolv_text(HOST, search=["."])


def test_the_stub_of_systemd_resolved_is_known() -> None:
    assert uses_resolved_stub("nameserver 127.0.0.53\nsearch lan\n")
    assert not uses_resolved_stub(HOST)
    assert not uses_resolved_stub("")


def test_own_addresses_come_and_go_and_nothing_else_does() -> None:
    text = (
        hosts_text(addresses=["10.1.0.2"], hostname="web", extra=[("10.9.9.9", ("web",))]) + "1.1.1.1 mine\n"
    )
    both = with_own_addresses(text, ["10.1.0.2", "10.2.0.2", "fd00::2"], hostname="web", domainname="")
    assert both == text.replace("10.9.9.9\tweb\n", "") + "10.2.0.2\tweb\nfd00::2\tweb\n"
    asked = with_own_addresses(text, ["10.3.0.2"], hostname="web", domainname="", extra=["web:10.9.9.9"])
    assert asked == text.replace("10.1.0.2\tweb\n", "") + "10.3.0.2\tweb\n"
    assert with_own_addresses(both, ["10.2.0.2"], hostname="web", domainname="").count("\tweb\n") == 1
    assert with_own_addresses(both, [], hostname="web", domainname="").endswith("1.1.1.1 mine\n")
    full = with_own_addresses("no end", ["10.1.0.2"], hostname="web", domainname="example.com")
    assert full == "no end\n10.1.0.2\tweb.example.com web\n"
    assert with_own_addresses(text, ["10.5.0.1"], hostname="", domainname="") == text


def test_resolv_conf_of_a_container_with_a_resolver() -> None:
    text = with_resolver(resolv_text(HOST))
    assert text == (
        "nameserver 127.0.0.11\n# replaced: nameserver 192.0.2.53\nsearch lan\n# added: options ndots:0\n"
        "options edns0 trust-ad ndots:0\n"
    )
    assert with_resolver(text) == text
    assert without_resolver(text) == resolv_text(HOST)


def test_a_wish_for_ndots_is_kept_and_one_that_is_none_is_not() -> None:
    wished = with_resolver("nameserver 192.0.2.53\noptions ndots:2\n")
    assert wished == "nameserver 127.0.0.11\n# replaced: nameserver 192.0.2.53\noptions ndots:2\n"
    assert without_resolver(wished) == "nameserver 192.0.2.53\noptions ndots:2\n"
    assert with_resolver("options ndots:x\n").endswith("\noptions ndots:0\n")
    without_options = "nameserver 192.0.2.53\nnameserver 192.0.2.54\n"
    assert without_resolver(with_resolver(without_options)) == without_options


def test_what_the_container_has_written_into_resolv_conf_stays() -> None:
    assert without_resolver("nameserver 9.9.9.9\n") == "nameserver 9.9.9.9\n"
    edited = with_resolver("nameserver 192.0.2.53\n") + "search mine.example\n"
    assert without_resolver(edited) == "nameserver 192.0.2.53\nsearch mine.example\n"
    assert without_resolver("nameserver 127.0.0.11\n") == "nameserver 127.0.0.11\n", (
        "there is no other to ask"
    )


def test_the_hosts_servers_are_those_that_are_addresses() -> None:
    assert nameservers(HOST + "nameserver nonsense\n") == ["127.0.0.53", "192.0.2.53", "fe80::1%eth0"]
