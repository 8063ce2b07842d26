"""Ports kept by sockets, against the kernel."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proad.host.filterelements import Source
from proad.host.ports import PortReserver, PortTaken, ReservedPorts
from proad.host.socketbox import make_box, put_in_box
from proad.model import errors
from proad.model.ports import PortRequest


def wish(first: int = 0, last: int = 0, protocol: str = "tcp", host_ip: str = "0.0.0.0") -> PortRequest:
    return PortRequest(
        container_port=80, protocol=protocol, host_ips=tuple(host_ip.split()), first=first, last=last or first
    )


def listening(address: str, port: int, *, reuse: bool = True) -> socket.socket:
    server = socket.socket()
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        server.bind((address, port))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def host_ports(reserved: ReservedPorts) -> list[int]:
    return [port.host_port for port in reserved.ports]


@pytest.fixture
def reserver() -> PortReserver:
    return PortReserver((18300, 18303))


def test_a_reserved_port_is_nobody_elses_and_never_takes_a_connection(reserver: PortReserver) -> None:
    with reserver.reserve([wish(18310)]) as reserved:
        assert [(p.host_ip, p.host_port, p.container_port) for p in reserved.ports] == [
            ("0.0.0.0", 18310, 80)
        ]
        for address in ("0.0.0.0", "127.0.0.1"):
            with pytest.raises(OSError, match="in use"):
                listening(address, 18310)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 18310))
    listening("127.0.0.1", 18310).close()


def test_a_copy_of_the_descriptor_keeps_the_port(reserver: PortReserver) -> None:
    reserved = reserver.reserve([wish(18311)])
    copy = os.dup(reserved.fds()[0])
    reserved.close()
    reserved.close()
    with pytest.raises(PortTaken):
        reserver.reserve([wish(18311)])
    os.close(copy)
    reserver.reserve([wish(18311)]).close()


def test_what_another_program_has_is_refused(reserver: PortReserver) -> None:
    with (
        listening("127.0.0.1", 18312),
        pytest.raises(
            PortTaken, match=r"failed to bind host port 0\.0\.0\.0:18312/tcp: address already in use"
        ),
    ):
        reserver.reserve([wish(18312)])
    with pytest.raises(PortTaken, match=r"192\.0\.2\.200:18312/tcp: cannot assign requested address"):
        reserver.reserve([wish(18312, host_ip="192.0.2.200")])


def test_what_a_container_has_is_refused_in_dockers_words(reserver: PortReserver) -> None:
    taken = {Source("tcp", "127.0.0.1", 18313)}
    with pytest.raises(PortTaken, match=r"Bind for 127\.0\.0\.1:18313 failed: port is already allocated"):
        reserver.reserve([wish(18313, host_ip="127.0.0.1")], taken)
    held = listening("127.0.0.1", 18313)
    with pytest.raises(PortTaken, match=r"Bind for 0\.0\.0\.0:18313 failed: port is already allocated"):
        reserver.reserve([wish(18313)], taken)
    held.close()
    sctp = {Source("sctp", "127.0.0.1", 18313)}
    with pytest.raises(PortTaken, match=r"Bind for 0\.0\.0\.0:18313 failed: port is already allocated"):
        reserver.reserve([wish(18313, protocol="sctp")], sctp)
    reserver.reserve([wish(18313, protocol="udp")], taken).close()
    reserver.reserve([wish(18313, host_ip="127.0.0.2")], taken).close()
    with pytest.raises(PortTaken):
        reserver.reserve([wish(18313, host_ip="127.0.0.2")], {Source("tcp", "0.0.0.0", 18313)})


def test_all_or_nothing(reserver: PortReserver) -> None:
    with pytest.raises(PortTaken):
        reserver.reserve([wish(18314), wish(18314)])
    listening("0.0.0.0", 18314).close()


def test_a_range_gives_its_first_free_port(reserver: PortReserver) -> None:
    with (
        listening("0.0.0.0", 18315),
        reserver.reserve([wish(18315, 18317), wish(18315, 18317)]) as reserved,
    ):
        assert host_ports(reserved) == [18316, 18317]
        with pytest.raises(PortTaken):
            reserver.reserve([wish(18315, 18317)])


def test_a_range_that_containers_have_is_refused_in_dockers_words(reserver: PortReserver) -> None:
    taken = {Source("tcp", "0.0.0.0", port) for port in (18315, 18316)}
    with pytest.raises(PortTaken, match=r"^all ports are allocated$"):
        reserver.reserve([wish(18315, 18316)], taken)
    with (
        listening("0.0.0.0", 18317),
        pytest.raises(PortTaken, match=r"0\.0\.0\.0:18317/tcp: address already"),
    ):
        reserver.reserve([wish(18315, 18317)], taken)


def test_chosen_ports_go_round_their_range(reserver: PortReserver) -> None:
    for expected in (18300, 18301, 18302):
        with reserver.reserve([wish()]) as reserved:
            assert host_ports(reserved) == [expected]
    with listening("0.0.0.0", 18303), reserver.reserve([wish(), wish(), wish()]) as reserved:
        assert host_ports(reserved) == [18300, 18301, 18302]
        with pytest.raises(PortTaken):
            reserver.reserve([wish()])


def test_a_port_with_closed_connections_can_be_reserved(reserver: PortReserver) -> None:
    """A web server was stopped a moment ago: its connections are in TIME_WAIT for a minute."""
    server = listening("0.0.0.0", 18318)
    asking = socket.create_connection(("127.0.0.1", 18318))
    answering, _ = server.accept()
    answering.close()
    assert asking.recv(1) == b"", "the server is the one that closed first"
    asking.close()
    server.close()
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("0.0.0.0", 18318))
    with reserver.reserve([wish(18318)]):
        for reuse in (False, True):
            with pytest.raises(OSError, match="in use"):
                listening("0.0.0.0", 18318, reuse=reuse)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 18318))


def test_udp_and_sctp(reserver: PortReserver) -> None:
    with reserver.reserve(
        [wish(18319, protocol="udp"), wish(18319, protocol="sctp"), wish(18319)]
    ) as reserved:
        assert [port.protocol for port in reserved.ports] == ["udp", "sctp", "tcp"]
        with socket.socket(type=socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
            other.bind(("0.0.0.0", 18319))


def test_one_port_of_both_families(reserver: PortReserver) -> None:
    with reserver.reserve([wish(18320, host_ip="0.0.0.0 ::")]) as reserved:
        assert [(p.host_ip, p.host_port) for p in reserved.ports] == [("0.0.0.0", 18320), ("::", 18320)]
        assert len(reserved.fds()) == 2
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as other, pytest.raises(OSError, match="in use"):
                other.bind((address, 18320))
    listening("0.0.0.0", 18320).close()


def test_the_families_do_not_take_ports_from_each_other(reserver: PortReserver) -> None:
    with reserver.reserve([wish(18321)]), reserver.reserve([wish(18321, host_ip="::")]):
        pass
    taken = {Source("tcp", "127.0.0.1", 18321)}
    reserver.reserve([wish(18321, host_ip="::")], taken).close()
    with pytest.raises(PortTaken, match=r"Bind for \[::1\]:18321 failed: port is already allocated"):
        reserver.reserve([wish(18321, host_ip="::1")], {Source("tcp", "::", 18321)})


def test_a_chosen_port_is_free_in_both_families(reserver: PortReserver) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 18300))
        with reserver.reserve([wish(host_ip="0.0.0.0 ::")]) as reserved:
            assert host_ports(reserved) == [18301, 18301]
    listening("0.0.0.0", 18300).close()


def test_closed_connections_of_ipv6_do_not_hold_a_port(reserver: PortReserver) -> None:
    server = socket.create_server(("::1", 18322), family=socket.AF_INET6)
    asking = socket.create_connection(("::1", 18322))
    answering, _ = server.accept()
    answering.close()
    assert asking.recv(1) == b""
    asking.close()
    server.close()
    reserver.reserve([wish(18322, host_ip="0.0.0.0 ::")]).close()


# --- kept by a process that does not know of them -----------------------------------------------------------


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[bytes]"]]:
    """A box, its path longer than a socket's can be, and a process that has inherited it."""
    path = tmp_path / ("long" * 30) / "box"
    path.parent.mkdir()
    with make_box(path) as box:
        process = subprocess.Popen(["sleep", "600"], pass_fds=[box.fileno()])
    yield path, process
    process.kill()
    process.wait()


