"""Sync, pure. What the daemon tells of a path in a container, in a header of its answers."""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from proa.errors import Lost
from proa.transport import Answer

HEADER = "x-docker-container-path-stat"
# Bits of Go's os.FileMode, which is what the daemon tells.
_DIRECTORY, _SYMLINK, _ANY_KIND = 1 << 31, 1 << 27, 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24


class PathStatus(NamedTuple):
    """What lies at a path. `mode` is Go's os.FileMode, `mtime` RFC 3339; `link_target` is where a symlink
    leads to, absolute in the container, empty for all else."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str

    @property
    def is_directory(self) -> bool:
        return bool(self.mode & _DIRECTORY)

    @property
    def is_symlink(self) -> bool:
        return bool(self.mode & _SYMLINK)

    @property
    def is_file(self) -> bool:
        return not self.mode & _ANY_KIND


class PathArchive:
    """A path's archive as it comes, and what lies at the path: `status`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.status = path_status(answer.headers)

    def __enter__(self) -> PathArchive:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._answer.close()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)


def path_status(headers: Mapping[str, str]) -> PathStatus:
    """Read the header. Raises Lost where it is not there or garbled."""
    try:
        told = json.loads(binascii.a2b_base64(headers[HEADER]))
        return PathStatus(told["name"], told["size"], told["mode"], told["mtime"], told["linkTarget"])
    except (KeyError, ValueError, TypeError):
        raise Lost("the daemon did not tell what lies at the path") from None
