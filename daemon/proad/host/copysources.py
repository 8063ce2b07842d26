"""Sync, blocking. The helper's task ``sources``: what COPY and ADD name, found and hashed for the cache.

The task has ``place``, ``options``, ``trees`` (see ``buildjail``; each is a place to look in) and ``wanted``:
a list of ``tree`` (a name of one), ``path``, ``wildcards`` (whether the path may be a pattern). The stream is
a file that the findings are written to, for they may be many: a JSON list of ``tree``, ``path``, ``hash`` and
``directory``.

The hash is that of Docker's builder (moby: pkg/tarsum, version 1): of a file's header without its times, and
of its content; of a directory the hash of all hashes below it. So a step's command line, by which the cache
finds it, reads as Docker's does.
"""

import errno
import hashlib
import json
import os
import posixpath
import stat
from collections.abc import Iterator
from typing import Any

from proad.host import buildjail
from proad.host.helperchannel import Channel, Refusal
from proad.host.jail import DAC_READ_SEARCH
from proad.host.layertree import shown
from proad.host.treewalk import walk
from proad.model import errors
from proad.model.gopath import match

_BUFFER_BYTES = 1 << 20
_MAX_SYMLINKS = 255
_TYPES = {
    stat.S_IFREG: "0", stat.S_IFLNK: "2", stat.S_IFCHR: "3", stat.S_IFBLK: "4", stat.S_IFDIR: "5",
    stat.S_IFIFO: "6",
}  # fmt: skip
_CAPABILITY = "security.capability"


def find(task: dict[str, Any], _channel: Channel, stream: int) -> dict[str, Any]:
    """Do the task; the result tells how many were ``found``.

    Raises:
        Refusal: a source is not there.
        OSError: something cannot be read.
    """
    buildjail.enter(task["place"], task["trees"], task["options"])
    buildjail.restrict((DAC_READ_SEARCH,))
    trees = {tree["name"]: _Tree(tree["name"]) for tree in task["trees"]}
    found: list[dict[str, Any]] = []
    for wanted in task["wanted"]:
        found += trees[wanted["tree"]].find(wanted["path"], wildcards=wanted["wildcards"])
    with open(stream, "wb", closefd=False) as file:
        file.write(json.dumps(found).encode())
    return {"found": len(found)}


class _Tree:
    """One place to look in. Nothing in it changes meanwhile; its links are followed inside of it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._top = f"/{name}"

    def find(self, path: str, *, wildcards: bool) -> Iterator[dict[str, Any]]:
        path = path.removeprefix("/").removeprefix("./")
        if posixpath.normpath(path).startswith("../") or posixpath.normpath(path) == "..":
            raise Refusal("invalid", f"forbidden path outside the build context: {shown(path)} ()")
        if wildcards and _is_pattern(path):
            for node in walk(self._top):
                if _matches(path, node.path):
                    yield self._finding(node.path)
        else:
            yield self._finding(path)

    def _finding(self, path: str) -> dict[str, Any]:
        real = self._real(path)
        try:
            status = os.lstat(self._at(real))
        except (FileNotFoundError, NotADirectoryError):
            raise Refusal("missing", path) from None
        is_directory = stat.S_ISDIR(status.st_mode)
        # Under its own name, if it is a symlink: the hash tells apart what would not be called the same.
        digest = self._directory_hash(real) if is_directory else f"file:{self._hash(path, name=path)}"
        return {"tree": self._name, "path": path, "hash": digest}

    def _directory_hash(self, real: str) -> str:
        hashes = [] if not real else [self._hash(real)]
        for node in walk(self._at(real)):
            hashes.append(self._hash(f"{real}/{node.path}" if real else node.path))
        return (
            "dir:" + hashlib.sha256(",".join(sorted(hashes)).encode("utf-8", "surrogateescape")).hexdigest()
        )

    def _hash(self, path: str, name: str = "") -> str:
        """Of what a path leads to; of what is not there, the path, as Docker's builder has it."""
        real = self._real(path)
        try:
            status = os.lstat(self._at(real))
        except (FileNotFoundError, NotADirectoryError):
            return path
        found = hashlib.sha256()
        found.update(self._header(real, posixpath.normpath(name) if name else real, status))
        if stat.S_ISREG(status.st_mode):
            descriptor = os.open(self._at(real), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                while data := os.read(descriptor, _BUFFER_BYTES):
                    found.update(data)
            finally:
                os.close(descriptor)
        return found.hexdigest()

    def _header(self, real: str, name: str, status: os.stat_result) -> bytes:
        mode = status.st_mode
        is_device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        fields = {
            "name": f"{name}/" if stat.S_ISDIR(mode) else name,
            "mode": str(stat.S_IMODE(mode)),
            "uid": str(status.st_uid),
            "gid": str(status.st_gid),
            "size": str(status.st_size if stat.S_ISREG(mode) else 0),
            "typeflag": _TYPES.get(stat.S_IFMT(mode), "0"),
            "linkname": os.readlink(self._at(real)) if stat.S_ISLNK(mode) else "",
            "uname": "",
            "gname": "",
            "devmajor": str(os.major(status.st_rdev) if is_device else 0),
            "devminor": str(os.minor(status.st_rdev) if is_device else 0),
        }
        text = "".join(name + value for name, value in fields.items())
        return text.encode("utf-8", "surrogateescape") + self._capability(real, mode)

    def _capability(self, real: str, mode: int) -> bytes:
        if not stat.S_ISREG(mode):
            return b""
        try:
            value = os.getxattr(self._at(real), _CAPABILITY, follow_symlinks=False)
        except OSError:  # there is none
            return b""
        return _CAPABILITY.encode() + value

    def _at(self, real: str) -> str:
        return f"{self._top}/{real}" if real else self._top

    def _real(self, path: str) -> str:
        """The path without symlinks, relative to the top; what is not there stays as it is written.

        Raises:
            OSError: ELOOP.
        """
        waiting = list(reversed(path.split("/")))
        current: list[str] = []
        followed = 0
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if name == "..":
                current = current[:-1]
                continue
            current.append(name)
            target = self._link(current)
            if target is None:
                continue
            followed += 1
            if followed > _MAX_SYMLINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown(path))
            current = [] if target.startswith("/") else current[:-1]
            waiting.extend(reversed(target.split("/")))
        return "/".join(current)

    def _link(self, parts: list[str]) -> str | None:
        try:
            return os.readlink(self._at("/".join(parts)))
        except OSError:  # none, or nothing
            return None


def _matches(pattern: str, path: str) -> bool:
    """A pattern that is none matches nothing."""
    try:
        return match(pattern, path)
    except errors.InvalidParameter:
        return False


def _is_pattern(path: str) -> bool:
    """As in moby (builder/dockerfile, ``containsWildcards``): what a backslash stands before means itself."""
    at = 0
    while at < len(path):
        if path[at] == "\\":
            at += 1
        elif path[at] in "*?[":
            return True
        at += 1
    return False
