"""Sync, blocking. A directory as the context of a build: all but what `.dockerignore` excludes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from proa.context.ignore import ROOT, Patterns, Verdict, parse_ignore
from proa.errors import ContextFailed
from proa.packing import Entry, describe

IGNORE_FILE = ".dockerignore"
DOCKERFILE = "Dockerfile"
_CAPABILITY = "security.capability"


class Place(NamedTuple):
    """A directory to build from, and its Dockerfile relative to it: `..` leads out of it, `-` is nowhere."""

    directory: str
    dockerfile: str

    @property
    def is_outside(self) -> bool:
        """Whether the Dockerfile is no part of the directory."""
        return self.dockerfile.startswith("../")


def locate(directory: str, dockerfile: str) -> Place:
    """Find a directory and its Dockerfile, through symlinks. A path of the latter is relative to the former.

    Raises ContextFailed.
    """
    try:
        directory = os.path.realpath(directory, strict=True)
    except OSError as error:
        raise ContextFailed(f"unable to evaluate symlinks in context path: {_told(error, 'lstat')}") from None
    if not os.path.isdir(directory):
        raise ContextFailed(f"context must be a directory: {directory}")
    if dockerfile == "-":
        return Place(directory, dockerfile)
    path = os.path.join(directory, dockerfile or _default_dockerfile(directory))
    try:
        path = os.path.realpath(path, strict=True)
    except OSError as error:
        raise ContextFailed(
            f"unable to evaluate symlinks in Dockerfile path: {_told(error, 'lstat')}"
        ) from None
    return Place(directory, os.path.relpath(path, directory))


def _default_dockerfile(directory: str) -> str:
    for name in (DOCKERFILE, DOCKERFILE.lower()):
        if os.path.lexists(os.path.join(directory, name)):
            return name
    return DOCKERFILE


def read_patterns(place: Place) -> Patterns:
    """What stays behind. The Dockerfile and `.dockerignore` never do: the daemon wants them, and drops them
    later.

    Raises ContextFailed.
    """
    path = os.path.join(place.directory, IGNORE_FILE)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = parse_ignore(file.read())
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise ContextFailed(_told(error, "open")) from None
    try:
        patterns = Patterns(lines)
    except ContextFailed as error:
        raise ContextFailed(f"error checking context: {error}") from None
    needed = [IGNORE_FILE] if place.dockerfile == "-" else [IGNORE_FILE, place.dockerfile]
    missing = [f"!{name}" for name in needed if patterns.excludes(name)]
    return Patterns([*lines, *missing]) if missing else patterns


def walk(directory: str, patterns: Patterns, replaced: Mapping[str, Entry]) -> Iterator[Entry]:
    """All that belongs to the context; `replaced` goes out in place of what has such a name, or in addition.

    Everything belongs to root, as with Docker: what a user is called here means nothing there. Raises
    ContextFailed for what cannot be read.
    """
    yield from replaced.values()
    pending: list[tuple[str, Verdict]] = [("", ROOT)]
    while pending:
        name, verdict = pending.pop()
        path = os.path.join(directory, name)
        try:
            if name and name not in replaced:
                status = os.lstat(path)
                if not verdict.is_excluded:
                    yield from _entry(path, name, status)
                is_entered = stat.S_ISDIR(status.st_mode) and (
                    not verdict.is_excluded or patterns.may_keep_below(name)
                )
            else:
                is_entered = not name
            children = sorted(os.listdir(path), reverse=True) if is_entered else []
        except FileNotFoundError:
            continue  # it has vanished meanwhile
        except OSError as error:
            raise ContextFailed(f"error checking context: can't stat '{path}': {error.strerror}") from None
        for child in children:
            below = f"{name}/{child}" if name else child
            pending.append((below, patterns.judge(below, verdict)))


def _entry(path: str, name: str, status: os.stat_result) -> Iterator[Entry]:
    info = describe(path, name, status)
    if info is None:
        return
    info.uid = info.gid = 0
    if info.isreg():
        if not os.access(path, os.R_OK):
            raise ContextFailed(f"error checking context: no permission to read from '{path}'")
        with suppress(OSError):  # few files have any, and not every file system knows of them
            capability = os.getxattr(path, _CAPABILITY, follow_symlinks=False)
            info.pax_headers = {f"SCHILY.xattr.{_CAPABILITY}": capability.decode("utf-8", "surrogateescape")}
    yield Entry.local(info, path, status)


def _told(error: OSError, verb: str) -> str:
    """Go's words for a failed system call."""
    return f"{verb} {error.filename}: {(error.strerror or str(error)).lower()}"
