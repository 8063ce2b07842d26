"""Sync, pure. What some calls of the Python API return besides Docker's own dictionaries."""

from __future__ import annotations

from typing import NamedTuple


class Created(NamedTuple):
    """A container just created: its full id, and what the daemon warned about."""

    id: str
    warnings: list[str]


class Completed(NamedTuple):
    """A container that ran to its end under `Client.run`."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Pruned(NamedTuple):
    """What a prune removed, and how many bytes that gave back."""

    deleted: list[str]
    space_bytes: int
