"""Sync, blocking. Putting the nodes of a tree into a tar stream: contents, links, holes and attributes."""

import os
import stat
from collections.abc import Callable

from proad.host.tarstream import CHUNK, Entry
from proad.host.tarwriter import END, header, padding
from proad.host.treewalk import Node
from proad.host.uppertree import read_xattrs

WORTH_HOLES_BYTES = 1 << 16
"""A file with at least so much of holes is written as a sparse one."""
MAX_EXTENTS = 20_000
"""More pieces than that make a map that readers take for an attack; such a file is written with its holes."""

_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


class Archive:
    """Writes entries to ``write`` and counts them; sockets, which no archive can hold, are left out."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._linked: dict[tuple[int, int], str] = {}
        self.entries = 0

    def add(self, node: Node) -> None:
        """Write a node as it is now; one that has gone meanwhile is left out.

        Raises:
            OSError: it cannot be read, or nobody takes the archive any more.
            Refused: it is not whole in itself; see :func:`read_xattrs`.
        """
        status = node.status
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "")
        if not kind:
            return
        identity = status.st_dev, status.st_ino
        is_linked = kind != "directory" and status.st_nlink > 1
        if is_linked and identity in self._linked:
            self._add(_entry(node.path, "link", status, self._linked[identity]))
        elif kind == "file":
            if self._add_file(node) and is_linked:
                self._linked[identity] = node.path
        elif entry := self._described(node, kind):
            self._add(entry)
            if is_linked:
                self._linked[identity] = node.path

    def add_empty(self, path: str) -> None:
        """Write an empty file of root's, of no certain time."""
        self._add(Entry(path, "file", size=0, mode=0o600, uid=0, gid=0, mtime_ns=0))

    def finish(self) -> None:
        self._write(END)

    def _add(self, entry: Entry) -> None:
        self._write(header(entry))
        self.entries += 1

    def _described(self, node: Node, kind: str) -> Entry | None:
        """The entry of what has no content; None if it is not there any more."""
        entry = _entry(node.path, kind, node.status)
        try:
            if kind == "symlink":
                entry.link = os.readlink(node.name, dir_fd=node.parent)
            elif kind == "directory":
                entry.xattrs = read_xattrs(node.directory, node.path)
        except FileNotFoundError:
            return None
        return entry

    def _add_file(self, node: Node) -> bool:
        """Write a file, as long as it is at this moment whatever is done to it meanwhile; whether it is
        there.
        """
        descriptor = node.open()
        if descriptor is None:
            return False
        try:
            status = os.fstat(descriptor)
            entry = _entry(node.path, "file", status)
            entry.xattrs = read_xattrs(descriptor, node.path)
            entry.extents = _extents(descriptor, status)
            self._add(entry)
            written = 0
            for offset, length in entry.extents if entry.extents is not None else [(0, entry.size)]:
                self._copy(descriptor, offset, length)
                written += length
            self._write(padding(written))
        finally:
            os.close(descriptor)
        return True

    def _copy(self, descriptor: int, offset: int, length: int) -> None:
        """Write a piece of a file; where it has become shorter, zeros stand for what is missing."""
        end = offset + length
        while offset < end:
            data = os.pread(descriptor, min(CHUNK, end - offset), offset)
            data = data or bytes(min(CHUNK, end - offset))
            self._write(data)
            offset += len(data)


def _entry(path: str, kind: str, status: os.stat_result, link: str = "") -> Entry:
    is_device = kind in ("char", "block")
    return Entry(
        path,
        kind,
        size=status.st_size if kind == "file" else 0,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        link=link,
        major=os.major(status.st_rdev) if is_device else 0,
        minor=os.minor(status.st_rdev) if is_device else 0,
    )


def _extents(descriptor: int, status: os.stat_result) -> list[tuple[int, int]] | None:
    """Where the data of a file with holes is; None for one that has none worth speaking of."""
    if status.st_blocks * 512 + WORTH_HOLES_BYTES > status.st_size:
        return None
    extents: list[tuple[int, int]] = []
    offset = 0
    while offset < status.st_size and len(extents) <= MAX_EXTENTS:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole up to the end
            break
        offset = min(os.lseek(descriptor, start, os.SEEK_HOLE), status.st_size)
        if start < offset:
            extents.append((start, offset - start))
    if (
        len(extents) > MAX_EXTENTS
        or sum(length for _, length in extents) + WORTH_HOLES_BYTES > status.st_size
    ):
        return None
    return extents
