"""The default bridge for real: namespaces, nftables and packets, with network namespaces as other hosts."""

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterable, Iterator
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from proad.config import AddressPool, Config
from proad.engine import hostrouting
from proad.engine.addresses import Addresses
from proad.engine.bridges import Bridges
from proad.engine.endpoints import Endpoints
from proad.engine.heldports import HeldPorts
from proad.engine.hostrouting import HostRouting
from proad.engine.locks import Locks
from proad.engine.names import Names
from proad.engine.naming import Naming
from proad.engine.networkcontrol import NetworkControl
from proad.engine.networkrepair import NetworkRepair
from proad.engine.networks import Networks
from proad.engine.passage import Passage
from proad.engine.resolvers import Resolvers
from proad.host import netlink, netns, sandbox, sysctls
from proad.host.firewall import BridgeRules, Firewall, Port, Published
from proad.host.foreignfirewall import ForeignFirewalls
from proad.model import errors
from proad.model.container import Container, Run, Status
from proad.model.hostconfig import ContainerConfig, HostConfig, PortBinding
from proad.model.network import Endpoint, EndpointSettings, is_interface_name
from proad.store.db import open_store
from tests.support.belongings import output_of
from tests.support.whose import own_directory, own_name

from .netlab import Lab, ask, client, inside, is_reachable, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

POOL = AddressPool("10.212.0.0/16", 24)


class Parts:
    """What the engine has of networking, as a daemon that has just been started finds it."""

    def __init__(self, site: "Site", nursery: trio.Nursery) -> None:
        config, store = site.config, site.store
        self.site = site
        self.networks, self.firewall = Networks(config, store), Firewall(config.table)
        addresses, names = Addresses(self.networks), Names()
        routing = HostRouting(config, store, self.firewall)
        bridges = Bridges(config, self.firewall, routing)
        naming = Naming(config, store, names, Resolvers(names, nursery))
        ports = HeldPorts(config, self.networks, self.firewall)
        self.endpoints = Endpoints(config, self.networks, addresses, self.firewall, naming, ports, nursery)
        passage = Passage(config, self.networks, ForeignFirewalls(config.table))
        control = NetworkControl(config, store, self.networks, bridges, self.endpoints, addresses, passage)
        self.repair = NetworkRepair(
            config, store, Locks(), self.networks, control, bridges, self.endpoints, self.firewall, passage,
            routing,
        )  # fmt: skip

    async def start(self, who: Container) -> Endpoint:
        """Attach as a start does; no monitor is there to keep the ports' sockets, so they are closed."""
        run_id = os.urandom(16).hex()
        path = self.site.config.exec_root / "netns" / run_id
        with (plan := self.endpoints.plan(who, Run(id=run_id, begun_ns=0, netns=str(path)))).reserved:
            try:
                await self.endpoints.attach(who, plan.run)
            except BaseException:
                await self.endpoints.detach(plan.run)
                raise
        self.site.runs.append(plan.run)
        return plan.run.endpoints[0]

    async def detach(self, endpoint: Endpoint) -> None:
        await self.endpoints.detach(Run(id="x", begun_ns=0, netns=endpoint.netns, endpoints=(endpoint,)))

    async def recover(self, live: Callable[[], Iterable[Run]]) -> None:
        await self.repair.recover(live)


