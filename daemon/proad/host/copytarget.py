"""Sync, blocking. The helper's tasks ``copy`` and ``directory``: COPY, ADD and WORKDIR, done to an image's
files.

Both have ``place``, ``options`` and ``trees`` (see ``buildjail``), one of which is called ``target``: the
image's root filesystem, which becomes the process's root, so that its symlinks mean what they mean in a
container and lead nowhere else.

``copy`` has ``destination`` (an absolute path; a slash at its end makes it a directory), ``owner`` (a text as
of ``--chown``, or null to leave the owners as they are) and ``extract`` (whether archives are unpacked); the
stream is a file with the findings of ``copysources``. Rules and their order are those of Docker's builder
(moby: builder/dockerfile/copy.go): what is copied is merged with directories that are there, takes the place
of anything else, and does not pass through symlinks but those of the destination itself.

``directory`` has ``path``, which is made where it is missing.
"""

import errno
import io
import json
import os
import posixpath
import stat
from typing import Any

from proad.host import buildjail
from proad.host.copyin import TreeWriter, told_as_broken
from proad.host.decompress import (
    BUFFER_BYTES,
    LONGEST_MAGIC,
    Source,
    compression_of,
    decompressed,
    preload,
)
from proad.host.helperchannel import Channel, Refusal
from proad.host.layertree import MAX_ID, Refused, is_portable_xattr, remove_tree, shown
from proad.host.openat2 import RESOLVE_IN_ROOT, openat2
from proad.host.tarstream import Readable, TarReader
from proad.host.trees import copy_data
from proad.host.treewalk import walk

TARGET = "target"
UNKNOWN_OWNER = "unable to convert uid/gid chown string to host mapping"
MAX_TEXT_BYTES = 4 << 20
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Owner = tuple[int, int]


def copy(task: dict[str, Any], _channel: Channel, stream: int) -> dict[str, Any]:
    """Do the task; nothing to tell but that it is done.

    Raises:
        Refusal: the destination cannot take it, an owner is unknown, or an archive is broken.
        OSError: something cannot be read or written.
    """
    with open(stream, "rb", closefd=False) as file:
        file.seek(0)
        found = json.load(file)
    if task["extract"]:
        preload()
    sources = _enter(task)
    owner = _owner(task["owner"]) if task["owner"] is not None else None
    copying = _Copy(task["destination"], owner, extracts=task["extract"])
    try:
        for finding in found:
            copying.copy(sources[finding["tree"]], finding)
    except Refused as error:
        raise Refusal("invalid", str(error)) from error
    return {}


def make_directory(task: dict[str, Any], _channel: Channel, _stream: int) -> dict[str, Any]:
    """Do the task.

    Raises:
        Refusal: something on the way is not a directory.
        OSError: it cannot be made.
    """
    _enter(task)
    path = os.path.realpath(task["path"])
    try:
        _make_directories(path, (0, 0))
    except NotADirectoryError:
        raise Refusal("invalid", f"Cannot mkdir: {shown(task['path'])} is not a directory") from None
    return {}


