"""Sync, pure. The rules of the daemon's nftables tables, which never change, and the sets that they look up.

What varies is in the sets: a network is a few elements of them, an endpoint two, a published port one, and a
packet costs the same look-ups however many there are of each. See ``firewall`` for what goes in.

Table of family ``inet``, all traffic that the host routes:

    chain  guard        prerouting, before everything: what comes from a bridge has an address of its own as
                        source, and is not for 127.0.0.0/8
    chain  prerouting   to an address of the host, from elsewhere: look it up in the maps
    chain  output       the same for what the host itself sends
    chain  postrouting  masquerade: out of a bridge, back into it by a published port, in from 127.0.0.0/8
    chain  input        to the host: nobody elsewhere is a container
    chain  forward      into a bridge only from itself, in answer, by a published port, or to what is open to
                        those that have a route to it

Table of family ``bridge``, what goes from port to port of a bridge, which the host does not route:

    chain  receive      prerouting: a port sends as itself alone; endpoints that are kept apart
    chain  pass         forward: nothing else between endpoints that are kept apart
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from proad.host.nftmessages import BRIDGE, FAMILY_NAMES, INET
from proad.model.ports import PROTOCOLS

PORT_MAPS = tuple(
    f"{protocol}{version}_{kind}" for protocol in PROTOCOLS for version in (4, 6) for kind in ("bound", "any")
)
"""Maps of published ports: the host's port, after its address where one is given, to a container's."""

BRIDGE_SETS = {
    # Our bridges; each with itself, where its endpoints are not kept apart, and where they are; those that
    # nothing enters or leaves.
    "bridges": "type ifname;",
    # The same, for what a route says, which has a type of its own.
    "ways": "typeof fib saddr oifname;",
    "same": "type ifname . ifname;",
    "kept": "type ifname . ifname;",
    "internal": "type ifname;",
    # A bridge with its subnets, and the same of those whose addresses are hidden outside.
    "subnets4": "type ifname . ipv4_addr; flags interval;",
    "subnets6": "type ifname . ipv6_addr; flags interval;",
    "hidden4": "type ifname . ipv4_addr; flags interval;",
    "hidden6": "type ifname . ipv6_addr; flags interval;",
    # The same of those that others have a route to, to what is published there, and to all.
    "routed4": "type ifname . ipv4_addr; flags interval;",
    "routed6": "type ifname . ipv6_addr; flags interval;",
    "unprotected4": "type ifname . ipv4_addr; flags interval;",
    "unprotected6": "type ifname . ipv6_addr; flags interval;",
    # Links that nothing is routed between.
    "strangers4": "type ifname;",
    "strangers6": "type ifname;",
    # ::1, where what is published is reached by it; see ``firewall``.
    "loopback6": "type ipv6_addr;",
}
"""Sets of the ``inet`` table with what bridges there are, and the host's ways."""

OPENED_SETS = {
    "opened4": "type ipv4_addr . inet_proto . inet_service;",
    "opened6": "type ipv6_addr . inet_proto . inet_service;",
}
"""Sets of the ``inet`` table with what others reach at containers' own addresses."""

PATH_SETS = {
    # The same as the links below, for what the host routes back into a bridge, or sees pass there.
    "paths4": "type ipv4_addr . ipv4_addr . inet_proto . inet_service;",
    "paths6": "type ipv6_addr . ipv6_addr . inet_proto . inet_service;",
}

ENDPOINT_SETS = {
    # Ports of bridges that may send as themselves alone, and what they may send as.
    "strict": "type ifname;",
    "own4": "type ifname . ether_addr . ipv4_addr;",
    "own6": "type ifname . ether_addr . ipv6_addr;",
    # The same as own6: a field of ICMPv6 has no type of its own in older versions of nftables.
    "announced6": "typeof iifname . ether saddr . @th,64,128;",
    # Endpoints that are kept apart from each other, and their addresses.
    "apart": "type ifname;",
    "apart4": "type ipv4_addr;",
    "apart6": "type ipv6_addr;",
    # What such endpoints may say to each other all the same: from, to, protocol, port.
    "links4": "type ipv4_addr . ipv4_addr . inet_proto . inet_service;",
    "links6": "type ipv6_addr . ipv6_addr . inet_proto . inet_service;",
}
"""Sets of the ``bridge`` table."""

SETS_OF = {INET: (*PORT_MAPS, *BRIDGE_SETS, *OPENED_SETS, *PATH_SETS), BRIDGE: tuple(ENDPOINT_SETS)}


@dataclass(frozen=True)
class Chain:
    """A chain's hook, empty for one that is jumped to, and its rules in order."""

    hook: str
    rules: tuple[str, ...]