class Site:
    """A daemon's networking with a bridge, table and directories of its own; driven from plain functions."""

    def __init__(self, **settings: Any) -> None:
        self.root = own_directory()
        name = own_name("pt")
        given: dict[str, Any] = {"bridge": name, "table": name, "default_address_pools": (POOL,), **settings}
        self.config = Config(hosts=(), data_root=self.root / "data", exec_root=self.root / "run", **given)
        self.config.data_root.mkdir()
        self.store = open_store(
            self.config.data_root / "state.db", events_max_count=1000, events_max_age_s=3600
        )
        self.firewall = Firewall(self.config.table)
        self.runs: list[Run] = []

    def run(self, work: Callable[[Parts], Coroutine[Any, Any, Any]]) -> Any:
        """Run ``work`` with the parts as a daemon that has just been started finds them."""

        async def main() -> Any:
            async with trio.open_nursery() as nursery:
                parts = Parts(self, nursery)
                parts.repair.open()
                for run in self.runs:
                    parts.endpoints.adopt(container(), run)
                result = await work(parts)
                nursery.cancel_scope.cancel()
            return result

        try:
            return trio.run(main)
        except BaseExceptionGroup as group:
            raise unwrap(group) from group

    def attach(self, **host_config: Any) -> Endpoint:
        endpoint = self.run(lambda parts: parts.start(container(**host_config)))
        assert isinstance(endpoint, Endpoint)
        return endpoint

    def detach(self, endpoint: Endpoint) -> None:
        self.runs = [run for run in self.runs if endpoint not in run.endpoints]
        self.run(lambda parts: parts.detach(endpoint))

    def close(self) -> None:
        for path in netns.kept(self.config.exec_root / "netns"):
            netns.remove(path)
        netlink.delete_links(
            [*filter(is_interface_name, netlink.ports_of(self.config.bridge)), self.config.bridge]
        )
        self.firewall.delete()
        self.store.close()
        shutil.rmtree(self.root)


def unwrap(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def container(name: str = "web", mac: str = "", **host_config: Any) -> Container:
    return Container(
        id=os.urandom(32).hex(),
        name=name,
        created_ns=0,
        image_id="",
        image_ref="",
        layers=(),
        config=ContainerConfig(),
        host_config=HostConfig(**host_config),
        networks={"bridge": EndpointSettings(mac_address=mac)},
    )


def publishing(port: str, host_port: str = "", host_ip: str = "") -> dict[str, tuple[PortBinding, ...]]:
    return {port: (PortBinding(host_ip=host_ip, host_port=host_port),)}


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


# --- endpoints ------------------------------------------------------------------------------------------


def test_an_endpoint_has_address_route_loopback_and_the_mac_of_its_address(site: Site) -> None:
    endpoint = site.attach()
    assert (endpoint.address, endpoint.prefix_length, endpoint.gateway) == ("10.212.0.2", 24, "10.212.0.1")
    assert endpoint.mac_address == "02:42:0a:d4:00:02"
    link = inside(endpoint.netns, lambda: netlink.find_link("eth0"))
    assert link is not None
    assert link.is_up
    assert link.addresses == (IPv4Interface("10.212.0.2/24"),)
    loopback = inside(endpoint.netns, lambda: netlink.find_link("lo"))
    assert loopback is not None
    assert loopback.is_up
    with serving(endpoint.netns, "tcp", 80):
        assert ask(None, "tcp", endpoint.address, 80) == endpoint.gateway
    assert endpoint.mac_address in Path("/proc/net/arp").read_text()


def test_a_fixed_mac_address_is_honoured(site: Site) -> None:
    endpoint = site.run(lambda parts: parts.start(container(mac="92:D0:C6:0A:29:33")))
    assert endpoint.mac_address == "92:d0:c6:0a:29:33"
    with serving(endpoint.netns, "tcp", 80):
        ask(None, "tcp", endpoint.address, 80)
    assert endpoint.mac_address in Path("/proc/net/arp").read_text()
    with pytest.raises(errors.InvalidParameter, match="invalid MAC address"):
        site.run(lambda parts: parts.start(container(mac="92:d0")))


def test_containers_reach_each_other_and_addresses_rest_after_use(site: Site) -> None:
    async def three(parts: Parts) -> None:
        first, second = [await parts.start(container()) for _ in range(2)]
        with serving(first.netns, "tcp", 80):
            assert ask(second.netns, "tcp", first.address, 80) == second.address
        await parts.detach(first)
        third = await parts.start(container())
        assert [e.address for e in (first, second, third)] == ["10.212.0.2", "10.212.0.3", "10.212.0.4"]

    site.run(three)


def test_detach_takes_everything_and_may_come_twice(site: Site) -> None:
    endpoint = site.attach(port_bindings=publishing("80/tcp", "18080"))

    async def detach_twice(parts: Parts) -> None:
        await parts.detach(endpoint)
        await parts.detach(endpoint)
        await eventually(lambda: not netlink.ports_of(site.config.bridge))

    site.run(detach_twice)
    assert not Path(endpoint.netns).exists()
    assert endpoint.netns not in Path("/proc/self/mountinfo").read_text()
    assert not opened(site).published


def test_a_namespace_that_somebody_still_holds_loses_its_interface(site: Site) -> None:
    endpoint = site.attach()
    held = os.open(endpoint.netns, os.O_RDONLY)
    try:

        async def detach(parts: Parts) -> None:
            await parts.detach(endpoint)
            await eventually(lambda: not netlink.ports_of(site.config.bridge))

        site.run(detach)
    finally:
        os.close(held)


def test_a_failed_attachment_leaves_nothing(site: Site) -> None:
    async def attach_without_a_bridge(parts: Parts) -> None:
        netlink.delete_links([site.config.bridge])
        with pytest.raises(errors.System, match=r"bridge|interface"):
            await parts.start(container(port_bindings=publishing("80/tcp", "18081")))
        assert netns.kept(site.config.exec_root / "netns") == set()
        assert str(site.root) not in Path("/proc/self/mountinfo").read_text()
        assert not parts.firewall.published
        assert not parts.endpoints.live

    site.run(attach_without_a_bridge)


def test_none_has_loopback_only(site: Site) -> None:
    path = site.config.exec_root / "netns" / "alone"
    alone = Run(id="alone", begun_ns=0, netns=str(path))

    async def make(parts: Parts) -> None:
        await parts.endpoints.attach(container(network_mode="none"), alone)

    site.run(make)
    names = inside(path, lambda: {line.split(":")[0].strip() for line in proc_net_dev()})
    assert "lo" in names
    assert "eth0" not in names
    with serving(path, "tcp", 80):
        assert ask(path, "tcp", "127.0.0.1", 80) == "127.0.0.1"

    async def remove_twice(parts: Parts) -> None:
        await parts.endpoints.detach(alone)
        await parts.endpoints.detach(alone)

    site.run(remove_twice)
    assert not path.exists()


def proc_net_dev() -> list[str]:
    return Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]


