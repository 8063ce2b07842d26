"""Trio-flavoured. Writes a run's ``/etc/hosts``, ``/etc/resolv.conf`` and ``/etc/hostname`` beside its
container.
"""

import os
from pathlib import Path

from proad.config import Config
from proad.engine.resources import RunPaths
from proad.model.container import Container
from proad.model.etcfiles import (
    extra_hosts,
    host_hosts_text,
    hostname_text,
    hosts_text,
    resolv_text,
    uses_resolved_stub,
)
from proad.model.links import LinkedContainer
from proad.model.network import Endpoint

HOSTS = Path("/etc/hosts")
RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")


def write_etc_files(
    config: Config,
    container: Container,
    endpoint: Endpoint | None,
    linked: list[LinkedContainer],
    paths: RunPaths,
    host_gateway: str,
) -> None:
    """Write the three files; ``endpoint`` is None where the container has no interface of its own.

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
            address=endpoint.address if endpoint else "",
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
    _write(paths.resolv_conf, resolv_conf)


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
