"""Sync, blocking. The daemon's own nftables table: address translation and isolation of a bridge.

One table of family ``ip``; nobody else's rules are touched. A published port is one element of one map, so
the rules never change while containers come and go, and a packet costs a lookup however many ports there
are:

    map    tcp_any      host port                -> container address . port      (bound to 0.0.0.0)
    map    tcp_bound    host address . host port -> container address . port      likewise udp_*, sctp_*
    chain  guard        prerouting, before everything: nothing from the bridge to 127.0.0.0/8
    chain  prerouting   to an address of the host, from elsewhere: look it up in the maps
    chain  output       the same for what the host itself sends
    chain  postrouting  masquerade: out of the subnet, back into it by a published port, in from 127.0.0.0/8
    chain  forward      into the bridge only from itself, in answer, or by a published port

Table and rules go through libnftables in the process, ports through messages of their own; each change is one
transaction of the kernel.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import nftables

from proad.host.nftelements import Element, ElementWriter
from proad.model import errors
from proad.model.ports import PROTOCOLS, PublishedPort

ANY_ADDRESS = "0.0.0.0"
_FILL = bytes(2)  # a concatenated port has four bytes


@dataclass(frozen=True)
class Source:
    """Where a published port is reached; ``address`` is 0.0.0.0 for every address of the host."""

    protocol: str
    address: str
    port: int

    @property
    def map_name(self) -> str:
        return f"{self.protocol}_{'any' if self.address == ANY_ADDRESS else 'bound'}"

    @property
    def packed(self) -> bytes:
        """The key in its map."""
        port = self.port.to_bytes(2, "big")
        return port if self.address == ANY_ADDRESS else IPv4Address(self.address).packed + port + _FILL

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Target:
    """Where a published port leads: a container's address and port."""

    address: str
    port: int

    @property
    def packed(self) -> bytes:
        return IPv4Address(self.address).packed + self.port.to_bytes(2, "big") + _FILL


Published = Mapping[Source, Target]


def published_of(address: str, ports: Iterable[PublishedPort]) -> dict[Source, Target]:
    """Return what ``ports`` of the container at ``address`` are in the maps."""
    return {
        Source(port.protocol, port.host_ip, port.host_port): Target(address, port.container_port)
        for port in ports
    }


def _element(source: Source, target: Target) -> Element:
    return Element(source.map_name, source.packed, target.packed, str(source))


def _open_library() -> nftables.Nftables:
    """libnftables, its socket kept out of the programs that we start: it opens it without close-on-exec."""
    before = set(os.listdir("/proc/self/fd"))
    library = nftables.Nftables()
    for descriptor in set(os.listdir("/proc/self/fd")) - before:
        with contextlib.suppress(OSError):  # that of the listing itself
            os.set_inheritable(int(descriptor), False)
    return library


class Firewall:
    """The table, and a mirror of its maps.

    Use by one thread at a time. All methods raise :exc:`errors.System` where the kernel refuses a change;
    none of it has been carried out then.
    """

    def __init__(self, table: str, bridge: str) -> None:
        """Open libnftables; nothing is changed.

        Raises:
            errors.Unavailable: the library is not installed.
        """
        try:
            self._nft = _open_library()
        except OSError as error:
            raise errors.Unavailable(f"libnftables is missing ({error}); install libnftables1") from error
        self._elements = ElementWriter(table)
        self._table = table
        self._bridge = bridge
        self._published: dict[Source, Target] = {}

    @property
    def published(self) -> Published:
        return self._published

    def open(self, subnet: IPv4Network) -> None:
        """Make the table be there with the rules for ``subnet``, and read what its maps hold.

        A table that has these rules is left alone; otherwise they are exchanged in one transaction that
        does not touch the maps, so published ports answer all the time.
        """
        rules = _rules(self._bridge, subnet)
        mark = hashlib.sha256(repr(rules).encode()).hexdigest()[:16]
        listing = self._listing()
        if not _carries(listing, rules, mark):
            self._run(_table_commands(self._table, rules, mark))
        self._published = _published_in(listing)

    def read(self) -> None:
        """Read what the maps hold; there may be no table."""
        self._published = _published_in(self._listing())

    def publish(self, ports: Published) -> None:
        """Add ports; a leftover of the same host address and port is replaced."""
        if ports:
            self._exchange(self._leftovers(ports), ports)

    def withdraw(self, ports: Published) -> None:
        """Take ports away; what is not there, or leads elsewhere by now, is no error and stays."""
        present = {
            source: target for source, target in ports.items() if self._published.get(source) == target
        }
        if present:
            self._exchange(present, {})

    def reconcile(self, wanted: Published) -> tuple[int, int]:
        """Make the maps, as :meth:`open` read them, be what ``wanted`` says; what is right is not touched.

        Returns how many elements were removed and added.
        """
        stale = {source: target for source, target in self._published.items() if wanted.get(source) != target}
        missing = {
            source: target for source, target in wanted.items() if self._published.get(source) != target
        }
        if stale or missing:
            self._exchange(stale, missing)
        return len(stale), len(missing)

    def delete(self) -> None:
        """Delete the table; one that is not there is no error."""
        self._run(f"add table ip {self._table}\ndelete table ip {self._table}\n")
        self._published = {}

    def _leftovers(self, ports: Published) -> dict[Source, Target]:
        return {source: self._published[source] for source in ports if source in self._published}

    def _exchange(self, old: Published, new: Published) -> None:
        self._elements.exchange(
            [_element(source, target) for source, target in old.items()],
            [_element(source, target) for source, target in new.items()],
        )
        for source in old:
            del self._published[source]
        self._published.update(new)

    def _run(self, commands: str) -> str:
        code, output, error = self._nft.cmd(commands)
        if code != 0:
            first = error.strip().partition("\n")[0]
            raise errors.System(f"nftables table {self._table}: {first}")
        return str(output)

    def _listing(self) -> list[dict[str, Any]]:
        """Return the table's objects as in libnftables-json(5); none where there is no table."""
        self._nft.set_json_output(True)
        try:
            code, output, error = self._nft.cmd(f"list table ip {self._table}")
        finally:
            self._nft.set_json_output(False)
        if code != 0:
            if "No such file or directory" in error:
                return []
            raise errors.System(f"nftables table {self._table}: {error.strip()}")
        objects: list[dict[str, Any]] = json.loads(output)["nftables"]
        return objects


