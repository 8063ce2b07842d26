"""Subnets and addresses as functions."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest

from proad.model import errors
from proad.model.ipam import AddressPool, choose_subnet, mac_for, settle_pools
from proad.model.network import Pool

POOLS = [("172.17.0.0/12", 16), ("192.168.0.0/16", 20)]


def settle(*asked: Pool, ipv6: bool = False, ipv4: bool = True, **more: object) -> tuple[Pool, ...]:
    given: dict[str, object] = {"default_pools": POOLS, "taken": [], "others": [], **more}
    return settle_pools(asked, ipv4=ipv4, ipv6=ipv6, **given)  # type: ignore[arg-type]


# --- subnets --------------------------------------------------------------------------------------------


def test_the_first_piece_of_a_pool_that_overlaps_nothing_is_chosen() -> None:
    assert choose_subnet(POOLS, []) == IPv4Interface("172.17.0.1/16")
    taken = [IPv4Network("172.17.0.0/16"), IPv4Network("172.18.4.0/24"), IPv4Network("172.19.0.1/32")]
    assert choose_subnet(POOLS, taken) == IPv4Interface("172.20.0.1/16")
    assert choose_subnet(POOLS, [IPv4Network("172.16.0.0/12")]) == IPv4Interface("192.168.0.1/20")
    with pytest.raises(errors.Unavailable, match="non-overlapping IPv4 address pool"):
        choose_subnet(POOLS, [IPv4Network("128.0.0.0/1")])


def test_a_pool_of_millions_is_not_looked_through() -> None:
    taken = [IPv4Network("10.0.0.0/9"), IPv4Network("10.128.0.0/10"), IPv4Network("10.192.0.4/30")]
    assert choose_subnet([("10.0.0.0/8", 29)], taken) == IPv4Interface("10.192.0.9/29")


def test_networks_get_pieces_that_neither_routes_nor_networks_have() -> None:
    first = settle()
    assert first == (Pool(subnet="172.17.0.0/16", gateway="172.17.0.1", chosen=True),)
    second = settle(others=first, taken=[IPv4Network("172.18.5.0/24"), IPv6Network("fe80::/64")])
    assert second[0].subnet == "172.19.0.0/16"
    with pytest.raises(
        errors.InvalidParameter, match="all predefined address pools have been fully subnetted"
    ):
        settle(default_pools=[("10.0.0.0/24", 25)], taken=[IPv4Network("10.0.0.0/8")])


def test_ipv6_is_of_a_prefix_that_is_the_hosts_own() -> None:
    four, six = settle(ipv6=True, host_id="this")
    assert (four.subnet, ip_network(six.subnet).prefixlen) == ("172.17.0.0/16", 64)
    assert six.subnet.startswith("fd")
    assert six.gateway == str(ip_network(six.subnet)[1])
    assert settle(ipv6=True, host_id="this") == (four, six)
    assert settle(ipv6=True, host_id="that")[1].subnet != six.subnet
    (_, next_one) = settle(ipv6=True, host_id="this", others=[six])
    assert int(ip_network(next_one.subnet)[0]) - int(ip_network(six.subnet)[0]) == 1 << 64


def test_ipv6_is_of_the_pools_that_are_configured_for_it() -> None:
    pools = [*POOLS, ("fd00:1:2::/48", 64)]
    assert [pool.subnet for pool in settle(ipv6=True, default_pools=pools)] == [
        "172.17.0.0/16",
        "fd00:1:2::/64",
    ]
    assert [pool.subnet for pool in settle(ipv4=False, ipv6=True, default_pools=pools)] == ["fd00:1:2::/64"]


def test_what_is_asked_for_is_kept_and_completed() -> None:
    asked = Pool(subnet="10.5.0.0/16", ip_range="10.5.5.0/24", auxiliary={"router": "10.5.5.0"})
    assert settle(asked)[0].gateway == "10.5.5.1"
    named = Pool(subnet="10.5.0.0/16", gateway="10.5.0.254")
    assert settle(named, taken=[IPv4Network("10.0.0.0/8")]) == (named,)
    assert settle(asked, gateways=()) == (asked,)
    assert settle(named, gateways=()) == (named,)


def test_pools_that_overlap_are_refused() -> None:
    asked = Pool(subnet="10.5.0.0/16")
    text = "invalid pool request: Pool overlaps with other one on this address space"
    for other in ("10.5.0.0/16", "10.5.9.0/24", "10.0.0.0/8"):
        with pytest.raises(errors.Forbidden, match=text):
            settle(asked, others=[Pool(subnet=other)])
    with pytest.raises(errors.Forbidden, match=text):
        settle(asked, asked)
    assert settle(asked, others=[Pool(subnet="10.6.0.0/16"), Pool(subnet="::/0")])


def test_pools_of_one_subnet_may_stand_beside_each_other_by_their_ranges() -> None:
    """As moby's ``libnetwork/ipams/defaultipam``: a range is compared with those of its own subnet alone."""
    whole = Pool(subnet="10.5.0.0/16")
    first = Pool(subnet="10.5.0.0/16", ip_range="10.5.1.0/24")
    second = Pool(subnet="10.5.0.0/16", ip_range="10.5.2.0/24")
    for others in ([whole], [first], [Pool(subnet="10.0.0.0/8")], [Pool(subnet="10.5.2.0/24")]):
        [settled] = settle(second, others=others)
        assert settled.gateway == "10.5.2.0"
    assert len(settle(first, second)) == 2
    text = "Pool overlaps with other one on this address space"
    for asked, other in ((first, first), (whole, first), (Pool(subnet="10.5.0.0/24"), first)):
        with pytest.raises(errors.Forbidden, match=text):
            settle(asked, others=[other])


