"""Sync, blocking. The helper's task ``extract``: a tar from a stream into a directory of a container.

The task has ``view`` (see ``containerview``), ``path``, ``points`` (``destination`` and ``read_write`` of the
container's mounts), ``replace`` (whether directories and what is none may take each other's place) and
``owner`` (uid and gid of all that is made, or null for those in the archive). The stream is a pipe, or, with
``upload``, a client's socket: the body of its request, in chunks if ``length`` is null, of which the first
``early`` bytes are heard from the daemon. The archive may be compressed.

Names are taken below the directory, through symlinks as the container has them: they end inside of the jail
wherever they lead, however fast they change. Whatever is no directory is made beside its place and moved
there when it is complete, so nobody sees half a file, and what is cut off leaves none.
"""

import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from posixpath import normpath
from typing import Any

from proad.host import containerview, jail
from proad.host.decompress import BUFFER_BYTES, LONGEST_MAGIC, Source, compression_of, decompressed
from proad.host.helperchannel import Channel, Refusal
from proad.host.httpupload import Upload
from proad.host.layertree import (
    MAX_DEPTH,
    MAX_ID,
    is_portable_xattr,
    remove_tree,
    shown,
    write_all,
    write_sparse,
)
from proad.host.tarstream import Entry, Readable, TarError, TarReader

CAPABILITIES = (jail.CHOWN, jail.DAC_OVERRIDE, jail.FOWNER, jail.FSETID, jail.MKNOD, jail.SETFCAP)
READ_ONLY_ROOT = "container rootfs is marked read-only"
READ_ONLY_VOLUME = "mounted volume is marked read-only"


def extract(task: dict[str, Any], channel: Channel, stream: int) -> dict[str, Any]:
    """Do the task; the result tells how many ``entries`` were written.

    Raises:
        Refusal: there is no such directory, it cannot be written to, or the archive is broken.
        OSError: something cannot be made.
    """
    upload = _upload(task, channel, stream)
    try:
        entries = _extract(task, upload if upload is not None else stream)
    except (Refusal, OSError):
        if upload is not None:
            upload.drain()
        raise
    if upload is not None:
        upload.drain()
    return {"entries": entries}


def _extract(task: dict[str, Any], source: Upload | int) -> int:
    with told_as_broken():
        archive = TarReader(_plain(source))
        containerview.enter(task["view"], CAPABILITIES)
        directory = _enter_directory(task["path"])
        _check_writable(directory, task)
        owner = tuple(task["owner"]) if task["owner"] is not None else None
        return TreeWriter(directory, replaces=task["replace"], owner=owner).write(archive)


@contextmanager
def told_as_broken() -> Iterator[None]:
    """Tell what readers of archives and decompressors stumble over as a refusal.

    Raises:
        Refusal: the archive is broken; the text says how.
        OSError: something cannot be made.
    """
    try:
        yield
    except (Refusal, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise _broken(str(error)) from error  # of a decompressor, which cannot read the data
    except TarError as error:
        raise _broken(str(error)) from error
    except EOFError as error:
        raise _broken(str(error) or "unexpected EOF") from error
    except Exception as error:  # decompressors have error types of their own
        raise _broken(f"{type(error).__name__}: {error}") from error


def _plain(source: Upload | int) -> Readable:
    """The archive without its compression; one that has none is read as directly as can be."""
    if isinstance(source, Upload):
        compression = compression_of(source.head())
        if compression == "none":
            return source
        raw: io.BufferedReader[Any] = io.BufferedReader(source, BUFFER_BYTES)
        return decompressed(raw, compression)
    raw = io.BufferedReader(Source(source), BUFFER_BYTES)
    return decompressed(raw, compression_of(raw.peek(LONGEST_MAGIC)))


def _upload(task: dict[str, Any], channel: Channel, stream: int) -> Upload | None:
    if task["upload"] is None:
        return None
    early = b""
    while len(early) < task["upload"]["early"]:
        if not (more := channel.hear()):
            raise Refusal("unread", "the daemon has gone")
        early += more
    return Upload(stream, early, length=task["upload"]["length"])


def _broken(text: str) -> Refusal:
    return Refusal("invalid", f"Error processing tar file: {text}")


def _enter_directory(path: str) -> str:
    """Make a directory the working one; returns what it is called without symlinks."""
    try:
        os.chdir(path)
    except FileNotFoundError as error:
        raise Refusal("missing", path) from error
    except NotADirectoryError as error:
        raise Refusal("invalid", "extraction point is not a directory") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"stat {path}") from error
    return os.getcwd()


def _check_writable(directory: str, task: dict[str, Any]) -> None:
    """Refuse a directory that the container itself could not write to."""
    for point in task["points"]:
        if f"{directory.rstrip('/')}/".startswith(f"{point['destination'].rstrip('/')}/"):
            if not point["read_write"]:
                raise Refusal("invalid", READ_ONLY_VOLUME)
            return
    if task["view"]["read_only"]:
        raise Refusal("invalid", READ_ONLY_ROOT)


