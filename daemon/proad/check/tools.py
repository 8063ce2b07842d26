"""Sync, blocking. What this host has installed, mounted and configured."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from proad.check.finding import Finding, Level, either
from proad.config import Config
from proad.host.cgroup import Layout, detect_layout
from proad.host.facts import filesystem_of
from proad.host.quota import ProjectQuotas
from proad.host.runtime import SEARCH_PATH, choose_runtime
from proad.model import errors
from proad.model.seccomp import BUILTIN_PATH

WANTED_DISK_BYTES = 1 << 30
_TRY_S = 10.0


def file_system(data_root: Path) -> Finding:
    """overlayfs wants an upper directory with whiteouts and xattrs, which network and stacked ones lack."""
    place = next(path for path in (data_root, *data_root.parents) if path.exists())
    kind = filesystem_of(place)
    unfit = kind in ("overlay", "nfs", "nfs4", "cifs", "vfat", "fuse", "9p", "ecryptfs")
    free = shutil.disk_usage(place).free
    value = f"{data_root} on {kind}, {free / 2**30:.1f} GiB free"
    if unfit:
        return Finding("data root", Level.MISSING, value, "unfit for overlayfs; choose another --data-root")
    return either(
        "data root",
        free >= WANTED_DISK_BYTES,
        value,
        "fit for layers",
        "little room: imports and writes in containers may fail",
        needed=False,
    )


def storage_quota(data_root: Path) -> Finding:
    place = next(path for path in (data_root, *data_root.parents) if path.exists())
    works = ProjectQuotas(place).are_enforced()
    return either(
        "storage quota",
        works,
        "works" if works else f"not on this {filesystem_of(place)}",
        "--storage-opt size=... limits what a container writes",
        "--storage-opt size=... is refused; it takes xfs or ext4 with project quota (prjquota)",
        needed=False,
    )


def seccomp_profile() -> Finding:
    there = Path(BUILTIN_PATH).exists()
    return either(
        "seccomp profile",
        there,
        BUILTIN_PATH if there else f"{BUILTIN_PATH} is absent",
        "the default filter of all containers",
        "containers without --security-opt seccomp=... cannot start; "
        "install the package golang-github-containers-common",
    )


def cgroups(config: Config) -> Iterator[Finding]:
    try:
        layout = detect_layout()
    except errors.ProaError as error:
        yield Finding("cgroups", Level.MISSING, error.message, "no container can be limited or paused")
        return
    yield Finding(
        "cgroups",
        Level.OK,
        f"{layout.kind} layout",
        f"API clients are told version {layout.version}; containers live below {config.cgroup_parent}",
    )
    yield _controllers(layout)
    try:
        choice = choose_runtime(config.default_runtime, config.runtimes, config.exec_root / "runtime", layout)
    except errors.ProaError as error:
        yield Finding("runtime", Level.MISSING, error.message, "no container can be created")
        return
    yield Finding("runtime", Level.OK, f"{choice.runtime.path}", choice.reason)


def _controllers(layout: Layout) -> Finding:
    has = layout.available
    wanted = {"memory": "-m", "cpu": "--cpus", "pids": "--pids-limit", "cpuset": "--cpuset-cpus"}
    wanted["io" if layout.kind == "v2" else "blkio"] = "--blkio-weight"
    lacking = [f"{flag} ({name})" for name, flag in wanted.items() if name not in has]
    return either(
        "controllers",
        not lacking,
        " ".join(sorted(has)) or "none",
        "all limits can be set",
        f"cannot be honoured and are dropped with a warning: {', '.join(lacking)}",
        needed=False,
    )


def conmon() -> Finding:
    path = which("conmon")
    return either(
        "conmon",
        path is not None,
        f"{path}{_version(path)}" if path else "not installed",
        "each container has a monitor that outlives the daemon",
        "no container can start; install the package conmon",
    )


def init(config: Config) -> Finding:
    programs = [config.init_path] if config.init_path else ["docker-init", "tini-static", "tini", "catatonit"]
    found = next((path for path in map(which, programs) if path), None)
    return either(
        "init",
        found is not None,
        found or "none installed",
        "serves --init",
        "--init is refused; install the package tini or catatonit",
        needed=False,
    )


def journal() -> Finding:
    there = Path("/run/systemd/journal/socket").exists()
    return either(
        "journald",
        there,
        "running" if there else "not running",
        "as a service, the daemon's log goes there",
        "the daemon's log goes to stderr only",
        needed=False,
    )


def _version(path: str) -> str:
    """Return `` 2.1.6`` as the program says it, or nothing where it does not."""
    if not os.access(path, os.X_OK):
        return ""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_TRY_S, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return f" {found[0]}" if found else ""


def which(program: str) -> str | None:
    return shutil.which(program, path=f"{SEARCH_PATH}:{os.environ.get('PATH', '')}")
