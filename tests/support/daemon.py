"""Sync. A private ``proad``: its own state, socket, bridge, table and cgroup; and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from proad.config import NO_BRIDGE
from tests.support.belongings import Belongings
from tests.support.images import BUSYBOX, busybox_tar
from tests.support.rawhttp import Api
from tests.support.whose import own_bip, own_directory, own_pool

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
_POOL = "--default-address-pool"
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
        # Those that others were made from are in use until these are gone.
        for network in sorted(listed.expect(200).json, key=lambda network: bool(network["ConfigOnly"])):
            answer = self.api("DELETE", f"/networks/{network['Id']}", version=COMMON_VERSION)
            assert answer.status in (204, 404), answer.body


class Process(Protocol):
    """What is asked of a daemon's process; ``subprocess.Popen`` can."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


class Daemon(Engine):
    """One ``proad`` process and all that belongs to it. Restartable; :meth:`close` removes everything."""

    def __init__(self, *arguments: str) -> None:
        self.own = Belongings(own_directory())
        self.directory = self.own.directory
        self.data_root = self.own.data_root
        self.exec_root = self.own.exec_root
        super().__init__(self.exec_root / "proa.sock")
        self.log_path = self.directory / "log"
        self.arguments = arguments
        self.bip = own_bip()
        self.config = self.own.config
        self.process: Process | None = None

    def argv(self) -> list[str]:
        return [sys.executable, "-m", "proad", *self.all_arguments()]

    def all_arguments(self) -> list[str]:
        """Those that make it private, and the test's."""
        address = [] if NO_BRIDGE in self.arguments else ["--bip", self.bip]
        pool = [] if _POOL in self.arguments else [_POOL, f"base={own_pool()},size=24"]
        return [
            "--host", self.url, "--data-root", str(self.data_root), "--exec-root", str(self.exec_root),
            *address, *pool, "--log-format", "json", *self.arguments,
        ]  # fmt: skip

    def spawn(self, log: BinaryIO) -> Process:
        return subprocess.Popen(self.argv(), stdout=log, stderr=log, start_new_session=True)

    def own_pids(self) -> set[int]:
        """Of processes that name the directory, and that no container left behind."""
        return {self.process.pid} if self.process else set()

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> "Daemon":
        """Start it and wait until it answers."""
        with self.log_path.open("ab") as log:
            self.process = self.spawn(log)
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
        return self.own.of_containers(self.bip, self.own_pids())

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
                self.own.links()  # knows from now on what networks there were
                self.remove_networks()
                found = self.settle()
                self.stop()
        finally:
            self._clear()
        return found

    def _clear(self) -> None:
        if self.is_running:
            self.kill()
        self.own.clear(self.own_pids())


def run_cli(
    argv: Sequence[str], env: dict[str, str], *, input: bytes | None = None, timeout_s: float = 60.0
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command line client with a bound on its time."""
    return subprocess.run(
        argv, env={**os.environ, **env}, input=input, capture_output=True, timeout=timeout_s, check=False
    )
