"""Sync. A private ``proad``: its own state, socket, bridge, table and cgroup; and what it leaves behind."""

import ipaddress
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from proad.config import NO_BRIDGE, Config, load
from proad.host.runtime import containers_at
from tests.support.images import BUSYBOX, busybox_tar
from tests.support.rawhttp import Api

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
COMMON_VERSION = "v1.41"  # of what every engine does; a peer may be as old as Docker 20.10


class DaemonFailed(AssertionError):
    """The daemon did not come up, or did not go; carries the end of its log."""


class Engine:
    """Whoever serves the API on a socket: ours, or one that runs here already."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.api = Api(socket)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def import_busybox(self, name: str = BUSYBOX) -> str:
        """Make the busybox image; returns its name."""
        return self.import_tar(busybox_tar(), name)

    def import_tar(self, rootfs: bytes, name: str) -> str:
        """Make an image of a root filesystem; returns its name."""
        repository, _, tag = name.rpartition(":")
        headers = {"Content-Type": "application/x-tar"}
        answer = self.api(
            "POST", "/images/create", body=rootfs, headers=headers, version=COMMON_VERSION,
            fromSrc="-", repo=repository, tag=tag, changes='CMD ["sh"]',
        ).expect(200)  # fmt: skip
        for line in answer.body.splitlines():
            assert "error" not in json.loads(line), line
        return name

    def remove_containers(self) -> None:
        """Remove every container by force."""
        listed = self.api("GET", "/containers/json", version=COMMON_VERSION, all=True)
        for container in listed.expect(200).json:
            path = f"/containers/{container['Id']}"
            answer = self.api("DELETE", path, version=COMMON_VERSION, force=True, v=True)
            assert answer.status in (204, 404, 409), answer.body

    def remove_networks(self) -> None:
        """Remove every network that is not predefined; no container may run on any."""
        listed = self.api("GET", "/networks", version=COMMON_VERSION, filters={"type": ["custom"]})
        for network in listed.expect(200).json:
            answer = self.api("DELETE", f"/networks/{network['Id']}", version=COMMON_VERSION)
            assert answer.status in (204, 404), answer.body


class Daemon(Engine):
    """One ``proad`` process and all that belongs to it. Restartable; :meth:`close` removes everything."""

    def __init__(self, *arguments: str, directory: Path | None = None) -> None:
        # A short path: a unix socket's is limited to 107 bytes, and monitors put theirs below it.
        self.directory = directory or Path(tempfile.mkdtemp(prefix="proa-", dir="/tmp"))
        self.data_root = self.directory / "data"
        self.exec_root = self.directory / "run"
        super().__init__(self.exec_root / "proa.sock")
        self.log_path = self.directory / "log"
        self.arguments = arguments
        self.bip = _free_bip()
        self.config: Config = load({"exec_root": str(self.exec_root), "data_root": str(self.data_root)})
        self.process: subprocess.Popen[bytes] | None = None
        self._seen_networks: set[str] = set()

    def argv(self) -> list[str]:
        address = [] if NO_BRIDGE in self.arguments else ["--bip", self.bip]
        return [
            sys.executable, "-m", "proad", "--host", self.url, "--data-root", str(self.data_root),
            "--exec-root", str(self.exec_root), *address, "--log-format", "json", *self.arguments,
        ]  # fmt: skip

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> "Daemon":
        """Start it and wait until it answers."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.argv(), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise DaemonFailed(f"proad ended with {self.process.returncode} at once:\n{self.log_tail()}")
            try:
                if self.api("GET", "/_ping", version="").status == 200:
                    return self
            except OSError:
                time.sleep(0.02)
        self.kill()
        raise DaemonFailed(f"proad was not ready after {READY_TIMEOUT_S:g} s:\n{self.log_tail()}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL, as a crash would; containers live on."""
        return self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise DaemonFailed(f"proad did not end after signal {number}:\n{self.log_tail()}") from None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    # --- the end ------------------------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        """What is still there of containers; empty when all of them are removed."""
        found = [f"mount {path}" for path in self._mounts()]
        found += [f"link {name}" for name in self._links()]
        found += [f"nft element {element}" for element in self._nft_elements()]
        found += [f"cgroup {path}" for path in self._cgroups()]
        found += [f"process {pid}: {command}" for pid, command in self._processes()]
        for directory in ("netns", "runs", "exits", "attach"):
            found += [f"file {path}" for path in _children(self.exec_root / directory)]
        found += [f"runtime state {name}" for name in containers_at(self.exec_root / "runtime")]
        found += [f"file {path}" for path in _children(self.data_root / "containers")]
        return found

    def settle(self, *kept: str, timeout_s: float = 5.0) -> list[str]:
        """Leftovers, after giving what is on its way out the time to go.

        ``kept`` are ids of containers that are not removed: their own directories may be there.
        """
        own = {f"file {self.data_root / 'containers' / container_id}" for container_id in kept}
        deadline = time.monotonic() + timeout_s
        while (found := [item for item in self.leftovers() if item not in own]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.05)
        return found

    def close(self) -> list[str]:
        """Stop everything, remove everything; returns what the daemon itself should have removed."""
        found: list[str] = []
        try:
            if self.is_running:
                self.remove_containers()
                self._network_links()
                self.remove_networks()
                found = self.settle()
                self.stop()
        finally:
            self._clear()
        return found

    def _clear(self) -> None:
        if self.is_running:
            self.kill()
        for pid, _ in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in reversed(self._mounts()):
            subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)
        for link in (self.config.bridge, *self._network_links()[1]):
            _run("ip", "link", "delete", link)
        for family in ("inet", "ip", "ip6", "bridge"):
            _run("nft", "delete", "table", family, self.config.table)
        for cgroup in [*self._cgroups(), *self._cgroup_parents()]:
            with suppress(OSError):
                cgroup.rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _mounts(self) -> list[str]:
        mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [path for path in mounts if path.startswith(f"{self.directory}/")]

    def _links(self) -> list[str]:
        """Interfaces on our bridges, and bridges of networks that are removed."""
        living, seen = self._network_links()
        found = sorted(seen - living)
        for bridge in (self.config.bridge, *sorted(living)):
            listed = _run("ip", "-j", "link", "show", "master", bridge)
            found += [link["ifname"] for link in json.loads(listed or "[]") if link]
        return found

    def _network_links(self) -> tuple[set[str], set[str]]:
        """The links of networks of one's own that are there: of those in the state, and of all ever seen."""
        living: set[str] = set()
        with suppress(sqlite3.Error), closing(sqlite3.connect(self.data_root / "state.db")) as state:
            living = {row[0] for row in state.execute("SELECT id FROM networks")}
        self._seen_networks |= living
        return _links_of(living), _links_of(self._seen_networks)

    def _nft_elements(self) -> list[str]:
        ruleset = json.loads(_run("nft", "-j", "list", "ruleset") or '{"nftables": []}')
        found = []
        for entry in ruleset["nftables"]:
            for kind in ("set", "map"):
                if entry.get(kind, {}).get("table") == self.config.table:
                    name = entry[kind]["name"]
                    found += [f"{name} {element}" for element in entry[kind].get("elem", [])]
        return [element for element in found if not self._is_static(element)]

    def _is_static(self, element: str) -> bool:
        """Elements that name the bridge itself stay for as long as it does."""
        return (
            self.config.bridge in element
            or str(ipaddress.IPv4Interface(self.bip).network.network_address) in element
        )

    def _cgroup_parents(self) -> list[Path]:
        roots = {Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()}
        parents = [root / self.config.cgroup_parent.lstrip("/") for root in roots]
        return [parent for parent in parents if parent.is_dir()]

    def _cgroups(self) -> list[Path]:
        return [path for parent in self._cgroup_parents() for path in parent.iterdir() if path.is_dir()]

    def _processes(self) -> Iterator[tuple[int, str]]:
        """Processes that name this daemon's directory on their command line, but for the daemon."""
        mark = f"{self.directory}/".encode()
        own = self.process.pid if self.process else 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in (own, os.getpid()):
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if mark in command:
                    yield int(entry.name), command.replace(b"\0", b" ").decode(errors="replace")[:200]


def _links_of(networks: set[str]) -> set[str]:
    names = {f"{prefix}{network[:12]}" for network in networks for prefix in ("br-", "dm-")}
    return {name for name in names if Path("/sys/class/net", name).exists()}


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout


def _free_bip() -> str:
    """An address for a bridge that nobody here has: from the range for benchmarks (RFC 2544)."""
    used = [
        ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
        for link in json.loads(_run("ip", "-j", "-4", "address") or "[]")
        for address in link.get("addr_info", [])
    ]
    while True:
        candidate = ipaddress.IPv4Interface(f"198.{random.choice((18, 19))}.{random.randrange(256)}.1/24")
        if not any(candidate.network.overlaps(network) for network in used):
            return str(candidate)


def run_cli(
    argv: Sequence[str], env: dict[str, str], *, input: bytes | None = None, timeout_s: float = 60.0
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command line client with a bound on its time."""
    return subprocess.run(
        argv, env={**os.environ, **env}, input=input, capture_output=True, timeout=timeout_s, check=False
    )
