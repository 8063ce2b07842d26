"""The rules of the house: which folder may import which, where two event loops meet, what a file says.

CONTRIBUTING.md draws the same picture for people.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAEMON = ROOT / "daemon" / "proad"
CLIENT = ROOT / "client" / "proa"

FILES = sorted([*DAEMON.rglob("*.py"), *CLIENT.rglob("*.py")])

MAY_IMPORT = {
    "model": set[str](),
    "config": set[str](),
    "store": {"model"},
    "host": {"model"},
    "engine": {"model", "store", "host", "config"},
    "api": {"engine", "model", "config"},
    "check": {"host", "model", "config"},
    "logsetup": set[str](),
    "notify": set[str](),
    "wiring": {"model", "store", "host", "engine", "api", "config"},
    "__main__": {
        "model",
        "store",
        "host",
        "engine",
        "api",
        "config",
        "check",
        "logsetup",
        "notify",
        "wiring",
    },
}
"""Room of the daemon -> rooms whose names may stand in its imports; its own is understood."""

BOTH_LOOPS = {"__main__.py", "api/server.py", "host/netlink.py", "host/registry.py"}
"""The only files that may know both Trio and asyncio."""

FLAVOURS = ("Sync, pure.", "Sync, blocking.", "Trio-flavoured.", "asyncio-flavoured.")
"""Blocking: does I/O and knows no loop, so it runs before a loop, in a helper process, or in the client."""

FOREIGN = {
    "Sync, pure.": {"trio", "asyncio", "socket", "subprocess"},
    "Sync, blocking.": {"trio", "asyncio"},
    "Trio-flavoured.": {"asyncio", "aiohttp"},
    "asyncio-flavoured.": {"trio"},
}
"""What a file of each flavour does not import; asyncio libraries have their adapters in ``host``."""

BLOCKING_ROOMS = {"host", "store", "api", "check", "notify", "logsetup"}

SYNC_ROOMS = {"model"}


@cache
def parsed(path: Path) -> tuple[ast.Module, list[ast.Import | ast.ImportFrom]]:
    """A file, and every import in it, wherever it stands."""
    module = ast.parse(path.read_text())
    return module, [node for node in ast.walk(module) if isinstance(node, ast.Import | ast.ImportFrom)]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room(path: Path) -> str:
    """Return the folder of the daemon that a file stands in, or its own name where it stands in none."""
    parts = path.relative_to(DAEMON).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the dotted name and line of every import in a file.

    ``from proad.host import netns`` yields both ``proad.host`` and ``proad.host.netns``: whichever of the two
    is the module, its room is named.
    """
    package = path.parent.relative_to(DAEMON.parent if path.is_relative_to(DAEMON) else CLIENT.parent).parts
    for node in parsed(path)[1]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        else:
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module, node.lineno
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def flavour(path: Path) -> str | None:
    docstring = ast.get_docstring(parsed(path)[0]) or ""
    return next((known for known in FLAVOURS if docstring.startswith(known)), None)


def has_code(path: Path) -> bool:
    """Return whether a file says anything; an empty ``__init__.py`` needs no words."""
    return bool(path.read_text().strip())


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(DAEMON)], ids=label)
def test_daemon_imports_follow_the_arrows(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        allowed = set[str]()
    else:
        assert own in MAY_IMPORT, f"{label(path)}: say in MAY_IMPORT what this room may import"
        allowed = MAY_IMPORT[own] | {own}
    for name, line in imported(path):
        parts = name.split(".")
        assert parts[0] != "proa", f"{label(path)}:{line}: the daemon does not import the client"
        if parts[0] == "proad" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in allowed, f"{label(path)}:{line}: {own} must not import {name}"


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(CLIENT)], ids=label)
def test_client_imports_nothing_of_the_daemon(path: Path) -> None:
    for name, line in imported(path):
        assert name.split(".")[0] != "proad", f"{label(path)}:{line}: the client must not import {name}"


@pytest.mark.parametrize("path", [p for p in FILES if has_code(p)], ids=label)
def test_docstring_says_the_flavour_first(path: Path) -> None:
    assert flavour(path), f"{label(path)}: the docstring must begin with one of {', '.join(FLAVOURS)}"
    if not path.is_relative_to(DAEMON):
        return
    if room(path) in SYNC_ROOMS:
        assert flavour(path) == "Sync, pure.", f"{label(path)}: {room(path)} knows no event loop and no I/O"
    if flavour(path) == "Sync, blocking.":
        assert room(path) in BLOCKING_ROOMS, f"{label(path)}: {room(path)} must not block"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_the_two_loops_meet_in_four_files_only(path: Path) -> None:
    if path.is_relative_to(DAEMON) and str(path.relative_to(DAEMON)) in BOTH_LOOPS:
        return
    foreign = {"trio_asyncio", *FOREIGN.get(flavour(path) or "", ())}
    for name, line in imported(path):
        assert name.split(".")[0] not in foreign, f"{label(path)}:{line}: {flavour(path)} imports {name}"


def test_every_room_has_an_arrow() -> None:
    rooms = {p.name for p in DAEMON.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert rooms <= set(MAY_IMPORT)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_are_hashed_and_name_no_index(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    assert not [line for line in lines if "://" in line or "--index" in line or "--find-links" in line]
    pinned = [line for line in lines if "==" in line]
    assert pinned
    assert all(line.endswith("\\") for line in pinned), "every pinned package is followed by its hashes"


def test_locks_agree() -> None:
    runtime, whole = (
        {line.split(" ")[0] for line in (ROOT / lock).read_text().splitlines() if "==" in line}
        for lock in ("requirements.lock", "requirements-dev.lock")
    )
    assert runtime <= whole
