"""Sync, blocking. What the kernel can do, and what it lets this process do.

Facts are tried, not guessed from versions, wherever a try leaves nothing behind: links are made in a network
namespace that ends with the process that made it, rules are checked by the kernel without being committed.
"""

import ctypes
import errno
import os
import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

from proad.check.finding import Finding, Level, either
from proad.check.tools import which
from proad.config import Config
from proad.host import apparmor
from proad.model.apparmor import DEFAULT as DEFAULT_PROFILE
from proad.model.capabilities import BY_NUMBER, from_mask

OLDEST_KERNEL = (5, 6)
WANTED_DESCRIPTORS = 65536
_TRY_S = 10.0
_OPENAT2 = 437
"""The system call's number, the same on every architecture."""


def kernel() -> Finding:
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    new_enough = found is not None and (int(found[1]), int(found[2])) >= OLDEST_KERNEL
    oldest = ".".join(map(str, OLDEST_KERNEL))
    return either("kernel", new_enough, release, "new enough", f"too old, at least {oldest} is needed")


def root() -> Finding:
    uid = os.geteuid()
    return either(
        "user", uid == 0, f"uid {uid}", "may make namespaces and mounts", "the daemon must run as root"
    )


def pidfd() -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Finding(
            "pidfd", Level.MISSING, error.strerror or str(error), "processes cannot be watched safely"
        )
    return Finding("pidfd", Level.OK, "works", "no signal reaches a process that took over a pid")


def openat2() -> Finding:
    libc = ctypes.CDLL(None, use_errno=True)
    # A size of zero is an error of its own (EINVAL), told apart from a call that is not there or not allowed.
    libc.syscall(_OPENAT2, -1, b"/", None, 0)
    code = ctypes.get_errno()
    works = code not in (errno.ENOSYS, errno.EPERM)
    return either(
        "openat2",
        works,
        "works" if works else os.strerror(code),
        "paths inside images cannot lead out of them",
        "images and mounts cannot be handled safely",
    )


def overlay() -> Finding:
    known = re.search(r"^nodev\s+overlay$", Path("/proc/filesystems").read_text(), re.MULTILINE) is not None
    loadable = not known and _module_is_there("overlay")
    value = "built in or loaded" if known else "loads on demand" if loadable else "not in this kernel"
    return either(
        "overlayfs",
        known or loadable,
        value,
        "layers are shared between containers",
        "no root filesystem can be mounted; load or build in the module 'overlay'",
    )


def _module_is_there(name: str) -> bool:
    """Return whether the running kernel has the module, loaded or on disk (modules.dep(5))."""
    directory = Path("/lib/modules") / os.uname().release
    if (Path("/sys/module") / name).exists():
        return True
    for index in (directory / "modules.builtin", directory / "modules.dep"):
        if index.exists() and re.search(rf"/{name}\.ko", index.read_text()):
            return True
    return False


def links() -> Iterator[Finding]:
    meaning = {
        "bridge": ["link", "add", "proacheck0", "type", "bridge"],
        "veth": ["link", "add", "proacheck0", "type", "veth", "peer", "name", "proacheck1"],
    }
    tools = [which(tool) for tool in ("unshare", "ip")]
    for kind, arguments in meaning.items():
        if None in tools or os.geteuid() != 0:
            yield Finding(kind, Level.ABSENT, "not tried", "trying it needs root, unshare and ip")
            continue
        done = subprocess.run(
            [str(tools[0]), "--net", str(tools[1]), *arguments],
            capture_output=True,
            text=True,
            timeout=_TRY_S,
            check=False,
        )
        works = done.returncode == 0
        yield either(
            kind,
            works,
            "works" if works else done.stderr.strip() or "refused",
            "containers have a network of their own",
            "only --network none and --network host will work",
            needed=False,
        )


RULES = """
table ip proa_check {
    map ports { type inet_service : ipv4_addr . inet_service; }
    chain published { type nat hook prerouting priority dstnat; dnat ip to tcp dport map @ports; }
    chain outgoing { type nat hook postrouting priority srcnat; masquerade; }
}
"""
"""The kinds of rule that published ports need; checked by the kernel, never committed."""


