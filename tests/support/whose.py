"""Sync. Whose is it? All that one run of the tests makes on this machine bears that run's mark, whichever of
its processes made it: they work side by side, and what is left at the end can be told from others'.

A run is one process, or several workers of pytest-xdist. What must differ between workers (directories, names
of links, tables and cgroups, addresses, ports) comes from here.
"""

import ipaddress
import itertools
import json
import os
import random
import secrets
import socket
import subprocess
from collections import deque
from contextlib import suppress
from pathlib import Path

# Letters that are no hexadecimal digits: no random name of others has a mark in it.
RUN = os.environ.setdefault("PROA_TEST_RUN", "".join(secrets.choice("ghjkmnpqrstvwxyz") for _ in range(4)))
"""This run's mark; workers inherit it."""
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))

# A short path: a unix socket's is limited to 107 bytes, and monitors put theirs below it.
DIRECTORY = Path("/tmp") / f"proa-{RUN}"
_REGISTER = DIRECTORY / "places"
_SHARES = 16  # more workers than anybody has
_numbers = itertools.count()
_bips: deque[str] = deque(maxlen=16)
# Below those that kernels and daemons choose by themselves.
_ports = iter(range(20_000 + WORKER % _SHARES, 28_000, _SHARES))


def own_name(stem: str) -> str:
    """A name that nothing else here has, of 15 characters at most if the stem has four at most."""
    return f"{stem}{RUN}{WORKER}x{next(_numbers)}"


def own_directory() -> Path:
    """A new directory, that the run's end knows of."""
    made = DIRECTORY / f"{WORKER}-{next(_numbers)}"
    register(made)
    made.mkdir(mode=0o700)
    return made


def register(place: Path) -> None:
    """Let the run's end look for what is at ``place`` or names something there."""
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    with _REGISTER.open("a") as register:  # one short write: workers do not get into each other's lines
        register.write(f"{place}\n")


def registered() -> list[Path]:
    """All that was registered by processes of this run."""
    return [Path(line) for line in _REGISTER.read_text().splitlines()] if _REGISTER.exists() else []


def own_bip() -> str:
    """An address for a bridge that nobody here has: of our share of the range for benchmarks (RFC 2544)."""
    listed = subprocess.run(["ip", "-j", "-4", "address"], check=False, capture_output=True, text=True).stdout
    used = [
        ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
        for link in json.loads(listed or "[]")
        for address in link.get("addr_info", [])
    ]
    while True:
        number = random.randrange(WORKER % _SHARES, 512, _SHARES)
        candidate = ipaddress.IPv4Interface(f"198.{18 + number // 256}.{number % 256}.1/24")
        if str(candidate) not in _bips and not any(candidate.network.overlaps(network) for network in used):
            _bips.append(str(candidate))
            return str(candidate)


def own_pool() -> str:
    """Where this worker's networks get subnets: two daemons that choose at once could choose the same one."""
    return f"10.{100 + WORKER % _SHARES}.0.0/16"


def own_port() -> int:
    """A port that is free here, and that nobody else of this run takes when it is free again."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))  # where another run's containers publish it, nobody listens
            return port
    raise AssertionError("this worker has used up its ports")
