"""Sync. A private systemd journal, and a ``proad`` that sees it as its host's."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.support.daemon import Daemon

JOURNALD = Path("/lib/systemd/systemd-journald")
READY_TIMEOUT_S = 20.0
# A mount namespace of its own: the journal of a host that has one is neither read nor written.
_SCRIPT = f"""
mkdir -p /run/systemd /run/log
mount -t tmpfs tmpfs /run/systemd && mount -t tmpfs tmpfs /run/log
mkdir -p /run/systemd/journal /run/log/journal
mkdir /run/systemd/journald.conf.d
printf '[Journal]\\nStorage=volatile\\nRateLimitBurst=0\\nReadKMsg=no\\nAudit=no\\n' \
    > /run/systemd/journald.conf.d/private.conf
exec {JOURNALD}
"""


def has_journald() -> bool:
    return JOURNALD.exists() and shutil.which("journalctl") is not None


class Journal:
    """A running journald in a mount namespace of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", _SCRIPT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self.ask("--sync").returncode != 0:
            assert self._process.poll() is None, "journald ended at once"
            assert time.monotonic() < deadline, "journald was not ready"
            time.sleep(0.02)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs ``command`` where the journal is the host's."""
        return ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", *command]

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """What journalctl says."""
        return subprocess.run(
            self.inside("journalctl", "--quiet", *arguments), capture_output=True, check=False, timeout=20
        )

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(READY_TIMEOUT_S)

    @property
    def pid(self) -> int:
        return self._process.pid


class JournaledDaemon(Daemon):
    """A daemon on a host with that journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def argv(self) -> list[str]:
        return self._journal.inside(*super().argv())


class UnjournaledDaemon(Daemon):
    """A daemon on a host that has no journal, whatever this one has."""

    def argv(self) -> list[str]:
        hide = 'if [ -d /run/systemd ]; then mount -t tmpfs tmpfs /run/systemd; fi; exec "$@"'
        return ["unshare", "--mount", "sh", "-ec", hide, "sh", *super().argv()]


def children_of(pid: int) -> list[str]:
    """The command lines of a process's children; threads and children that end meanwhile have none."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                with suppress(FileNotFoundError, ProcessLookupError):
                    found.append(Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found
