"""Sync, blocking. Where registries are, and whom to trust there: endpoints, certificates, proxies.

Looking a host up and reading certificates take their time: call it in a thread.

Certificates of a registry lie in ``<directory>/<host:port>/``: ``*.crt`` are authorities trusted beside the
system's, ``*.cert`` with ``*.key`` a certificate that says who we are, as Docker has them
(https://docs.docker.com/engine/security/certificates/).
"""

import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from proad.model import errors
from proad.model.reference import DEFAULT_DOMAIN

HUB = "registry-1.docker.io"
CERTIFICATE_DIRECTORIES = (Path("/etc/docker/certs.d"), Path("/etc/proa/certs.d"))
ALWAYS_INSECURE = ("127.0.0.0/8", "::1/128")
"""What never leaves this machine."""


@dataclass(frozen=True)
class Endpoint:
    """One way to a registry: ``url`` is scheme and host, without a slash at the end."""

    url: str
    is_mirror: bool = False

    @property
    def is_plain(self) -> bool:
        return self.url.startswith("http://")


class RegistryHosts:
    """What the configuration and this machine say of registries."""

    def __init__(
        self,
        *,
        insecure: Sequence[str] = (),
        mirrors: Sequence[str] = (),
        nondistributable: Sequence[str] = (),
        certificate_directories: Sequence[Path] = CERTIFICATE_DIRECTORIES,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._insecure = _HostList((*insecure, *ALWAYS_INSECURE, "localhost"))
        self._nondistributable = _HostList(nondistributable)
        self._mirrors = [mirror.rstrip("/") for mirror in mirrors]
        self._directories = certificate_directories
        self._proxies = _proxies(os.environ if environment is None else environment)
        self._verifying: ssl.SSLContext | None = None

    def endpoints(self, domain: str, *, mirrors: bool = True) -> list[Endpoint]:
        """The ways to the registry of a reference's domain, in the order in which they are tried."""
        if domain == DEFAULT_DOMAIN:
            found = [Endpoint(url, is_mirror=True) for url in self._mirrors if mirrors]
            return [*found, Endpoint(f"https://{HUB}")]
        found = [Endpoint(f"https://{domain}")]
        if self.is_insecure(domain):
            found.append(Endpoint(f"http://{domain}"))
        return found

    def is_insecure(self, host: str) -> bool:
        """Whether ``host[:port]`` is spoken to without TLS, or with whatever certificate it has."""
        return self._insecure.has(host)

    def takes_foreign_layers(self, host: str) -> bool:
        """Whether layers that are not for everybody to hand on may be pushed to ``host[:port]``."""
        return self._nondistributable.has(host)

    def tls(self, host: str) -> ssl.SSLContext:
        """How to speak TLS with a registry ``host[:port]``; with an empty one, with everybody else.

        Raises:
            errors.System: a certificate laid down for it cannot be read.
        """
        directories = [path for root in self._directories if host and (path := root / host).is_dir()]
        if not host or not (directories or self.is_insecure(host)):
            if self._verifying is None:  # reading the system's authorities takes 20 ms
                self._verifying = ssl.create_default_context()
            return self._verifying
        context = ssl.create_default_context()
        if self.is_insecure(host):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for directory in directories:
            _add_certificates(context, directory)
        return context

    def proxy(self, url: str) -> str | None:
        """The proxy that the environment has for a URL; None where there is none, or not for this host."""
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        if not proxy or _stays_here(parts.hostname or ""):
            return None
        if urllib.request.proxy_bypass_environment(parts.netloc, self._proxies):  # type: ignore[attr-defined]
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


class _HostList:
    """Hosts by name, with a port or for all of them, and by the networks that their addresses are in."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._networks = [network for entry in entries if (network := _network(entry))]
        self._hosts = {entry for entry in entries if not _network(entry)}

    def has(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        if host in self._hosts or name in self._hosts:
            return True
        if not self._networks:
            return False
        return any(address in network for address in _addresses(name) for network in self._networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in text:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _addresses(name: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(name)]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):  # unreachable, or known to the proxy alone
        return []
    return [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


def _add_certificates(context: ssl.SSLContext, directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                key = path.with_suffix(".key")
                if not key.exists():
                    raise errors.System(
                        f"missing key {key.name} for client certificate {path.name}. "
                        "CA certificates must use the extension .crt"
                    )
                context.load_cert_chain(path, key)
            elif path.suffix == ".key" and not path.with_suffix(".cert").exists():
                raise errors.System(
                    f"missing client certificate {path.with_suffix('.cert').name} for key {path.name}"
                )
        except OSError as error:  # ssl.SSLError is one
            raise errors.System(f"cannot use {path}: {error}") from error


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """``http``, ``https``, ``all`` and ``no`` of the environment, names in small letters winning."""
    found = {}
    for wanted in ("http", "https", "all", "no"):
        name = f"{wanted}_proxy"
        value = environment.get(name) or environment.get(name.upper(), "")
        if wanted == "http" and "REQUEST_METHOD" in environment:
            value = environment.get(name, "")  # a header of a request can be named HTTP_PROXY then
        if value:
            found[wanted] = value
    return found


def _stays_here(name: str) -> bool:
    """Go's rule, and Docker's with it: no proxy for this machine itself."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
