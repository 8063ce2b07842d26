"""Sync, blocking. Tar archives to upload, made as they are read: nothing is held that could be large."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, NamedTuple

PIECE_BYTES = 256 << 10


class Entry(NamedTuple):
    """One entry. A file's content is at `path` on this machine, or comes from `source`."""

    info: tarfile.TarInfo
    path: str = ""
    source: IO[bytes] | None = None
    identity: tuple[int, int] | None = None
    """Shared by all names of a file that has several: the later ones become links to the first."""

    @staticmethod
    def local(info: tarfile.TarInfo, path: str, status: os.stat_result) -> Entry:
        """What lies at a path of this machine."""
        shared = status.st_nlink > 1 and not info.isdir()
        return Entry(info, path, identity=(status.st_dev, status.st_ino) if shared else None)

    @staticmethod
    def made(name: str, content: bytes, mode: int, mtime: float) -> Entry:
        """A file that is nowhere yet."""
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(content), mode, int(mtime)
        return Entry(info, source=io.BytesIO(content))


class Packed:
    """The archive of some entries; reads like a file. `copied` hears of files' bytes as they are read."""

    def __init__(
        self, entries: Iterable[Entry], copied: Callable[[int], object] = lambda count: None
    ) -> None:
        self._copied = copied
        self._linked: dict[tuple[int, int], str] = {}
        self._pieces = self._archive(entries)
        self.total = 0
        """The bytes of the archive that were read."""

    def read(self, size: int, /) -> bytes:
        """The next piece, of `size` bytes or some more; fewer at the end. Raises OSError."""
        piece = next(self._pieces, b"")
        if piece and len(piece) < size:
            gathered = bytearray(piece)
            while len(gathered) < size and (more := next(self._pieces, b"")):
                gathered += more
            piece = bytes(gathered)
        self.total += len(piece)
        return piece

    def _archive(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        for entry in entries:
            yield from self._entry(entry)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _entry(self, entry: Entry) -> Iterator[bytes]:
        info = entry.info
        if entry.identity is not None:
            if entry.identity in self._linked:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, self._linked[entry.identity], 0
            self._linked.setdefault(entry.identity, info.name)
        if not info.isreg():
            yield _header(info)
        elif entry.source is not None:
            yield _header(info)
            yield from self._content(entry.source, info.size)
        else:
            with open(entry.path, "rb", buffering=0) as file:
                info.size = os.fstat(file.fileno()).st_size
                yield _header(info)
                yield from self._content(file, info.size)

    def _content(self, file: IO[bytes] | io.FileIO, size: int) -> Iterator[bytes]:
        left = size
        while left and (data := file.read(min(PIECE_BYTES, left))):
            left -= len(data)
            self._copied(len(data))
            yield data
        while left:  # it has become shorter meanwhile
            yield bytes(min(PIECE_BYTES, left))
            left -= min(PIECE_BYTES, left)
        if size % tarfile.BLOCKSIZE:
            yield bytes(-size % tarfile.BLOCKSIZE)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


def describe(path: str, name: str, status: os.stat_result) -> tarfile.TarInfo | None:
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
