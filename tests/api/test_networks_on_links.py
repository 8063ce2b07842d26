"""Dialogues about networks of the drivers ``macvlan`` and ``ipvlan``: on links of the host's, and on none.

What their containers say to others is in ``tests/net/test_parents``.
"""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proad.host import netns
from tests.api import steps
from tests.support import schema
from tests.support.daemon import Daemon
from tests.support.nethosts import in_place, need_links_of
from tests.support.rawhttp import Answer, Api
from tests.support.whose import own_name

SUBNET, SUBNET6 = "10.233.0.0/24", "fd33:e9::/64"
ROUTER, ROUTER6 = "10.233.0.254", "fd33:e9::fe"
BOTH = {"IPAM": {"Config": [{"Subnet": SUBNET, "Gateway": ROUTER}, {"Subnet": SUBNET6, "Gateway": ROUTER6}]}}


class Lan:
    """A link of this host's, called ``parent``, and the router at the other end of its wire."""

    def __init__(self, parent: str, place: Path) -> None:
        self.parent = parent
        self.place = place

    def build(self) -> None:
        thread = threading.Thread(target=netns.unshare_into, args=(self.place,))
        thread.start()
        thread.join()
        peer = ("peer", "name", "eth0", "netns", str(self.place))
        in_place(None, "ip", "link", "add", self.parent, "type", "veth", *peer)
        in_place(None, "ip", "link", "set", self.parent, "up")
        self.run("ip", "address", "add", f"{ROUTER}/24", "dev", "eth0")
        self.run("ip", "address", "add", f"{ROUTER6}/64", "dev", "eth0", "nodad")
        self.run("ip", "link", "set", "eth0", "up")

    def run(self, *argv: str) -> str:
        return in_place(self.place, *argv)

    def remove(self) -> None:
        subprocess.run(["ip", "link", "delete", self.parent], capture_output=True, check=False)
        netns.remove(self.place)


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    made = Lan(own_name("ml"), tmp_path / "lan")
    made.build()
    yield made
    made.remove()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Lan]:
    made = Lan(own_name("mo"), tmp_path / "other")
    made.build()
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def no_networks_stay(daemon: Daemon, api: Api) -> Iterator[None]:
    yield
    daemon.remove_containers()
    daemon.remove_networks()


def links() -> set[str]:
    listed = in_place(None, "ip", "-o", "link")
    return {line.split(": ")[1].partition("@")[0] for line in listed.splitlines()}


def ask(api: Api, name: str, driver: str, parent: str = "", **fields: Any) -> Answer:
    options = fields.pop("Options", {}) | ({"parent": parent} if parent else {})
    return api(
        "POST", "/networks/create", json_body={"Name": name, "Driver": driver, "Options": options, **fields}
    )


def create(api: Api, name: str, driver: str, parent: str = "", **fields: Any) -> str:
    return str(ask(api, name, driver, parent, **fields).expect(201).json["Id"])


def run(api: Api, image: str, network: str, name: str = "") -> str:
    return steps.start(api, image, "sleep", "1000", name=name, HostConfig={"NetworkMode": network})


def attached(api: Api, container: str) -> Any:
    answer = api("GET", f"/containers/{container}/json").expect(200)
    schema.check_answer("GET", "/containers/{id}/json", 200, answer.json)
    return answer.json["NetworkSettings"]["Networks"]


def address(api: Api, container: str, network: str) -> str:
    return str(attached(api, container)[network]["IPAddress"])


def place_of(api: Api, container: str) -> Path:
    return Path(f"/proc/{steps.inspect(api, container)['State']['Pid']}/ns/net")


