"""A host that was no router before it had containers."""

import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from proad.host import sysctls
from tests.conftest import _close, _needs_root
from tests.support.daemon import Daemon
from tests.support.hostpair import FAR, FAR6, HOST, HOST6, NEIGHBOUR, NEIGHBOUR6, HostDaemon, HostPair
from tests.support.nethosts import answering, inside, reaches

SUBNETS = [{"Subnet": "10.227.1.0/24"}, {"Subnet": "fd4e:7072:6f72::/64"}]
MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def host() -> Iterator[HostPair]:
    """One with two neighbours, that forwards nothing."""
    _needs_root()
    with HostPair() as pair:
        pair.add_far()
        for switch in sysctls.FORWARDING.values():
            inside(pair.host, partial(switch.write_text, "0"))
        yield pair


@pytest.fixture
def start(host: HostPair) -> Iterator[MakeDaemon]:
    """Start a daemon on it, with a network of both families."""
    made: list[Daemon] = []

    def make(*arguments: str) -> Daemon:
        made.append(HostDaemon(host, *arguments).start())
        body = {"Name": "both", "EnableIPv6": True, "IPAM": {"Config": SUBNETS}}
        made[-1].api("POST", "/networks/create", json_body=body).expect(201)
        return made[-1]

    yield make
    for daemon in made:
        _close(daemon)


def routed(host: HostPair) -> list[bool]:
    """Whether the neighbours reach each other by the host: by IPv4, by IPv6."""
    with answering(host.far, "tcp", 80), answering(host.far, "tcp", 80, "::"):
        return [reaches(host.neighbour, "tcp", address, 80) for address in (FAR, FAR6)]


def run(daemon: Daemon) -> Path:
    """Run a container that publishes its port 80; returns its namespace."""
    body = {
        "Image": daemon.import_busybox(),
        "Cmd": ["sleep", "1000"],
        "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {"NetworkMode": "both", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
    }
    made = daemon.api("POST", "/containers/create", json_body=body).expect(201).json["Id"]
    daemon.api("POST", f"/containers/{made}/start").expect(204)
    shown = daemon.api("GET", f"/containers/{made}/json").expect(200).json
    return Path(f"/proc/{shown['State']['Pid']}/ns/net")


def test_it_becomes_one_for_its_containers_alone(host: HostPair, start: MakeDaemon) -> None:
    assert routed(host) == [False, False]
    daemon = start()
    assert routed(host) == [False, False]
    container = run(daemon)
    with (
        answering(host.neighbour, "tcp", 80),
        answering(host.neighbour, "tcp", 80, "::"),
        answering(container, "tcp", 80),
        answering(container, "tcp", 80, "::"),
    ):
        assert [reaches(container, "tcp", address, 80) for address in (NEIGHBOUR, NEIGHBOUR6)] == [True, True]
        assert [reaches(host.far, "tcp", address, 8080) for address in (HOST, HOST6)] == [True, True]
    daemon.kill()
    daemon.start()
    assert routed(host) == [False, False], "a later daemon knows"


def test_it_keeps_its_own_way_out(host: HostPair, start: MakeDaemon) -> None:
    """One that a router on its network has advertised, which routers themselves do not heed."""
    host.ip(host.neighbour.name, "address add fe80::99/64 dev eth0 nodad")
    advertise(host, lifetime_s=1800)
    until(lambda: "proto ra" in host.on_host("ip -6 route show default"))
    start()
    assert "proto ra" in host.on_host("ip -6 route show default")
    advertise(host, lifetime_s=0)
    until(lambda: "proto ra" not in host.on_host("ip -6 route show default"))


def advertise(host: HostPair, lifetime_s: int) -> None:
    """Have the neighbour say that it is a router (RFC 4861, section 4.2)."""
    sending = inside(
        host.neighbour, partial(socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    )
    with sending:
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        index = int(host.on_neighbour("cat /sys/class/net/eth0/ifindex"))
        sending.bind(("fe80::99", 0, 0, index))
        advertisement = struct.pack("!2BH2BHII", 134, 0, 0, 64, 0, lifetime_s, 0, 0)
        sending.sendto(advertisement, ("ff02::1", 0, 0, index))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_stays_none_without_any_bridge(host: HostPair, start: MakeDaemon) -> None:
    daemon = start("--bridge", "none")
    daemon.remove_networks()
    daemon.restart()
    assert routed(host) == [False, False]


def test_what_others_make_later_is_routed(host: HostPair, start: MakeDaemon) -> None:
    host.on_host("ip link delete far0")
    start()
    subprocess.run(["ip", "netns", "delete", host.far.name], check=True)
    host.add_far()
    assert routed(host) == [True, True]


def test_one_that_was_a_router_stays_one(host: HostPair, start: MakeDaemon) -> None:
    for switch in sysctls.FORWARDING.values():
        inside(host.host, partial(switch.write_text, "1"))
    start()
    assert routed(host) == [True, True]


def test_whoever_wants_a_router_says_so(host: HostPair, start: MakeDaemon) -> None:
    start("--ip-forward-no-drop")
    assert routed(host) == [True, True]
