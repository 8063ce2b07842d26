"""Sync. A Debian root filesystem made by mmdebstrap, once for all tests that want one."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.strictness import skip_for_lack_of

SUITE = "stable"
TIMEOUT_S = 500


def debian_tar() -> Path:
    """A tar of a minimal Debian; made once and kept, for that takes a minute."""
    program = shutil.which("mmdebstrap")
    if program is None:
        skip_for_lack_of("mmdebstrap")
    kept = Path(tempfile.gettempdir()) / f"proa-tests-{os.geteuid()}"
    kept.mkdir(mode=0o700, exist_ok=True)
    if kept.is_symlink() or kept.stat().st_uid != os.geteuid():
        raise AssertionError(f"{kept} is somebody else's")
    target = kept / "debian.tar"
    with (kept / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _make(program, target)
    return target


def _make(program: str, target: Path) -> None:
    unfinished = target.with_suffix(".unfinished.tar")
    done = subprocess.run(
        [program, "--variant=minbase", "--mode=root", SUITE, str(unfinished)],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        skip_for_lack_of(f"a mirror that mmdebstrap reaches ({''.join(last)})")
    unfinished.rename(target)
