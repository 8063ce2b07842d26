"""Trio-flavoured. Network namespaces of runs, and the interfaces in them.

    sockets = await create_sandbox(path, interfaces, gateways, prepare=lay_resolver)
    await plug(path, another, gateways)            # while processes are inside
    await unplug(path, "eth1", gateways)

What may take long on a busy host (the kernel has one lock for all links) is done in the thread that entering
a namespace needs anyway.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from pathlib import Path
from typing import Literal, TypeVar

import trio
from pyroute2.netlink.rtnl import RTM_GETROUTE
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from proad.host import linkmessages, netns, sysctls
from proad.host.linkmessages import AF_INET, AF_INET6, LOOPBACK_INDEX
from proad.host.netlink import delete_links, index_of
from proad.host.netlinksocket import DUMP, NetlinkSocket, Request, encode

AF_UNSPEC = 0
IP6_RT_PRIO_USER = 1024  # what IPv6 says where IPv4 says nothing
CARRIER_TIMEOUT_S = 1.0
CARRIER_PAUSE_S = 0.0002

Kind = Literal["veth", "macvlan", "ipvlan"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Interface:
    """One interface to be made in a namespace.

    ``veth`` is a pair: ``host_interface`` is the end here, a port of the bridge ``master``, which may send a
    packet back to where it came from with ``hairpin``. ``macvlan`` and ``ipvlan`` lie on a link of the host,
    ``master``; their ``mode`` and ``flag`` are as Docker names them, blank for the usual ones. Where ``mtu``
    is 0 or the MAC address blank, the kernel chooses.
    """

    name: str
    kind: Kind
    host_interface: str = ""
    master: str
    mode: str = ""
    flag: str = ""
    mtu: int
    mac_address: str = ""
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    hairpin: bool = False


@dataclass(frozen=True, kw_only=True)
class Gateways:
    """Default routes of a namespace: interface and gateway; a blank gateway is the interface itself."""

    ipv4: tuple[str, str] | None = None
    ipv6: tuple[str, str] | None = None


# --- new namespaces -------------------------------------------------------------------------------------


async def create_sandbox(
    path: Path,
    interfaces: Sequence[Interface],
    gateways: Gateways,
    *,
    prepare: Callable[[], T] | None = None,
    kept: Callable[[], None] | None = None,
) -> T | None:
    """Make a namespace with ``lo`` and configured interfaces, all up; nothing is left where that fails.

    ``kept`` is called, on the loop's thread, as soon as the namespace is there to be joined; its interfaces
    follow. ``prepare`` is called last, in a throw-away thread that is inside; what it returns is returned.

    Raises:
        errors.ProaError: the kernel refused a step; the text says which.
    """
    token = trio.lowlevel.current_trio_token()
    tell = partial(token.run_sync_soon, kept) if kept is not None else None
    return await netns.in_own_thread(lambda: _create(path, interfaces, gateways, prepare, tell))


def _create(
    path: Path,
    interfaces: Sequence[Interface],
    gateways: Gateways,
    prepare: Callable[[], T] | None,
    tell_kept: Callable[[], None] | None,
) -> T | None:
    links = [request for interface in interfaces for request in _links(interface)]
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        netns.unshare_into(path)
        if tell_kept is not None:
            tell_kept()
        try:
            netns.switch_off_ipv6()
            if links:
                host.change(links)
            with NetlinkSocket(socket.NETLINK_ROUTE) as inside:
                inside.change(
                    [
                        linkmessages.link_up(LOOPBACK_INDEX, "lo"),
                        *(request for interface in interfaces for request in _configuration(interface)),
                        *_default_routes(gateways, replace=False),
                    ]
                )
            _let_through(host, interfaces)
            return prepare() if prepare is not None else None
        except BaseException:
            netns.remove(path)  # and with it the links: the namespace ends with this thread
            raise


# --- living namespaces ----------------------------------------------------------------------------------


async def plug(path: Path, interface: Interface, gateways: Gateways) -> None:
    """Add an interface to a namespace that lives; ``gateways`` are the default routes it shall have then.

    Raises:
        errors.ProaError: the kernel refused; the interface is not there.
    """
    await netns.in_own_thread(lambda: _plug(path, interface, gateways))


async def unplug(path: Path, interface_name: str, gateways: Gateways) -> None:
    """Delete an interface of a namespace that lives; ``gateways`` are the default routes it shall have then.

    An interface that is not there is no error.

    Raises:
        errors.ProaError: there is no such namespace, or the kernel refused.
    """
    await netns.in_own_thread(lambda: _unplug(path, interface_name, gateways))


def _plug(path: Path, interface: Interface, gateways: Gateways) -> None:
    link, *settings = _links(interface)
    with NetlinkSocket(socket.NETLINK_ROUTE) as host:
        netns.enter(path)
        with NetlinkSocket(socket.NETLINK_ROUTE) as inside:
            former = _present_default_routes(inside)
            host.change([link])
            try:
                if settings:
                    host.change(settings)
                inside.change([*_configuration(interface), *_default_routes(gateways, replace=True)])
                _let_through(host, [interface])
            except BaseException:
                delete_links([interface.name])
                if former:
                    inside.change(former)
                raise


def _unplug(path: Path, interface_name: str, gateways: Gateways) -> None:
    netns.enter(path)
    # Before the interface goes, so that there is a default route at any time.
    if routes := list(_default_routes(gateways, replace=True)):
        with NetlinkSocket(socket.NETLINK_ROUTE) as inside:
            inside.change(routes)
    delete_links([interface_name])


# --- requests -------------------------------------------------------------------------------------------


def _links(interface: Interface) -> Iterator[Request]:
    """Requests that make an interface, for the thread that calls and goes into the namespace then."""
    master = (index_of(interface.master), interface.master)
    thread_id = threading.get_native_id()
    if interface.kind == "veth":
        yield linkmessages.veth_pair(
            interface.host_interface,
            interface.name,
            bridge=master,
            mtu=interface.mtu,
            mac_address=interface.mac_address,
            thread_id=thread_id,
        )
        if interface.hairpin:
            yield linkmessages.hairpin(interface.host_interface)
    elif interface.kind == "macvlan":
        yield linkmessages.macvlan(
            interface.name,
            parent=master,
            mode=interface.mode,
            mtu=interface.mtu,
            mac_address=interface.mac_address,
            thread_id=thread_id,
        )
    else:
        yield linkmessages.ipvlan(
            interface.name,
            parent=master,
            mode=interface.mode,
            flag=interface.flag,
            mtu=interface.mtu,
            thread_id=thread_id,
        )


def _let_through(host: NetlinkSocket, interfaces: Sequence[Interface]) -> None:
    """See that the bridges have noticed that their new ports have a carrier.

    The kernel tells them when it gets round to it, and drops what is sent until then: a question for a MAC
    address, which is repeated after a second only. Since Linux 6.8 whoever asks for a link is told the
    latest, and so is everybody else (``rtnl_getlink``); before, it takes what it takes on a busy host.
    """
    deadline = time.monotonic() + CARRIER_TIMEOUT_S
    for interface in interfaces:
        pause_s = CARRIER_PAUSE_S
        while interface.kind == "veth" and not _has_carrier(host, interface.host_interface):
            if time.monotonic() > deadline:  # somebody inside has set the other end down again
                return
            time.sleep(pause_s)
            pause_s *= 2


def _has_carrier(host: NetlinkSocket, name: str) -> bool:
    """Whether all know that a link can be used."""
    found = host.get_attributes(linkmessages.get_link(name), linkmessages.LINK_HEADER.size)
    return found[linkmessages.IFLA_OPERSTATE][0] == linkmessages.IF_OPER_UP


def _configuration(interface: Interface) -> Iterator[Request]:
    index = index_of(interface.name)
    if any(address.version == 6 for address in interface.addresses):
        sysctls.set_up_container_ipv6(interface.name)
    yield linkmessages.link_up(index, interface.name)
    for address in interface.addresses:
        yield linkmessages.new_address(index, interface.name, address)


def _default_routes(gateways: Gateways, *, replace: bool) -> Iterator[Request]:
    for family, wanted in ((AF_INET, gateways.ipv4), (AF_INET6, gateways.ipv6)):
        if wanted is not None:
            name, text = wanted
            gateway: IPv4Address | IPv6Address | None = ip_address(text) if text else None
            yield linkmessages.default_route(index_of(name), name, gateway, family=family, replace=replace)


def _present_default_routes(inside: NetlinkSocket) -> list[Request]:
    """Requests that bring back the default routes which others with the usual metric may replace."""
    found = []
    for route in inside.dump(encode("list routes", RTM_GETROUTE, DUMP, rtmsg, {"family": AF_UNSPEC})):
        priority, index = route.get_attr("RTA_PRIORITY"), route.get_attr("RTA_OIF")
        is_default = route["dst_len"] == 0 and route["table"] == linkmessages.RT_TABLE_MAIN
        if is_default and index is not None and priority in (None, IP6_RT_PRIO_USER):
            text, family = route.get_attr("RTA_GATEWAY"), route["family"]
            gateway = ip_address(text) if text else None
            found.append(linkmessages.default_route(index, "", gateway, family=family, replace=True))
    return found