def reaches(place: Path, target: str) -> bool:
    done = subprocess.run(
        ["nsenter", f"--net={place}", "busybox", "ping", "-c", "1", "-W", "1", target],
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


def look_up(api: Api, container: str, name: str) -> str:
    """The address that a container's resolver gives for a name."""
    answer = in_place(place_of(api, container), "busybox", "nslookup", "-type=a", name, "127.0.0.11")
    return answer.splitlines()[-2].rpartition(" ")[2]


def details(place: Path, interface: str = "eth0") -> str:
    return in_place(place, "ip", "-d", "link", "show", interface)


# --- on a parent link ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "options", "shown"),
    [
        ("macvlan", {}, "macvlan mode bridge"),
        ("macvlan", {"macvlan_mode": "bridge"}, "macvlan mode bridge"),
        ("ipvlan", {}, "ipvlan  mode l2 bridge"),
    ],
)
def test_containers_are_hosts_of_their_parents_wire(
    api: Api, image: str, lan: Lan, driver: str, options: dict[str, str], shown: str
) -> None:
    need_links_of(driver)
    made = create(api, "wire", driver, lan.parent, EnableIPv6=True, **BOTH, Options=options)
    found = api("GET", "/networks/wire").expect(200)
    schema.check_answer("GET", "/networks/{id}", 200, found.json)
    assert (found.json["Id"], found.json["Driver"], found.json["Internal"]) == (made, driver, False)
    assert found.json["Options"] == {"parent": lan.parent, **options}
    one, two = run(api, image, "wire", "one"), run(api, image, "wire", "two")
    first = attached(api, one)["wire"]
    assert (first["IPAddress"], first["IPPrefixLen"], first["Gateway"]) == ("10.233.0.1", 24, ROUTER)
    assert (first["GlobalIPv6Address"], first["IPv6Gateway"]) == ("fd33:e9::1", ROUTER6)
    assert " ".join(shown.split()) in " ".join(details(place_of(api, one)).split())
    second = attached(api, two)["wire"]
    for target in (second["IPAddress"], second["GlobalIPv6Address"], ROUTER, ROUTER6):
        assert reaches(place_of(api, one), target)
    assert reaches(lan.place, first["IPAddress"])
    assert look_up(api, one, "two") == second["IPAddress"]
    routes = in_place(place_of(api, one), "ip", "route")
    assert routes.startswith(f"default via {ROUTER} dev eth0")
    if driver == "macvlan":
        assert first["MacAddress"] in details(place_of(api, one))
    # Docker refuses with these words, too.
    refused = api("DELETE", "/networks/wire").expect(403).message
    assert "error while removing network: network wire has active endpoints" in refused


def test_a_port_is_not_published_there(api: Api, image: str, lan: Lan) -> None:
    create(api, "wire", "macvlan", lan.parent, **BOTH)
    bindings = {"PortBindings": {"80/tcp": [{"HostPort": ""}]}, "NetworkMode": "wire"}
    made = steps.start(api, image, "sleep", "1000", HostConfig=bindings)
    assert steps.inspect(api, made)["NetworkSettings"]["Ports"] == {}


@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
def test_the_mode_of_a_macvlan_is_the_one_that_is_asked_for(
    api: Api, image: str, lan: Lan, mode: str
) -> None:
    create(api, "wire", "macvlan", lan.parent, Options={"macvlan_mode": mode}, **BOTH)
    one = run(api, image, "wire")
    assert f"macvlan mode {mode}" in details(place_of(api, one))
    assert reaches(place_of(api, one), ROUTER)
    if mode == "private":
        two = run(api, image, "wire")
        assert not reaches(place_of(api, one), address(api, two, "wire"))


def test_a_container_joins_and_leaves_while_it_runs(api: Api, image: str, lan: Lan, other: Lan) -> None:
    create(api, "wire", "macvlan", lan.parent, **BOTH)
    create(api, "across", "macvlan", other.parent, IPAM={"Config": [{"Subnet": "10.234.0.0/24"}]})
    one, two = run(api, image, "wire"), run(api, image, "across")
    target = address(api, two, "across")
    wish = {
        "Container": one,
        "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.234.0.77"}, "Aliases": ["o"]},
    }
    api("POST", "/networks/across/connect", json_body=wish).expect(200)
    assert address(api, one, "across") == "10.234.0.77"
    assert "macvlan mode bridge" in details(place_of(api, one), "eth1")
    assert reaches(place_of(api, one), target)
    assert reaches(place_of(api, one), ROUTER)
    assert look_up(api, two, "o") == "10.234.0.77"
    refused = api("POST", "/networks/across/connect", json_body={"Container": one}).expect(403).message
    assert "already exists in network across" in refused
    api("POST", "/networks/across/disconnect", json_body={"Container": one}).expect(200)
    assert not reaches(place_of(api, one), target)
    assert list(attached(api, one)) == ["wire"]
    assert "eth1" not in in_place(place_of(api, one), "ip", "-o", "link")