def test_what_a_network_keeps_for_itself_is_nobody_elses() -> None:
    gateway = r"failed to allocate gateway \(10\.5\.0\.1\): Address already in use"
    second = r"failed to allocate secondary ip address \(a:10\.5\.0\.9\): Address already in use"
    wish = {"subnet": "10.5.0.0/16", "ip_range": "10.5.0.0/28"}

    def in_use(subnet: str) -> set[int]:
        addresses = ("10.5.0.1", "10.5.0.2") if subnet == "10.5.0.0/16" else ()
        return {int(IPv4Address(address)) for address in addresses}

    assert settle(Pool(**wish), in_use=in_use)[0].gateway == "10.5.0.3"
    with pytest.raises(errors.System, match=gateway):
        settle(Pool(**wish, gateway="10.5.0.1"), in_use=in_use)
    with pytest.raises(errors.System, match=r"failed to allocate gateway \(10\.5\.0\.0\)"):
        settle(Pool(subnet="10.5.0.0/16", gateway="10.5.0.0"))
    for pool in (
        Pool(subnet="10.5.0.0/16", gateway="10.5.0.9", auxiliary={"a": "10.5.0.9"}),
        Pool(subnet="10.5.0.0/16", auxiliary={"b": "10.5.0.9", "a": "10.5.0.9"}),
    ):
        with pytest.raises(errors.System, match=second):
            settle(pool)
    with pytest.raises(errors.System, match="Address already in use"):
        settle(
            Pool(**wish, gateway="10.5.0.3"),
            Pool(subnet="10.5.0.0/16", ip_range="10.5.0.64/28", gateway="10.5.0.3"),
        )


def test_a_bridge_always_has_the_same_mac() -> None:
    four, six = Pool(subnet="10.5.0.0/16", gateway="10.5.0.1"), Pool(subnet="fd00::/64", gateway="fd00::1")
    assert mac_for([six, four]) == "02:42:0a:05:00:01"
    assert mac_for([six]) == mac_for([six]) != mac_for([Pool(subnet="fd01::/64", gateway="fd01::1")])
    assert mac_for([six]).startswith("02:")


# --- addresses ------------------------------------------------------------------------------------------


