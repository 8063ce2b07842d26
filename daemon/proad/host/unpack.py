"""Sync, blocking. The helper process that reads untrusted archives: ``python -m proad.host.unpack JOB``.

The daemon (``archive.Unpacker``) spawns it with the archive on standard input and reads JSON lines from
its standard output: ``{"progress": bytes read}`` now and then, at last ``{"result": …}`` or ``{"error":
…, "kind": …}``. The job is a JSON object: ``mode``, ``target`` (an empty directory), ``entries`` and
``bytes`` (limits), ``blob`` (where to keep the archive itself, or null), ``any_device`` (of a layer: take
device nodes whatever they give access to), ``sync`` (have it all on the disk before the result is told),
``parent`` (the daemon's pid).

    layer      writes the entries below ``target``, as overlayfs wants them
    members    writes every file of the archive to ``target`` under a number and tells names and digests:
               names of an image archive are looked up in that table and never touch the file system

Before more is read than the magic number, the target has become the process's root directory in a mount
namespace of its own, nothing else of the host is mounted, all capabilities but those for writing files are
gone, and the process dies with the daemon.
"""

import errno
import hashlib
import io
import json
import os
import sys
import time
from typing import Any, Protocol

from proad.host import jail
from proad.host.decompress import BUFFER_BYTES, LONGEST_MAGIC, Source, compression_of, decompressed
from proad.host.layertree import LayerTree, Limits, Refused, clean_name
from proad.host.tarstream import TarError, TarReader

PROGRESS_INTERVAL_S = 0.1
MEMORY_LIMIT_BYTES = 2 << 30
PLAIN_BUFFER_BYTES = 1 << 17
"""Of what is uncompressed: so much stays in a processor's cache between hashing and writing."""
OVERHEAD_BYTES_PER_ENTRY = 8192
"""Headers and padding: what a stream may hold beside its files."""

_KEPT_AS_THEY_CAME = frozenset({"none", "gzip", "zstd"})
"""Compressions that an OCI layer blob may have; a layer in any other is kept as plain tar."""

KEPT_CAPABILITIES = (
    jail.CHOWN, jail.DAC_OVERRIDE, jail.FOWNER, jail.FSETID, jail.SYS_ADMIN, jail.MKNOD, jail.SETFCAP,
)  # fmt: skip
"""For owners, modes, device nodes and file capabilities; SYS_ADMIN is what ``trusted.*`` attributes ask
for."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Copy:
    """A file that data passes into on its way, with its digest."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hash: _Hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class _Source(Source):
    """Standard input, telling how far it has been read."""

    def __init__(self) -> None:
        super().__init__(0)
        self._told = time.monotonic()

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        now = time.monotonic()
        if now - self._told > PROGRESS_INTERVAL_S:
            self._told = now
            _tell({"progress": self.consumed_bytes})
        return count


class _Tee(io.RawIOBase):
    """Passes a source through and keeps a copy of all of it."""

    def __init__(self, source: "io.BufferedReader[Any]", copy: _Copy) -> None:
        self._source = source
        self._copy = copy

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._source.readinto1(buffer)
        self._copy.write(bytes(memoryview(buffer)[:count]))
        return count


class _Hashed(io.RawIOBase):
    """The uncompressed stream: its digest is the layer's diff ID.

    Read it through a large buffer: of small files, each read of a header or of contents would cost as much
    here as the file itself.
    """

    def __init__(self, source: io.BufferedIOBase, max_bytes: int, copy: _Copy | None) -> None:
        self._source = source
        self._left = max_bytes
        self._copy = copy
        self._hash: _Hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read1(len(buffer))  # what a pipe has brought is written while more comes
        self._left -= len(data)
        if self._left < 0:
            raise Refused(
                "the uncompressed archive is larger than the disk has room for: no space left on device"
            )
        self._hash.update(data)
        if self._copy:
            self._copy.write(data)
        buffer[: len(data)] = data
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def main() -> int:
    """Do the job in ``argv[1]``; 0 when a result was told, 1 when an error was."""
    job = json.loads(sys.argv[1])
    try:
        _tell({"result": _work(job)})
    except (Refused, TarError) as error:
        return _fail("invalid", str(error))
    except OSError as error:
        text = error.strerror or str(error)
        if error.errno in (errno.EDQUOT, errno.ENOSPC):
            return _fail("space", text)
        broken = error.errno is None  # decompressors raise a bare OSError for data they cannot read
        return _fail("invalid" if broken else "system", str(error) if broken else text)
    except EOFError:
        return _fail("invalid", "unexpected end of the compressed stream")
    except MemoryError:
        return _fail("invalid", "the archive needs more memory than it may take")
    except Exception as error:  # noqa: BLE001  decompressors have error types of their own
        return _fail("invalid", f"{type(error).__name__}: {error}")
    return 0


