"""Sync, blocking. ``proad --check``: what this host has and lacks, each fact with its consequence.

Runs before any loop, and changes nothing.
"""

import os
import sys
from collections.abc import Iterator

from proad.check import kernel, tools
from proad.check.finding import Finding, Level, exit_code, render
from proad.config import Config

__all__ = ["Finding", "Level", "check", "exit_code", "print_findings", "render"]


def check(config: Config) -> list[Finding]:
    """Look at everything that the daemon would rely on with this configuration; changes nothing."""
    return list(_findings(config))


def print_findings(config: Config) -> int:
    """Print all findings and a last line that sums them up; returns the exit status of ``proad --check``."""
    found = check(config)
    print(render(found, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    missing = [finding.name for finding in found if finding.level is Level.MISSING]
    verdict = f"proad cannot run containers here, for want of: {', '.join(missing)}"
    print(verdict if missing else "proad can run containers here")
    return exit_code(found)


def _findings(config: Config) -> Iterator[Finding]:
    yield kernel.kernel()
    yield kernel.root()
    yield kernel.pidfd()
    yield kernel.openat2()
    yield kernel.overlay()
    yield tools.file_system(config.data_root)
    yield tools.storage_quota(config.data_root)
    yield from kernel.links()
    yield kernel.nftables(config)
    yield kernel.seccomp()
    yield tools.seccomp_profile()
    yield kernel.user_namespaces()
    yield from tools.cgroups(config)
    yield tools.conmon()
    yield tools.init(config)
    yield kernel.capabilities()
    yield kernel.descriptors()
    yield kernel.forwarding()
    yield kernel.confinement()
    yield tools.journal()
