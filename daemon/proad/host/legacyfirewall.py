"""Sync, blocking. What ``foreignfirewall`` does, in iptables-legacy's tables, which nftables does not see.

They are used where its ``filter`` table is loaded, which asking for it would do; they tell nobody of changes.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proad.host import firewalltools
from proad.host.foreignchains import Way
from proad.model import errors

_LOADED = Path("/proc/thread-self/net")
_FAMILIES = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}
_WAIT = ("-w", "5")
_SAYS_NOTHING = {"--comment", "--reject-with", "--log-prefix", "--log-level"}
"""Words of a rule that ask nothing of the packet, each with a value."""
_ALWAYS_TRUE = {("-m", "comment"), ("-i", "+"), ("-o", "+")}
_SPEAKS = {"LOG", "NFLOG"}
_LETS_PASS = {"ACCEPT", "RETURN", "", *_SPEAKS}
"""Targets that take no packet away."""


@dataclass(frozen=True)
class _Listing:
    """The table ``filter`` as ``-S`` prints it: chains with the words of their rules."""

    drops: bool
    chains: Mapping[str, list[list[str]]]


class LegacyChains:
    """Lets our bridges through the chain FORWARD where it would stop them."""

    def __init__(self, comment: str) -> None:
        self._comment = comment

    def ensure(self, bridges: Iterable[str]) -> bool:
        """Let ``bridges``, and no others of ours, through; returns whether anything was changed.

        Raises:
            errors.System: a program is not there, or could not do it; the other has done its part.
        """
        names = list(bridges)
        changed = False
        failed: errors.System | None = None
        for program in (program for program, names_file in _FAMILIES.items() if _is_loaded(names_file)):
            try:
                changed = self._ensure_in(program, names) or changed
            except errors.System as error:
                failed = error
        if failed is not None:
            raise failed
        return changed

    def _ensure_in(self, program: str, bridges: list[str]) -> bool:
        listing = _listed(firewalltools.run(program, [*_WAIT, "-S"]))
        forward = listing.chains.get("FORWARD", [])
        others = [words for words in forward if self._comment not in words]
        way = _way_through(listing, others)
        wanted = list(self._wanted(bridges)) if way else []
        kept: list[list[str]] = []
        wrong: list[int] = []
        before = number = 0
        for place, words in enumerate(forward, 1):
            is_ours = self._comment in words
            if is_ours and not (
                way and way.first <= before <= way.last and words in wanted and words not in kept
            ):
                wrong.append(place)
                continue
            kept.append(words)
            if not is_ours:
                before += 1
                if way and before == way.best:
                    number = len(kept)
        # By number, from the end: by its words, iptables deletes the first that is equal.
        commands = [f"-D FORWARD {place}" for place in reversed(wrong)]
        commands += [f"-I FORWARD {number + 1} {' '.join(words)}" for words in wanted if words not in kept]
        if commands:
            lines = ["*filter", *commands, "COMMIT", ""]
            firewalltools.run(f"{program}-restore", [*_WAIT, "--noflush"], "\n".join(lines))
        return bool(commands)

    def _wanted(self, bridges: Iterable[str]) -> Iterator[list[str]]:
        for bridge in bridges:
            for way in ("-i", "-o"):
                yield [way, bridge, "-m", "comment", "--comment", self._comment, "-j", "ACCEPT"]


def _is_loaded(names_file: str) -> bool:
    try:
        return "filter" in (_LOADED / names_file).read_text().split()
    except FileNotFoundError:
        return False


def _listed(text: str) -> _Listing:
    chains: dict[str, list[list[str]]] = {}
    drops = False
    for line in text.splitlines():
        kind, chain, *words = shlex.split(line)
        if kind == "-N":
            chains[chain] = []
        elif kind == "-A":
            chains.setdefault(chain, []).append(words)
        elif chain == "FORWARD":
            drops = words == ["DROP"]
    return _Listing(drops, chains)


def _way_through(listing: _Listing, rules: Sequence[list[str]]) -> Way | None:
    """Where among ``rules`` ours may stand; see ``foreignchains``."""
    first, complains = 0, len(rules)
    for number, words in enumerate(rules):
        verdict = _verdict(listing, [words], {"FORWARD"})
        if verdict == "DROP" or (verdict == "RETURN" and listing.drops):
            return Way(first, min(complains, number), number)
        if verdict:
            return None
        targets = set(_targets(listing, words))
        if targets - _LETS_PASS or (_target(words)[0] == "RETURN" and listing.drops):
            first, complains = number + 1, len(rules)
        elif targets & _SPEAKS and complains == len(rules):
            complains = number
    return Way(first, complains, len(rules)) if listing.drops else None


def _verdict(listing: _Listing, rules: Iterable[list[str]], seen: set[str]) -> str:
    """What becomes of a packet that none of ``rules`` is about but those for all."""
    for words in rules:
        target, is_for_all = _target(words)
        if not is_for_all:
            continue
        if target in ("DROP", "REJECT"):
            return "DROP"
        if target in ("ACCEPT", "RETURN"):
            return target
        if target in listing.chains and target not in seen:
            seen.add(target)
            verdict = _verdict(listing, listing.chains[target], seen)
            if verdict in ("DROP", "ACCEPT"):
                return verdict
            if "-g" in words:
                return "RETURN"
    return ""


def _targets(listing: _Listing, words: list[str]) -> Iterator[str]:
    """Where a rule, and those that it leads to, lead some packets in the end."""
    seen, left = {"FORWARD"}, [words]
    while left:
        target, _ = _target(left.pop())
        if target not in listing.chains:
            yield target
        elif target not in seen:
            seen.add(target)
            left += listing.chains[target]


def _target(words: list[str]) -> tuple[str, bool]:
    """Where a rule leads the packets that it is about, and whether these are all."""
    target, is_for_all = "", True
    rest = iter(words)
    for word in rest:
        value = next(rest, "")
        if word in ("-j", "-g"):
            target = value
        elif word not in _SAYS_NOTHING and (word, value) not in _ALWAYS_TRUE:
            is_for_all = False
    return target, is_for_all
