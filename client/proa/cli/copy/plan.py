"""Sync, pure. Which name a copy gets where, by the rules of `docker cp`, which are almost those of cp -r.

destination is     source is a directory            source is anything else
a directory        goes into it (its content does   goes into it
                   if the source ends in `/.`)
a file             refused                          replaces it
not there          becomes it                       becomes it; refused if a `/` says it is a directory
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple


class CopyRefused(Exception):
    """These two cannot be copied like this; the text says why."""


class Source(NamedTuple):
    """What is copied. `name` is what its archive calls it: `.` if only the content is meant."""

    name: str
    is_directory: bool


class Destination(NamedTuple):
    """A path as it was given, what lies there, and whether anything does."""

    path: str
    exists: bool = False
    is_directory: bool = False


class Plan(NamedTuple):
    """The directory to unpack into, and what the source is called there."""

    directory: str
    name: str


def arrange(source: Source, destination: Destination) -> Plan:
    """Decide it. Raises CopyRefused."""
    directory, name = split(destination.path)
    if destination.exists and destination.is_directory:
        return Plan(destination.path, source.name)
    if destination.exists and source.is_directory:
        raise CopyRefused("cannot copy directory")
    if not destination.exists and not source.is_directory and asserts_directory(destination.path):
        raise CopyRefused("no such directory")
    return Plan(directory, name)


def split_argument(argument: str) -> tuple[str, str]:
    """Cut `CONTAINER:PATH`; the container is empty for a local path, which begins with `/` or `.` if it has a
    colon."""
    if argument.startswith("/"):
        return "", argument
    container, colon, path = argument.partition(":")
    if not colon or container.startswith("."):
        return "", argument
    return container, path


def split(path: str) -> tuple[str, str]:
    """Directory and last part of a path, cleaned; a `.` at its end is a part."""
    cleaned = posixpath.normpath(path)
    if posixpath.basename(path) == ".":
        cleaned = posixpath.join(cleaned, ".")
    directory, name = posixpath.split(cleaned)
    return directory or ".", name or "/"


def asserts_directory(path: str) -> bool:
    """Whether a path says by its end that it is a directory."""
    return path.endswith("/") or posixpath.basename(path) == "."


def absolute(path: str, directory: str) -> str:
    """A local path made absolute and clean; what stood at its end is kept."""
    cleaned = posixpath.normpath(posixpath.join(directory, path))
    if posixpath.basename(path) == ".":
        return posixpath.join(cleaned, ".")
    return f"{cleaned.rstrip('/')}/" if path.endswith("/") else cleaned


def renamed(name: str, source: str, target: str) -> str:
    """An archive's entry name with its first part, `source`, replaced; that of the root has no first part."""
    rest = name if source == "/" else name.removeprefix(source)
    rest = rest.strip("/")
    if target in ("", ".", "/"):
        return rest or "."
    return f"{target}/{rest}" if rest else target