def _enter(task: dict[str, Any]) -> dict[str, int]:
    """Have the target as the root; returns the other trees, open."""
    buildjail.enter(task["place"], task["trees"], task["options"])
    names = [tree["name"] for tree in task["trees"] if tree["name"] != TARGET]
    sources = {name: os.open(f"/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for name in names}
    os.chroot(f"/{TARGET}")
    os.chdir("/")
    buildjail.restrict(buildjail.WRITE)
    return sources


class _Copy:
    """Copies what was found to the destination; without ``owner`` the owners stay."""

    def __init__(self, destination: str, owner: Owner | None, *, extracts: bool) -> None:
        self._destination = destination
        self._owner = owner
        self._extracts = extracts
        self._links: dict[tuple[int, int], str] = {}

    def copy(self, tree: int, finding: dict[str, Any]) -> None:
        """Copy one finding: a directory's content, an archive's, or a file."""
        target = os.path.realpath(self._destination)
        self._links.clear()
        source = openat2(tree, finding["path"] or ".", os.O_PATH, RESOLVE_IN_ROOT)
        try:
            status = os.fstat(source)
            if stat.S_ISDIR(status.st_mode):
                self._copy_directory(source, target)
            elif not (self._extracts and finding["local"] and self._extract(tree, finding, target)):
                self._copy_file(tree, finding, status, target)
        finally:
            os.close(source)

    def _copy_directory(self, source: int, target: str) -> None:
        existed = os.path.isdir(target)
        if not existed:
            _make_directories(target, (0, 0))
        times = {}
        for node in walk(".", source):
            path = f"{target.rstrip('/')}/{node.path}"
            try:
                self._put(node.parent, node.name, node.status, path)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
            if node.directory >= 0:
                times[path] = node.status
        if self._owner is not None and not existed:
            os.lchown(target, *self._owner)
        for path, status in reversed(times.items()):  # writing into them moved their times
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)

    def _copy_file(self, tree: int, finding: dict[str, Any], status: os.stat_result, target: str) -> None:
        if self._destination.endswith("/") or os.path.isdir(target):
            name = posixpath.basename(finding["path"].rstrip("/"))
            target = f"{target.rstrip('/')}/{name}"
        _make_directories(os.path.dirname(target), self._owner or (0, 0))
        _clear(target, is_directory=False)
        if not stat.S_ISREG(status.st_mode):
            self._make_special(status, target)
            return
        reader = openat2(tree, finding["path"], os.O_RDONLY | os.O_NONBLOCK, RESOLVE_IN_ROOT)
        try:
            self._write_file(reader, target)
        finally:
            os.close(reader)

    # --- one name -----------------------------------------------------------------------------------------

    def _put(self, parent: int, name: str, status: os.stat_result, target: str) -> None:
        """Make ``target`` what ``name`` is."""
        mode = status.st_mode
        if stat.S_ISSOCK(mode):
            return
        _clear(target, is_directory=stat.S_ISDIR(mode))
        identity = status.st_dev, status.st_ino
        is_linked = not stat.S_ISDIR(mode) and status.st_nlink > 1
        if is_linked and (first := self._links.get(identity)) is not None:
            os.link(first, target, follow_symlinks=False)
            return
        if stat.S_ISREG(mode):
            reader = os.open(name, _READ, dir_fd=parent)
            try:
                self._write_file(reader, target)
            finally:
                os.close(reader)
        elif stat.S_ISDIR(mode):
            self._write_directory(parent, name, status, target)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=parent), target)
            os.lchown(target, *self._owner_of(status))
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
        else:
            self._make_special(status, target)
        if is_linked:
            self._links[identity] = target

    def _owner_of(self, status: os.stat_result) -> Owner:
        return self._owner or (status.st_uid, status.st_gid)

    def _write_file(self, reader: int, target: str) -> None:
        status = os.fstat(reader)
        writer = os.open(target, _CREATE, 0o600)
        try:
            copy_data(reader, writer, status.st_size)
            self._finish(reader, writer, status)
        finally:
            os.close(writer)

    def _write_directory(self, parent: int, name: str, status: os.stat_result, target: str) -> None:
        if not os.path.isdir(target):
            os.mkdir(target, 0o700)
        reader = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        writer = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._finish(reader, writer, status)
        finally:
            os.close(reader)
            os.close(writer)

    def _finish(self, reader: int, writer: int, status: os.stat_result) -> None:
        """Attributes as an archive would bring them; a new owner then clears setuid bits and capabilities."""
        os.fchown(writer, status.st_uid, status.st_gid)
        os.fchmod(writer, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(reader):
            if is_portable_xattr(name):
                os.setxattr(writer, name, os.getxattr(reader, name))
        if self._owner is not None:
            os.fchown(writer, *self._owner)
        os.utime(writer, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _make_special(self, status: os.stat_result, target: str) -> None:
        os.mknod(target, status.st_mode, status.st_rdev)
        os.chmod(target, stat.S_IMODE(status.st_mode))
        os.lchown(target, *self._owner_of(status))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    # --- archives -----------------------------------------------------------------------------------------

    def _extract(self, tree: int, finding: dict[str, Any], target: str) -> bool:
        """Unpack the file if it is an archive, below the target as its root; whether it is one."""
        descriptor = openat2(tree, finding["path"], os.O_RDONLY | os.O_NONBLOCK, RESOLVE_IN_ROOT)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not _is_archive(descriptor):
                return False
            if not os.path.isdir(target):
                _make_directories(target, (0, 0))
            os.lseek(descriptor, 0, os.SEEK_SET)
            root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.chroot(target)
                os.chdir("/")
                with told_as_broken():
                    TreeWriter(target, replaces=True, owner=None).write(TarReader(_plain(descriptor)))
            finally:
                os.fchdir(root)
                os.chroot(".")
                os.close(root)
        finally:
            os.close(descriptor)
        return True


def _is_archive(descriptor: int) -> bool:
    """Whether there is a tar's header at its begin, in whatever compression."""
    try:
        return next(iter(TarReader(_plain(descriptor))), None) is not None
    except OSError as error:
        if error.errno is not None:
            raise
        return False
    except Exception:  # noqa: BLE001  what cannot be read as an archive is none; decompressors have own errors
        return False


def _plain(descriptor: int) -> Readable:
    raw: io.BufferedReader[Any] = io.BufferedReader(Source(descriptor), BUFFER_BYTES)
    return decompressed(raw, compression_of(raw.peek(LONGEST_MAGIC)))


# --- the target -----------------------------------------------------------------------------------------


def _make_directories(path: str, owner: Owner) -> None:
    """Make a directory and those above it; the new ones belong to ``owner``."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        if os.path.lexists(directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
        os.mkdir(directory, 0o755)
        os.chown(directory, *owner)


def _clear(target: str, *, is_directory: bool) -> None:
    """Remove what is at a path, unless both that and what comes are directories."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        if not is_directory:
            remove_tree(target)
    else:
        os.unlink(target)


def _owner(text: str) -> Owner:
    """Uid and gid of ``user[:group]``, names looked up in the image's own files; a lone user is its group as
    well.

    Raises:
        Refusal: there is none of that name.
    """
    user, colon, group = text.partition(":")
    if ":" in group:
        raise _unknown(f"invalid chown string format: {text}")
    return _lookup("user", user, "/etc/passwd"), _lookup("group", group if colon else user, "/etc/group")


def _lookup(kind: str, name: str, path: str) -> int:
    if name.isascii() and name.isdigit():
        if (number := int(name)) > MAX_ID:
            raise _unknown(f"{kind} {name} is out of range")
        return number
    for line in _read_text(path).splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isascii() and fields[2].isdigit():
            return int(fields[2])
    short = "uid" if kind == "user" else "gid"
    raise _unknown(f"can't find {short} for {kind} {name}: no such {kind}: {name}")


def _read_text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(MAX_TEXT_BYTES).decode(errors="surrogateescape")


def _unknown(text: str) -> Refusal:
    return Refusal("invalid", f"{UNKNOWN_OWNER}: {text}")
