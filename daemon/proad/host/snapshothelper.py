"""Sync, blocking. The helper process that reads a container's files: ``python -m …snapshothelper JOB``.

The daemon (``snapshot.Snapshots``) spawns it; on standard output it tells one JSON line at its end,
``{"result": …}`` or ``{"error": …, "kind": …}``. The job is a JSON object: ``mode``, ``lower`` (the layers'
directories, uppermost first), ``upper`` (what the container wrote, or null), ``rootfs`` (where they are
mounted together, or null), ``own`` (paths that the engine makes), ``output`` (a descriptor for the archive),
``place`` (any directory), ``parent`` (the daemon's pid).

    changes    tells what the container changed
    layer      writes that as a layer's tar (OCI image spec, layer.md), compressed by gzip
    whole      writes all its files as a tar

All that it reads is mounted on a tmpfs in a mount namespace of its own, read-only, and that is all it sees. A
container that runs is read through its own mount; of one that does not, the layers and what it wrote are
mounted together here, so nothing has to be taken back whoever dies.
"""

import errno
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from isal import isal_zlib

from proad.host import jail
from proad.host.layertree import OPAQUE_WHITEOUT, WHITEOUT, Refused
from proad.host.tararchive import Archive
from proad.host.treewalk import walk
from proad.host.uppertree import UpperTree, Written

BUFFER_BYTES = 1 << 20
MAX_PIECES = 4096
MEMORY_LIMIT_BYTES = 2 << 30
DESCRIPTORS = 1024
GZIP_LEVEL = 1
KEPT_CAPABILITIES = (jail.DAC_READ_SEARCH, jail.SYS_ADMIN)
"""To read what root may not by itself, and the ``trusted.*`` attributes of overlayfs."""

_GZIP_FORMAT = 31  # zlib's window bits of a stream with a gzip header


class Output:
    """A descriptor, written in large pieces."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        self._pending.append(data)
        self._size += len(data)
        if self._size >= BUFFER_BYTES or len(self._pending) >= MAX_PIECES:
            self.finish()

    def finish(self) -> None:
        view = memoryview(b"".join(self._pending))
        self._pending.clear()
        self._size = 0
        while view:
            view = view[os.write(self._descriptor, view) :]


class Compressed:
    """An output that what is written reaches compressed by gzip."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._compressor = isal_zlib.compressobj(level=GZIP_LEVEL, wbits=_GZIP_FORMAT)

    def write(self, data: bytes) -> None:
        self._output.write(self._compressor.compress(data))

    def finish(self) -> None:
        self._output.write(self._compressor.flush())
        self._output.finish()


def main() -> int:
    """Do the job in ``argv[1]``; 0 when a result was told, 1 when an error was."""
    job = json.loads(sys.argv[1])
    try:
        _tell({"result": MODES[job["mode"]](job)})
    except Refused as error:
        return _fail("invalid", str(error))
    except BrokenPipeError:
        return _fail("unread", "nobody read the archive to its end")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _fail("space" if full else "system", error.strerror or str(error))
    except MemoryError:
        return _fail("system", "the tree needs more memory than it may take")
    return 0


def changes(job: dict[str, Any]) -> dict[str, Any]:
    _mount(job, _mount_lower, _mount_upper)
    tree = UpperTree("/upper", "/lower", job["own"])
    return {"changes": [(kind, _text(path)) for kind, path in tree.changes()]}


def layer(job: dict[str, Any]) -> dict[str, Any]:
    """Write a layer. Names that a layer cannot have, for they stand for whiteouts there, are told instead."""
    _mount(job, _mount_lower, _mount_upper)
    output = Compressed(Output(job["output"]))
    archive = Archive(output.write)
    left_out = []
    for written in UpperTree("/upper", "/lower", job["own"]):
        if written.node.name.startswith(WHITEOUT):
            written.node.pruned = True
            left_out.append(_text(written.node.path))
            continue
        _add(archive, written)
    archive.finish()
    output.finish()
    return {"entries": archive.entries, "left_out": left_out}


def _add(archive: Archive, written: Written) -> None:
    node = written.node
    if written.is_whiteout:
        parent = node.path[: -len(node.name)]
        archive.add_empty(f"{parent}{WHITEOUT}{node.name}")
        return
    archive.add(node)
    if written.hides_directory:
        archive.add_empty(f"{node.path}/{OPAQUE_WHITEOUT}")


def whole(job: dict[str, Any]) -> dict[str, Any]:
    _mount(job, _mount_whole)
    output = Output(job["output"])
    archive = Archive(output.write)
    for node in walk("/rootfs"):
        archive.add(node)
    archive.finish()
    output.finish()
    return {"entries": archive.entries, "left_out": []}


MODES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "changes": changes,
    "layer": layer,
    "whole": whole,
}


# --- what it sees ---------------------------------------------------------------------------------------


class Sources:
    """The directories of a job, opened before the host goes out of sight."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.lower = [_open(path) for path in job["lower"]]
        self.upper = _open(job["upper"]) if job["upper"] else None
        self.rootfs = _open(job["rootfs"]) if job["rootfs"] else None
        self.all = [*self.lower, *(source for source in (self.upper, self.rootfs) if source is not None)]


def _mount(job: dict[str, Any], *mounters: Callable[[Sources, str], None]) -> None:
    """Mount what the mode reads below a new root, enter that, and give up what is not needed to read."""
    jail.die_with(job["parent"])
    jail.leave_mounts()
    sources = Sources(job)  # of these mounts: those of another namespace cannot be bound
    place = job["place"]
    jail.mount("tmpfs", place, "tmpfs", jail.NOSUID | jail.NODEV | jail.NOEXEC, "mode=0700,size=1m")
    for mounter in mounters:
        mounter(sources, place)
    for descriptor in sources.all:
        os.close(descriptor)
    jail.enter(place)
    jail.restrict(KEPT_CAPABILITIES, memory_bytes=MEMORY_LIMIT_BYTES, descriptors=DESCRIPTORS)


def _mount_lower(sources: Sources, place: str) -> None:
    _stack(sources.lower, f"{place}/lower")


def _mount_upper(sources: Sources, place: str) -> None:
    _stack([sources.upper] if sources.upper is not None else [], f"{place}/upper")


def _mount_whole(sources: Sources, place: str) -> None:
    if sources.rootfs is not None:
        _stack([sources.rootfs], f"{place}/rootfs")
    else:
        written = [sources.upper] if sources.upper is not None else []
        _stack([*written, *sources.lower], f"{place}/rootfs")


def _stack(directories: list[int], target: str) -> None:
    """Mount directories together, uppermost first, read-only; none leave the target empty."""
    os.mkdir(target)
    paths = [f"/proc/self/fd/{descriptor}" for descriptor in directories]
    if len(paths) == 1:
        jail.bind(paths[0], target, jail.RDONLY)
    elif paths:
        flags = jail.RDONLY | jail.NOSUID | jail.NODEV | jail.NOEXEC
        jail.mount("overlay", target, "overlay", flags, f"lowerdir={':'.join(paths)}")


def _open(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


# --- what it tells --------------------------------------------------------------------------------------


def _text(path: str) -> str:
    """A path as JSON can have it: what is no UTF-8 is shown by replacement characters, as from Go."""
    return os.fsencode(path).decode("utf-8", "replace")


def _tell(message: dict[str, Any]) -> None:
    line = memoryview(json.dumps(message).encode() + b"\n")
    while line:
        line = line[os.write(1, line) :]


def _fail(kind: str, text: str) -> int:
    _tell({"error": text, "kind": kind})
    return 1


if __name__ == "__main__":
    sys.exit(main())