def nftables(config: Config) -> Finding:
    try:
        said = _refusal_of_rules(RULES)
    except OSError as error:
        return Finding("nftables", Level.MISSING, str(error), "no bridge network; install libnftables1")
    return either(
        "nftables",
        not said,
        said or "works",
        f"ports are published and networks masqueraded by table {config.table!r}",
        "no bridge network: the kernel refuses NAT rules",
    )


def _refusal_of_rules(rules: str) -> str:
    """Let the kernel check ``rules`` without committing them (libnftables(3)); empty if it would take them.

    Raises:
        OSError: the library is not installed.
    """
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    context = ctypes.c_void_p(library.nft_ctx_new(ctypes.c_uint32(0)))
    try:
        library.nft_ctx_set_dry_run(context, ctypes.c_bool(True))
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_buffer(context, rules.encode()) == 0:
            return ""
        text: bytes = library.nft_ctx_get_error_buffer(context)
        return text.decode(errors="replace").strip().partition("\n")[0] or "refused"
    finally:
        library.nft_ctx_free(context)


def seccomp() -> Finding:
    filters = Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    return either(
        "seccomp",
        filters,
        "works" if filters else "not in this kernel",
        "system calls are filtered",
        "containers run without a system call filter",
        needed=False,
    )


def user_namespaces() -> Finding:
    limit = Path("/proc/sys/user/max_user_namespaces")
    usable = limit.exists() and limit.read_text().strip() != "0"
    return either(
        "user namespaces",
        usable,
        "work" if usable else "switched off",
        "programs in privileged containers may sandbox themselves",
        "no sandboxes inside containers",
        needed=False,
    )


def capabilities() -> Finding:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    held = from_mask(int(found[1], 16) if found else 0)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    lacking = [name for name in BY_NUMBER[: last + 1] if name not in held]
    if "CAP_SYS_ADMIN" in lacking or "CAP_NET_ADMIN" in lacking:
        return Finding(
            "capabilities", Level.MISSING, f"lacks {', '.join(lacking)}", "no namespaces, mounts and networks"
        )
    return either(
        "capabilities",
        not lacking,
        f"lacks {', '.join(lacking)}" if lacking else f"all {last + 1}",
        "--privileged means everything",
        "--privileged and --cap-add are cut to the rest"
        + (", and limits cannot be raised" if "CAP_SYS_RESOURCE" in lacking else ""),
        needed=False,
    )


def descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return either(
        "open files",
        hard == resource.RLIM_INFINITY or hard >= WANTED_DESCRIPTORS,
        f"limit {soft}, up to {hard}",
        "enough for thousands of containers and subscribers",
        "many containers or subscribers may exhaust it; raise LimitNOFILE",
        needed=False,
    )


def forwarding() -> Finding:
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    if switch.read_text().strip() == "1":
        return Finding("ip_forward", Level.OK, "on", "containers reach other networks")
    if os.access(switch, os.W_OK):
        return Finding("ip_forward", Level.OK, "off", "the daemon switches it on when it starts")
    return Finding("ip_forward", Level.ABSENT, "off and read-only", "containers reach this host only")


def confinement() -> Finding:
    name = "confinement"
    if apparmor.is_enabled():
        return either(
            name,
            apparmor.find_parser() is not None,
            "AppArmor",
            f"containers run under profile {DEFAULT_PROFILE} unless told otherwise",
            "without apparmor_parser containers run unconfined; install the package apparmor",
            needed=False,
        )
    return either(
        name,
        Path("/sys/fs/selinux/enforce").exists(),
        "SELinux" if Path("/sys/fs/selinux/enforce").exists() else "no AppArmor, no SELinux",
        "the host confines processes beyond namespaces and capabilities",
        "--security-opt apparmor=... and label=... are accepted and mean nothing",
        needed=False,
    )
