"""What `--network` and its company, and the flags of `network create`, become in a request."""

from typing import Any

import click
import pytest

from proa.cli.create_body import Wanted, build
from proa.cli.parse.attachments import parse_dns_server, parse_extra_host, parse_link
from proa.cli.parse.lists import parse_list
from proa.cli.parse.subnets import parse_subnets
from proa.cli.rows.networks import NetworkRow, natural_order
from proa.cli.run_flags import container_flags

MAC = "02:42:ac:11:00:02"
LONG = f"name=n,alias=a,alias=b,ip=10.0.0.2,ip6=fd00::2,link-local-ip=169.254.1.1,mac-address={MAC}"


def wanted(*flags: str) -> Wanted:
    """What `proa create FLAGS image` asks for."""
    parser = click.Command("create", params=[*container_flags()])
    return build(parser.make_context("create", list(flags)).params, "image", (), {}, lambda name: "")


@pytest.mark.parametrize(
    ("flags", "mode", "endpoints"),
    [
        ([], None, {}),
        (["--network", "bridge"], "bridge", {}),
        (["--network", "n"], "n", {}),
        (["--network", "container:x"], "container:x", {}),
        (["--ip", "10.0.0.2"], None, {"default": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}}}),
        (["--mac-address", MAC], None, {"default": {"MacAddress": MAC}}),
        (["--network", "n", "--network-alias", "b", "--net-alias", "c"], "n", {"n": {"Aliases": ["b", "c"]}}),
        (["--network", "n", "--network", "m"], "n", {"n": {}, "m": {}}),
        (["--network", "n", "--network", "m", "--link", "x"], "n", {"n": {"Links": ["x"]}, "m": {}}),
        (["--network", "n", "--link", "x:y"], "n", {"n": {"Links": ["x:y"]}}),
        (["--network", "bridge", "--link", "x:y"], "bridge", {}),
        (
            ["--network", f"{LONG},gw-priority=-3"],
            "n",
            {
                "n": {
                    "Aliases": ["a", "b"],
                    "MacAddress": MAC,
                    "GwPriority": -3,
                    "IPAMConfig": {
                        "IPv4Address": "10.0.0.2",
                        "IPv6Address": "fd00::2",
                        "LinkLocalIPs": ["169.254.1.1"],
                    },
                }
            },
        ),
        (
            ["--network", 'name=n,"driver-opt=a=b,c",driver-opt=d=e=f'],
            "n",
            {"n": {"DriverOpts": {"a": "b,c", "d": "e=f"}}},
        ),
    ],
)  # fmt: skip
def test_networks(flags: list[str], mode: str | None, endpoints: dict[str, Any]) -> None:
    asked = wanted(*flags)
    assert asked.host_config.get("NetworkMode") == mode
    assert asked.networks == endpoints


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--network", "n", "--network", "n"], 'network "n" is specified multiple times'),
        (["--network", "n", "--network", "bridge"], "both user-defined and non-user-defined"),
        (["--network", "n", "--network", "container:x"], "both user-defined and non-user-defined"),
        (["--network", ""], "no name set for network"),
        (["--network", "alias=a"], "network name/id is not specified"),
        (["--network", "name=n,colour=red"], "invalid field key colour"),
        (["--network", "name=n,red"], "invalid field red"),
        (["--network", "name=n,driver-opt=a"], "invalid key value pair format in driver options"),
        (["--network", "name=n,gw-priority=x"], r"invalid gw-priority \(x\): invalid syntax"),
        (["--network", "name=n,mac-address=x"], "x is not a valid mac address"),
        (["--mac-address", "x"], "x is not a valid mac address"),
        (["--network-alias", "a"], "aliases are only supported for user-defined networks"),
        (["--network", "name=host,alias=a"], "aliases are only supported for user-defined networks"),
        (["--network", "name=n,alias=a", "--network-alias", "b"], "--network-alias and per-network alias"),
        (["--network", "name=n,ip=10.0.0.2", "--ip", "10.0.0.2"], "--ip and per-network IPv4 address"),
        (["--network", "name=n,ip6=::2", "--ip6", "::2"], "--ip6 and per-network IPv6 address"),
        (
            ["--network", "name=n,link-local-ip=169.254.1.1", "--link-local-ip", "169.254.1.2"],
            "--link-local-ip and per-network link-local IP addresses",
        ),
        (["--network", f"name=n,mac-address={MAC}", "--mac-address", MAC], "per-network MAC address"),
    ],
)
def test_networks_that_cannot_be_meant(flags: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wanted(*flags)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("up:host-gateway", "up:host-gateway"),
        ("up=192.0.2.1", "up:192.0.2.1"),
        ("up=::1", "up:::1"),
        ("up:[::1]", "up:::1"),
        ("up:::1", "up:::1"),
    ],
)
def test_extra_hosts(given: str, sent: str) -> None:
    assert parse_extra_host(given) == sent


