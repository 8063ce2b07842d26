"""Trio-flavoured. What outlives an endpoint for a moment: its interface, its address, whom it has talked to.

The kernel ends a namespace, and the interfaces with it, in its own time. Until an interface is gone its
address is given to nobody, and the packet filter watches what it sends: a container that shares the namespace
may live on. Before the address goes to another, the kernel forgets the flows that it had.
"""

from collections.abc import Callable, Collection

import structlog
import trio

from proad.host import conntrack, netlink
from proad.model import errors
from proad.model.network import Endpoint, EndpointSettings, Network

SWEEP_AFTER_S = 0.5

log = structlog.get_logger(__name__)


class Lingering:
    """Endpoints whose interfaces are going away by themselves; ``gone`` is called with each that has."""

    def __init__(self, nursery: trio.Nursery, gone: Callable[[Endpoint], None]) -> None:
        self._nursery = nursery
        self._gone = gone
        self._endpoints: dict[str, Endpoint] = {}

    @property
    def endpoints(self) -> Collection[Endpoint]:
        return self._endpoints.values()

    def add(self, endpoint: Endpoint) -> None:
        """An endpoint is over; its namespace may be held by some process yet."""
        if not self._endpoints:
            self._nursery.start_soon(self._sweep)
        self._endpoints[endpoint.endpoint_id] = endpoint

    async def end(self, endpoint: Endpoint) -> None:
        """Its interface is gone now."""
        await _try_to_forget_flows([endpoint])
        self._let_go(endpoint)

    def hurry(self, network: Network, wish: EndpointSettings) -> None:
        """An address that is asked for by name is to be had at once: what still has it goes now.

        Raises:
            errors.System: the kernel refused.
        """
        asked = wish.ipam_config
        wanted = {asked.ipv4_address, asked.ipv6_address} - {""} if asked else set()
        for endpoint in list(self._endpoints.values()) if wanted else ():
            if endpoint.network_id == network.id and wanted & {endpoint.address, endpoint.ipv6_address}:
                netlink.delete_links([endpoint.host_interface] if endpoint.host_interface else [])
                _forget_flows([endpoint])
                self._let_go(endpoint)

    async def _sweep(self) -> None:
        """Delete the interfaces that did not go with their namespaces: some process is still inside."""
        while self._endpoints:
            await trio.sleep(SWEEP_AFTER_S)
            seen = list(self._endpoints.values())
            names = [endpoint.host_interface for endpoint in seen if endpoint.host_interface]
            try:
                await trio.to_thread.run_sync(netlink.delete_links, names)
            except errors.System as error:
                log.error("interface not deleted; recovery tries again", error=error.message)
            await _try_to_forget_flows(seen)
            for endpoint in seen:
                self._let_go(endpoint)

    def _let_go(self, endpoint: Endpoint) -> None:
        if self._endpoints.pop(endpoint.endpoint_id, None) is not None:
            self._gone(endpoint)


async def _try_to_forget_flows(endpoints: Collection[Endpoint]) -> None:
    """Have the kernel forget whom endpoints have talked to; what it does not is said in the log."""
    try:
        await trio.to_thread.run_sync(_forget_flows, endpoints)
    except errors.System as error:
        log.warning("who talked to a container that is gone may reach another", error=error.message)


def _forget_flows(endpoints: Collection[Endpoint]) -> None:
    bridged = [endpoint for endpoint in endpoints if endpoint.driver == "bridge"]
    if addresses := [a for endpoint in bridged for a in (endpoint.address, endpoint.ipv6_address) if a]:
        conntrack.forget_flows_of(addresses)