def test_what_is_put_in_a_box_is_kept_until_its_holder_ends(
    reserver: PortReserver, keeper: tuple[Path, "subprocess.Popen[bytes]"]
) -> None:
    path, process = keeper
    last = "127.0.1.250"
    many = [wish(18320, host_ip=" ".join(f"127.0.{net}.{host}" for net in (0, 1) for host in range(1, 251)))]
    datagrams = [wish(18320, protocol="udp")]
    for requests in (many, datagrams):
        with reserver.reserve(requests) as reserved:
            put_in_box(path, reserved.sockets)
    for request in (wish(18320, host_ip="127.0.0.1"), wish(18320, host_ip=last), *datagrams):
        with pytest.raises(PortTaken):
            reserver.reserve([request])
    process.kill()
    process.wait()
    with (
        reserver.reserve([*many, *datagrams]) as reserved,
        pytest.raises(errors.System, match=r"box: Connection refused"),
    ):
        put_in_box(path, reserved.sockets)
    with pytest.raises(errors.System, match="Address already in use"):
        make_box(path)


def test_a_box_that_is_not_there_or_full_is_said(
    reserver: PortReserver, keeper: tuple[Path, "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    with reserver.reserve([wish(18321)]) as reserved:
        with pytest.raises(errors.System, match="No such file"):
            put_in_box(tmp_path / "none", reserved.sockets)
        with pytest.raises(errors.System, match="temporarily unavailable"):  # noqa: PT012
            while True:
                put_in_box(keeper[0], reserved.sockets)