def _publish(version: int) -> Chain:
    family = "ip" if version == 4 else "ip6"
    return Chain(
        "",
        tuple(
            f"dnat {family} to {key} map @{protocol}{version}_{kind}"
            for protocol in PROTOCOLS
            for kind, key in (
                ("bound", f"{family} daddr . {protocol} dport"),
                ("any", f"{protocol} dport"),
            )
        ),
    )


_PUBLISHED = "fib daddr type local meta nfproto vmap { ipv4 : jump publish4, ipv6 : jump publish6 }"

_INET_CHAINS = {
    "publish4": _publish(4),
    "publish6": _publish(6),
    "guard": Chain(
        "type filter hook prerouting priority raw; policy accept;",
        ("iifname @bridges jump from_bridge",),
    ),
    "from_bridge": Chain(
        "",
        (
            # Ports published on 127.0.0.1 need route_localnet on the bridge, which would also let containers
            # at services of the host that listen there (CVE-2020-8558).
            "ip daddr 127.0.0.0/8 drop",
            # A container that routes for others may send what the host itself has a route to it for.
            "iifname . ip saddr != @subnets4 ip saddr != 0.0.0.0 fib saddr . iif oif missing drop",
            "iifname . ip6 saddr != @subnets6 ip6 saddr != { ::, fe80::/10 }"
            " fib saddr . iif oif missing drop",
            # Of the host, an internal network sees its gateway.
            "iifname @internal iifname . ip daddr != @subnets4"
            " ip daddr != { 224.0.0.0/4, 255.255.255.255 } drop",
            "iifname @internal iifname . ip6 daddr != @subnets6 ip6 daddr != { fe80::/10, ff00::/8 } drop",
        ),
    ),
    # Translation comes before the kernel's check for martians: a neighbour's packet to 127.0.0.1 would get
    # through to a port published there only (https://github.com/moby/moby/issues/45610).
    "prerouting": Chain(
        "type nat hook prerouting priority dstnat; policy accept;",
        ('iifname != "lo" ip daddr 127.0.0.0/8 return', _PUBLISHED),
    ),
    "output": Chain(
        "type nat hook output priority -100; policy accept;",
        ("ip6 daddr ::1 ip6 daddr != @loopback6 return", _PUBLISHED),
    ),
    # A container that reaches another, or itself, by a published port must see the answer come back the same
    # way, so it gets the bridge's address as the source.
    "postrouting": Chain(
        "type nat hook postrouting priority srcnat; policy accept;",
        (
            "oifname @bridges jump into_bridge",
            "iifname . oifname @same return",
            "iifname . oifname @kept return",
            "iifname . ip saddr @hidden4 masquerade",
            "iifname . ip6 saddr @hidden6 masquerade",
        ),
    ),
    "into_bridge": Chain(
        "",
        (
            "ip saddr 127.0.0.0/8 masquerade",
            "ip6 saddr ::1 masquerade",
            "oifname . ip saddr @subnets4 ct status dnat masquerade",
            "oifname . ip6 saddr @subnets6 ct status dnat masquerade",
        ),
    ),
    "input": Chain(
        "type filter hook input priority filter; policy accept;",
        ('iifname != "lo" jump impostors',),
    ),
    # What comes from where an answer would not go to, and that is by a bridge.
    "impostors": Chain("", ("fib saddr oifname @ways fib saddr . iif oif missing drop",)),
    "forward": Chain(
        "type filter hook forward priority filter; policy accept;",
        (
            "oifname @bridges jump to_bridge",
            "iifname @internal drop",
            "meta nfproto ipv4 iifname @strangers4 oifname @strangers4 jump between_strangers",
            "meta nfproto ipv6 iifname @strangers6 oifname @strangers6 jump between_strangers",
        ),
    ),
    # Who sends it to the host what is for another next to it gets no further than on the bridge itself, in
    # whatever frames it comes.
    "kept": Chain(
        "",
        (
            "ct state established,related accept",
            "ct status dnat accept",
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
            "ip saddr . ip daddr . meta l4proto . th dport @paths4 accept",
            "ip6 saddr . ip6 daddr . meta l4proto . th dport @paths6 accept",
            "drop",
        ),
    ),
    # What somebody translates he wants to be routed.
    "between_strangers": Chain("", ("ct status dnat return", "drop")),
    "to_bridge": Chain(
        "",
        (
            "iifname . oifname @same accept",
            "iifname . oifname @kept jump kept",
            "iifname @internal drop",
            "oifname @internal drop",
            "jump impostors",
            "ct state established,related accept",
            "ct status dnat accept",
            "ip daddr . meta l4proto . th dport @opened4 accept",
            "ip6 daddr . meta l4proto . th dport @opened6 accept",
            # Who has a route to them may also ask whether they are there.
            "oifname . ip daddr @routed4 ip protocol icmp accept",
            "oifname . ip6 daddr @routed6 meta l4proto ipv6-icmp accept",
            "oifname . ip daddr @unprotected4 accept",
            "oifname . ip6 daddr @unprotected6 accept",
            "drop",
        ),
    ),
}