def opened(site: Site) -> Firewall:
    """A firewall that has read the kernel's maps just now."""
    link = netlink.find_link(site.config.bridge)
    assert link is not None
    firewall = Firewall(site.config.table)
    subnets = tuple(address.network for address in link.addresses if address.version == 4)
    firewall.open([BridgeRules(site.config.bridge, subnets, internal=False, icc=True, masquerade=True)])
    return firewall


# --- published ports ------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_answers_host_neighbours_and_containers(site: Site, lab: Lab, protocol: str) -> None:
    neighbour = lab.host("neighbour")
    server = site.attach(port_bindings=publishing(f"80/{protocol}", "18080"))
    other = site.attach()
    with serving(server.netns, protocol, 80):
        assert ask(None, protocol, "127.0.0.1", 18080) == server.gateway
        assert is_reachable(None, protocol, lab.address, 18080)
        assert is_reachable(None, protocol, server.gateway, 18080)
        assert ask(neighbour.netns, protocol, lab.address, 18080) == neighbour.address
        assert is_reachable(other.netns, protocol, lab.address, 18080), "another container"
        assert is_reachable(other.netns, protocol, server.gateway, 18080), "another container by the gateway"
        assert is_reachable(server.netns, protocol, lab.address, 18080), "the container itself (hairpin)"
    site.detach(server)
    assert not is_reachable(neighbour.netns, protocol, lab.address, 18080)


def test_a_port_bound_to_one_address_answers_there_only(site: Site, lab: Lab) -> None:
    neighbour = lab.host("neighbour")
    server = site.attach(
        port_bindings={
            "80/tcp": (
                PortBinding(host_ip="127.0.0.1", host_port="18082"),
                PortBinding(host_ip=lab.address, host_port="18083"),
            )
        }
    )
    with serving(server.netns, "tcp", 80):
        assert is_reachable(None, "tcp", "127.0.0.1", 18082)
        assert not is_reachable(None, "tcp", lab.address, 18082)
        assert not is_reachable(neighbour.netns, "tcp", lab.address, 18082)
        assert is_reachable(neighbour.netns, "tcp", lab.address, 18083)
        assert not is_reachable(None, "tcp", "127.0.0.1", 18083)