def test_they_go_on_with_the_next_daemon(daemon: Daemon, api: Api, image: str, lan: Lan) -> None:
    create(api, "wire", "macvlan", lan.parent, **BOTH)
    create(api, "alone", "macvlan")
    one, two = run(api, image, "wire"), run(api, image, "wire")
    inner = run(api, image, "alone")
    before = [attached(api, container) for container in (one, two, inner)]
    place = place_of(api, one)
    daemon.kill()
    assert reaches(place, ROUTER)
    daemon.start()
    assert [attached(api, container) for container in (one, two, inner)] == before
    assert reaches(place_of(api, one), address(api, two, "wire"))
    assert reaches(place_of(api, inner), address(api, run(api, image, "alone"), "alone"))


# --- on none, and internal ones -----------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_without_a_parent_containers_have_only_each_other(
    api: Api, image: str, lan: Lan, driver: str
) -> None:
    need_links_of(driver)
    made = create(api, "alone", driver)
    parent = f"{'dm' if driver == 'macvlan' else 'di'}-{made[:12]}"
    assert parent in links()
    assert api("GET", "/networks/alone").expect(200).json["Options"] == {}
    one, two = run(api, image, "alone"), run(api, image, "alone")
    assert reaches(place_of(api, one), address(api, two, "alone"))
    assert attached(api, one)["alone"]["Gateway"] == ""
    assert "default" not in in_place(place_of(api, one), "ip", "route")
    for container in (one, two):
        api("DELETE", f"/containers/{container}", force=True).expect(204)
    api("DELETE", "/networks/alone").expect(204)
    assert parent not in links()


def test_an_internal_one_has_no_way_out(api: Api, image: str, lan: Lan) -> None:
    create(api, "inner", "macvlan", lan.parent, Internal=True, IPAM={"Config": [{"Subnet": SUBNET}]})
    one, two = run(api, image, "inner", "one"), run(api, image, "inner", "two")
    assert reaches(place_of(api, one), address(api, two, "inner"))
    assert look_up(api, one, "two") == address(api, two, "inner")
    assert "default" not in in_place(place_of(api, one), "ip", "route")
    assert api("GET", "/networks/inner").expect(200).json["Internal"] is True


# --- VLANs --------------------------------------------------------------------------------------------------


def test_a_vlan_of_the_users_stays(api: Api, lan: Lan) -> None:
    need_links_of("vlan")
    name = f"{lan.parent}.70"
    in_place(None, "ip", "link", "add", "link", lan.parent, "name", name, "type", "vlan", "id", "70")
    create(api, "tagged", "macvlan", name)
    api("DELETE", "/networks/tagged").expect(204)
    assert name in links()
    in_place(None, "ip", "link", "delete", name)


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_parents_that_cannot_be(api: Api, lan: Lan, driver: str) -> None:
    for parent, text in (
        ("nosuchif", "invalid subinterface vlan name nosuchif, example formatting is eth0.10"),
        ("nosuchif.5", "-o parent interface was not found on the host: nosuchif"),
        (f"{lan.parent}.x", f"invalid subinterface vlan name {lan.parent}.x, example formatting is eth0.10"),
        (f"{lan.parent}.0", "vlan id must be between 1-4094, received: 0"),
        ("lo", f"loopback interface is not a valid {driver} parent link"),
    ):
        assert ask(api, "wire", driver, parent).expect(400).message == text
    options = {f"{driver}_mode": "strange"}
    assert (
        "'strange' is not valid" in ask(api, "wire", driver, lan.parent, Options=options).expect(400).message
    )
    options = {"ipvlan_flag": "strange"} if driver == "ipvlan" else {"macvlan_mode": "l2"}
    assert "is not valid" in ask(api, "wire", driver, lan.parent, Options=options).expect(400).message
    listed = api("GET", "/networks", filters={"type": ["custom"]}).expect(200).json
    assert listed == []


