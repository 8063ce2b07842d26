"""Sync, blocking. From what a user calls the context of a build to the archive that the daemon gets.

context                    Dockerfile (`-f`)                what goes out
a directory                in it, or its default            all that is not ignored
                           elsewhere, or standard input     the same, the Dockerfile under a name of its own
git://…, http://….git      in the repository                the directory of it that `#ref:directory` names
http://…                   in the archive                   the archive as it comes, or the Dockerfile alone
`-` (standard input)       in the archive                   the same
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import NamedTuple

from proa.context.archive import (
    Ignored,
    Peeked,
    added_dockerfile,
    dockerfile_alone,
    read_all,
    with_dockerfile,
)
from proa.context.directory import DOCKERFILE, IGNORE_FILE, Place, locate, read_patterns, walk
from proa.context.git import cloned, is_git_url
from proa.errors import ContextFailed
from proa.http1 import Readable
from proa.packing import Packed

Watch = Callable[[Readable, "int | None"], Readable]
"""Given a download and its size, if that is known: what to read it through."""


class Prepared(NamedTuple):
    """A context to upload, and the path of the Dockerfile in it; empty for the daemon's default."""

    archive: Readable
    dockerfile: str


@contextmanager
def prepare(
    context: str,
    dockerfile: str = "",
    *,
    stdin: Readable | None = None,
    watch: Watch = lambda download, size: download,
) -> Iterator[Prepared]:
    """Make a context ready; what it needs meanwhile goes again at the end. Raises ContextFailed.

    `stdin` is read where the context or the Dockerfile is `-`.
    """
    if context == "-" and dockerfile == "-":
        raise ContextFailed("invalid argument: can't use stdin for both build context and dockerfile")
    if "-" in (context, dockerfile) and stdin is None:
        raise ContextFailed("there is no standard input to read")
    with _found(context, dockerfile, stdin, watch) as found:
        yield found


def _found(
    context: str, dockerfile: str, stdin: Readable | None, watch: Watch
) -> AbstractContextManager[Prepared]:
    if context == "-" and stdin is not None:
        with _preparing():
            return nullcontext(_streamed(stdin, dockerfile, None))
    if os.path.exists(context):
        with _preparing():
            given = dockerfile if dockerfile in ("", "-") else os.path.abspath(dockerfile)
            place = locate(context, given)
        return nullcontext(_packed(place, stdin))
    if is_git_url(context):
        return _repository(context, dockerfile, stdin)
    if context.startswith(("http://", "https://")):
        return _downloaded(context, dockerfile, stdin, watch)
    raise ContextFailed(f'unable to prepare context: path "{context}" not found')


@contextmanager
def _preparing() -> Iterator[None]:
    try:
        yield
    except ContextFailed as error:
        raise ContextFailed(f"unable to prepare context: {error}") from None


def _packed(place: Place, stdin: Readable | None) -> Prepared:
    patterns = read_patterns(place)
    if place.dockerfile != "-" and not place.is_outside:
        return Prepared(Packed(walk(place.directory, patterns, {})), place.dockerfile)
    if place.dockerfile == "-" and stdin is not None:
        content = read_all(stdin)
    else:
        content = _read(os.path.join(place.directory, place.dockerfile))
    ignore_file = os.path.join(place.directory, IGNORE_FILE)
    ignored = None
    if os.path.exists(ignore_file):
        ignored = Ignored(_read(ignore_file), stat.S_IMODE(os.stat(ignore_file).st_mode))
    name, added = added_dockerfile(content, ignored)
    return Prepared(Packed(walk(place.directory, patterns, added)), name)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ContextFailed(f"unable to open {path}: {(error.strerror or str(error)).lower()}") from None


@contextmanager
def _repository(context: str, dockerfile: str, stdin: Readable | None) -> Iterator[Prepared]:
    with ExitStack() as stack:
        with _preparing():
            place = locate(stack.enter_context(cloned(context)), dockerfile)
            if place.is_outside:
                raise ContextFailed(f"the Dockerfile ({dockerfile}) must be within the build context")
        yield _packed(place, stdin)


@contextmanager
def _downloaded(url: str, dockerfile: str, stdin: Readable | None, watch: Watch) -> Iterator[Prepared]:
    from proa.context.download import opened

    with ExitStack() as stack:
        with _preparing():
            content, size = stack.enter_context(opened(url))
            given = read_all(stdin) if dockerfile == "-" and stdin is not None else None
            prepared = _streamed(watch(content, size), dockerfile, given)
        yield prepared


def _streamed(source: Readable, dockerfile: str, given: bytes | None) -> Prepared:
    """What a stream brings; `given` is the content of a Dockerfile that comes from elsewhere."""
    peeked = Peeked(source)
    if peeked.is_archive:
        return Prepared(peeked, dockerfile) if given is None else Prepared(*with_dockerfile(peeked, given))
    if dockerfile == "-":
        raise ContextFailed("build context is not an archive")
    if dockerfile:
        raise ContextFailed("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    return Prepared(dockerfile_alone(peeked), DOCKERFILE)