def test_a_neighbour_cannot_reach_what_is_published_on_127_0_0_1(site: Site, lab: Lab) -> None:
    neighbour = lab.host("neighbour")
    server = site.attach(port_bindings=publishing("80/tcp", "18084", "127.0.0.1"))

    def send_loopback_out() -> None:
        Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
        subprocess.run(["ip", "address", "flush", "dev", "lo"], check=True)

    inside(neighbour.netns, send_loopback_out)
    with serving(server.netns, "tcp", 80):
        assert is_reachable(None, "tcp", "127.0.0.1", 18084)
        assert not is_reachable(neighbour.netns, "tcp", "127.0.0.1", 18084)


def test_containers_cannot_reach_services_on_the_hosts_loopback(site: Site) -> None:
    guest = site.attach()

    def send_loopback_out() -> None:
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
        subprocess.run(["ip", "address", "flush", "dev", "lo"], check=True)

    inside(guest.netns, send_loopback_out)
    with serving(None, "tcp", 18085, "127.0.0.1"):
        assert not is_reachable(guest.netns, "tcp", "127.0.0.1", 18085)


def test_an_interface_is_watched_from_before_it_is_there_until_it_is_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is in the namespace already, or still, never sends in others' names."""
    told: list[tuple[str, str, bool]] = []
    admit, dismiss = Firewall.admit, Firewall.dismiss

    def note(what: str, interface: str) -> None:
        told.append((what, interface, bool(netlink.links_present([interface]))))

    def admit_noted(self: Firewall, port: Port | None, published: Published) -> None:
        if port is not None:
            note("admit", port.host_interface)
        admit(self, port, published)

    def dismiss_noted(self: Firewall, interface: str | None, published: Published) -> None:
        if interface is not None:
            note("dismiss", interface)
        dismiss(self, interface, published)

    monkeypatch.setattr(Firewall, "admit", admit_noted)
    monkeypatch.setattr(Firewall, "dismiss", dismiss_noted)
    who = container()

    async def live(parts: Parts) -> tuple[Endpoint, Endpoint]:
        first = await parts.start(who)
        run, network = site.runs.pop(), parts.networks.find("bridge")
        second = parts.endpoints.plan_one(who, run, network, EndpointSettings(), run.endpoints)
        both = await parts.endpoints.plug(who, replace(run, endpoints=(first, second)), second)
        run = await parts.endpoints.unplug(who, replace(both, endpoints=(first,)), second)
        held = os.open(run.netns, os.O_RDONLY)  # as by another container that shares it
        try:
            await parts.endpoints.detach(run)
            with trio.fail_after(5):
                while parts.endpoints.attached:
                    await trio.sleep(0.02)
        finally:
            os.close(held)
        return first, second

    first, second = site.run(live)
    assert told[1:] == [
        ("admit", second.host_interface, False),
        ("dismiss", second.host_interface, False),
        ("dismiss", first.host_interface, False),
    ]


def test_hardware_that_is_plugged_in_later_is_kept_apart_from_the_rest(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysctls, "forwards", lambda version: False)
    monkeypatch.setattr(netlink, "host_links", lambda: {"eth0": "", "tun0": "tun"})

    def apart() -> list[str]:
        listing = ["nft", "-j", "list", "set", "inet", site.config.table, "strangers4"]
        shown = json.loads(subprocess.run(listing, check=True, capture_output=True).stdout)
        return sorted(shown["nftables"][1]["set"].get("elem", []))

    async def nothing(parts: Parts) -> None:
        pass

    async def recover(parts: Parts) -> None:
        assert apart() == ["eth0", "tun0"]
        monkeypatch.setattr(netlink, "host_links", lambda: {"eth0": "", "eth1": "", "virbr0": "bridge"})
        await parts.recover(list)
        assert apart() == ["eth0", "eth1", "tun0"]

    site.run(nothing)
    monkeypatch.setattr(sysctls, "forwards", lambda version: True)
    site.run(recover)
    site.run(nothing)
    assert apart() == ["eth0", "eth1", "tun0"]
    monkeypatch.setattr(hostrouting, "boot_id", lambda: "another")
    site.run(nothing)
    assert apart() == []