class TreeWriter:
    """Writes entries below the working directory, which is called ``directory`` in errors."""

    def __init__(
        self, directory: str, *, replaces: bool, owner: tuple[int, int] | None, devices: bool = True
    ) -> None:
        self._directory = directory
        self._replaces = replaces
        self._owner = owner
        self._devices = devices
        self._times: dict[str, int] = {}
        self._made: set[str] = set()

    def write(self, archive: TarReader) -> int:
        """Write all entries, and return how many there were; an error leaves those before it."""
        entries = 0
        for entry in archive:
            self._set_owner(entry)
            self._write(entry, archive)
            entries += 1
        # Directories last: writing into them moved their times.
        for name, mtime_ns in self._times.items():
            with suppress(FileNotFoundError):  # the container has removed it meanwhile
                os.utime(name, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        return entries

    def _set_owner(self, entry: Entry) -> None:
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if not (0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID):
            text = f'"{shown(entry.name)}" has the impossible owner {entry.uid}:{entry.gid}'
            raise Refusal("invalid", text)

    def _write(self, entry: Entry, archive: TarReader) -> None:
        name = self._inside(entry.name)
        try:
            if name == "." and entry.kind == "directory":
                return  # what is there stays as it is
            self._make_parent(os.path.dirname(name))
            if entry.kind == "directory":
                self._directory_entry(entry, name)
            else:
                self._other(entry, name, archive)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._shown(name)) from error

    def _inside(self, name: str) -> str:
        """A clean name below the directory."""
        clean = normpath(name.lstrip("/")) if name else "."
        if clean == ".." or clean.startswith("../"):
            raise Refusal("invalid", f'"{shown(clean)}" is outside of "{shown(self._directory)}"')
        if clean.count("/") >= MAX_DEPTH:
            raise Refusal("invalid", f'"{shown(clean)}" lies deeper than {MAX_DEPTH} directories')
        return clean

    def _shown(self, name: str) -> str:
        return shown(os.path.join(self._directory, name))

    def _make_parent(self, name: str) -> None:
        """Make the directories above an entry that the archive does not have, as root's."""
        if name and name not in self._made:
            if not os.path.isdir(name):
                os.makedirs(name, mode=0o755, exist_ok=True)
            self._made.add(name)

    def _directory_entry(self, entry: Entry, name: str) -> None:
        mode = _mode_of(name)
        if mode is not None and not stat.S_ISDIR(mode):
            if not self._replaces:
                text = (
                    f'cannot overwrite non-directory "{self._shown(name)}" with directory "{self._directory}"'
                )
                raise Refusal("invalid", text)
            os.unlink(name)
            mode = None
        if mode is None:
            os.mkdir(name, 0o700)
        opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _finish(opened, entry)
        finally:
            os.close(opened)
        self._times[name] = entry.mtime_ns

    def _other(self, entry: Entry, name: str, archive: TarReader) -> None:
        mode = _mode_of(name)
        if mode is not None and stat.S_ISDIR(mode) and not self._replaces:
            text = f'cannot overwrite directory "{self._shown(name)}" with non-directory "{self._directory}"'
            raise Refusal("invalid", text)
        place = os.path.join(os.path.dirname(name), f".proa-{secrets.token_hex(8)}")
        try:
            self._make(entry, place, archive)
            if mode is not None and stat.S_ISDIR(mode):
                remove_tree(name)
                self._forget(name)
            os.rename(place, name)
        except BaseException:
            with suppress(OSError):
                os.unlink(place)
            raise
        if entry.kind == "link":  # renamed onto another name of its file, a name stays
            with suppress(FileNotFoundError):
                os.unlink(place)

    def _forget(self, gone: str) -> None:
        self._times = {
            name: time for name, time in self._times.items() if not f"{name}/".startswith(f"{gone}/")
        }
        self._made = {name for name in self._made if not f"{name}/".startswith(f"{gone}/")}

    def _make(self, entry: Entry, place: str, archive: TarReader) -> None:
        if entry.kind in ("char", "block") and not self._devices:
            raise Refusal("invalid", f'"{shown(entry.name)}" is a device, which may not be made here')
        if entry.kind == "file":
            descriptor = os.open(
                place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            try:
                if entry.extents is None:
                    for chunk in archive.data():
                        write_all(descriptor, chunk)
                else:
                    write_sparse(descriptor, entry, archive.data())
                _finish(descriptor, entry)
            finally:
                os.close(descriptor)
            return
        if entry.kind == "link":
            os.link(self._linked(entry), place, follow_symlinks=False)
            return
        if entry.kind == "symlink":
            os.symlink(entry.link, place)
        elif entry.kind == "fifo":
            os.mkfifo(place, 0o600)
        else:
            kind = stat.S_IFBLK if entry.kind == "block" else stat.S_IFCHR
            os.mknod(place, kind | 0o600, os.makedev(entry.major, entry.minor))
        os.chown(place, entry.uid, entry.gid, follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(place, entry.mode)
        os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)

    def _linked(self, entry: Entry) -> str:
        """What a hard link leads to: another entry, so its name is below the directory, too."""
        try:
            return self._inside(entry.link)
        except Refusal:
            text = f'invalid hardlink "{self._shown(normpath(entry.name))}" -> "{shown(entry.link)}"'
            raise Refusal("invalid", text) from None


def _mode_of(name: str) -> int | None:
    try:
        return os.lstat(name).st_mode
    except FileNotFoundError:
        return None


def _finish(descriptor: int, entry: Entry) -> None:
    """Owner first: chown(2) clears setuid bits and file capabilities."""
    os.fchown(descriptor, entry.uid, entry.gid)
    os.fchmod(descriptor, entry.mode)
    for name, value in entry.xattrs.items():
        if is_portable_xattr(name):
            with suppress(OSError):  # the file system may have none, or none of this kind
                os.setxattr(descriptor, name, value)
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
