"""Trio-flavoured. Legacy links of the default bridge: which containers see which others, by what alias.

A link is made at create and kept in its holder's record. It follows its target by id: the target may be
renamed, restarted, given another address. A holder that runs while the target starts again has the new
address put into its hosts file.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import structlog

from proad.engine.lookup import find_container
from proad.model import errors
from proad.model.container import Container
from proad.model.endpointcheck import is_user_defined
from proad.model.etcfiles import with_host_at, without_host
from proad.model.hostconfig import HostConfig
from proad.model.links import Link, LinkedContainer, link_environment, parse_link
from proad.store.db import Store

MAX_HOSTS_BYTES = 1 << 20
"""Containers write into their own hosts file as much as they like; a bigger one is left alone."""

log = structlog.get_logger(__name__)

HostsOf = Callable[[str], Path]
"""Where the hosts file of the container with an id is."""


def make_links(store: Store, host_config: HostConfig, earlier: Iterable[Link] = ()) -> tuple[Link, ...]:
    """Return the links of a container: ``earlier`` ones, then those that its HostConfig asks for.

    On a network of one's own there are none: the endpoint's settings have what is a name there, of a
    container that may come later. The first that claims an alias keeps it. A target that shares another
    container's network stands for that one.

    Raises:
        errors.InvalidParameter: a link names no container, or one on the host's network.
    """
    links = {link.alias: link for link in earlier}
    if is_user_defined(host_config.network_mode):
        return tuple(links.values())
    for wish in map(parse_link, host_config.links):
        target = _find_target(store, wish.source)
        while target.host_config.network_mode.startswith("container:"):
            target = _find_target(store, target.host_config.network_mode.removeprefix("container:"))
        if target.host_config.network_mode == "host":
            raise errors.InvalidParameter(
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            )
        links.setdefault(wish.alias, Link(target.id, target.name, wish.alias))
    return tuple(links.values())


def _find_target(store: Store, ref: str) -> Container:
    try:
        return find_container(store, ref)
    except errors.NotFound as error:
        # The status 404 would have clients look for the image.
        raise errors.InvalidParameter(f"could not get container for {ref}: {error.message}") from error


# --- start ------------------------------------------------------------------------------------------------


def find_linked(store: Store, holder: Container) -> list[LinkedContainer]:
    """What the links of a container on the default bridge show it of others, as they are now.

    Raises:
        errors.InvalidParameter: a linked container does not run, is gone, or is not on the default bridge.
    """
    return [_linked(store, holder, link) for link in holder.links]


def linked_environment(holder: Container, linked: list[LinkedContainer]) -> list[str]:
    return [variable for target in linked for variable in link_environment(holder.name, target)]


def _linked(store: Store, holder: Container, link: Link) -> LinkedContainer:
    target = store.containers.get(link.id)
    if target is None or target.run is None or not target.status.has_process:
        name = target.name if target is not None else link.name
        raise errors.InvalidParameter(
            f"Cannot link to a non running container: /{name} AS /{holder.name}/{link.alias}"
        )
    if target.run.default_endpoint is None:
        raise errors.InvalidParameter(
            f"Cannot link to /{target.name}, as it does not belong to the default network"
        )
    ports = {*target.config.exposed_ports, *target.host_config.port_bindings}
    return LinkedContainer(
        alias=link.alias,
        name=target.name,
        hostname=target.config.hostname,
        address=target.run.default_endpoint.address,
        ports=tuple(sorted(ports)),
        env=target.config.env,
    )


# --- holders that run -------------------------------------------------------------------------------------


def tell_holders(store: Store, target_id: str, address: str, hosts_of: HostsOf) -> None:
    """Put the address that a container has got into the hosts files of those that run and link to it."""
    for holder, link in _holders(store, target_id):
        _edit_hosts(holder, hosts_of, partial(with_host_at, name=link.alias, address=address))


def forget_linked(holder: Container, link: Link, hosts_of: HostsOf) -> None:
    """Take what a link stands for out of its holder's hosts file, if that runs."""
    _edit_hosts(holder, hosts_of, partial(without_host, name=link.alias))


def _holders(store: Store, target_id: str) -> Iterator[tuple[Container, Link]]:
    for holder in store.containers.values():
        for link in holder.links:
            if link.id == target_id:
                yield holder, link


def _edit_hosts(holder: Container, hosts_of: HostsOf, edit: Callable[[str, str], str]) -> None:
    """Change a running container's hosts file in place, for it is mounted; a failure is only logged."""
    if holder.run is None or holder.run.default_endpoint is None or not holder.status.has_process:
        return
    path = hosts_of(holder.id)
    try:
        if path.stat().st_size > MAX_HOSTS_BYTES:
            log.warning("hosts file too big to be changed", container=holder.id, path=str(path))
            return
        text = path.read_text(errors="surrogateescape")
        if (edited := edit(text, holder.run.default_endpoint.address)) != text:
            path.write_text(edited, errors="surrogateescape")
    except OSError as error:
        log.warning("hosts file not changed", container=holder.id, error=str(error))
