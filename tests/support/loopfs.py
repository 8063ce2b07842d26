"""Sync. A small file system of its own, in a file, mounted for a test and gone after it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.strictness import skip_for_lack_of

_MAKE = {"xfs": ("mkfs.xfs", "-q"), "ext4": ("mkfs.ext4", "-q", "-O", "project,quota")}
_SIZE_BYTES = 320 << 20  # xfs wants 300 MB


@contextmanager
def project_quota_file_system(kind: str, directory: Path) -> Iterator[Path]:
    """Mount an ``xfs`` or ``ext4`` with project quotas; yields where. Skips the test where that cannot be."""
    program, *options = _MAKE[kind]
    if shutil.which(program) is None or shutil.which("losetup") is None:
        skip_for_lack_of(f"{program} and losetup")
    image, place = directory / f"{kind}.image", directory / kind
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(_SIZE_BYTES)
    subprocess.run([program, *options, str(image)], check=True, capture_output=True)
    mount = ["mount", "-t", kind, "-o", "loop,prjquota", str(image), str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        skip_for_lack_of(f"a kernel that mounts {kind} with project quotas from a loop device")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        image.unlink()