def test_an_unpublished_port_is_not_reachable_by_routing(site: Site, lab: Lab) -> None:
    neighbour = lab.host("neighbour")
    server = site.attach(port_bindings=publishing("80/tcp", "18086"))
    with serving(server.netns, "tcp", 80), serving(server.netns, "tcp", 81):
        assert is_reachable(neighbour.netns, "tcp", lab.address, 18086)
        assert not is_reachable(neighbour.netns, "tcp", server.address, 81)
        assert not is_reachable(neighbour.netns, "tcp", server.address, 80), (
            "published, but not by this address"
        )


def test_what_containers_send_out_has_the_hosts_address(site: Site, lab: Lab) -> None:
    neighbour = lab.host("neighbour")
    guest = site.attach()
    with serving(neighbour.netns, "tcp", 80):
        assert ask(guest.netns, "tcp", neighbour.address, 80) == lab.address


def test_two_bridges_reach_each_other_by_published_ports_only(site: Site, lab: Lab) -> None:
    second = Site(default_address_pools=(AddressPool("10.213.0.0/16", 24),))
    try:
        here, there = site.attach(), second.attach(port_bindings=publishing("80/tcp", "18087"))
        with serving(there.netns, "tcp", 80):
            assert not is_reachable(here.netns, "tcp", there.address, 80)
            assert is_reachable(here.netns, "tcp", lab.address, 18087)
    finally:
        second.close()


def test_a_udp_client_that_keeps_sending_follows_the_published_port(site: Site, lab: Lab) -> None:
    """It is one flow to the kernel; each change of where the port leads must make it forget the flow."""
    neighbour = lab.host("neighbour")
    with client(neighbour.netns, "udp") as asking:
        asking.settimeout(0.2)

        def answered() -> bool:
            asking.sendto(b"?", (lab.address, 18088))
            try:
                return asking.recv(100) != b""
            except OSError:
                return False

        assert not answered()

        async def publish_and_serve(parts: Parts) -> None:
            first = await parts.start(container(port_bindings=publishing("80/udp", "18088")))
            with serving(first.netns, "udp", 80):
                await eventually(answered)
            await parts.detach(first)
            site.runs.clear()
            second = await parts.start(container(port_bindings=publishing("80/udp", "18088")))
            assert second.address != first.address
            with serving(second.netns, "udp", 80):
                await eventually(answered)

        site.run(publish_and_serve)


