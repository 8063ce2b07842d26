"""A whole little world for tests of the packet filter, all of it in network namespaces.

with World() as world:
    net = world.network(1)                       # a bridge of the host, with IPv4 and IPv6
    web = world.container(net, 2)                # known to the host's packet filter
    world.publish(web, "tcp", "0.0.0.0", 8080, 80)
    with answering(web.netns, "tcp", 80):
        assert ask(world.neighbour, "tcp", HOST, 8080) == NEIGHBOUR

The host is a namespace too, so its other firewalls, and what bridges hand to iptables, are the test's own.
"""

import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from pathlib import Path

from proad.host import netlink, sysctls
from proad.host.firewall import BridgeRules, Firewall, Port, Published, published_of
from proad.host.foreignfirewall import ForeignFirewalls
from proad.model.network import mac_of
from proad.model.ports import PublishedPort
from tests.support.hostpair import HOST, HOST6, NAMES, NEIGHBOUR, NEIGHBOUR6, HostPair
from tests.support.nethosts import inside

__all__ = ["HOST", "HOST6", "NEIGHBOUR", "NEIGHBOUR6", "TABLE", "Box", "Net", "World"]

TABLE = "filterlab"
READY_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Net:
    """A bridge with 10.9.<number>.0/24 and fd09:<number>::/64, the host being .1."""

    number: int
    rules: BridgeRules

    def address(self, host: int) -> IPv4Address:
        return IPv4Address(f"10.9.{self.number}.{host}")

    def address6(self, host: int) -> IPv6Address:
        return IPv6Address(f"fd09:{self.number}::{host:x}")

    @property
    def gateway(self) -> str:
        return str(self.address(1))

    @property
    def gateway6(self) -> str:
        return str(self.address6(1))


@dataclass
class Box:
    """A container: a namespace with one interface, eth0."""

    name: str
    port: Port
    published: list[PublishedPort] = field(default_factory=list)

    @property
    def netns(self) -> Path:
        return NAMES / self.name

    @property
    def address(self) -> str:
        return str(self.port.addresses[0])

    @property
    def address6(self) -> str:
        return str(self.port.addresses[1])

    @property
    def ports(self) -> Published:
        return published_of(self.address, self.address6, self.published)


class World(HostPair):
    """A host with a packet filter, its networks and containers, and a neighbour that routes by it."""

    def __init__(self, *, bridge_netfilter: bool = False) -> None:
        super().__init__(bridge_netfilter=bridge_netfilter)
        self.nets: list[Net] = []
        self.boxes: list[Box] = []

    def build(self) -> None:
        super().build()
        self.firewall = inside(self.host, lambda: Firewall(TABLE))
        self.foreign = inside(self.host, lambda: ForeignFirewalls(TABLE))
        inside(self.host, lambda: self.firewall.open([]))

    def network(
        self, number: int, *, internal: bool = False, icc: bool = True, masquerade: bool = True
    ) -> Net:
        subnets: tuple[IPv4Network | IPv6Network, ...] = (
            IPv4Network(f"10.9.{number}.0/24"),
            IPv6Network(f"fd09:{number}::/64"),
        )
        rules = BridgeRules(f"br{number}", subnets, internal, icc, masquerade)
        net = Net(number, rules)
        inside(self.host, lambda: self._make_bridge(net))
        self.firewall.set_bridge(rules)
        self.nets.append(net)
        return net

    def _make_bridge(self, net: Net) -> None:
        gateways = [ip_interface(f"{net.gateway}/24"), ip_interface(f"{net.gateway6}/64")]
        netlink.create_bridge(net.rules.bridge, gateways, f"02:42:00:00:00:{net.number:02x}", 1500)
        sysctls.set_up_bridge(net.rules.bridge)

    def container(self, net: Net, number: int, *, strict: bool = True) -> Box:
        name = f"{self.stem}c{net.number}x{number}"
        mac = mac_of(net.address(number))
        veth = f"veth{net.number}x{number}"
        port = Port(veth, net.rules.bridge, mac, (net.address(number), net.address6(number)), strict)
        box = Box(name, port)
        self.add_namespace(name)
        self.ip(
            self._host_name,
            f"link add {veth} type veth peer name eth0 address {mac} netns {name}",
            f"link set {veth} master {net.rules.bridge} up",
            f"link set {veth} type bridge_slave hairpin on",
        )
        inside(box.netns, lambda: sysctls.set_up_container_ipv6("eth0"))
        self.ip(
            name,
            f"address add {box.address}/24 dev eth0",
            f"address add {box.address6}/64 dev eth0 nodad",
            "link set eth0 up",
            *([] if net.rules.internal else _defaults(net)),
        )
        self.boxes.append(box)
        self.firewall.admit(port, {})
        self._wait_until_forwarding(veth)
        return box

    def _wait_until_forwarding(self, veth: str) -> None:
        """The bridge drops what comes before it knows of a carrier, even a question for a MAC address."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while '"state":"forwarding"' not in self.on_host(f"ip -j -d link show dev {veth}"):
            assert time.monotonic() < deadline, f"{veth} does not forward"
            time.sleep(0.01)

    def publish(self, box: Box, protocol: str, address: str, port: int, container_port: int) -> None:
        published = PublishedPort(
            container_port=container_port, protocol=protocol, host_ip=address, host_port=port
        )
        box.published.append(published)
        self.firewall.admit(None, published_of(box.address, box.address6, [published]))


def _defaults(net: Net) -> list[str]:
    return [f"route add default via {net.gateway}", f"route add ::/0 via {net.gateway6}"]
