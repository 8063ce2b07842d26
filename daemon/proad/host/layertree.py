"""Sync, blocking. Writing the entries of a layer into a directory, in the form that overlayfs reads.

Runs inside the jail of ``unpack``, where ``/`` is the layer: a path can leave the layer neither by ``..``
nor by an absolute name nor through a link. What tries to is still refused, so that a hostile archive ends
in a clear error and not in a layer that means something else than it says.

Whiteouts of the archive (``.wh.name``, ``.wh..wh..opq``; OCI image spec, layer.md) become those of
overlayfs: a character device 0:0, and ``trusted.overlay.opaque`` on a directory
(https://docs.kernel.org/filesystems/overlayfs.html).
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from proad.host.tarstream import Entry, TarReader

WHITEOUT = ".wh."
OPAQUE_WHITEOUT = ".wh..wh..opq"
METADATA_WHITEOUT = ".wh..wh."
OPAQUE_XATTR = "trusted.overlay.opaque"
MAX_ID = 2**32 - 2
MAX_DEPTH = 512
MAX_NAME_BYTES = 4096

HARMLESS_DEVICES = {
    (1, 3): "null", (1, 5): "zero", (1, 7): "full", (1, 8): "random", (1, 9): "urandom", (5, 0): "tty",
    (5, 1): "console", (5, 2): "ptmx", (10, 200): "net/tun", (10, 229): "fuse",
}  # fmt: skip
"""What archives of root filesystems bring along in ``/dev``: character devices that give nothing away."""

_XATTRS = ("user.", "system.posix_acl_")
_EXACT_XATTRS = frozenset({"security.capability"})


class Refused(Exception):
    """An entry wants what a layer may not have; the text names the entry."""


@dataclass(frozen=True)
class Limits:
    """How large a layer may get: entries of the archive, and bytes once unpacked, holes included."""

    entries: int
    bytes: int


class LayerTree:
    """Writes a layer below the current root directory. ``size`` sums files and links.

    ``any_device`` is for layers that a container of this engine wrote: it was allowed to make the device.
    """

    def __init__(self, limits: Limits, *, any_device: bool = False) -> None:
        self._limits = limits
        self._any_device = any_device
        self._directories: set[str] = {"/"}
        self._directory_times: dict[str, int] = {}
        self._whiteouts: set[str] = set()
        self.entries = 0
        self.size = 0

    def write(self, archive: TarReader) -> None:
        """Write all entries.

        Raises:
            Refused, tarstream.TarError, OSError: and what was written so far stays for the caller to remove.
        """
        for entry in archive:
            self.entries += 1
            if self.entries > self._limits.entries:
                raise Refused(f"the layer has more than {self._limits.entries} entries")
            try:
                self._write(entry, archive)
            except OSError as error:
                raise OSError(error.errno, f'entry "{shown(entry.name)}": {error.strerror}') from error
        # Directories last: writing into them moved their times.
        for path, mtime_ns in self._directory_times.items():
            os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def _write(self, entry: Entry, archive: TarReader) -> None:
        parts = clean_name(entry.name)
        if not parts:
            if entry.kind == "directory":
                self._finish(entry, "/")
            return
        _check_numbers(entry)
        parent = self._parent(entry, parts[:-1])
        path = f"{parent.rstrip('/')}/{parts[-1]}"
        if parts[-1].startswith(WHITEOUT):
            self._whiteout(entry, parent, parts[-1])
        elif entry.kind == "directory":
            self._directory(entry, path)
        else:
            self._make_room(path)
            self._other(entry, path, archive)

    # --- places -----------------------------------------------------------------------------------------

    def _parent(self, entry: Entry, parts: list[str]) -> str:
        """The directory that an entry goes into, made if the archive forgot it; links of this layer are
        followed."""
        path = "/" + "/".join(parts)
        if path in self._directories:
            return path
        walked = "/"
        for part in parts:
            step = f"{walked.rstrip('/')}/{part}"
            if step not in self._directories:
                step = self._enter(entry, step)
            walked = step
        return walked

    def _enter(self, entry: Entry, path: str) -> str:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)
            self._directories.add(path)
            return path
        if stat.S_ISLNK(mode):
            # realpath stays inside: the layer is the root directory. Where that leads to nothing, the
            # link was meant for a place outside.
            target = os.path.realpath(path)
            if not os.path.isdir(target):
                raise Refused(
                    f'entry "{shown(entry.name)}" passes through the symbolic link "{shown(path[1:])}", '
                    "which leads out of the layer or to nothing"
                )
            return target
        if not stat.S_ISDIR(mode):
            if path not in self._whiteouts:
                raise Refused(
                    f'entry "{shown(entry.name)}" lies below "{shown(path[1:])}", which is no directory'
                )
            self._uncover(path)
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)
            _set_opaque(path)
        self._directories.add(path)
        return path

    def _make_room(self, path: str) -> None:
        """Remove what an earlier entry put at ``path``: the later one counts."""
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        self._whiteouts.discard(path)
        if not stat.S_ISDIR(mode):
            os.unlink(path)
            return
        remove_tree(path)
        gone = path + "/"
        self._directories = {known for known in self._directories if not (known + "/").startswith(gone)}
        self._directory_times = {
            known: time for known, time in self._directory_times.items() if not (known + "/").startswith(gone)
        }
        self._whiteouts = {known for known in self._whiteouts if not known.startswith(gone)}

    def _uncover(self, path: str) -> None:
        os.unlink(path)
        self._whiteouts.discard(path)

    # --- kinds ------------------------------------------------------------------------------------------

    def _whiteout(self, entry: Entry, parent: str, name: str) -> None:
        if name == OPAQUE_WHITEOUT:
            _set_opaque(parent)
            return
        if name.startswith(METADATA_WHITEOUT):  # bookkeeping of AUFS, which means nothing to others
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in ("", ".", ".."):
            raise Refused(f'entry "{shown(entry.name)}" is a whiteout of a parent directory')
        path = f"{parent.rstrip('/')}/{hidden}"
        if not os.path.lexists(path):  # a whiteout is about the layers below, never about its own
            os.mknod(path, stat.S_IFCHR, 0)
            self._whiteouts.add(path)

    def _directory(self, entry: Entry, path: str) -> None:
        covered = path in self._whiteouts
        if covered or not _is_directory(path):
            self._make_room(path)
            os.mkdir(path, 0o700)
            self._directories.add(path)
            if covered:  # the directory below was removed before this one came
                _set_opaque(path)
        self._finish(entry, path)

    def _other(self, entry: Entry, path: str, archive: TarReader) -> None:
        if entry.kind == "file":
            self._file(entry, path, archive)
            return
        if entry.kind == "link":
            self._hard_link(entry, path)
            return
        if entry.kind == "symlink":
            os.symlink(entry.link, path)
            self.size += len(os.fsencode(entry.link))
        elif entry.kind == "fifo":
            os.mkfifo(path, 0o600)
        else:
            self._device(entry, path)
        self._finish(entry, path)

    def _file(self, entry: Entry, path: str, archive: TarReader) -> None:
        self.size += entry.size
        if self.size > self._limits.bytes:
            raise Refused(
                f'entry "{shown(entry.name)}" makes the layer larger than the {self._limits.bytes} bytes '
                "that it may take here: no space left on device"
            )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if entry.extents is None:
                for chunk in archive.data():
                    write_all(descriptor, chunk)
            else:
                write_sparse(descriptor, entry, archive.data())
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode)
            _set_xattrs(descriptor, entry)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _hard_link(self, entry: Entry, path: str) -> None:
        # A leading slash is common here and means the layer's root; the jail makes it so.
        target = clean_name(entry.link.lstrip("/"), what=f'hard link "{shown(entry.name)}"')
        source = self._parent(entry, target[:-1]).rstrip("/") + "/" + target[-1] if target else "/"
        try:
            kind = os.lstat(source).st_mode
        except FileNotFoundError:
            kind = 0
        if source in self._whiteouts or not kind or stat.S_ISDIR(kind):
            raise Refused(
                f'hard link "{shown(entry.name)}" leads to "{shown(entry.link)}", '
                "which is no file of the layer"
            )
        if source == path:
            raise Refused(f'hard link "{shown(entry.name)}" leads to itself')
        os.link(source, path, follow_symlinks=False)

    def _device(self, entry: Entry, path: str) -> None:
        harmless = entry.kind == "char" and (entry.major, entry.minor) in HARMLESS_DEVICES
        if not harmless and not self._any_device:
            raise Refused(
                f'entry "{shown(entry.name)}" is the {entry.kind} device {entry.major}:{entry.minor}, '
                "which an image may not bring along"
            )
        kind = stat.S_IFBLK if entry.kind == "block" else stat.S_IFCHR
        os.mknod(path, kind | 0o600, os.makedev(entry.major, entry.minor))

    def _finish(self, entry: Entry, path: str) -> None:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(path, entry.mode)
            _set_xattrs(path, entry)
        if entry.kind == "directory":
            self._directory_times[path] = entry.mtime_ns
        else:
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def clean_name(name: str, what: str = "") -> list[str]:
    """The components of an entry's name; none for the root itself.

    Raises:
        Refused: the name is absolute, climbs, or is too long to be a path.
    """
    problem = ""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/"):
        problem = "has an absolute name"
    elif ".." in parts:
        problem = 'leads out of its directory by ".."'
    elif len(parts) > MAX_DEPTH or len(os.fsencode(name)) > MAX_NAME_BYTES:
        problem = "has a name that is too long"
    if problem:
        described = what or f'entry "{shown(name)}"'
        raise Refused(f"{described} {problem}")
    return parts


def remove_tree(path: str) -> None:
    """Remove a directory of the layer and all below, without recursion: archives nest deeper than stacks."""
    pending = [path]
    emptied: list[str] = []
    while pending:
        directory = pending.pop()
        emptied.append(directory)
        with os.scandir(directory) as listing:
            for found in listing:
                if found.is_dir(follow_symlinks=False):
                    pending.append(found.path)
                else:
                    os.unlink(found.path)
    for directory in reversed(emptied):
        os.rmdir(directory)


def _check_numbers(entry: Entry) -> None:
    for value in (entry.uid, entry.gid):
        if not 0 <= value <= MAX_ID:
            raise Refused(f'entry "{shown(entry.name)}" has the impossible owner {value}')


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _set_opaque(path: str) -> None:
    os.setxattr(path, OPAQUE_XATTR, b"y", follow_symlinks=False)


def is_portable_xattr(name: str) -> bool:
    """Whether an attribute means the same everywhere; security labels and overlayfs's own do not."""
    return name in _EXACT_XATTRS or name.startswith(_XATTRS)


def _set_xattrs(target: str | int, entry: Entry) -> None:
    """Set the attributes that mean the same everywhere."""
    for name, value in entry.xattrs.items():
        if is_portable_xattr(name):
            os.setxattr(target, name, value)


def write_all(descriptor: int, chunk: bytes) -> None:
    """Write all of ``chunk``."""
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def write_sparse(descriptor: int, entry: Entry, chunks: Iterator[bytes]) -> None:
    """Write the data of a sparse entry to where it belongs, holes between."""
    pending = b""
    for offset, length in entry.extents or ():
        os.lseek(descriptor, offset, os.SEEK_SET)
        while length:
            pending = pending or next(chunks)
            piece, pending = pending[:length], pending[length:]
            write_all(descriptor, piece)
            length -= len(piece)
    os.ftruncate(descriptor, entry.size)


def shown(name: str) -> str:
    """A name fit for an error's text: printable, and not a novel."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 200 else text[:200] + "…"
