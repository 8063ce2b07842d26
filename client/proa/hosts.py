"""Sync, pure. Where the daemon is: the text of -H, PROA_HOST or DOCKER_HOST into an address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proa.errors import BadHost

DEFAULT_HOST = "unix:///run/proa/proa.sock"
DEFAULT_TCP_PORT = 2375


class Host(NamedTuple):
    """A parsed address. `socket_path` is set for unix sockets, otherwise `address` and `port` are."""

    text: str
    socket_path: str = ""
    address: str = ""
    port: int = 0


def choose_host(given: str | None, environment: Mapping[str, str]) -> Host:
    """The first that is set of: `given`, PROA_HOST, DOCKER_HOST, the default socket."""
    text = given or environment.get("PROA_HOST") or environment.get("DOCKER_HOST") or DEFAULT_HOST
    return parse_host(text)


def parse_host(text: str) -> Host:
    """Read `unix:///path`, `/path`, `tcp://address:port` or `http://address:port`.

    Raises BadHost for every other form, saying which are understood.
    """
    if text.startswith("/"):
        return Host(f"unix://{text}", socket_path=text)
    scheme, separator, rest = text.partition("://")
    if scheme == "unix" and rest:
        return Host(text, socket_path=rest)
    if scheme in ("tcp", "http") and rest:
        return _tcp(text, rest.rstrip("/"))
    if separator and scheme in ("ssh", "npipe", "fd", "https"):
        raise BadHost(f"cannot use host {text!r}: {scheme}:// is not supported; use unix:// or tcp://")
    raise BadHost(f"cannot use host {text!r}: give unix:///path/to.sock or tcp://address:port")


def _tcp(text: str, rest: str) -> Host:
    if rest.startswith("["):
        address, _, tail = rest[1:].partition("]")
        port_text = tail.removeprefix(":")
    else:
        address, _, port_text = rest.partition(":")
    if port_text and not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise BadHost(f"cannot use host {text!r}: {port_text!r} is not a port")
    return Host(text, address=address or "127.0.0.1", port=int(port_text or DEFAULT_TCP_PORT))
