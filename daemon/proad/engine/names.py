"""Trio-flavoured. Who is called what on which network, in memory: reads are look-ups in dicts.

Names and addresses are kept in the form in which they travel (see ``dnsmessage``), so that a question finds
its answer as it came.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from proad.model.dnsmessage import reverse_name, suffixes, wire_name, wire_names

Packed = tuple[bytes, ...]
"""Addresses, four or sixteen bytes each."""


@dataclass(frozen=True)
class _Member:
    """What one endpoint is called, and where it is; ``canonical`` comes back from reverse look-ups."""

    names: tuple[bytes, ...]
    canonical: bytes | None
    ipv4: Packed
    ipv6: Packed
    reverse: tuple[bytes, ...]

    def of_family(self, version: int) -> Packed:
        return self.ipv4 if version == 4 else self.ipv6


@dataclass
class _Zone:
    """The names of one network; ``name`` is its own, None for one that cannot be asked for."""

    name: bytes | None
    members: dict[str, _Member] = field(default_factory=dict)
    by_name: dict[bytes, list[_Member]] = field(default_factory=dict)
    by_address: dict[bytes, _Member] = field(default_factory=dict)

    def add(self, endpoint_id: str, member: _Member) -> None:
        self.members[endpoint_id] = member
        for name in member.names:
            self.by_name.setdefault(name, []).append(member)
        for address in member.reverse:
            self.by_address[address] = member

    def drop(self, endpoint_id: str) -> _Member:
        member = self.members.pop(endpoint_id)
        for name in member.names:
            sharing = self.by_name[name]
            sharing[:] = [one for one in sharing if one is not member]
            if not sharing:
                del self.by_name[name]
        for address in member.reverse:
            if self.by_address.get(address) is member:
                del self.by_address[address]
        return member


class Names:
    """The names of all networks that have any."""

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}
        self._network_of: dict[str, str] = {}

    def join(
        self,
        network_id: str,
        endpoint_id: str,
        *,
        network_name: str,
        names: Sequence[str],
        canonical: str,
        addresses: Sequence[IPv4Address | IPv6Address],
    ) -> None:
        """Answer to ``names`` with ``addresses`` from now on; an endpoint that is there already is replaced.

        Names that no question can have (a label of more than 63 bytes) are left out.
        """
        self.leave(network_id, endpoint_id)
        member = _Member(
            names=tuple(dict.fromkeys(wire_names(names))),
            canonical=_full_name(wire_name(canonical), wire_name(network_name)),
            ipv4=tuple(address.packed for address in addresses if address.version == 4),
            ipv6=tuple(address.packed for address in addresses if address.version == 6),
            reverse=tuple(reverse_name(address) for address in addresses),
        )
        zone = self._zones.setdefault(network_id, _Zone(wire_name(network_name)))
        zone.add(endpoint_id, member)
        self._network_of[endpoint_id] = network_id

    def leave(self, network_id: str, endpoint_id: str) -> None:
        """Answer no more; what is not there is no error."""
        zone = self._zones.get(network_id)
        if zone is None or endpoint_id not in zone.members:
            return
        zone.drop(endpoint_id)
        del self._network_of[endpoint_id]
        if not zone.members:
            del self._zones[network_id]

    def rename(self, endpoint_id: str, *, names: Sequence[str], canonical: str) -> None:
        """Answer to other names; an endpoint that is not there is no error."""
        network_id = self._network_of.get(endpoint_id)
        if network_id is None:
            return
        zone = self._zones[network_id]
        old = zone.drop(endpoint_id)
        member = _Member(
            names=tuple(dict.fromkeys(wire_names(names))),
            canonical=_full_name(wire_name(canonical), zone.name),
            ipv4=old.ipv4,
            ipv6=old.ipv6,
            reverse=old.reverse,
        )
        zone.add(endpoint_id, member)

    # --- answers ----------------------------------------------------------------------------------------

    def addresses(
        self, networks: Sequence[str], links: Mapping[bytes, bytes], name: bytes, version: int
    ) -> Packed | None:
        """Return the addresses of one IP version that ``name`` has for somebody on ``networks``.

        None where nobody is called so; nothing where somebody is, and has no address of that version. A name
        may have that of a network at its end, ``web.backend``. The first network with an answer gives it;
        an alias in ``links`` hides a name.
        """
        known = False
        for asked, zones in self._readings(networks, name):
            target = links.get(asked, asked)
            known = known or asked in links
            for zone in zones:
                members = zone.by_name.get(target)
                if members is None:
                    continue
                known = True
                if found := tuple(one for member in members for one in member.of_family(version)):
                    return found
            if known:
                return ()
        return None

    def _readings(self, networks: Sequence[str], name: bytes) -> Iterator[tuple[bytes, list[_Zone]]]:
        """Yield each way to read a name, and the networks in which it then may be known."""
        zones = [self._zones[network] for network in networks if network in self._zones]
        yield name, zones
        if not any(zone.name is not None and name.endswith(zone.name) for zone in zones):
            return
        for asked, network_name in suffixes(name):
            if named := [zone for zone in zones if zone.name == network_name]:
                yield asked, named

    def name_of(self, networks: Sequence[str], reverse: bytes) -> bytes | None:
        """Return what the address of a reverse look-up is called, with its network's name."""
        for network in networks:
            zone = self._zones.get(network)
            member = zone.by_address.get(reverse) if zone is not None else None
            if member is not None and member.canonical is not None:
                return member.canonical
        return None


def _full_name(name: bytes | None, network_name: bytes | None) -> bytes | None:
    return name[:-1] + network_name if name is not None and network_name is not None else None
