"""Sync. What a daemon of the tests has on this machine, found by its directory: mounts, links, elements of
the packet filter, cgroups, processes, files. It is counted by its names; others' is neither seen nor touched.
"""

import ipaddress
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

from proad.config import Config, load
from proad.host.runtime import containers_at

_CGROUPS = Path("/sys/fs/cgroup")
_FAMILIES = ("inet", "ip", "ip6", "bridge")


class Belongings:
    """Of the daemon whose data root and exec root are in ``directory``, and whose names come from there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data_root = directory / "data"
        self.exec_root = directory / "run"
        self.config: Config = load({"exec_root": str(self.exec_root), "data_root": str(self.data_root)})
        self.given: tuple[str, ...] = ()
        """Mounts that the test made itself, and removes."""
        self._seen_networks: set[str] = set()

    def of_containers(self, bip: str, but: Collection[int] = ()) -> list[str]:
        """What is there of containers: nothing when all are removed. ``but`` are its own pids."""
        found = [f"mount {path}" for path in self.mounts()]
        found += [f"link {name}" for name in self.links()]
        found += [f"nft element {element}" for element in self._nft_elements(bip)]
        found += [f"cgroup {path}" for path in self.cgroups()]
        found += [f"process {pid}: {command}" for pid, command in self.processes(but)]
        for directory in ("netns", "runs", "exits", "attach"):
            found += [f"file {path}" for path in _children(self.exec_root / directory)]
        found += [f"runtime state {name}" for name in containers_at(self.exec_root / "runtime")]
        found += [f"file {path}" for path in _children(self.data_root / "containers")]
        return found

    def remains(self, links: Collection[str], tables: Collection[str]) -> list[str]:
        """What is there at all: nothing after :meth:`clear`. ``links`` and ``tables`` are the machine's."""
        found = [f"mount {path}" for path in self.mounts()]
        found += [f"link {self.config.bridge}"] if self.config.bridge in links else []
        found += [f"nft table {self.config.table}"] if self.config.table in tables else []
        found += [f"cgroup {path}" for path in [*self.cgroup_parents(), *self.cgroups()]]
        found += [f"process {pid}: {command}" for pid, command in self.processes()]
        return found

    def clear(self, but: Collection[int] = ()) -> None:
        """Remove it all, killing what runs."""
        for pid, _ in self.processes(but):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in reversed(self.mounts()):
            subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)
        for link in (self.config.bridge, *self._network_links()[1]):
            output_of("ip", "link", "delete", link)
        for family in _FAMILIES:
            output_of("nft", "delete", "table", family, self.config.table)
        for cgroup in [*self.cgroups(), *self.cgroup_parents()]:
            with suppress(OSError):
                cgroup.rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)

    def mounts(self) -> list[str]:
        return [path for path in mounts_below(self.directory) if path not in self.given]

    def links(self) -> list[str]:
        """Interfaces on our bridges, and bridges of networks that are removed."""
        living, seen = self._network_links()
        found = sorted(seen - living)
        for bridge in (self.config.bridge, *sorted(living)):
            listed = output_of("ip", "-j", "link", "show", "master", bridge)
            found += [link["ifname"] for link in json.loads(listed or "[]") if link]
        return found

    def _network_links(self) -> tuple[set[str], set[str]]:
        """The links of networks of one's own that are there: of those in the state, and of all ever seen."""
        living: set[str] = set()
        with suppress(sqlite3.Error), closing(sqlite3.connect(self.data_root / "state.db")) as state:
            living = {row[0] for row in state.execute("SELECT id FROM networks")}
        self._seen_networks |= living
        return _links_of(living), _links_of(self._seen_networks)

    def cgroups(self) -> list[Path]:
        return [path for parent in self.cgroup_parents() for path in parent.iterdir() if path.is_dir()]

    def cgroup_parents(self) -> list[Path]:
        parents = [root / self.config.cgroup_parent.lstrip("/") for root in cgroup_roots()]
        return [parent for parent in parents if parent.is_dir()]

    def processes(self, but: Collection[int] = ()) -> list[tuple[int, str]]:
        """Processes that name the directory on their command line, but for these."""
        return processes_below(self.directory, but)

    def _nft_elements(self, bip: str) -> list[str]:
        ruleset = json.loads(output_of("nft", "-j", "list", "ruleset") or '{"nftables": []}')
        found = []
        for entry in ruleset["nftables"]:
            for kind in ("set", "map"):
                if entry.get(kind, {}).get("table") == self.config.table:
                    name = entry[kind]["name"]
                    if name == "loopback6":  # the host's own
                        continue
                    found += [f"{name} {element}" for element in entry[kind].get("elem", [])]
        # Elements that name the bridge itself stay for as long as it does.
        subnet = str(ipaddress.IPv4Interface(bip).network.network_address)
        return [element for element in found if self.config.bridge not in element and subnet not in element]


def _links_of(networks: set[str]) -> set[str]:
    names = {f"{prefix}{network[:12]}" for network in networks for prefix in ("br-", "dm-", "di-")}
    return {name for name in names if Path("/sys/class/net", name).exists()}


def mounts_below(directory: Path) -> list[str]:
    mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [path for path in mounts if path.startswith(f"{directory}/")]


def processes_below(directory: Path, but: Collection[int] = ()) -> list[tuple[int, str]]:
    """Pids and command lines that name something below ``directory``."""
    mark = f"{directory}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in (*but, os.getpid()):
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark in command:
                found.append((int(entry.name), command.replace(b"\0", b" ").decode(errors="replace")[:200]))
    return found


def cgroup_roots() -> set[Path]:
    """Where hierarchies of cgroups may begin."""
    return {_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir())}


def output_of(*argv: str) -> str:
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []
