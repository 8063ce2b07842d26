"""Sync, blocking. A local file or tree as a tar archive to upload, made as it is read."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator

PIECE_BYTES = 256 << 10


class Packed:
    """Reads like a file. `path` is the file or tree, `name` what it is called in the archive.

    Symlinks are packed as such, but for `path` itself where it ends in a slash. `copied` hears of the bytes
    of files as they are read. What vanishes meanwhile is left out; what cannot be read raises OSError.
    """

    def __init__(self, path: str, name: str, copied: Callable[[int], object]) -> None:
        self._copied = copied
        self._linked: dict[tuple[int, int], str] = {}
        self._pieces = self._archive(path, name)
        self.total = 0
        """The bytes of the archive that were read."""

    def read(self, size: int, /) -> bytes:
        """The next piece, of `size` bytes or some more; fewer at the end."""
        piece = next(self._pieces, b"")
        if piece and len(piece) < size:
            gathered = bytearray(piece)
            while len(gathered) < size and (more := next(self._pieces, b"")):
                gathered += more
            piece = bytes(gathered)
        self.total += len(piece)
        return piece

    def _archive(self, path: str, name: str) -> Iterator[bytes]:
        pending = [(path, name)]
        while pending:
            path, name = pending.pop()
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            yield from self._entry(path, name, status)
            if stat.S_ISDIR(status.st_mode):
                prefix = "" if name == "." else f"{name}/"
                children = sorted(os.listdir(path), reverse=True)
                pending += [(os.path.join(path, child), prefix + child) for child in children]
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _entry(self, path: str, name: str, status: os.stat_result) -> Iterator[bytes]:
        info = _describe(path, name, status)
        if info is None:
            return
        identity = status.st_dev, status.st_ino
        if status.st_nlink > 1 and not info.isdir():
            if identity in self._linked:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, self._linked[identity], 0
            self._linked.setdefault(identity, name)
        if not info.isreg():
            yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
            return
        with open(path, "rb", buffering=0) as file:
            info.size = os.fstat(file.fileno()).st_size
            yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
            left = info.size
            while left and (data := file.read(min(PIECE_BYTES, left))):
                left -= len(data)
                self._copied(len(data))
                yield data
        while left:  # it has become shorter meanwhile
            yield bytes(min(PIECE_BYTES, left))
            left -= min(PIECE_BYTES, left)
        if info.size % tarfile.BLOCKSIZE:
            yield bytes(-info.size % tarfile.BLOCKSIZE)


def _describe(path: str, name: str, status: os.stat_result) -> tarfile.TarInfo | None:
    """The entry of a path; None for sockets, which no archive can hold."""
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid, info.mtime = status.st_uid, status.st_gid, int(status.st_mtime)
    mode = status.st_mode
    if stat.S_ISREG(mode):
        info.type = tarfile.REGTYPE
    elif stat.S_ISDIR(mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISFIFO(mode):
        info.type = tarfile.FIFOTYPE
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    else:
        return None
    return info


def size_of(path: str) -> int:
    """The bytes of a file, or of all files in a tree; what cannot be looked at counts nothing."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total