def test_addresses_go_up_and_those_that_come_back_rest_behind_all_others() -> None:
    pool = AddressPool(Pool(subnet="10.0.0.0/29", gateway="10.0.0.1", auxiliary={"a": "10.0.0.3"}))
    first, second = pool.take(), pool.take()
    assert [str(first), str(second)] == ["10.0.0.2", "10.0.0.4"]
    pool.release(second)
    pool.release(first)
    assert [str(pool.take()) for _ in range(4)] == ["10.0.0.5", "10.0.0.6", "10.0.0.4", "10.0.0.2"]
    with pytest.raises(errors.Unavailable, match=r"no available IPv4 addresses .*: 10\.0\.0\.0/29"):
        pool.take()


def test_pools_of_one_subnet_share_its_addresses() -> None:
    used: set[int] = set()
    one = AddressPool(Pool(subnet="10.0.0.0/24", ip_range="10.0.0.8/30"), used=used)
    other = AddressPool(Pool(subnet="10.0.0.0/24", ip_range="10.0.0.8/29"), used=used)
    assert [str(one.take()) for _ in range(3)] == ["10.0.0.8", "10.0.0.9", "10.0.0.10"]
    assert str(other.take()) == "10.0.0.11"
    with pytest.raises(errors.Unavailable):
        one.take()
    with pytest.raises(errors.Forbidden):
        other.take("10.0.0.9")
    one.release(IPv4Address("10.0.0.9"))
    assert [str(other.take()) for _ in range(4)] == [f"10.0.0.{number}" for number in (12, 13, 14, 15)]
    assert str(other.take()) == "10.0.0.9"
    with pytest.raises(errors.Unavailable):
        one.take()
    other.release(IPv4Address("10.0.0.11"))
    assert str(one.take()) == "10.0.0.11"
    with pytest.raises(errors.Unavailable):
        other.take()


def test_a_wanted_address_is_given_once() -> None:
    pool = AddressPool(Pool(subnet="10.0.0.0/24", ip_range="10.0.0.128/30", gateway="10.0.0.1"), "web (4f3a)")
    assert pool.take("10.0.0.9") == IPv4Address("10.0.0.9")
    for taken in ("10.0.0.9", "10.0.0.1", "10.0.0.0", "10.0.0.255"):
        with pytest.raises(errors.Forbidden, match="Address already in use"):
            pool.take(taken)
    with pytest.raises(errors.InvalidParameter, match=r"contain the IP address 10\.0\.1\.1"):
        pool.take("10.0.1.1")
    pool.take("10.0.0.129")
    given = [str(pool.take()) for _ in range(3)]
    assert given == ["10.0.0.128", "10.0.0.130", "10.0.0.131"]
    pool.release(IPv4Address("10.0.0.9"))
    with pytest.raises(errors.Unavailable, match=r"web \(4f3a\)"):
        pool.take()
    assert pool.take("10.0.0.9")


def test_addresses_of_an_earlier_daemon_are_not_given_again() -> None:
    pool = AddressPool(Pool(subnet="10.0.0.0/29", gateway="10.0.0.1"))
    for _ in range(2):
        pool.adopt(IPv4Address("10.0.0.2"))
    pool.adopt(IPv4Address("10.0.0.4"))
    assert [str(pool.take()) for _ in range(3)] == ["10.0.0.3", "10.0.0.5", "10.0.0.6"]
    pool.release(IPv4Address("10.0.0.4"))
    pool.release(IPv4Address("10.0.0.4"))
    pool.release(IPv4Address("10.9.9.9"))
    assert str(pool.take()) == "10.0.0.4"


def test_ipv6_and_the_smallest_subnets() -> None:
    six = AddressPool(Pool(subnet="fd00::/64", gateway="fd00::1"))
    assert [str(six.take()) for _ in range(2)] == ["fd00::2", "fd00::3"]
    assert six.take("fd00:0::ffff:ffff:ffff:ffff") == IPv6Address("fd00::ffff:ffff:ffff:ffff")
    with pytest.raises(errors.Forbidden):
        six.take("fd00::")
    pair = AddressPool(Pool(subnet="10.0.0.0/31", gateway="10.0.0.0"))
    assert str(pair.take()) == "10.0.0.1"
    single = AddressPool(Pool(subnet="10.0.0.0/32"))
    assert str(single.take()) == "10.0.0.0"
