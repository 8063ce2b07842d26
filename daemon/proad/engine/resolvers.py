"""Trio-flavoured. The resolvers of all runs that have one."""

import structlog
import trio

from proad.engine.forwarding import Forwarder, Upstream
from proad.engine.names import Names
from proad.engine.resolver import Resolver, Turns, View
from proad.host.dnssockets import DnsSockets

__all__ = ["Resolvers", "Upstream", "View"]

PAUSE_S = 1.0

log = structlog.get_logger(__name__)


class Resolvers:
    """Keeps a resolver for each run that is given sockets for one."""

    def __init__(self, names: Names, nursery: trio.Nursery) -> None:
        self._names = names
        self._nursery = nursery
        self._forwarder = Forwarder()
        self._turns = Turns()
        self._resolvers: dict[str, Resolver] = {}

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._resolvers

    def open(self, run_id: str, sockets: DnsSockets, view: View) -> None:
        """Begin to answer; the sockets are closed with the resolver. An earlier one of the run ends."""
        self.close(run_id)
        resolver = Resolver(sockets, view, self._names, self._forwarder, self._turns)
        self._resolvers[run_id] = resolver
        self._nursery.start_soon(self._serve, run_id, resolver)

    def update(self, run_id: str, view: View) -> None:
        """Answer by another view; a run without a resolver is no error."""
        if (resolver := self._resolvers.get(run_id)) is not None:
            resolver.show(view)

    def close(self, run_id: str) -> None:
        """Stop answering, and let go of the run's network namespace; no resolver is no error."""
        if (resolver := self._resolvers.pop(run_id, None)) is not None:
            resolver.close()

    async def _serve(self, run_id: str, resolver: Resolver) -> None:
        while not resolver.is_closed:
            try:
                await resolver.serve()
            except Exception:
                log.exception("a resolver has failed, and goes on", run=run_id)
                await trio.sleep(PAUSE_S)
