"""Sync. Trees and archives told entry by entry, so that two of them can be compared bit by bit."""

import errno
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

Facts = dict[str, dict[str, Any]]
_BLOCK = 1 << 16


def tree_facts(top: Path) -> Facts:
    """All of a tree by path: type and mode, owner, times, size, content, links, devices, attributes.

    Times of directories are left out: looking at a tree with mounts in it changes some.
    """
    found: Facts = {}
    links: dict[tuple[int, int], list[str]] = {}
    for base, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(base, name)
            status = os.lstat(path)
            facts: dict[str, Any] = {
                "mode": oct(status.st_mode),
                "owner": (status.st_uid, status.st_gid),
                "xattrs": {
                    key: os.getxattr(path, key, follow_symlinks=False)
                    for key in os.listxattr(path, follow_symlinks=False)
                    if not key.startswith("trusted.overlay.")
                },
            }
            if not stat.S_ISDIR(status.st_mode):
                facts |= {"mtime_ns": status.st_mtime_ns, "size": status.st_size, "device": status.st_rdev}
                links.setdefault((status.st_dev, status.st_ino), []).append(os.path.relpath(path, top))
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    facts["content"] = _digest(file, _parts_of_file(file.fileno(), status.st_size))
            elif stat.S_ISLNK(status.st_mode):
                facts["target"] = os.readlink(path)
            found[os.path.relpath(path, top)] = facts
    for names in links.values():
        for name in names:
            found[name]["same file as"] = sorted(names)
    return found


def tar_facts(archive: bytes) -> Facts:
    """The entries of a tar by name, as Python's own reader sees them."""
    found: Facts = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            facts: dict[str, Any] = {
                "type": entry.type,
                "mode": oct(entry.mode),
                "owner": (entry.uid, entry.gid),
                "mtime": entry.pax_headers.get("mtime", str(entry.mtime)),
                "size": entry.size,
                "link": entry.linkname,
                "device": (entry.devmajor, entry.devminor),
                "xattrs": {k: v for k, v in entry.pax_headers.items() if k.startswith("SCHILY.xattr.")},
            }
            if entry.isreg():
                content = tar.extractfile(entry)
                assert content is not None
                facts["content"] = _digest(content, entry.sparse or [(0, entry.size)])  # type: ignore[attr-defined]
            found[entry.name] = facts
    return found


def _digest(file: IO[bytes], parts: Iterable[tuple[int, int]]) -> str:
    """Of all content that is not zero, with its place: so it is the same with holes, of which gigabytes need
    not be read, and without. ``parts`` are offsets and lengths, in order; outside of them are only holes.
    """
    digest, done = hashlib.sha256(), 0
    for offset, length in parts:
        first = max(offset // _BLOCK, done)
        done = max(-(-(offset + length) // _BLOCK), done)
        file.seek(first * _BLOCK)
        for number in range(first, done):
            block = file.read(_BLOCK)
            if block.count(0) != len(block):
                digest.update(b"%d %d " % (number, len(block)))
                digest.update(block)
    return digest.hexdigest()


def _parts_of_file(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where the file has data (lseek(2), SEEK_DATA)."""
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # there is but a hole up to the end
                raise
            return
        offset = os.lseek(descriptor, begin, os.SEEK_HOLE)
        yield begin, offset - begin


def without(facts: Facts, is_left_out: Callable[[str], bool]) -> Facts:
    return {path: told for path, told in facts.items() if not is_left_out(path)}


def differences(one: Facts, other: Facts) -> list[str]:
    """What is not the same, in words; none is what a test hopes for."""
    lines = [f"only in one: {path}" for path in sorted(one.keys() - other.keys())]
    lines += [f"only in the other: {path}" for path in sorted(other.keys() - one.keys())]
    for path in sorted(one.keys() & other.keys()):
        for key in one[path].keys() | other[path].keys():
            if one[path].get(key) != other[path].get(key):
                lines.append(f"{path}: {key}: {one[path].get(key)!r} and {other[path].get(key)!r}")
    return lines
