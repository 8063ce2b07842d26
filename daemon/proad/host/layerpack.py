"""Sync, blocking. The helper's task ``layer``: what was written on top of an image, as a layer's blob.

The task has ``place``, ``lower`` (the image's layers, uppermost first), ``upper`` (the directory of an
overlay that nobody mounts any more), ``own`` (paths that the engine makes) and ``clean``; the stream is an
empty file for the blob, a tar compressed by gzip. With ``clean`` whatever is not part of the layer goes from
``upper``, which then is the layer, unpacked: overlayfs wrote it in the form in which overlayfs reads it.
"""

import hashlib
import os
import stat
from typing import Any

from proad.host import buildjail, jail
from proad.host.helperchannel import Channel, Refusal
from proad.host.layertree import OPAQUE_WHITEOUT, WHITEOUT, Refused, remove_tree
from proad.host.snapshothelper import Compressed, Output
from proad.host.tararchive import Archive
from proad.host.tarstream import Entry
from proad.host.uppertree import UpperTree, Written

_CAPABILITIES = (*buildjail.READ, jail.DAC_OVERRIDE, jail.FOWNER, jail.CHOWN)


def pack(task: dict[str, Any], _channel: Channel, stream: int) -> dict[str, Any]:
    """Do the task; the result has ``entries``, ``size`` (of all files), ``diff_id``, ``digest`` and
    ``blob_size``.

    Raises:
        Refusal: what was written cannot be a layer.
        OSError: it cannot be read, or the disk is full.
    """
    trees = [
        {"name": "lower", "layers": task["lower"]},
        {"name": "upper", "directory": task["upper"], "writable": task["clean"]},
    ]
    buildjail.enter(task["place"], trees, "")
    buildjail.restrict(_CAPABILITIES)
    blob = _Blob(stream)
    archive = _Layer(blob)
    try:
        foreign = archive.add_all(UpperTree("/upper", "/lower", task["own"]))
    except Refused as error:
        raise Refusal("invalid", str(error)) from error
    archive.finish()
    blob.finish()
    if task["clean"] and archive.entries:
        for path in foreign:
            _remove(f"/upper/{path}")
        os.chown("/upper", 0, 0)
        os.chmod("/upper", 0o755)  # no archive tells of it
        jail.sync("/upper")
    os.fsync(stream)
    return {
        "entries": archive.entries,
        "size": archive.size,
        "diff_id": f"sha256:{blob.plain.hexdigest()}",
        "digest": f"sha256:{blob.packed.hexdigest()}",
        "blob_size": blob.size,
    }


class _Blob:
    """The file of the blob, with the digests of what goes in and of what comes out."""

    def __init__(self, descriptor: int) -> None:
        self._output = _Counted(descriptor)
        self._compressed = Compressed(self._output)
        self.plain = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.plain.update(data)
        self._compressed.write(data)

    def finish(self) -> None:
        self._compressed.finish()

    @property
    def packed(self) -> "hashlib._Hash":
        return self._output.hash

    @property
    def size(self) -> int:
        return self._output.size


class _Counted(Output):
    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)
        super().write(data)


class _Layer(Archive):
    """The archive, and the size of what it holds."""

    def __init__(self, blob: _Blob) -> None:
        super().__init__(blob.write)
        self.size = 0

    def add_all(self, tree: UpperTree) -> list[str]:
        """Add all that was written; returns paths in the directory that are not part of the layer."""
        foreign = []
        for written in tree:
            if written.node.name.startswith(WHITEOUT):  # it would mean something else in a layer
                written.node.pruned = True
                foreign.append(written.node.path)
                continue
            if stat.S_ISSOCK(written.node.status.st_mode):
                foreign.append(written.node.path)
                continue
            self._add_written(written)
        return [*foreign, *tree.traces]

    def _add_written(self, written: Written) -> None:
        node = written.node
        if written.is_whiteout:
            self.add_empty(f"{node.path[: -len(node.name)]}{WHITEOUT}{node.name}")
            return
        self.add(node)
        if written.hides_directory:
            self.add_empty(f"{node.path}/{OPAQUE_WHITEOUT}")

    def _add(self, entry: Entry) -> None:
        super()._add(entry)
        self.size += (
            entry.size
            if entry.kind == "file"
            else len(os.fsencode(entry.link))
            if entry.kind == "symlink"
            else 0
        )


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        remove_tree(path)
    else:
        os.unlink(path)
