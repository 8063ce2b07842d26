"""Sync, pure. What the API tells of a path in a container, and how such a path is understood.

Paths are cut as Go's filepath package does it for Docker: cleaned first, so that ``..`` never climbs through
a symlink, with a ``/`` or ``/.`` at the end kept: it says that a directory is meant.
"""

import base64
import posixpath
import stat
from dataclasses import dataclass

import msgspec

from proad.model.durations import format_rfc3339_ns

HEADER = "X-Docker-Container-Path-Stat"

# Bits of Go's os.FileMode (https://pkg.go.dev/io/fs#FileMode), by what stat(2) says.
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_FLAGS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


@dataclass(frozen=True)
class AskedPath:
    """A path as a client names it. ``clean`` is absolute; ``name`` is the last part of what was asked:
    ``.`` and ``/`` are names, too.
    """

    clean: str
    name: str
    means_directory: bool

    @property
    def shown(self) -> str:
        """With what stood at its end."""
        if not self.means_directory or self.clean == "/":
            return self.clean
        return f"{self.clean}/." if self.name == "." else f"{self.clean}/"


def parse_path(path: str) -> AskedPath:
    """Understand a path of the API; relative ones begin at the root as well."""
    clean = clean_path(path)
    ends_with_dot = path == "." or path.endswith("/.")
    name = "." if ends_with_dot else posixpath.basename(clean) or "/"
    return AskedPath(clean, name, ends_with_dot or path.endswith("/"))


def clean_path(path: str) -> str:
    """Make a path absolute, without ``.``, ``..`` and doubled slashes."""
    return "/" + posixpath.normpath(f"/{path}").lstrip("/")


class PathStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What lies at a path; a symlink itself, with where it leads to (absolute, empty for all else).

    ``mode`` is Go's os.FileMode, ``mtime`` of RFC 3339.
    """

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str

    @property
    def header(self) -> str:
        """The value of :data:`HEADER`."""
        return base64.b64encode(msgspec.json.encode(self)).decode()


def describe(name: str, mode: int, size_bytes: int, mtime_ns: int, link_target: str = "") -> PathStatus:
    """Tell what stat(2) said (``mode`` is its ``st_mode``) as the API does."""
    mtime = format_rfc3339_ns(mtime_ns) if mtime_ns else "1970-01-01T00:00:00Z"
    return PathStatus(_text(name), size_bytes, go_mode(mode), mtime, _text(link_target))


def go_mode(mode: int) -> int:
    """Turn ``st_mode`` into Go's os.FileMode."""
    flags = sum(go for flag, go in _GO_FLAGS.items() if mode & flag)
    return _GO_KINDS.get(stat.S_IFMT(mode), 0) | flags | mode & 0o777


def _text(name: str) -> str:
    """A name as JSON can have it: what is no UTF-8 is shown by replacement characters, as from Go."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
