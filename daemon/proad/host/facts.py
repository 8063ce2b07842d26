"""Trio-flavoured. Facts of this host that clients ask for: kernel, system, memory, what cgroups can limit.

Everything is read when it is asked for, from files of the kernel, in well under a millisecond; what needs a
tool to be run (versions of the runtime, the monitor and the init) is asked once and remembered.
"""

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from proad.host import apparmor
from proad.host.cgroup import Layout
from proad.host.process import run
from proad.host.runtime import SEARCH_PATH
from proad.model import errors

_PROC = Path("/proc")
_VERSION_TIMEOUT_S = 5.0
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm", "armv6l": "arm"}


@dataclass(frozen=True)
class Machine:
    """The host. ``architecture`` is uname's; ``go_architecture`` is what registries and Go call it."""

    hostname: str
    kernel: str
    system: str
    system_version: str
    architecture: str
    go_architecture: str
    cpus: int
    memory_bytes: int


@dataclass(frozen=True)
class Limits:
    """What cgroups and the kernel can do for a container here."""

    memory: bool
    swap: bool
    oom_kill_disable: bool
    cpu_quota: bool
    cpu_shares: bool
    cpuset: bool
    pids: bool
    blkio: bool
    kernel_memory_tcp: bool
    ipv4_forwarding: bool


@dataclass(frozen=True)
class ToolVersion:
    """A program, its version, and the commit it was built from; empty where it does not say."""

    name: str
    version: str
    commit: str


def read_machine() -> Machine:
    """Read what kind of host this is."""
    uname = os.uname()
    release = _os_release()
    return Machine(
        hostname=uname.nodename,
        kernel=uname.release,
        system=release.get("PRETTY_NAME") or release.get("NAME") or "Linux",
        system_version=release.get("VERSION_ID", ""),
        architecture=uname.machine,
        go_architecture=_GO_ARCHITECTURES.get(uname.machine, uname.machine),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def read_limits(layout: Layout) -> Limits:
    """Read which limits the host's cgroup layout offers."""
    available = layout.available
    forwarding = (_PROC / "sys/net/ipv4/ip_forward").read_text().strip() == "1"
    if layout.kind == "v2":
        return Limits(
            memory="memory" in available,
            swap="memory" in available and _v2_has(layout, "memory.swap.max"),
            oom_kill_disable=False,
            cpu_quota="cpu" in available,
            cpu_shares="cpu" in available,
            cpuset="cpuset" in available,
            pids="pids" in available,
            blkio="io" in available,
            kernel_memory_tcp=False,
            ipv4_forwarding=forwarding,
        )
    return Limits(
        memory="memory" in available,
        swap=_v1_has(layout, "memory", "memory.memsw.limit_in_bytes"),
        oom_kill_disable=_v1_has(layout, "memory", "memory.oom_control"),
        cpu_quota=_v1_has(layout, "cpu", "cpu.cfs_quota_us"),
        cpu_shares=_v1_has(layout, "cpu", "cpu.shares"),
        cpuset="cpuset" in available,
        pids="pids" in available,
        blkio="blkio" in available,
        kernel_memory_tcp=_v1_has(layout, "memory", "memory.kmem.tcp.limit_in_bytes"),
        ipv4_forwarding=forwarding,
    )


def security_features() -> list[str]:
    """Return the kernel's confinements in use, by Docker's names for them."""
    features = []
    if apparmor.is_enabled() and apparmor.find_parser() is not None:
        features.append("apparmor")
    if re.search(r"^Seccomp:", (_PROC / "self/status").read_text(), re.MULTILINE):
        features.append("seccomp")
    if Path("/sys/fs/selinux/enforce").exists():
        features.append("selinux")
    if (_PROC / "self/ns/cgroup").exists():
        features.append("cgroupns")
    return features


def open_descriptors() -> int:
    return len(os.listdir(_PROC / "self/fd"))


def filesystem_of(path: Path) -> str:
    """Return the type of the file system that holds ``path`` (``extfs`` for ext2, 3 and 4, as Docker
    says)."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in (_PROC / "self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if left.split(" ")[2] == wanted:
            kind = right.split(" ")[0]
            return "extfs" if kind.startswith("ext") else kind
    return "unknown"


class Tools:
    """Versions of the programs that the engine works with; each is run at most once."""

    def __init__(self) -> None:
        self._known: dict[str, ToolVersion] = {}

    async def version(self, program: str, *arguments: str) -> ToolVersion:
        """Ask ``program`` (``--version`` unless told otherwise); empty version if it is missing or silent."""
        if program not in self._known:
            self._known[program] = await _ask(program, arguments or ("--version",))
        return self._known[program]


async def _ask(program: str, arguments: tuple[str, ...]) -> ToolVersion:
    name = Path(program).name
    path = program if program.startswith("/") else _which(program)
    if path is None:
        return ToolVersion(name, "", "")
    try:
        done = await run([path, *arguments], timeout_s=_VERSION_TIMEOUT_S)
    except errors.System:
        return ToolVersion(name, "", "")
    said = (done.stdout + done.stderr).decode(errors="replace")
    version = re.search(r"\bv?(\d+\.\d+(?:\.\d+)?[\w.+~-]*)", said)
    commit = re.search(r"commit:?\s*([0-9A-Za-z.+~-]+)", said)
    return ToolVersion(name, version[1] if version else "", commit[1] if commit else "")


def _which(program: str) -> str | None:
    return next(
        (f"{d}/{program}" for d in SEARCH_PATH.split(":") if os.access(f"{d}/{program}", os.X_OK)), None
    )


def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _v1_has(layout: Layout, controller: str, file: str) -> bool:
    return controller in layout.controllers and (layout.controllers[controller] / file).exists()


def _v2_has(layout: Layout, file: str) -> bool:
    """The root group has no limit files: look into the groups below it."""
    assert layout.unified is not None
    return any((child / file).exists() for child in layout.unified.iterdir() if child.is_dir())
