"""Trio-flavoured. Names on networks of one's own: who is called what, and a resolver for each run.

On the default bridge nobody has a name. On every other network a container is known by its name, its short
id, its hostname and the aliases that it has there; a run with at least one such network has a resolver at
127.0.0.11, and its ``resolv.conf`` says so.
"""

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

from proad.config import Config
from proad.engine.etc import host_nameservers
from proad.engine.names import Names
from proad.engine.resolvers import Resolvers, Upstream, View
from proad.host.dnssockets import DnsSockets, lay_resolver, lay_resolver_in
from proad.model.container import Container, Run
from proad.model.names import dns_names
from proad.model.network import Endpoint, EndpointSettings
from proad.store.db import Store


class Naming:
    """Keeps names and resolvers in step with endpoints."""

    def __init__(self, config: Config, store: Store, names: Names, resolvers: Resolvers) -> None:
        self._config = config
        self._store = store
        self._names = names
        self._resolvers = resolvers

    # --- names ------------------------------------------------------------------------------------------

    def join(self, container: Container, endpoint: Endpoint) -> None:
        """Answer to the container's names on the endpoint's network, if names are for it."""
        if not endpoint.has_names:
            return
        wish = container.networks.get(endpoint.network, EndpointSettings())
        found = (endpoint.address, endpoint.ipv6_address)
        self._names.join(
            endpoint.network_id,
            endpoint.endpoint_id,
            network_name=endpoint.network,
            names=dns_names(container, wish),
            canonical=container.name,
            addresses=[ip_address(address) for address in found if address],
        )

    def leave(self, endpoint: Endpoint) -> None:
        self._names.leave(endpoint.network_id, endpoint.endpoint_id)

    def renamed(self, container: Container) -> None:
        """The container has a new name: its endpoints answer to that at once, and no more to the old one."""
        for endpoint in container.run.endpoints if container.run is not None else ():
            if endpoint.has_names:
                wish = container.networks.get(endpoint.network, EndpointSettings())
                names = dns_names(container, wish)
                self._names.rename(endpoint.endpoint_id, names=names, canonical=container.name)

    # --- resolvers --------------------------------------------------------------------------------------

    def prepare(self, run: Run) -> Callable[[], DnsSockets] | None:
        """What lays a resolver in the run's new namespace; None where the run shall have none."""
        return lay_resolver if self.resolves(run) else None

    def resolves(self, run: Run) -> bool:
        """Whether the run has a resolver of ours."""
        return any(endpoint.has_names for endpoint in run.endpoints)

    def serve(self, container: Container, run: Run, sockets: DnsSockets) -> None:
        """Begin to answer a run's questions."""
        self._resolvers.open(run.id, sockets, self._view(container, run))

    async def renew(self, container: Container, run: Run) -> None:
        """A run's endpoints have changed, or an earlier daemon has made them: answer accordingly.

        Raises:
            errors.System: the run's namespace cannot be entered.
        """
        if not self.resolves(run):
            self._resolvers.close(run.id)
        elif run.id in self._resolvers:
            self._resolvers.update(run.id, self._view(container, run))
        else:
            self.serve(container, run, await lay_resolver_in(Path(run.netns)))

    def stop(self, run_id: str) -> None:
        self._resolvers.close(run_id)

    def _view(self, container: Container, run: Run) -> View:
        asked = container.host_config.dns or list(self._config.dns)
        upstreams = [Upstream(server, in_container=True) for server in asked] or [
            Upstream(server, in_container=False) for server in host_nameservers()
        ]
        return View(
            networks=tuple(endpoint.network_id for endpoint in run.endpoints if endpoint.has_names),
            links=self._links(container, run.endpoints),
            upstreams=tuple(upstreams),
            forwards=any(not self._is_internal(endpoint) for endpoint in run.endpoints),
        )

    def _is_internal(self, endpoint: Endpoint) -> bool:
        network = self._store.networks.get(endpoint.network_id)
        return network is not None and network.internal

    def _links(self, container: Container, endpoints: Iterable[Endpoint]) -> dict[str, str]:
        """Aliases that only this container knows, and the names that they stand for."""
        links = {link.alias: self._name_of(link.id, link.name) for link in container.links}
        for endpoint in endpoints:
            for wish in container.networks.get(endpoint.network, EndpointSettings()).links or ():
                target, _, alias = wish.partition(":")
                links[alias or target] = target
        return links

    def _name_of(self, container_id: str, name: str) -> str:
        container = self._store.containers.get(container_id)
        return container.name if container is not None else name
