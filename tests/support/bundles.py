"""Sync. OCI bundles with a busybox inside, to run by hand under a real monitor and runtime."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

APPLETS = ("sh", "cat", "echo", "sleep", "true", "yes", "dd", "head", "seq", "stty", "kill", "grep", "mkdir")


def make_rootfs(path: Path, busybox: Path) -> Path:
    """A root filesystem of one static program under its names, and files that cannot be executed."""
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
        (path / name).mkdir(parents=True)
    shutil.copy(busybox, path / "bin/busybox")
    for name in APPLETS:
        (path / "bin" / name).symlink_to("busybox")
    (path / "notexec").write_text("text\n")
    (path / "garbage").write_text("not a program\n")
    (path / "garbage").chmod(0o755)
    return path


def write_config(bundle: Path, rootfs: Path, args: Sequence[str], *, cgroup: str, **options: Any) -> None:
    """A ``config.json`` with little isolation; ``terminal`` and ``resources`` may be given."""
    terminal = bool(options.get("terminal"))
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": "bundle",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": options.get("resources", {}),
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
        },
    }
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(config))


def open_descriptors() -> set[str]:
    """What this process has open, to be compared before and after."""
    found = set()
    for entry in os.scandir("/proc/self/fd"):
        try:
            found.add(f"{entry.name} {os.readlink(entry.path)}")
        except FileNotFoundError:
            continue
    return found