@pytest.mark.parametrize("given", ["up", "up:", "up:x", ":192.0.2.1", "up:[192.0.2.1"])
def test_extra_hosts_that_are_none(given: str) -> None:
    with pytest.raises(ValueError, match="add-host"):
        parse_extra_host(given)


def test_links_and_servers() -> None:
    assert parse_link("db:d") == "db:d"
    assert parse_dns_server(" 192.0.2.53 ") == "192.0.2.53"
    for parse, text in ((parse_link, "a:b:c"), (parse_link, ""), (parse_dns_server, "ns.example.com")):
        with pytest.raises(ValueError, match=r"bad format|empty string|not correctly formatted"):
            parse(text)


def test_lists_part_at_commas_and_respect_quotes() -> None:
    assert parse_list(["a,b", "c", '"d,e",f']) == ["a", "b", "c", "d,e", "f"]
    with pytest.raises(ValueError, match='"d'):
        parse_list(['"d,e'])


# --- network create ---------------------------------------------------------------------------------------


def test_ranges_gateways_and_addresses_go_with_their_subnets() -> None:
    subnets = ["10.0.0.0/24", "fd00::/64"]
    configs = parse_subnets(
        subnets, ["10.0.0.128/25"], ["fd00::1", "10.0.0.1"], ["router=10.0.0.9", "six=fd00::9"]
    )
    assert configs == [
        {
            "Subnet": "10.0.0.0/24",
            "IPRange": "10.0.0.128/25",
            "Gateway": "10.0.0.1",
            "AuxiliaryAddresses": {"router": "10.0.0.9"},
        },
        {"Subnet": "fd00::/64", "Gateway": "fd00::1", "AuxiliaryAddresses": {"six": "fd00::9"}},
    ]


@pytest.mark.parametrize(
    ("subnets", "ranges", "gateways", "auxiliary", "words"),
    [
        ([], [], ["10.0.0.1"], [], "every ip-range or gateway must have a corresponding subnet"),
        (["10.0.0.0"], [], [], [], "invalid subnet: invalid CIDR address: 10.0.0.0"),
        (["10.0.0.0/24", "10.0.0.0/25"], [], [], [], "multiple overlapping subnet configuration"),
        (["10.0.0.0/24"], ["10.1.0.0/25"], [], [], "no matching subnet for range 10.1.0.0/25"),
        (["10.0.0.0/24"], [], ["10.1.0.1"], [], "no matching subnet for gateway 10.1.0.1"),
        (["10.0.0.0/24"], [], ["x"], [], "no matching subnet for gateway x"),
        (["10.0.0.0/24"], [], [], ["a=10.1.0.0"], "no matching subnet for aux-address 10.1.0.0"),
        (["10.0.0.0/24"], ["10.0.0.0/x"], [], [], "invalid CIDR address: 10.0.0.0/x"),
        (
            ["10.0.0.0/24", "10.1.0.0/24"],
            [],
            ["10.0.0.1", "10.0.0.2"],
            [],
            r"multiple gateways \(10.0.0.2, 10.0.0.1\) for the same subnet \(10.0.0.0/24\)",
        ),
        (
            ["10.0.0.0/24", "10.1.0.0/24"],
            ["10.0.0.0/25", "10.0.0.128/25"],
            [],
            [],
            r"multiple ranges \(10.0.0.128/25, 10.0.0.0/25\) on the same subnet \(10.0.0.0/24\)",
        ),
    ],
)
def test_subnets_that_cannot_be_meant(
    subnets: list[str], ranges: list[str], gateways: list[str], auxiliary: list[str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        parse_subnets(subnets, ranges, gateways, auxiliary)


def test_a_row() -> None:
    row = NetworkRow(
        {
            "Id": "0123456789abcdef",
            "Name": "n",
            "Driver": "bridge",
            "Scope": "local",
            "EnableIPv4": True,
            "Created": "2024-05-06T07:08:09.120000000Z",
            "Labels": {"b": "2", "a": "1"},
        }
    )
    assert (row.ID(), row.Labels(), row.Label("a"), row.Label("c")) == ("0123456789ab", "a=1,b=2", "1", "")
    assert (row.IPv4(), row.IPv6(), row.Internal()) == ("true", "false", "false")
    assert row.CreatedAt() == "2024-05-06 07:08:09.12 +0000 UTC"


def test_names_are_sorted_as_people_count() -> None:
    assert sorted(["n10", "n2", "bridge", "n", "1a"], key=natural_order) == ["1a", "bridge", "n", "n2", "n10"]
