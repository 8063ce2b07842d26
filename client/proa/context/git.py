"""Sync, blocking. A git repository as the context of a build: `URL#ref:directory`, fetched with git."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from proa.errors import ContextFailed

_HTTP_REPOSITORY = re.compile(r"https?://.*\.git(?:#.+)?", re.DOTALL)
_PREFIXES = ("git://", "github.com/", "git@")
# A repository may not name files of this machine as its submodules.
_GIT = ("git", "-c", "protocol.file.allow=never")


class Repository(NamedTuple):
    """Where it is, what of it, and which directory in it. The default of `ref` is what the other side has."""

    remote: str
    ref: str
    directory: str


def is_git_url(text: str) -> bool:
    """Whether a context is a repository rather than an archive to download."""
    return _HTTP_REPOSITORY.fullmatch(text) is not None or text.startswith(_PREFIXES)


def parse_git_url(text: str) -> Repository:
    """Read one. Raises ContextFailed."""
    remote, _, fragment = text.partition("#")
    ref, _, directory = fragment.partition(":")
    if ref.startswith("-"):
        raise ContextFailed(f"invalid refspec: {ref}")
    return Repository(
        f"https://{remote}" if remote.startswith("github.com/") else remote, ref or "HEAD", directory
    )


@contextmanager
def cloned(text: str) -> Iterator[str]:
    """The directory of a repository, checked out; it goes again at the end. Raises ContextFailed."""
    repository = parse_git_url(text)
    with tempfile.TemporaryDirectory(prefix="proa-git-") as root:
        _git(root, "failed to init repo", "init", "--quiet")
        _git(root, "failed add origin repo", "remote", "add", "origin", repository.remote)
        _fetch(root, repository)
        _git(root, f"error checking out {repository.ref}", "checkout", "--quiet", "FETCH_HEAD")
        submodules = ("submodule", "update", "--init", "--recursive", "--depth=1")
        _git(root, "error initializing submodules", *submodules)
        yield _within(root, repository.directory)


def _fetch(root: str, repository: Repository) -> None:
    try:
        _git(root, "error fetching", "fetch", "--depth", "1", "origin", "--", repository.ref)
    except ContextFailed:  # a server of mere files knows nothing of depth, and some know no lone commits
        _git(root, "error fetching", "fetch", "origin", "--", repository.ref)


def _git(root: str, failure: str, *arguments: str) -> None:
    environment = {**os.environ, "GIT_PROTOCOL_FROM_USER": "0"}
    try:
        ended = subprocess.run(
            [*_GIT, *arguments], cwd=root, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ContextFailed("unable to find 'git': executable file not found in $PATH") from None
    if ended.returncode != 0:
        raise ContextFailed(
            "unable to 'git clone' to temporary context directory: "
            f"{failure}: {ended.stdout.strip()}: exit status {ended.returncode}"
        )


def _within(root: str, directory: str) -> str:
    """A directory of the repository; its symlinks may not lead out of it."""
    top = os.path.realpath(root)
    found = os.path.realpath(os.path.join(top, directory.lstrip("/")))
    if found != top and not found.startswith(f"{top}/"):
        raise ContextFailed(f'error setting git context, "{directory}" not within git root')
    if not os.path.isdir(found):
        raise ContextFailed(f"error setting git context, not a directory: {directory}")
    return found
