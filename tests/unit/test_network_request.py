"""The bodies of the network routes, and what may be asked of an attachment."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from proad.model import errors
from proad.model.endpointcheck import check_attachments, check_endpoint, check_mode
from proad.model.network import EndpointSettings, IpamWish, Network, Pool
from proad.model.networkoptions import GatewayMode, bridge_options, interface_prefix, link_options
from proad.model.networkrequest import (
    NetworkRequest,
    configured,
    parse_connect,
    parse_disconnect,
    parse_network_request,
)

BRIDGE = "com.docker.network.bridge."


def parse(version: tuple[int, int] = (1, 51), **fields: Any) -> NetworkRequest:
    return parse_network_request(json.dumps({"Name": "web", **fields}).encode(), version)


def refusal(kind: type[errors.ProaError] = errors.InvalidParameter, **fields: Any) -> str:
    with pytest.raises(kind) as caught:
        parse(**fields)
    return caught.value.message


def subnets(*config: dict[str, Any]) -> dict[str, Any]:
    return {"IPAM": {"Config": list(config)}}


# --- create ---------------------------------------------------------------------------------------------


def test_a_name_is_enough() -> None:
    assert parse() == NetworkRequest(name="web")
    plain = parse(
        Driver="", CheckDuplicate=True, Scope="", EnableIPv6=None, Options=None, Labels=None,
        IPAM={"Driver": "default", "Options": None, "Config": None}, ConfigFrom=None,
    )  # fmt: skip
    assert plain == NetworkRequest(name="web")
    for name in ("", " "):
        assert refusal(Name=name) == f"invalid name: {name}"
    for name in ("bridge", "host", "none", "default"):
        said = refusal(errors.Forbidden, Name=name)
        assert said == f"operation is not permitted on predefined {name} network "


def test_all_that_can_be_asked() -> None:
    asked = parse(
        Driver="bridge",
        Internal=True,
        Attachable=True,
        EnableIPv6=True,
        Labels={"a": "b"},
        Options={BRIDGE + "enable_icc": "false", "com.docker.network.driver.mtu": "1400"},
        IPAM={
            "Options": {"x": "y"},
            "Config": [
                {"Subnet": "10.5.0.0/16", "IPRange": "10.5.5.0/24", "Gateway": "10.5.0.254"},
                {"Subnet": "FD00:0:0::/64", "AuxiliaryAddresses": {"a": "fd00:0::9"}},
            ],
        },
    )
    assert (asked.internal, asked.attachable, asked.ipv4, asked.ipv6) == (True, True, True, True)
    assert asked.pools == (
        Pool(subnet="10.5.0.0/16", ip_range="10.5.5.0/24", gateway="10.5.0.254"),
        Pool(subnet="fd00::/64", auxiliary={"a": "fd00::9"}),
    )
    assert (asked.labels, asked.ipam_options) == ({"a": "b"}, {"x": "y"})
    options = bridge_options(asked.options)
    assert (options.icc, options.masquerade, options.mtu) == (False, True, 1400)


def test_families_by_fields_and_by_options() -> None:
    assert parse(EnableIPv4=False, EnableIPv6=True).ipv4 is False
    assert parse(version=(1, 47), EnableIPv4=False).ipv4 is True, "the field is younger"
    by_option = parse(Options={"com.docker.network.enable_ipv6": "true"})
    assert by_option.ipv6
    field_wins = parse(EnableIPv6=False, Options={"com.docker.network.enable_ipv6": "true"})
    assert (field_wins.ipv6, field_wins.options) == (False, {})
    assert refusal(EnableIPv4=False) == "IPv4 or IPv6 must be enabled"
    assert "is not a valid bool" in refusal(Options={"com.docker.network.enable_ipv4": "si"})


def test_a_subnet_of_a_family_that_is_off_is_told() -> None:
    asked = parse(**subnets({"Subnet": "10.5.0.0/16"}, {"Subnet": "fd00::/64"}))
    assert [pool.subnet for pool in asked.pools] == ["10.5.0.0/16"]
    assert asked.warnings == ("subnet fd00::/64 is not used: the network has no IPv6",)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"Subnet": ""}, "invalid subnet : invalid CIDR block notation"),
        ({"Gateway": "10.5.0.1"}, "invalid subnet : invalid CIDR block notation"),
        ({"Subnet": "10.5.0.0"}, "invalid subnet 10.5.0.0: invalid CIDR block notation"),
        ({"Subnet": "10.5.0.0/255.255.0.0"}, "invalid CIDR block notation"),
        ({"Subnet": "10.5.0.0/٣"}, "invalid CIDR block notation"),
        ({"Subnet": "10.5.0.1/16"}, "invalid subnet 10.5.0.1/16: it should be 10.5.0.0/16"),
        (
            {"Subnet": "10.5.0.0/16", "IPRange": "10.0.0.0/8"},
            "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.5.0.0/16",
        ),
        (
            {"Subnet": "10.5.0.0/16", "IPRange": "10.6.0.0/24"},
            "invalid ip-range 10.6.0.0/24: parent subnet 10.5.0.0/16 doesn't contain ip-range",
        ),
        (
            {"Subnet": "10.5.0.0/16", "IPRange": "10.5.0.9/24"},
            "invalid ip-range 10.5.0.9/24: it should be 10.5.0.0/24",
        ),
        (
            {"Subnet": "10.5.0.0/16", "IPRange": "fd00::/64"},
            "invalid ip-range fd00::/64: parent subnet is an IPv4 block",
        ),
        ({"Subnet": "10.5.0.0/16", "IPRange": "x"}, "invalid ip-range x: invalid CIDR block notation"),
        (
            {"Subnet": "10.5.0.0/16", "Gateway": "10.6.0.1"},
            "invalid gateway 10.6.0.1: parent subnet 10.5.0.0/16 doesn't contain this address",
        ),
        (
            {"Subnet": "10.5.0.0/16", "Gateway": "fd00::1"},
            "invalid gateway fd00::1: parent subnet is an IPv4 block",
        ),
        ({"Subnet": "10.5.0.0/16", "Gateway": "x"}, "invalid gateway x: invalid address"),
        (
            {"Subnet": "10.5.0.0/16", "AuxiliaryAddresses": {"nas": "10.6.0.1"}},
            "invalid auxiliary address nas: parent subnet 10.5.0.0/16 doesn't contain this address",
        ),
        (
            {"Subnet": "10.5.0.0/16", "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.5.0.9"}},
            "DefaultGatewayIPv4 is not supported",
        ),
    ],
)
def test_malformed_subnets_are_refused_in_dockers_words(config: dict[str, Any], text: str) -> None:
    said = refusal(**subnets(config))
    assert said.startswith("invalid network config:\n")
    assert text in said


def test_all_that_is_wrong_is_told_at_once() -> None:
    said = refusal(**subnets({"Subnet": "10.5.0.1/16", "Gateway": "x"}, {"Subnet": "y"}))
    assert said.splitlines() == [
        "invalid network config:",
        "invalid subnet 10.5.0.1/16: it should be 10.5.0.0/16",
        "invalid gateway x: invalid address",
        "invalid subnet y: invalid CIDR block notation",
    ]


def test_subnets_that_a_driver_cannot_have() -> None:
    two = subnets({"Subnet": "10.5.0.0/16"}, {"Subnet": "10.6.0.0/16"})
    said = refusal(errors.Forbidden, **two)
    assert said == "bridge driver doesn't support multiple subnets"
    assert len(parse(Driver="macvlan", **two).pools) == 2
    assert "multicast" in refusal(**subnets({"Subnet": "224.0.0.0/8"}))
    for link_local in ("fe80::/80", "fe80::/64"):
        assert "Link-Local" in refusal(EnableIPv6=True, **subnets({"Subnet": link_local}))
    for loopback in ("127.0.0.0/24", "::1/128", "::/16"):
        said = refusal(EnableIPv6=True, **subnets({"Subnet": loopback}))
        assert said == f"loopback subnet '{loopback}' is not allowed"
    mapped = refusal(EnableIPv6=True, **subnets({"Subnet": "::ffff:10.0.0.0/104"}))
    assert "is not a valid IPv6 subnet" in mapped
    assert refusal(**subnets({"Subnet": "0.0.0.0/0"})) == "ipv4 pool is empty"


def test_what_needs_a_swarm_or_another_network_is_refused() -> None:
    assert "not a swarm manager" in refusal(errors.Forbidden, Driver="overlay")
    assert "Ingress network" in refusal(errors.Forbidden, Ingress=True)
    assert "swarm scoped" in refusal(errors.Forbidden, Scope="swarm")
    assert refusal(Scope="galaxy") == "invalid scope: galaxy"
    assert parse(Scope="local").name == "web"
    assert 'plugin "magic" not found' in refusal(errors.NotFound, IPAM={"Driver": "magic"})
    assert "Internal" in refusal(Internal="yes")


# --- networks that others are made from -----------------------------------------------------------------

COPY = {"ConfigFrom": {"Network": "plan"}}


def test_a_network_for_others_to_be_made_from_has_no_driver_to_check_it() -> None:
    fields = subnets({"Subnet": "10.5.0.0/16"}, {"Subnet": "10.6.0.0/16"})
    asked = parse(Driver="macvlan", ConfigOnly=True, Options={"parent": "eth7", "colour": "red"}, **fields)
    assert (asked.driver, asked.config_only, len(asked.pools), asked.warnings) == ("null", True, 2, ())
    assert asked.options == {"parent": "eth7", "colour": "red"}
    for field in ({"Internal": True}, {"Attachable": True}, {"Ingress": True}, {"Scope": "local"}):
        said = refusal(errors.Forbidden, ConfigOnly=True, **field)
        assert "[ ingress | internal | attachable | scope ] are not supported." in said


def test_a_network_made_from_another_has_its_configuration_and_nothing_else() -> None:
    asked = parse(Driver="macvlan", Internal=True, **COPY)
    assert (asked.config_from, asked.warnings) == ("plan", ())
    plan = Network(
        id="1", name="plan", driver="null", created_ns=0, ipv6=True, config_only=True,
        ipam_options={"a": "b"}, options={"parent": "eth7", "colour": "red"}, labels={"who": "me"},
        asked_pools=(Pool(subnet="10.5.0.0/16", ip_range="10.5.1.0/24"),),
    )  # fmt: skip
    made = configured(asked, plan)
    assert (made.driver, made.internal, made.ipv6, made.pools) == ("macvlan", True, True, plan.asked_pools)
    assert (made.options, made.labels, made.ipam_options) == (plan.options, plan.labels, plan.ipam_options)
    assert made.warnings == ("network option colour is unknown to driver macvlan and has no effect",)
    with pytest.raises(errors.InvalidParameter, match="'x' is not valid"):
        configured(asked, replace(plan, options={"macvlan_mode": "x"}))
    two = replace(plan, options={}, asked_pools=(*plan.asked_pools, Pool(subnet="10.7.0.0/16")))
    with pytest.raises(errors.Forbidden, match="bridge driver doesn't support multiple subnets"):
        configured(parse(**COPY), two)


def test_what_a_network_made_from_another_cannot_have_besides() -> None:
    said = refusal(errors.Forbidden, ConfigOnly=True, **COPY)
    assert said == "a configuration network cannot depend on another configuration network"
    for field in (
        {"EnableIPv6": True},
        {"EnableIPv4": False},
        {"Labels": {"a": "b"}},
        {"IPAM": {"Options": {"a": "b"}}},
        subnets({"Subnet": "10.5.0.0/16"}),
    ):
        said = refusal(errors.Forbidden, **COPY, **field)
        assert said.startswith("user-specified configurations are not supported if the network depends on a")
    said = refusal(errors.Forbidden, Options={"colour": "red"}, **COPY)
    assert said.startswith("network driver options are not supported if the network depends on a")


# --- options --------------------------------------------------------------------------------------------


def test_options_that_cannot_be_meant() -> None:
    for options, text in (
        (
            {BRIDGE + "enable_icc": "si"},
            'enable_icc value: si (strconv.ParseBool: parsing "si": invalid syntax)',
        ),
        ({"com.docker.network.driver.mtu": "x"}, "mtu value: x (strconv.Atoi"),
        ({"com.docker.network.driver.mtu": "-5"}, "invalid MTU number: -5"),
        ({"com.docker.network.driver.mtu": "70000"}, "invalid MTU number: 70000"),
        ({BRIDGE + "host_binding_ipv4": "::1"}, "host_binding_ipv4 value: ::1 (nil ip)"),
        ({BRIDGE + "name": "a/b"}, "invalid interface name: a/b"),
        ({BRIDGE + "name": "sixteencharacter"}, "invalid interface name"),
        ({"com.docker.network.container_iface_prefix": "x y"}, "container_iface_prefix value: x y"),
        ({BRIDGE + "gateway_mode_ipv4": "x"}, "gateway_mode_ipv4 value: x (unknown gateway mode x)"),
        ({BRIDGE + "gateway_mode_ipv4": "isolated"}, "'isolated' can only be used for an internal network"),
        ({BRIDGE + "inhibit_ipv4": "true"}, "inhibit_ipv4=true is not supported"),
        ({BRIDGE + "trusted_host_interfaces": "eth0"}, "is not supported"),
    ):
        assert text in refusal(Options=options)
    assert "IPv6 needs at least 1280" in refusal(
        EnableIPv6=True, Options={"com.docker.network.driver.mtu": "1000"}
    )
    harmless = parse(Options={BRIDGE + "gateway_mode_ipv4": "nat", BRIDGE + "inhibit_ipv4": "false"})
    assert harmless.warnings == ()
    assert parse(Options={"colour": "red"}).warnings == (
        "network option colour is unknown to driver bridge and has no effect",
    )


def test_options_of_bridges_have_defaults() -> None:
    options = bridge_options({})
    assert (options.name, options.mtu, options.icc, options.masquerade) == ("", 0, True, True)
    assert options.host_binding_ipv4 == ""
    assert options.modes == {4: "nat", 6: "nat"}
    asked = {BRIDGE + "gateway_mode_ipv4": "nat-unprotected", BRIDGE + "gateway_mode_ipv6": "isolated"}
    assert bridge_options(parse(Internal=True, Options=asked).options).modes == {
        4: GatewayMode.NAT_UNPROTECTED, 6: GatewayMode.ISOLATED,
    }  # fmt: skip
    assert interface_prefix({}) == "eth"
    assert interface_prefix({"com.docker.network.container_iface_prefix": "lan"}) == "lan"


def test_options_of_macvlan_and_ipvlan() -> None:
    assert link_options({}, "macvlan").mode == "bridge"
    assert link_options({"parent": "eth0.50", "macvlan_mode": "vepa"}, "macvlan").parent == "eth0.50"
    plain = link_options({}, "ipvlan")
    assert (plain.mode, plain.flag, plain.routes_itself) == ("l2", "bridge", False)
    assert link_options({"ipvlan_mode": "l3s"}, "ipvlan").routes_itself
    for driver, options, text in (
        ("macvlan", {"macvlan_mode": "l2"}, "requested macvlan mode 'l2' is not valid"),
        ("ipvlan", {"ipvlan_mode": "bridge"}, "requested ipvlan mode 'bridge' is not valid"),
        ("ipvlan", {"ipvlan_flag": "x"}, "requested ipvlan flag 'x' is not valid"),
        ("macvlan", {"parent": "lo"}, "loopback interface is not a valid macvlan parent link"),
        ("macvlan", {"parent": "a b"}, "invalid interface name: a b"),
        ("macvlan", {BRIDGE + "name": "br0"}, "is not supported by driver macvlan"),
    ):
        assert text in refusal(Driver=driver, Options=options)


# --- connect, disconnect --------------------------------------------------------------------------------


def test_connect_and_disconnect() -> None:
    assert parse_connect(b'{"Container": "a"}') == ("a", EndpointSettings())
    body = {
        "container": "a",
        "EndpointConfig": {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}},
    }
    container, wish = parse_connect(json.dumps(body).encode())
    assert (container, wish.aliases) == ("a", ["db"])
    assert wish.ipam_config == IpamWish(ipv4_address="10.0.0.9")
    assert parse_disconnect(b'{"Container": "a", "Force": true}') == ("a", True)
    with pytest.raises(errors.InvalidParameter, match='invalid name or ID supplied: ""'):
        parse_disconnect(b"{}")
    for parse_body in (parse_connect, parse_disconnect):
        for body_text in (b"", b"[]", b'{"Container": 3}'):
            with pytest.raises(errors.InvalidParameter, match="invalid JSON"):
                parse_body(body_text)


# --- attachments ----------------------------------------------------------------------------------------

WEB = Network(
    id="1", name="web", driver="bridge", created_ns=1,
    pools=(Pool(subnet="10.5.0.0/16"), Pool(subnet="fd00::/64")),
)  # fmt: skip
CHOSEN = Network(
    id="2", name="chosen", driver="bridge", created_ns=1, pools=(Pool(subnet="10.6.0.0/16", chosen=True),)
)
DEFAULT = Network(id="3", name="bridge", driver="bridge", created_ns=1)


def said_of(network: Network, **wish: Any) -> list[str]:
    try:
        check_endpoint(network, EndpointSettings(**wish))
    except errors.InvalidParameter as error:
        first, *rest = error.message.splitlines()
        assert first == "invalid endpoint settings:"
        return rest
    return []


def at(ipv4: str = "", ipv6: str = "") -> IpamWish:
    return IpamWish(ipv4_address=ipv4, ipv6_address=ipv6)


def test_what_an_attachment_may_ask() -> None:
    assert said_of(WEB, ipam_config=at("10.5.0.9", "fd00::9"), aliases=["db"], gw_priority=-3) == []
    assert said_of(WEB, mac_address="02:42:ac:11:00:09", links=["db:store"]) == []
    assert said_of(WEB, driver_opts={"com.docker.network.endpoint.ifname": "lan0"}) == []
    assert said_of(DEFAULT, gw_priority=1) == []


def test_addresses_that_a_network_does_not_give() -> None:
    assert said_of(DEFAULT, ipam_config=at("10.5.0.9"), aliases=["a"]) == [
        "user specified IP address is supported on user defined networks only",
        "network-scoped alias is supported only for containers in user defined networks",
    ]
    assert said_of(WEB, ipam_config=at("10.6.0.9")) == [
        "no configured subnet or ip-range contain the IP address 10.6.0.9"
    ]
    for network, wish in ((CHOSEN, at("10.6.0.9")), (CHOSEN, at(ipv6="fd00::9"))):
        assert said_of(network, ipam_config=wish) == [
            "user specified IP address is supported only when connecting to networks with user configured "
            "subnets"
        ]
    for wish, text in (
        (at("fd00::1"), "invalid IPv4 address: fd00::1"),
        (at("0.0.0.0"), "invalid IPv4 address: 0.0.0.0"),
        (at(ipv6="x"), "invalid IPv6 address: x"),
        (at(ipv6="fd00::1%eth0"), "invalid IPv6 address: fd00::1%eth0"),
    ):
        assert said_of(WEB, ipam_config=wish) == [text]


def test_other_wishes_that_are_refused() -> None:
    assert said_of(WEB, mac_address="x") == ["address x: invalid MAC address"]
    assert said_of(WEB, ipam_config=IpamWish(link_local_ips=["fe80::9", "169.254.1.9"])) == []
    assert said_of(WEB, ipam_config=IpamWish(link_local_ips=["10.5.0.9", "x"])) == [
        "invalid link-local IP address: 10.5.0.9",
        "invalid link-local IP address: x",
    ]
    for options in ({"a": "b"}, {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.x=1"}):
        assert "is not supported by this engine" in said_of(WEB, driver_opts=options)[0]
    for name in ("", "lo", "a/b", "sixteencharacter"):
        assert said_of(WEB, driver_opts={"com.docker.network.endpoint.ifname": name}) == [
            f"invalid interface name: {name}"
        ]


def test_attachments_of_a_new_container_are_told_by_their_networks() -> None:
    wishes = {"web": EndpointSettings(ipam_config=at("10.9.0.9")), "later": EndpointSettings(mac_address="x")}
    with pytest.raises(errors.InvalidParameter) as caught:
        check_attachments(wishes, {"web": WEB}.get)
    assert caught.value.message.splitlines() == [
        "invalid config for network web: invalid endpoint settings:",
        "no configured subnet or ip-range contain the IP address 10.9.0.9",
        "invalid config for network later: invalid endpoint settings:",
        "address x: invalid MAC address",
    ]
    check_attachments({"later": EndpointSettings(ipam_config=at("10.9.0.9"))})


def test_modes_that_leave_no_room_for_networks() -> None:
    check_mode("bridge", {"web": 1, "bridge": 2})
    check_mode("host", {"host": 1})
    check_mode("container:x", {})
    for mode, networks in (("host", ["web"]), ("container:x", ["web"]), ("web", ["web", "host"])):
        with pytest.raises(errors.InvalidParameter, match="sharing network namespace"):
            check_mode(mode, networks)
    for mode, networks in (("none", ["web"]), ("web", ["none"])):
        with pytest.raises(errors.InvalidParameter, match="private \\(none\\) mode"):
            check_mode(mode, networks)