async def eventually(holds: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not await trio.to_thread.run_sync(holds):
            await trio.sleep(0.02)


def test_a_taken_port_is_refused_in_dockers_words(site: Site) -> None:
    site.attach(port_bindings=publishing("80/tcp", "18089"))

    async def again(parts: Parts) -> None:
        with pytest.raises(errors.StartFailed) as caught:
            await parts.start(container("second", port_bindings=publishing("80/tcp", "18089")))
        text = caught.value.message
        assert text.startswith("driver failed programming external connectivity on endpoint second (")
        assert text.endswith("): Bind for 0.0.0.0:18089 failed: port is already allocated")

    site.run(again)


# --- recovery -------------------------------------------------------------------------------------------


def test_an_address_pool_is_chosen_around_the_hosts_routes() -> None:
    with Lab() as lab:
        site = Site(default_address_pools=(AddressPool("10.211.76.0/22", 24),))
        try:
            endpoint = site.attach()
            assert str(lab.gateway.network) == "10.211.77.0/24"
            assert endpoint.gateway == "10.211.76.1"
            second = Site(default_address_pools=site.config.default_address_pools)
            try:
                assert second.attach().gateway == "10.211.78.1"
            finally:
                second.close()
        finally:
            site.close()


def test_a_restarted_daemon_adopts_bridge_table_and_traffic(site: Site, lab: Lab) -> None:
    neighbour = lab.host("neighbour")
    server = site.attach(port_bindings=publishing("80/tcp", "18090"))
    before = netlink.find_link(site.config.bridge)
    with serving(server.netns, "tcp", 80), client(neighbour.netns, "tcp") as connection:
        connection.connect((lab.address, 18090))
        site.run(lambda parts: parts.recover(lambda: site.runs))
        assert netlink.find_link(site.config.bridge) == before
        assert connection.recv(100).decode() == neighbour.address
        assert is_reachable(neighbour.netns, "tcp", lab.address, 18090)
    assert site.attach().address != server.address


def test_recovery_frees_what_nobody_owns_and_nothing_else(site: Site) -> None:
    kept = site.attach(port_bindings=publishing("80/tcp", "18091"))
    left = site.attach(port_bindings=publishing("80/tcp", "18092"))
    site.runs = [run for run in site.runs if kept in run.endpoints]
    orphan = site.config.exec_root / "netns" / "orphan"
    orphan.touch()

    site.run(lambda parts: parts.recover(lambda: site.runs))

    assert netns.kept(site.config.exec_root / "netns") == {Path(kept.netns)}
    assert netlink.ports_of(site.config.bridge) == {kept.host_interface}
    assert {source.port for source in opened(site).published} == {18091}
    assert left.netns not in Path("/proc/self/mountinfo").read_text()


def test_recovery_spares_a_start_that_is_under_way(site: Site) -> None:
    """Its record has a run id and no endpoint yet."""

    async def recover(parts: Parts) -> None:
        endpoint = await parts.start(container())
        under_way = [replace(run, endpoints=(), netns="") for run in site.runs]
        await parts.recover(lambda: under_way)
        assert Path(endpoint.netns).exists()
        assert netlink.ports_of(site.config.bridge) == {endpoint.host_interface}

    site.run(recover)


def test_recovery_brings_no_rules_back_of_what_is_being_unplugged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def recover_in_between(parts: Parts) -> None:
        who = container()
        endpoint = await parts.start(who)
        [run] = site.runs
        unplug = sandbox.unplug

        async def recover_and_unplug(path: Path, interface: str, gateways: sandbox.Gateways) -> None:
            await parts.recover(lambda: site.runs)
            await unplug(path, interface, gateways)

        monkeypatch.setattr(sandbox, "unplug", recover_and_unplug)
        await parts.endpoints.unplug(who, replace(run, endpoints=()), endpoint)
        assert netlink.ports_of(site.config.bridge) == set()
        assert parts.endpoints.attached == []
        site.runs.clear()
        assert endpoint.host_interface not in output_of("nft", "list", "table", "bridge", site.config.table)

    site.run(recover_in_between)


def test_recovery_mends_what_others_tore_down(site: Site, lab: Lab) -> None:
    neighbour = lab.host("neighbour")
    server = site.attach(port_bindings=publishing("80/tcp", "18093"))
    site.firewall.delete()
    netlink.delete_links([site.config.bridge])

    def put_records() -> None:
        with site.store.transaction() as tx:
            who = container(port_bindings=publishing("80/tcp", "18093"))
            tx.put_container(replace(who, status=Status.RUNNING, run=site.runs[0]))

    put_records()
    site.run(lambda parts: parts.recover(lambda: site.runs))
    with serving(server.netns, "tcp", 80):
        assert is_reachable(neighbour.netns, "tcp", lab.address, 18093)


def test_a_changed_bip_waits_until_the_bridge_is_free(site: Site) -> None:
    endpoint = site.attach()
    site.config = dataclasses.replace(site.config, bip="10.214.0.1/24")
    assert site.attach().gateway == "10.212.0.1"
    for run in list(site.runs):
        site.detach(run.endpoints[0])
    netlink.delete_links(filter(is_interface_name, netlink.ports_of(site.config.bridge)))
    assert site.attach().gateway == "10.214.0.1"
    assert endpoint.gateway == "10.212.0.1"


def test_a_name_that_is_no_bridges_is_refused(site: Site, lab: Lab) -> None:
    name = lab.host("neighbour").interface
    mine = site.config
    site.config = dataclasses.replace(mine, bridge=name)
    try:
        with pytest.raises(errors.Unavailable, match="no bridge"):
            site.attach()
    finally:
        site.config = mine
