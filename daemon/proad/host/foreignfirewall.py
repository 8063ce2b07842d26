"""Sync, blocking. Rules for our bridges in other programs' chains, where those would stop all we forward.

A packet passes only if no table of the host drops it, so where Docker, ufw or firewalld drop what they do not
know, accepting it in a table of our own is no help. Each of their chains that does gets rules for our
bridges, in a form that iptables lists and saves like its own:

    iifname "br-0123456789ab" counter accept comment "proad:proa"
    oifname "br-0123456789ab" counter accept comment "proad:proa"

They stand before what stops everything, and behind what stops something: in ``DOCKER-USER``, or by ``ufw
route deny``, an administrator says what containers may not do. What our bridges may not do is dropped by our
own table all the same. Nothing else of theirs is touched, and a rule goes with its bridge. A firewall that is
loaded again forgets ours: ``nftwatch`` tells when.
"""

from collections.abc import Iterable

import structlog

from proad.host.firewalld import TABLE as FIREWALLD
from proad.host.firewalld import Zones
from proad.host.foreignchains import ForeignChain, ForeignRule, ForwardChains, Way
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
        self._zones = Zones()
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
        others = [rule for rule in rules if rule.comment != self._comment]
        way = self._chains.way_through(chain, others)
        if chain.is_owned:
            return self._ensure_owned(chain, bridges if way else [])
        wanted = _wanted(bridges) if way else set()
        right, wrong = self._sort(rules, way, wanted)
        commands = [f"delete rule {_place(chain)} handle {rule.handle}" for rule in wrong]
        if way:
            missing = wanted - {rule.interface for rule in right}
            commands += self._insertions(chain, others[way.best :], missing)
        if not commands:
            return False
        try:
            self._nft.run("\n".join(commands) + "\n")
        except errors.System as error:
            self._complain(str(chain), error.message)
            return False
        log.info("rules for containers put right in another firewall", chain=str(chain), bridges=bridges)
        return True

    def _sort(
        self, rules: Iterable[ForeignRule], way: Way | None, wanted: set[str]
    ) -> tuple[list[ForeignRule], list[ForeignRule]]:
        """Our rules: those that are right, and those that nobody wants or that stand in a wrong place."""
        right: list[ForeignRule] = []
        wrong: list[ForeignRule] = []
        before = 0
        for rule in rules:
            if rule.comment != self._comment:
                before += 1
            elif (
                way is not None
                and way.first <= before <= way.last
                and rule.interface in wanted - {each.interface for each in right}
            ):
                right.append(rule)
            else:
                wrong.append(rule)
        return right, wrong

    def _insertions(self, chain: ForeignChain, behind: list[ForeignRule], missing: set[str]) -> Iterable[str]:
        """``behind`` are the others' rules that come to stand behind ours."""
        for interface in sorted(missing):
            direction, _, name = interface.partition(" ")
            rule = f'{direction} "{name}" counter accept comment "{self._comment}"'
            if behind:
                yield f"insert rule {_place(chain)} handle {behind[0].handle} {rule}"
            else:
                yield f"add rule {_place(chain)} {rule}"

    def _ensure_owned(self, chain: ForeignChain, bridges: list[str]) -> bool:
        if chain.table != FIREWALLD:
            if bridges:
                self._complain(str(chain), "the program that owns the table lets nobody else change it")
            return False
        try:
            changed = self._zones.ensure(bridges, self._chains.interfaces(chain))
        except errors.System as error:
            self._complain(str(chain), error.message)
            return False
        if changed:
            log.info("bridges put into a zone of firewalld", bridges=bridges)
        return changed

    def _complain(self, what: str, why: str) -> None:
        if f"{what} {why}" not in self._complained:
            self._complained.add(f"{what} {why}")
            log.warning("another firewall may stop containers' traffic", firewall=what, error=why)


def _wanted(bridges: Iterable[str]) -> set[str]:
    return {f"{way} {bridge}" for bridge in bridges for way in ("iifname", "oifname")}


def _place(chain: ForeignChain) -> str:
    return f"{FAMILY_NAMES[chain.family]} {chain.table} {chain.name}"
