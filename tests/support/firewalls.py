"""firewalld and ufw themselves, on a host of their own: namespaces of network and mounts.

with FirewalledHost() as host:
    with host.firewalld():
        host.run("firewall-cmd", "--reload")

Their programs are the machine's, or those that scripts/deps.sh has taken out of their packages, which are
laid over its directories in the host's own mount namespace; nothing of theirs is installed. What they change
(/etc, /run) is the host's own in any case.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tests.strictness import skip_for_lack_of
from tests.support.hostpair import HostPair
from tests.support.whose import own_directory

TAKEN = Path(__file__).parents[2] / ".tools" / "firewalls"
"""Where scripts/deps.sh puts what it takes out of the packages."""

READY_TIMEOUT_S = 20.0

# A private mount namespace that lives for as long as its input is open. What it lays over /usr is read only.
_KEEPER = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"  # an overlay's own may not be on one
mkdir "$1/etc" "$1/work"
if [ -d "$2" ]; then
    mount -t overlay overlay -o "lowerdir=$2/usr:/usr" /usr
    lower=$2/etc:/etc
fi
mount -t overlay overlay -o "lowerdir=${lower:-/etc},upperdir=$1/etc,workdir=$1/work" /etc
mount -t tmpfs tmpfs /run
mkdir /run/dbus
echo ready
exec cat
"""

_BUS = """
<busconfig>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/> <allow eavesdrop="true"/> <allow own="*"/>
  </policy>
</busconfig>
"""


class FirewalledHost(HostPair):
    """A host, and a neighbour that routes by it."""

    def build(self) -> None:
        super().build()
        self.directory = own_directory()
        (over := self.directory / "over").mkdir()
        keeper = ["unshare", "--mount", "sh", "-c", _KEEPER, "sh", str(over), str(TAKEN)]
        self._keeper = subprocess.Popen(
            keeper,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "ready\n"

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_keeper"):
            self._keeper.communicate()
        super().__exit__()
        shutil.rmtree(self.directory, ignore_errors=True)

    def argv(self, *command: str) -> list[str]:
        """What runs a program there."""
        return ["nsenter", f"--net={self.host}", f"--mount=/proc/{self._keeper.pid}/ns/mnt", "--", *command]

    def run(self, *command: str) -> str:
        """Run a program there; returns what it wrote."""
        done = subprocess.run(self.argv(*command), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def has(self, program: str) -> bool:
        return subprocess.run(self.argv("which", program), capture_output=True, check=False).returncode == 0

    @contextlib.contextmanager
    def firewalld(self, *, backend: str = "nftables") -> Iterator[None]:
        """A firewalld that runs there, with a bus of its own."""
        if not self.has("firewalld"):
            skip_for_lack_of("firewalld")
        if not self.has("dbus-daemon"):
            skip_for_lack_of("dbus-daemon")
        (self.directory / "bus.conf").write_text(_BUS)
        self.run(
            "sed", "-i", f"s/^FirewallBackend=.*/FirewallBackend={backend}/", "/etc/firewalld/firewalld.conf"
        )
        log = (self.directory / "firewalld.log").open("wb")
        bus = self.argv("dbus-daemon", f"--config-file={self.directory / 'bus.conf'}", "--nofork")
        with log, _running(bus, log), _running(self.argv("firewalld", "--nofork", "--nopid"), log):
            deadline = time.monotonic() + READY_TIMEOUT_S
            state = self.argv("firewall-cmd", "--state")
            while subprocess.run(state, capture_output=True, check=False).returncode != 0:
                assert time.monotonic() < deadline, (self.directory / "firewalld.log").read_text()
                time.sleep(0.1)
            yield

    @contextlib.contextmanager
    def ufw(self) -> Iterator[None]:
        """An ufw that is enabled there, as it is after its installation."""
        if not self.has("ufw"):
            skip_for_lack_of("ufw")
        templates = "/usr/share/ufw"  # what the package's installation makes of them
        self.run(
            "sh", "-c", f"cp -n {templates}/iptables/*.rules {templates}/ufw.conf {templates}/*.init /etc/ufw"
        )
        self.run("ufw", "--force", "enable")
        try:
            yield
        finally:
            self.run("ufw", "disable")


@contextlib.contextmanager
def _running(argv: list[str], log: BinaryIO) -> Iterator[None]:
    with subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)