def _carries(listing: list[dict[str, Any]], rules: Mapping[str, "Chain"], mark: str) -> bool:
    """Whether each chain has all its rules, by our mark on them; someone may have flushed one."""
    found = dict.fromkeys(rules, 0)
    for item in listing:
        rule = item.get("rule")
        if rule is None:
            continue
        if rule["chain"] not in found or rule.get("comment") != mark:
            return False
        found[rule["chain"]] += 1
    return all(found[name] == len(chain.rules) for name, chain in rules.items())


def _published_in(listing: list[dict[str, Any]]) -> dict[Source, Target]:
    published = {}
    for item in listing:
        entry = item.get("map")
        if entry is None:
            continue
        protocol = entry["name"].partition("_")[0]
        for key, value in entry.get("elem", ()):
            address, port = key["concat"] if isinstance(key, dict) else (ANY_ADDRESS, key)
            published[Source(protocol, address, port)] = Target(*value["concat"])
    return published


# --- the rules ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chain:
    """A chain's hook, empty for one that is jumped to, and its rules in order."""

    hook: str
    rules: tuple[str, ...]


def _rules(bridge: str, subnet: IPv4Network) -> dict[str, Chain]:
    to_containers = f'oifname "{bridge}"'
    return {
        "publish": Chain(
            "",
            tuple(
                f"dnat ip to {key} map @{protocol}_{kind}"
                for protocol in PROTOCOLS
                for kind, key in (
                    ("bound", f"ip daddr . {protocol} dport"),
                    ("any", f"{protocol} dport"),
                )
            ),
        ),
        # Ports published on 127.0.0.1 need route_localnet on the bridge, which would also let containers at
        # services of the host that listen there (CVE-2020-8558).
        "guard": Chain(
            "type filter hook prerouting priority raw; policy accept;",
            (f'iifname "{bridge}" ip daddr 127.0.0.0/8 drop',),
        ),
        # Translation comes before the kernel's check for martians: a neighbour's packet to 127.0.0.1 would
        # get through to a port published there only (https://github.com/moby/moby/issues/45610).
        "prerouting": Chain(
            "type nat hook prerouting priority dstnat; policy accept;",
            (
                'iifname != "lo" ip daddr 127.0.0.0/8 return',
                "fib daddr type local jump publish",
            ),
        ),
        "output": Chain(
            "type nat hook output priority -100; policy accept;",
            ("fib daddr type local jump publish",),
        ),
        # A container that reaches another, or itself, by a published port must see the answer come back the
        # same way, so it gets the bridge's address as the source.
        "postrouting": Chain(
            "type nat hook postrouting priority srcnat; policy accept;",
            (
                f"{to_containers} ip saddr 127.0.0.0/8 masquerade",
                f"{to_containers} ip saddr {subnet} ct status dnat masquerade",
                f'oifname != "{bridge}" ip saddr {subnet} masquerade',
            ),
        ),
        "forward": Chain(
            "type filter hook forward priority filter; policy accept;",
            (
                f'iifname "{bridge}" {to_containers} accept',
                f"{to_containers} ct state established,related accept",
                f"{to_containers} ct status dnat accept",
                f"{to_containers} drop",
            ),
        ),
    }


def _table_commands(table: str, chains: Mapping[str, Chain], mark: str) -> str:
    """Everything in one transaction; adding what is there already changes nothing."""
    commands = [f"add table ip {table}"]
    for protocol in PROTOCOLS:
        target = "ipv4_addr . inet_service"
        commands += [
            f"add map ip {table} {protocol}_any {{ type inet_service : {target}; }}",
            f"add map ip {table} {protocol}_bound {{ type ipv4_addr . inet_service : {target}; }}",
        ]
    for name, chain in chains.items():
        commands.append(
            f"add chain ip {table} {name} {{ {chain.hook} }}"
            if chain.hook
            else f"add chain ip {table} {name}"
        )
        commands.append(f"flush chain ip {table} {name}")
    for name, chain in chains.items():
        commands += [f'add rule ip {table} {name} {rule} comment "{mark}"' for rule in chain.rules]
    return "\n".join(commands) + "\n"
