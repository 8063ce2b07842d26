"""Sync, pure. One fact about a host, and how facts are shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """``ABSENT`` costs a feature and the daemon runs; ``MISSING`` means that it cannot run containers."""

    OK = "ok"
    ABSENT = "absent"
    MISSING = "MISSING"


@dataclass(frozen=True)
class Finding:
    """One fact: what was looked at, what was found, and what follows from it for containers."""

    name: str
    level: Level
    value: str
    consequence: str


def either(name: str, good: bool, value: str, then: str, otherwise: str, *, needed: bool = True) -> Finding:
    """Return ``then`` as the consequence of what is good, else ``otherwise``, which is bad if ``needed``."""
    if good:
        return Finding(name, Level.OK, value, then)
    return Finding(name, Level.MISSING if needed else Level.ABSENT, value, otherwise)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if containers can run here, else 1."""
    return int(any(finding.level is Level.MISSING for finding in findings))


def render(findings: Iterable[Finding], *, colour: bool = False) -> str:
    """Return the findings as text, a line each."""
    found = list(findings)
    width = max(len(finding.name) for finding in found)
    paint = {Level.OK: "\x1b[32m", Level.ABSENT: "\x1b[33m", Level.MISSING: "\x1b[31m"}
    lines = []
    for finding in found:
        mark = f"{finding.level.value:<7}"
        if colour:
            mark = f"{paint[finding.level]}{mark}\x1b[0m"
        lines.append(f"{mark}  {finding.name:<{width}}  {finding.value}: {finding.consequence}")
    return "\n".join(lines)
