"""Sync, blocking. Our bridges in firewalld's zones, where nobody but firewalld may change its rules.

That is its usual setting since version 2.3 (``NftablesTableOwner`` in firewalld.conf(5)). It accepts what
comes from our bridges then, as for Docker and Podman: what they send on, and what is for the host itself. A
bridge that somebody has put into a zone stays there. Zones that are set at run time are forgotten when
firewalld is loaded again, and are set again then.
"""

from collections.abc import Iterable, Mapping

from proad.host import firewalltools

TABLE = "firewalld"
"""The nftables table that is firewalld's."""

_ZONE = "trusted"
_CHAIN_SUFFIX = f"_{_ZONE}"


class Zones:
    """Remembers which bridges it has put into the zone, or an earlier daemon has."""

    def __init__(self) -> None:
        self._bridges: set[str] = set()

    def ensure(self, bridges: Iterable[str], present: Mapping[str, str]) -> bool:
        """Have ``bridges``, and no others of ours, in a zone; returns whether anything was changed.

        ``present`` are the chains of firewalld that packets of an interface are led to, as ``iifname br0``.

        Raises:
            errors.System: firewalld refused, or its program is not there.
        """
        wanted = set(bridges)
        zones = {bridge: present.get(f"iifname {bridge}") for bridge in wanted}
        trusted = {bridge for bridge, chain in zones.items() if chain and chain.endswith(_CHAIN_SUFFIX)}
        missing = {bridge for bridge, chain in zones.items() if chain is None}
        self._change("remove", self._bridges - wanted)
        self._change("add", missing)
        changed = bool(missing or self._bridges - wanted)
        self._bridges = trusted | missing
        return changed

    def _change(self, verb: str, bridges: Iterable[str]) -> None:
        options = [f"--{verb}-interface={bridge}" for bridge in sorted(bridges)]
        if options:
            firewalltools.run("firewall-cmd", [f"--zone={_ZONE}", *options])
