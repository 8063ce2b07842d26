"""Subnets, addresses, names and ports as functions."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec
import pytest

from proad.model import errors
from proad.model.ipam import choose_subnet, next_address
from proad.model.network import EndpointSettings, check_mac, interface_name, is_interface_name, mac_of
from proad.model.ports import parse_host_ip, parse_host_port, parse_port, requested_ports

POOLS = [("172.17.0.0/12", 16), ("192.168.0.0/16", 20)]


def test_the_first_piece_of_a_pool_that_overlaps_nothing_is_chosen() -> None:
    assert choose_subnet(POOLS, []) == IPv4Interface("172.17.0.1/16")
    taken = [IPv4Network("172.17.0.0/16"), IPv4Network("172.18.4.0/24"), IPv4Network("172.19.0.1/32")]
    assert choose_subnet(POOLS, taken) == IPv4Interface("172.20.0.1/16")
    assert choose_subnet(POOLS, [IPv4Network("172.16.0.0/12")]) == IPv4Interface("192.168.0.1/20")
    with pytest.raises(errors.Unavailable, match="non-overlapping IPv4 address pool"):
        choose_subnet(POOLS, [IPv4Network("128.0.0.0/1")])


def test_addresses_go_round_and_leave_out_gateway_and_taken_ones() -> None:
    gateway = IPv4Interface("10.0.0.1/29")
    taken = {IPv4Address("10.0.0.3")}
    given, last = [], gateway.ip
    for _ in range(5):
        last = next_address(gateway, taken, last)
        given.append(str(last))
    assert given == ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]
    assert next_address(gateway, taken, IPv4Address("192.0.2.1")) == IPv4Address("10.0.0.2")
    everything = {IPv4Address(f"10.0.0.{n}") for n in range(2, 7)}
    with pytest.raises(errors.Unavailable, match="no available IPv4 addresses"):
        next_address(gateway, everything, gateway.ip)


def test_interface_names_fit_the_kernel_and_are_told_from_others() -> None:
    name = interface_name("0123456789abcdef" * 2)
    assert name == "veth0123456789a"
    assert is_interface_name(name)
    for other in ("veth0", "eth0", "vethABCDEFABCDE", name + "0", "tap01234567890a"):
        assert not is_interface_name(other)


def test_a_mac_address_follows_from_the_address_or_is_checked() -> None:
    assert mac_of(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"
    assert check_mac("92-D0-C6-0A-29-33") == "92:d0:c6:0a:29:33"
    for bad in (
        "",
        "92:d0:c6:0a:29",
        "92:d0:c6-0a:29:33",
        "zz:d0:c6:0a:29:33",
        "01:00:5e:00:00:01",
        "0:0:0:0:0:0",
    ):
        with pytest.raises(errors.InvalidParameter, match=f"address {bad}"):
            check_mac(bad)


def test_port_texts() -> None:
    assert parse_port("80") == (80, "tcp")
    assert parse_port("53/UDP") == (53, "udp")
    assert parse_host_port("") == parse_host_port("0") == (0, 0)
    assert parse_host_port("8080") == (8080, 8080)
    assert parse_host_port("8000-8010") == (8000, 8010)
    assert parse_host_ip("") == "0.0.0.0"
    assert parse_host_ip("127.0.0.1") == "127.0.0.1"
    for bad in ("", "0/tcp", "65536", "80/icmp", "-1", "eighty", "1٢", "80/tcp/udp"):
        with pytest.raises(errors.InvalidParameter, match="invalid port specification"):
            parse_port(bad)
    for bad in ("65536", "8010-8000", "1-2-3", "-", "a"):
        with pytest.raises(errors.InvalidParameter, match="invalid port specification"):
            parse_host_port(bad)
    for bad in ("::1", "::", "localhost", "10.0.0.256"):
        with pytest.raises(errors.InvalidParameter, match="invalid HostIp"):
            parse_host_ip(bad)


def test_what_a_container_wants_published() -> None:
    def shown(exposed: list[str], bindings: dict[str, list[tuple[str, str]]], publish_all: bool) -> list[str]:
        wishes = requested_ports(exposed, bindings, publish_all)
        return [f"{w.host_ip}:{w.first}-{w.last}:{w.container_port}/{w.protocol}" for w in wishes]

    assert shown(["80/tcp"], {}, False) == []
    assert shown(["80/tcp"], {}, True) == ["0.0.0.0:0-0:80/tcp"]
    assert shown(["80/tcp"], {"80/tcp": [("", "8080")]}, True) == ["0.0.0.0:8080-8080:80/tcp"]
    assert shown([], {"53/udp": []}, False) == ["0.0.0.0:0-0:53/udp"]
    bindings = {"80/tcp": [("127.0.0.1", ""), ("", "8000-8010"), ("", "8005")]}
    assert shown([], bindings, False) == [
        "0.0.0.0:8005-8005:80/tcp",
        "0.0.0.0:8000-8010:80/tcp",
        "127.0.0.1:0-0:80/tcp",
    ]


def test_endpoint_settings_read_dockers_names() -> None:
    body = b'{"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "MacAddress": "02:42:ac:11:00:02", "Aliases": ["a"]}'
    settings = msgspec.json.decode(body, type=EndpointSettings)
    assert settings.ipam_config is not None
    assert settings.ipam_config.ipv4_address == "10.0.0.9"
    assert (settings.mac_address, settings.aliases) == ("02:42:ac:11:00:02", ["a"])
    assert msgspec.json.decode(msgspec.json.encode(settings), type=EndpointSettings) == settings
