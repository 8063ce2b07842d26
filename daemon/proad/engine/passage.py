"""Trio-flavoured. The way of all bridges through the host's other firewalls (see ``foreignfirewall``)."""

import trio

from proad.config import Config
from proad.engine.networks import Networks
from proad.host.foreignfirewall import ForeignFirewalls


class Passage:
    """Keeps other firewalls in step with the networks that there are."""

    def __init__(self, config: Config, networks: Networks, foreign: ForeignFirewalls) -> None:
        self._networks = networks
        self._foreign = foreign
        self._lock = trio.Lock()
        self.former_bridge = "" if config.has_bridge else config.own_bridge
        """That of an earlier daemon, for as long as containers live on it; empty for none."""

    @property
    def port_ids(self) -> set[int]:
        """What the kernel calls the sockets that changes of ours come from."""
        return self._foreign.port_ids

    def bridges(self) -> list[str]:
        """The bridges whose traffic is forwarded."""
        names = [network.interface for network in self._networks.all() if network.driver == "bridge"]
        return [*names, self.former_bridge] if self.former_bridge else names

    async def ensure(self) -> bool:
        """Let through what all bridges send, and what is for them; returns whether anything was changed."""
        async with self._lock:
            return await trio.to_thread.run_sync(self._foreign.ensure, self.bridges())