def _work(job: dict[str, Any]) -> dict[str, Any]:
    blob = (
        os.open(job["blob"], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if job["blob"]
        else -1
    )
    copy = _Copy(blob) if job["blob"] else None
    raw: io.BufferedReader[Any] = io.BufferedReader(_Source(), BUFFER_BYTES)
    compression = compression_of(raw.peek(LONGEST_MAGIC))
    if copy and compression in _KEPT_AS_THEY_CAME:
        raw = io.BufferedReader(_Tee(raw, copy), BUFFER_BYTES)
    plain = decompressed(raw, compression)
    _enter_jail(job["target"], job["parent"])
    limits = Limits(job["entries"], job["bytes"])
    hashed = _Hashed(
        plain,
        limits.bytes + limits.entries * OVERHEAD_BYTES_PER_ENTRY,
        copy if compression not in _KEPT_AS_THEY_CAME else None,
    )
    stream = io.BufferedReader(hashed, PLAIN_BUFFER_BYTES)
    result: dict[str, Any]
    if job["mode"] == "layer":
        tree = LayerTree(limits, any_device=job["any_device"])
        tree.write(TarReader(stream))
        result = {"size": tree.size, "entries": tree.entries}
    else:
        result = _members(TarReader(stream), limits)
    while stream.read(BUFFER_BYTES):  # what follows the archive's end counts for the digest
        pass
    if job["sync"]:
        jail.sync("/")
    result["diff_id"] = hashed.digest
    result["compression"] = compression if compression in _KEPT_AS_THEY_CAME else "none"
    if copy:
        result["blob"] = {"digest": copy.digest, "size": copy.size}
    return result


def _members(archive: TarReader, limits: Limits) -> dict[str, Any]:
    """Write the files of an image archive under numbers; symbolic links and hard links are told as links."""
    files: dict[str, dict[str, Any]] = {}
    links: dict[str, str] = {}
    total = 0
    for count, entry in enumerate(archive, start=1):
        if count > limits.entries:
            raise Refused(f"the archive has more than {limits.entries} entries")
        name = "/".join(clean_name(entry.name))
        if entry.kind == "symlink":
            links[name] = os.path.normpath(os.path.join(os.path.dirname(name), entry.link))
        elif entry.kind == "link":
            links[name] = "/".join(clean_name(entry.link))
        elif entry.kind == "file":
            total += entry.size
            if total > limits.bytes or entry.extents is not None:
                raise Refused(f'entry "{name}" is larger than the disk has room for: no space left on device')
            descriptor = os.open(f"/{count}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            copy = _Copy(descriptor)
            try:
                for chunk in archive.data():
                    copy.write(chunk)
            finally:
                os.close(descriptor)
            links.pop(name, None)
            files[name] = {"file": str(count), "digest": copy.digest, "size": copy.size}
        elif entry.kind != "directory":
            raise Refused(f'entry "{name}" of an image archive is a {entry.kind}')
    return {"files": files, "links": links}


def _enter_jail(target: str, parent: int) -> None:
    """Make ``target`` the root directory and give up whatever is not needed to write files there."""
    jail.die_with(parent)
    jail.leave_mounts()
    jail.bind(target, target)
    jail.enter(target)
    os.umask(0)
    jail.restrict(KEPT_CAPABILITIES, memory_bytes=MEMORY_LIMIT_BYTES, descriptors=64)


def _tell(message: dict[str, Any]) -> None:
    line = memoryview(json.dumps(message).encode() + b"\n")
    while line:
        line = line[os.write(1, line) :]


def _fail(kind: str, text: str) -> int:
    _tell({"error": text, "kind": kind})
    return 1


if __name__ == "__main__":
    sys.exit(main())
