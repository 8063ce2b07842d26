"""Interfaces, MAC addresses, gateways and ports as functions."""

from ipaddress import IPv4Address
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from proad.model import errors
from proad.model.hostconfig import HostConfig
from proad.model.network import (
    Endpoint,
    EndpointSettings,
    check_mac,
    elect_gateways,
    interface_name,
    is_interface_name,
    mac_of,
    random_mac,
)
from proad.model.ports import opened_ports, parse_host_ip, parse_host_port, parse_port, requested_ports
from proad.model.security import may_configure_network


def test_interface_names_fit_the_kernel_and_are_told_from_others() -> None:
    name = interface_name("0123456789abcdef" * 2)
    assert name == "veth0123456789a"
    assert is_interface_name(name)
    for other in ("veth0", "eth0", "vethABCDEFABCDE", name + "0", "tap01234567890a"):
        assert not is_interface_name(other)


def test_a_mac_address_follows_from_the_address_or_is_checked() -> None:
    assert mac_of(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"
    assert random_mac(b"\x01\x02\x03\x04\xff") == "02:01:02:03:04:ff"
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
    assert parse_host_ip("") == ""
    assert parse_host_ip("127.0.0.1") == "127.0.0.1"
    assert parse_host_ip("2001:DB8:0::1") == "2001:db8::1"
    assert parse_host_ip("::ffff:192.0.2.1") == "192.0.2.1"
    for bad in ("", "0/tcp", "65536", "80/icmp", "-1", "eighty", "1٢", "80/tcp/udp"):
        with pytest.raises(errors.InvalidParameter, match="invalid port specification"):
            parse_port(bad)
    for bad in ("65536", "8010-8000", "1-2-3", "-", "a"):
        with pytest.raises(errors.InvalidParameter, match="invalid port specification"):
            parse_host_port(bad)
    for bad in ("fe80::1%eth0", "[::1]", "localhost", "10.0.0.256"):
        with pytest.raises(errors.InvalidParameter, match="invalid HostIp"):
            parse_host_ip(bad)


def published(
    exposed: list[str], bindings: dict[str, list[tuple[str, str]]], publish_all: bool, **more: Any
) -> list[str]:
    wishes = requested_ports(exposed, bindings, publish_all, **more)
    return [f"{'+'.join(w.host_ips)}|{w.first}-{w.last}|{w.container_port}/{w.protocol}" for w in wishes]


def test_what_a_container_wants_published() -> None:
    assert published(["80/tcp"], {}, False) == []
    assert published(["80/tcp"], {}, True) == ["0.0.0.0|0-0|80/tcp"]
    assert published(["80/tcp"], {"80/tcp": [("", "8080")]}, True) == ["0.0.0.0|8080-8080|80/tcp"]
    assert published([], {"53/udp": []}, False) == ["0.0.0.0|0-0|53/udp"]
    bindings = {"80/tcp": [("127.0.0.1", ""), ("", "8000-8010"), ("", "8005")]}
    assert published([], bindings, False) == [
        "0.0.0.0|8005-8005|80/tcp",
        "0.0.0.0|8000-8010|80/tcp",
        "127.0.0.1|0-0|80/tcp",
    ]


def test_without_an_address_a_port_shows_on_all_families_that_the_container_has() -> None:
    wish = {"80/tcp": [("", "80")]}
    assert published([], wish, False, ipv6=True) == ["0.0.0.0+::|80-80|80/tcp"]
    assert published([], wish, False, ipv4=False, ipv6=True) == ["::|80-80|80/tcp"]
    bound = {"default_host_ip": "192.0.2.1", "ipv6": True}
    assert published([], wish, False, **bound) == ["192.0.2.1|80-80|80/tcp"]
    assert published([], wish, False, default_host_ip="0.0.0.0", ipv6=True) == ["0.0.0.0+::|80-80|80/tcp"]
    assert published([], wish, False, default_host_ip="192.0.2.1", ipv4=False, ipv6=True) == []
    assert published([], {"80/tcp": [("::1", "")]}, False, **bound) == ["::1|0-0|80/tcp"]
    for address, families in (("::1", {"ipv6": False}), ("127.0.0.1", {"ipv4": False, "ipv6": True})):
        with pytest.raises(errors.InvalidParameter, match="needs a network that has IPv"):
            published([], {"80/tcp": [(address, "")]}, False, **families)


def test_where_others_have_a_route_the_containers_own_ports_are_open() -> None:
    bindings = {"80/tcp": [("", "8080"), ("127.0.0.1", "")], "81/tcp": [("::1", "81")], "53/udp": []}
    opened = {
        version: [
            f"{port.host_ip}|{port.host_port}|{port.container_port}/{port.protocol}"
            for port in opened_ports(["90/tcp"], bindings, False, version)
        ]
        for version in (4, 6)
    }
    assert opened == {4: ["0.0.0.0|0|53/udp", "0.0.0.0|0|80/tcp"],
                      6: ["::|0|53/udp", "::|0|80/tcp", "::|0|81/tcp"]}  # fmt: skip
    assert [port.container_port for port in opened_ports(["90/tcp"], {}, True, 4)] == [90]
    both = {"ipv6": False, "passed": {6}}
    assert published([], bindings, False, **both) == [
        "0.0.0.0|8080-8080|80/tcp", "0.0.0.0|0-0|53/udp", "127.0.0.1|0-0|80/tcp",
    ]  # fmt: skip
    assert published([], bindings, False, ipv4=False, ipv6=False, passed={4, 6}) == []


def endpoint(network: str, priority: int = 0, gateway: str = "", ipv6_gateway: str = "") -> Endpoint:
    return Endpoint(
        network=network,
        network_id=network,
        driver="bridge",
        endpoint_id=network,
        netns="",
        interface="eth0",
        master="br0",
        gateway=gateway,
        ipv6_gateway=ipv6_gateway,
        gw_priority=priority,
    )


def test_the_gateway_is_of_the_highest_priority_then_of_the_first_name_and_never_missing() -> None:
    inner = endpoint("a-internal", priority=9)
    first, second = (
        endpoint("b", gateway="10.0.0.1"),
        endpoint("c", gateway="10.1.0.1", ipv6_gateway="fd00::1"),
    )
    assert elect_gateways([second, inner, first]) == (first, second)
    preferred = endpoint("z", priority=1, gateway="10.2.0.1")
    assert elect_gateways([first, preferred, second]) == (preferred, second)
    assert elect_gateways([inner]) == elect_gateways([]) == (None, None)


def test_all_addresses_of_an_interface() -> None:
    made = replace(endpoint("a"), address="10.0.0.9", prefix_length=24, link_local=("169.254.1.9", "fe80::9"))
    assert [str(address) for address in made.interfaces] == ["10.0.0.9/24", "169.254.1.9/16", "fe80::9/64"]
    assert endpoint("a").interfaces == []


def test_who_may_configure_its_network() -> None:
    assert not may_configure_network(HostConfig())
    assert not may_configure_network(HostConfig(cap_add=("NET_RAW",)))
    assert may_configure_network(HostConfig(privileged=True))
    for added in ("NET_ADMIN", "cap_net_admin", "ALL"):
        assert may_configure_network(HostConfig(cap_add=(added,)))
    assert not may_configure_network(HostConfig(cap_add=("ALL",), cap_drop=("NET_ADMIN",)))


def test_endpoint_settings_read_dockers_names() -> None:
    body = b'{"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "MacAddress": "02:42:ac:11:00:02", "Aliases": ["a"]}'
    settings = msgspec.json.decode(body, type=EndpointSettings)
    assert settings.ipam_config is not None
    assert settings.ipam_config.ipv4_address == "10.0.0.9"
    assert (settings.mac_address, settings.aliases) == ("02:42:ac:11:00:02", ["a"])
    assert msgspec.json.decode(msgspec.json.encode(settings), type=EndpointSettings) == settings
