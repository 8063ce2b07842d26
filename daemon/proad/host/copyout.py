"""Sync, blocking. The helper's task ``pack``: a path of a container as a tar, written to the client itself.

The task has ``view`` (see ``containerview``), ``path``, ``name`` and ``directory`` (of ``AskedPath``),
``gzip`` and ``chunked``. Once the path is found it tells ``{"status": …}``, hears the answer's head, and
writes that and the archive to the stream.

The archive is as Docker's: names begin with the last part of what was asked, times are whole seconds, holes
are filled, and of extended attributes only file capabilities come along, which is what others can take.
"""

import errno
import os
import stat
from typing import Any

from proad.host import containerview, jail
from proad.host.helperchannel import Channel, Refusal
from proad.host.httpbody import Answer, Body, Compressed
from proad.host.layertree import Refused
from proad.host.tarstream import Entry
from proad.host.tarwriter import END, header, padding
from proad.host.treewalk import Node, walk

CAPABILITIES = (jail.DAC_READ_SEARCH,)
FILE_CAPABILITIES = "security.capability"

_PATH = os.O_PATH | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GZIP_LEVEL, _GZIP_FORMAT = 1, 31  # zlib's window bits of a stream with a gzip header
_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


def pack(task: dict[str, Any], channel: Channel, stream: int) -> dict[str, Any]:
    """Do the task; the result tells how many ``entries`` the archive has.

    Raises:
        Refusal: the path leads to nothing, or nobody takes the archive.
        OSError: something cannot be read.
    """
    compressor = _compressor() if task["gzip"] else None
    containerview.enter(task["view"], CAPABILITIES)
    top = _find(task["path"], directory=task["directory"])
    channel.tell({"status": _status(task["path"], top)})
    if not (head := channel.hear()):
        raise Refusal("unread", "nobody wants the archive")
    answer = Answer(stream, chunked=task["chunked"])
    answer.begin(head)
    body: Body = answer if compressor is None else Compressed(answer, compressor)
    entries = _Archive(body, "" if task["name"] == "/" else task["name"]).write(top)
    body.finish()
    return {"entries": entries}


def _compressor() -> Any:
    from isal import isal_zlib  # most clients want none, and it takes its time

    return isal_zlib.compressobj(level=_GZIP_LEVEL, wbits=_GZIP_FORMAT)


def _find(path: str, *, directory: bool) -> Node:
    """Open a clean path; its last part is followed if it is a symlink and shall be a directory."""
    try:
        parent = os.open(os.path.dirname(path), _PATH | os.O_DIRECTORY)
        name = os.path.basename(path) or "."
        if directory:
            opened = os.open(f"{name}/", _DIRECTORY, dir_fd=parent)
            return Node(name, name, parent, os.fstat(opened), opened)
        status = os.lstat(name, dir_fd=parent)
        if not stat.S_ISDIR(status.st_mode):
            return Node(name, name, parent, status)
        opened = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        return Node(name, name, parent, os.fstat(opened), opened)
    except FileNotFoundError as error:
        raise Refusal("missing", path) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"lstat {path}") from error


def _status(path: str, node: Node) -> dict[str, Any]:
    status = node.status
    return {
        "mode": status.st_mode,
        "size_bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "link_target": _link_target(path) if stat.S_ISLNK(status.st_mode) else "",
    }


def _link_target(path: str) -> str:
    """Where a symlink leads to, as far as there is something."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "too many links", f"lstat {path}") from error
    return os.path.realpath(path)


class _Archive:
    """Writes entries to ``body``; ``name`` is what the topmost one is called."""

    def __init__(self, body: Body, name: str) -> None:
        self._body = body
        self._name = name
        self._linked: dict[tuple[int, int], str] = {}
        self._entries = 0

    def write(self, top: Node) -> int:
        """Write a node and all below it; returns the number of entries."""
        try:
            self._add(top, self._name)
            if top.directory >= 0:
                os.fchdir(top.directory)
                for node in walk("."):
                    self._add(node, f"{self._name}/{node.path}")
        except Refused as refused:
            raise Refusal("system", str(refused)) from refused
        self._body.write(END)
        return self._entries

    def _add(self, node: Node, name: str) -> None:
        """Write a node; what has gone meanwhile is left out, and sockets, which no archive can hold."""
        kind = _KINDS.get(stat.S_IFMT(node.status.st_mode), "")
        if not kind:
            return
        entry = _entry(name, kind, node.status)
        identity = node.status.st_dev, node.status.st_ino
        is_linked = kind != "directory" and node.status.st_nlink > 1
        if is_linked and (first := self._linked.get(identity)) is not None:
            entry.kind, entry.link, entry.major, entry.minor = "link", first, 0, 0
            self._put(entry)
            return
        if kind == "file":
            if not self._add_file(node, entry):
                return
        else:
            if kind == "symlink" and not _read_link(node, entry):
                return
            self._put(entry)
        if is_linked:
            self._linked[identity] = name

    def _put(self, entry: Entry) -> None:
        self._body.write(header(entry))
        self._entries += 1

    def _add_file(self, node: Node, entry: Entry) -> bool:
        descriptor = node.open()
        if descriptor is None:
            return False
        try:
            entry.size = os.fstat(descriptor).st_size
            try:
                entry.xattrs = {FILE_CAPABILITIES: os.getxattr(descriptor, FILE_CAPABILITIES)}
            except OSError:  # it has none, or its file system has none
                entry.xattrs = {}
            self._put(entry)
            self._body.send_file(descriptor, entry.size)
            self._body.write(padding(entry.size))
        finally:
            os.close(descriptor)
        return True


def _entry(name: str, kind: str, status: os.stat_result) -> Entry:
    is_device = kind in ("char", "block")
    return Entry(
        name,
        kind,
        size=0,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns // 10**9 * 10**9,
        major=os.major(status.st_rdev) if is_device else 0,
        minor=os.minor(status.st_rdev) if is_device else 0,
    )


def _read_link(node: Node, entry: Entry) -> bool:
    try:
        entry.link = os.readlink(node.name, dir_fd=node.parent)
    except OSError:
        return False
    return True
