"""Sync, blocking. Rules for our bridges in other programs' chains, where those would stop all we forward.

A packet passes only if no table of the host drops it, so where Docker, ufw or firewalld drop what they do not
know, accepting it in a table of our own is no help. Each of their chains that does gets rules for our bridges
at its head, in a form that iptables lists and saves like its own:

    iifname "br-0123456789ab" counter accept comment "proad:proa"
    oifname "br-0123456789ab" counter accept comment "proad:proa"

What our bridges may not do is dropped by our own table all the same. Nothing else of theirs is touched, and a
rule goes with its bridge. A firewall that is loaded again forgets ours: ``nftwatch`` tells when.
"""

from collections.abc import Iterable

import structlog

from proad.host.foreignchains import ForeignChain, ForeignRule, ForwardChains
from proad.host.legacyfirewall import LegacyChains
from proad.host.libnftables import Nftables
from proad.host.nftmessages import FAMILY_NAMES, INET
from proad.model import errors

log = structlog.get_logger(__name__)


class ForeignFirewalls:
    """Keeps our bridges' way through. Use by one thread at a time; where there are many rules, it may take a
    while."""

    def __init__(self, table: str) -> None:
        """Nothing is changed.

        Raises:
            errors.Unavailable: libnftables is not installed.
        """
        self._nft = Nftables()
        self._chains = ForwardChains()
        self._table = table
        self._comment = f"proad:{table}"
        self._legacy = LegacyChains(self._comment)
        self._complained: set[str] = set()

    @property
    def port_ids(self) -> set[int]:
        """What the kernel calls the sockets that changes of ours come from."""
        return self._nft.port_ids

    def ensure(self, bridges: Iterable[str]) -> bool:
        """Let ``bridges``, and no others of ours, through; returns whether anything was changed.

        What cannot be changed is said in the log, once for each reason.
        """
        names = list(bridges)
        changed = False
        try:
            for chain in list(self._chains.all()):
                if (chain.family, chain.table) != (INET, self._table):
                    changed = self._ensure_in(chain, names) or changed
        except errors.System as error:
            self._complain("forwarding", error.message)
        try:
            changed = self._legacy.ensure(names) or changed
        except errors.System as error:
            self._complain("iptables-legacy", error.message)
        return changed

    def remove(self) -> None:
        """Take back all rules of ours."""
        self.ensure([])

    def _ensure_in(self, chain: ForeignChain, bridges: list[str]) -> bool:
        rules = self._chains.rules(chain)
        ours = [rule for rule in rules if rule.comment == self._comment]
        others = [rule for rule in rules if rule.comment != self._comment]
        wanted = _wanted(bridges) if self._chains.stops(chain, others) else set()
        commands = [*self._superfluous(chain, ours, wanted), *self._missing(chain, ours, wanted)]
        if not commands:
            return False
        try:
            self._nft.run("\n".join(commands) + "\n")
        except errors.System as error:
            self._complain(str(chain), error.message)
            return False
        log.info("rules for containers put right in another firewall", chain=str(chain), bridges=bridges)
        return True

    def _superfluous(self, chain: ForeignChain, ours: list[ForeignRule], wanted: set[str]) -> Iterable[str]:
        kept: set[str] = set()
        for rule in ours:
            if rule.interface in wanted - kept:
                kept.add(rule.interface)
            else:
                yield f"delete rule {_place(chain)} handle {rule.handle}"

    def _missing(self, chain: ForeignChain, ours: list[ForeignRule], wanted: set[str]) -> Iterable[str]:
        for interface in sorted(wanted - {rule.interface for rule in ours}):
            way, _, name = interface.partition(" ")
            rule = f'{way} "{name}" counter accept comment "{self._comment}"'
            yield f"insert rule {_place(chain)} {rule}"

    def _complain(self, what: str, why: str) -> None:
        if f"{what} {why}" not in self._complained:
            self._complained.add(f"{what} {why}")
            log.warning("another firewall may stop containers' traffic", firewall=what, error=why)


def _wanted(bridges: Iterable[str]) -> set[str]:
    return {f"{way} {bridge}" for bridge in bridges for way in ("iifname", "oifname")}


def _place(chain: ForeignChain) -> str:
    return f"{FAMILY_NAMES[chain.family]} {chain.table} {chain.name}"
