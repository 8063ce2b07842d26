"""Sync, blocking. What ``foreignfirewall`` does, in iptables-legacy's tables, which nftables does not see.

They are used where its ``filter`` table is loaded, which asking for it would do; they tell nobody of changes.
"""

import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from proad.model import errors

_LOADED = Path("/proc/thread-self/net")
_FAMILIES = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}
_TIMEOUT_S = 10.0
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAYS_NOTHING = {"--comment", "--reject-with", "--log-prefix", "--log-level"}
"""Words of a rule that ask nothing of the packet, each with a value."""


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

    def _ensure_in(self, name: str, bridges: list[str]) -> bool:
        program = shutil.which(name, path=_SEARCH_PATH)
        if program is None:
            raise errors.System(f"the kernel has {name}'s rules, but that program is not there")
        listing = _listed(_run([program, "-w", "5", "-S"]))
        forward = listing.chains.get("FORWARD", [])
        ours = [words for words in forward if self._comment in words]
        others = [words for words in forward if self._comment not in words]
        wanted = list(self._wanted(bridges)) if _stops(listing, others) else []
        commands = [f"-D FORWARD {' '.join(words)}" for words in ours if words not in wanted]
        commands += [f"-I FORWARD 1 {' '.join(words)}" for words in wanted if words not in ours]
        if commands:
            lines = ["*filter", *commands, "COMMIT", ""]
            _run([f"{program}-restore", "-w", "5", "--noflush"], "\n".join(lines))
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
        if kind == "-A":
            chains.setdefault(chain, []).append(words)
        elif chain == "FORWARD":
            drops = words == ["DROP"]
    return _Listing(drops, chains)


def _stops(listing: _Listing, rules: Iterable[list[str]]) -> bool:
    """Whether a packet that no rule is about ends there; see ``foreignchains``."""
    verdict = _verdict(listing, rules, {"FORWARD"})
    return verdict == "DROP" or (verdict == "" and listing.drops)


def _verdict(listing: _Listing, rules: Iterable[list[str]], seen: set[str]) -> str:
    for words in rules:
        target = _target(words)
        if target in ("DROP", "REJECT"):
            return "DROP"
        if target == "ACCEPT":
            return target
        if target == "RETURN":
            return ""
        if target in listing.chains and target not in seen:
            seen.add(target)
            verdict = _verdict(listing, listing.chains[target], seen)
            if verdict or "-g" in words:
                return verdict
    return ""


def _target(words: list[str]) -> str:
    """Where a rule leads every packet; empty where it depends on the packet."""
    target = ""
    rest = iter(words)
    for word in rest:
        value = next(rest, "")
        if word in ("-j", "-g"):
            target = value
        elif word not in _SAYS_NOTHING and (word, value) != ("-m", "comment"):
            return ""
    return target


def _run(argv: list[str], given: str = "") -> str:
    try:
        done = subprocess.run(
            argv, input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.System(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        raise errors.System(f"{argv[0]}: {done.stderr.strip()}")
    return done.stdout
