"""Sync, blocking. Contexts that come as a stream: an archive, or a Dockerfile that is all there is."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, cast

from proa.context.directory import DOCKERFILE, IGNORE_FILE
from proa.errors import ContextFailed
from proa.http1 import Readable
from proa.packing import Entry, Packed

PEEK_BYTES = 2 * tarfile.BLOCKSIZE
_MAGIC = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")


class Peeked:
    """Reads like a file whose beginning has been looked at."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.beginning = b""
        while len(self.beginning) < PEEK_BYTES and (piece := source.read(PEEK_BYTES - len(self.beginning))):
            self.beginning += piece
        self._early = self.beginning

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""
        if self._early:
            piece, self._early = self._early[:size], self._early[size:]
            return piece
        return self._source.read(size)

    @property
    def is_archive(self) -> bool:
        """Whether it begins as a tar archive does, or a compressed one."""
        if self.beginning.startswith(_MAGIC):
            return True
        try:
            tarfile.TarInfo.frombuf(self.beginning[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
        return True


def dockerfile_alone(content: Readable) -> Packed:
    """The context in which there is a Dockerfile and nothing else."""
    return Packed([Entry.made(DOCKERFILE, read_all(content), 0o644, time.time())])


def read_all(content: Readable) -> bytes:
    """All of it, which should not be much."""
    pieces = []
    while piece := content.read(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def with_dockerfile(source: Readable, dockerfile: bytes) -> tuple[Packed, str]:
    """An archive with another Dockerfile, and what that is called in it. Raises ContextFailed on reading."""
    name, added = added_dockerfile(dockerfile, None)

    def entries() -> Iterator[Entry]:
        is_ignore_file_there = False
        try:
            stream = cast("IO[bytes]", _Exact(source))
            with tarfile.open(fileobj=stream, mode="r|*", bufsize=1 << 18) as archive:
                for info in archive:
                    content: Any = archive.extractfile(info) if info.isreg() else None
                    if info.name.removeprefix("./") == IGNORE_FILE and content is not None:
                        is_ignore_file_there = True
                        ignored = Ignored(content.read(), info.mode)
                        yield added_dockerfile(dockerfile, ignored, name)[1][IGNORE_FILE]
                    else:
                        yield Entry(info, source=content)
        except tarfile.TarError as error:
            raise ContextFailed(f"the context is no archive that can be read: {error}") from None
        yield added[name]
        if not is_ignore_file_there:
            yield added[IGNORE_FILE]

    return Packed(entries()), name


class Ignored(NamedTuple):
    """A `.dockerignore` that was there: what it says, and its mode."""

    content: bytes = IGNORE_FILE.encode()
    mode: int = 0o600


def added_dockerfile(
    dockerfile: bytes, ignored: Ignored | None, name: str = ""
) -> tuple[str, dict[str, Entry]]:
    """Two entries for a Dockerfile that was no part of the context: itself, under a name that nothing else
    has, and a `.dockerignore` so that no COPY sees it. Returns its name and them."""
    import secrets

    now = time.time()
    name = name or f".dockerfile.{secrets.token_hex(10)}"
    content, mode = ignored or Ignored()
    return name, {
        name: Entry.made(name, dockerfile, 0o600, now),
        IGNORE_FILE: Entry.made(IGNORE_FILE, b"%b\n%b\n" % (content, name.encode()), mode, now),
    }


class _Exact:
    """What tarfile reads from: it gets as much as it asked for, fewer at the end."""

    def __init__(self, source: Readable) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size and (piece := self._source.read(size - len(pieces))):
            pieces += piece
        return bytes(pieces)
