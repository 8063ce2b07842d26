"""Trio-flavoured. Writes a run's ``/etc/hosts``, ``/etc/resolv.conf`` and ``/etc/hostname`` beside its
container, and keeps the first two in step with its networks.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import structlog

from proad.config import Config
from proad.engine.runpaths import RunPaths
from proad.model.container import Container
from proad.model.etcfiles import (
    FALLBACK_NAMESERVERS,
    extra_hosts,
    host_hosts_text,
    hostname_text,
    hosts_text,
    nameservers,
    resolv_text,
    uses_resolved_stub,
    with_own_addresses,
    with_resolver,
    without_resolver,
)
from proad.model.links import LinkedContainer
from proad.model.network import Endpoint, own_addresses

HOSTS = Path("/etc/hosts")
RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")

MAX_BYTES = 1 << 20
"""Containers write into these files as much as they like; a bigger one is left alone."""

log = structlog.get_logger(__name__)


def write_etc_files(
    config: Config,
    container: Container,
    addresses: Sequence[str],
    linked: list[LinkedContainer],
    paths: RunPaths,
    host_gateway: str,
    *,
    resolver: bool,
) -> None:
    """Write the three files.

    ``addresses`` are the container's own; ``resolver`` says that the daemon's resolver answers inside it.

    Raises:
        errors.InvalidParameter: an extra host is malformed.
        OSError: the disk is full, or fails.
    """
    asked = container.host_config
    shares_host_network = asked.network_mode == "host"
    extra = extra_hosts(asked.extra_hosts, host_gateway)
    if shares_host_network:
        hosts = host_hosts_text(_read(HOSTS), extra)
    else:
        hosts = hosts_text(
            addresses=addresses,
            hostname=container.config.hostname,
            domainname=container.config.domainname,
            extra=extra,
            links=[(peer.address, peer.host_names) for peer in linked],
        )
    resolv_conf = resolv_text(
        _host_resolv_conf(),
        dns=asked.dns or config.dns,
        search=asked.dns_search or config.dns_search,
        options=asked.dns_options or config.dns_options,
        shares_host_network=shares_host_network,
    )
    _write(paths.hostname, hostname_text(container.config.hostname))
    _write(paths.hosts, hosts)
    _write(paths.resolv_conf, with_resolver(resolv_conf) if resolver else resolv_conf)


def rewrite_for_networks(
    container: Container, endpoints: Iterable[Endpoint], paths: RunPaths, *, resolver: bool
) -> None:
    """Have a running container's files say what networks it is on by now; a failure is only logged.

    What the container, or somebody for it, has written into them stays.
    """
    hosts = partial(
        with_own_addresses,
        addresses=own_addresses(endpoints),
        hostname=container.config.hostname,
        domainname=container.config.domainname,
        extra=container.host_config.extra_hosts,
    )
    _edit(container, paths.hosts, hosts)
    _edit(container, paths.resolv_conf, with_resolver if resolver else without_resolver)


def host_nameservers() -> list[str]:
    """Return the servers that this host asks, such as answer on its loopback among them."""
    return nameservers(_read(RESOLV_CONF)) or list(FALLBACK_NAMESERVERS)


def _edit(container: Container, path: Path, edit: Callable[[str], str]) -> None:
    try:
        if path.stat().st_size > MAX_BYTES:
            log.warning("file too big to be changed", container=container.id, path=str(path))
            return
        text = _read(path)
        if (edited := edit(text)) != text:
            _write(path, edited)
    except OSError as error:
        log.warning("file not changed", container=container.id, path=str(path), error=str(error))


def _host_resolv_conf() -> str:
    text = _read(RESOLV_CONF)
    return _read(RESOLVED_RESOLV_CONF) if uses_resolved_stub(text) else text


def _write(path: Path, text: str) -> None:
    """In place: a run that another container joined has the file mounted. A file object would cost more than
    the writing.
    """
    data = text.encode(errors="surrogateescape")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return ""