_BRIDGE_CHAINS = {
    # Before the kernel learns which port has which address, and before br_netfilter translates addresses.
    "receive": Chain(
        "type filter hook prerouting priority -300; policy accept;",
        ("iifname @strict jump sender", "iifname @apart jump linked"),
    ),
    "sender": Chain(
        "",
        (
            # A namespace may have been given route_localnet by its host.
            "ip daddr 127.0.0.0/8 drop",
            "ether type ip iifname . ether saddr . ip saddr @own4 return",
            "ether type arp iifname . ether saddr . arp saddr ip @own4"
            " iifname . arp saddr ether . arp saddr ip @own4 return",
            "ether type ip6 goto sender6",
            "drop",
        ),
    ),
    "sender6": Chain(
        "",
        (
            # Who announces itself as a router, or for another's address, gets another's packets.
            "icmpv6 type { nd-router-advert, nd-redirect } drop",
            "icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @announced6 drop",
            "iifname . ether saddr . ip6 saddr @own6 return",
            "drop",
        ),
    ),
    # An endpoint that is kept apart says to another only what is linked, and the answers, which open nothing.
    # What it says to the host by a published port has the host's address here yet, wherever it goes.
    "linked": Chain(
        "",
        (
            "ip daddr @apart4 ip saddr . ip daddr . meta l4proto . th dport @links4 return",
            "ip daddr @apart4 tcp flags & (syn | ack) == syn drop",
            "ip daddr @apart4 ip daddr . ip saddr . meta l4proto . th sport @links4 return",
            "ip daddr @apart4 drop",
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return",
            "ip6 daddr @apart6 ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 return",
            "ip6 daddr @apart6 tcp flags & (syn | ack) == syn drop",
            "ip6 daddr @apart6 ip6 daddr . ip6 saddr . meta l4proto . th sport @links6 return",
            "ip6 daddr @apart6 drop",
        ),
    ),
    "pass": Chain(
        "type filter hook forward priority -200; policy accept;",
        ("iifname @apart jump between", "oifname @apart jump between"),
    ),
    # What is linked has come through the chain above, or, by br_netfilter, was for the host.
    "between": Chain(
        "",
        (
            "ether type arp accept",
            "iifname @apart ip daddr @apart4 accept",
            "iifname @apart ip6 daddr @apart6 accept",
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
            "drop",
        ),
    ),
}

CHAINS = {INET: _INET_CHAINS, BRIDGE: _BRIDGE_CHAINS}

_ALL = (CHAINS, BRIDGE_SETS, OPENED_SETS, PATH_SETS, ENDPOINT_SETS)
MARK = hashlib.sha256(repr(_ALL).encode()).hexdigest()[:16]
"""Stands in each rule's comment: rules of another version of the daemon have another."""


def marks_of(family: int) -> list[tuple[str, str]]:
    """Chain and comment of each rule that the table of ``family`` has, in order of their chains."""
    return [(name, MARK) for name, chain in CHAINS[family].items() for _ in chain.rules]


def commands(table: str, family: int) -> str:
    """What makes the table be there with these rules: one transaction that leaves the sets' elements alone.

    Adding what is there already changes nothing.
    """
    return "\n".join(_commands(f"{FAMILY_NAMES[family]} {table}", family)) + "\n"


def _commands(where: str, family: int) -> Iterator[str]:
    if family == INET:  # an earlier daemon had one for IPv4 alone, whose rules would still hold
        yield f"add table ip {where.partition(' ')[2]}"
        yield f"delete table ip {where.partition(' ')[2]}"
    yield f"add table {where}"
    for name, definition in _definitions(family):
        yield f"add {'map' if name in PORT_MAPS else 'set'} {where} {name} {{ {definition} }}"
    for name, chain in CHAINS[family].items():
        yield f"add chain {where} {name}" + (f" {{ {chain.hook} }}" if chain.hook else "")
        yield f"flush chain {where} {name}"
    for name, chain in CHAINS[family].items():
        for rule in chain.rules:
            yield f'add rule {where} {name} {rule} comment "{MARK}"'


def _definitions(family: int) -> Iterator[tuple[str, str]]:
    if family == BRIDGE:
        yield from ENDPOINT_SETS.items()
        return
    yield from BRIDGE_SETS.items()
    yield from OPENED_SETS.items()
    yield from PATH_SETS.items()
    for name in PORT_MAPS:
        address = "ipv4_addr" if "4_" in name else "ipv6_addr"
        key = f"{address} . inet_service" if name.endswith("bound") else "inet_service"
        yield name, f"type {key} : {address} . inet_service;"
