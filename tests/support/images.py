"""Sync. Images made on the spot, from the host's statically linked busybox."""

import io
import re
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

from tests.strictness import skip_for_lack_of

BUSYBOX = "busybox:latest"
_APPLET_DIRECTORIES = ("bin", "sbin", "usr/bin", "usr/sbin")


@cache
def busybox_tar() -> bytes:
    """A root filesystem with busybox and all its applets, as one uncompressed tar."""
    return _busybox_tar({})


@cache
def getent_tar() -> bytes:
    """The same with the C library's ``getent``, which looks names up as most programs do."""
    program = shutil.which("getent")
    if program is None:
        skip_for_lack_of("getent")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", listed)
    return _busybox_tar({path.lstrip("/"): Path(path).read_bytes() for path in (program, *libraries)})


def _busybox_tar(programs: dict[str, bytes]) -> bytes:
    binary = shutil.which("busybox")
    if binary is None:
        skip_for_lack_of("busybox-static")
    content = Path(binary).read_bytes()
    listed = subprocess.run(
        [binary, "--list-full"], capture_output=True, text=True, check=True
    ).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in (
            "bin",
            "sbin",
            "usr",
            "usr/bin",
            "usr/sbin",
            "etc",
            "tmp",
            "root",
            "home",
            "var",
            "dev",
            "proc",
        ):
            _add_directory(tar, name, 0o1777 if name == "tmp" else 0o755)
        _add_file(tar, "bin/busybox", content, 0o755)
        for applet in listed:
            if applet != "bin/busybox" and str(Path(applet).parent) in _APPLET_DIRECTORIES:
                link = tarfile.TarInfo(applet)
                link.type, link.linkname = tarfile.SYMTYPE, "/bin/busybox"
                tar.addfile(link)
        for path, program in programs.items():
            for parent in reversed(Path(path).parents[:-1]):
                if str(parent) not in tar.getnames():  # Docker takes no path twice
                    _add_directory(tar, str(parent), 0o755)
            _add_file(tar, path, program, 0o755)
        _add_file(
            tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n", 0o644
        )
        _add_file(tar, "etc/group", b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n", 0o644)
    return buffer.getvalue()


def _add_directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