def test_a_parent_of_several(api: Api, image: str, lan: Lan) -> None:
    """Docker lets ``macvlan`` networks share one, unless one has mode passthru, and no ``ipvlan`` ones."""
    first = create(api, "first", "macvlan", lan.parent, IPAM={"Config": [{"Subnet": "10.235.0.0/24"}]})
    create(api, "second", "macvlan", lan.parent, IPAM={"Config": [{"Subnet": "10.236.0.0/24"}]})
    passthru = {"macvlan_mode": "passthru"}
    refused = ask(api, "third", "macvlan", lan.parent, Options=passthru).expect(500).message
    assert refused.startswith("cannot use mode passthru, macvlan network ")
    assert refused.endswith(f" is already using parent interface {lan.parent}")
    one, two = run(api, image, "first"), run(api, image, "second")
    assert "macvlan" in details(place_of(api, one))
    assert "macvlan" in details(place_of(api, two))
    for container in (one, two):
        api("DELETE", f"/containers/{container}", force=True).expect(204)
    for network in ("second", "first"):
        api("DELETE", f"/networks/{network}").expect(204)
        assert lan.parent in links()
    whole = create(api, "whole", "macvlan", lan.parent, Options=passthru)
    refused = ask(api, "third", "macvlan", lan.parent).expect(500).message
    using = f"is already using parent interface {lan.parent}"
    assert refused == f"macvlan network {whole} {using} in mode passthru"
    assert first != whole
    made = create(api, "flat", "ipvlan", lan.parent)
    refused = ask(api, "third", "ipvlan", lan.parent).expect(500).message
    assert refused == f"network di-{made[:12]} {using}"


def test_one_subnet_in_ranges(api: Api, image: str, lan: Lan, other: Lan) -> None:
    """What is a network of its own on each wire may have one subnet; no address is given out twice."""

    def ranged(ip_range: str, gateway: str = "") -> dict[str, Any]:
        named = {"Gateway": gateway} if gateway else {}
        return {"IPAM": {"Config": [{"Subnet": "10.237.0.0/24", "IPRange": ip_range, **named}]}}

    create(api, "low", "macvlan", lan.parent, **ranged("10.237.0.0/28", "10.237.0.1"))
    refused = ask(api, "high", "macvlan", other.parent, **ranged("10.237.0.64/28", "10.237.0.1")).expect(500)
    assert refused.message == "failed to allocate gateway (10.237.0.1): Address already in use"
    for fields in (ranged("10.237.0.0/28"), {"IPAM": {"Config": [{"Subnet": "10.237.0.0/24"}]}}):
        refused = ask(api, "high", "macvlan", other.parent, **fields).expect(403)
        assert refused.message == "invalid pool request: Pool overlaps with other one on this address space"
    create(api, "high", "macvlan", other.parent, **ranged("10.237.0.64/28"))
    one, two = run(api, image, "low"), run(api, image, "high")
    assert address(api, one, "low") == "10.237.0.2"
    assert attached(api, two)["high"]["Gateway"] == "10.237.0.64"
    assert address(api, two, "high") == "10.237.0.65"
    for taken in ("10.237.0.2", "10.237.0.1", "10.237.0.64"):
        wish = {"IPAMConfig": {"IPv4Address": taken}}
        body = {"Container": run(api, image, "none"), "EndpointConfig": wish}
        api("POST", "/networks/none/disconnect", json_body={"Container": body["Container"]}).expect(200)
        refused = api("POST", "/networks/high/connect", json_body=body).expect(403)
        assert refused.message == "Address already in use"
    # Bridges are the host's own, and it could not tell which of two such a packet is for.
    made = create(api, "bridged", "bridge", IPAM={"Config": [{"Subnet": "10.238.0.0/24"}]})
    ranges = [{"Subnet": "10.238.0.0/24", "IPRange": "10.238.0.128/25"}]
    refused = ask(api, "again", "bridge", IPAM={"Config": ranges}).expect(403)
    assert refused.message.startswith("cannot create network ")
    assert refused.message.endswith(
        f": conflicts with network {made} (br-{made[:12]}): networks have overlapping IPv4"
    )
    wide = [{"Subnet": "10.238.0.0/16", "IPRange": "10.238.7.0/24"}]
    refused = ask(api, "again", "bridge", IPAM={"Config": wide}).expect(403)
    assert "networks have overlapping IPv4" in refused.message
