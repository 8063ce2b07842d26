"""Sync, pure. URLs of git repositories as the builder takes them: ``remote[#ref[:directory]]``.

Forms and defaults of moby (pkg/urlutil, builder/remotecontext/git).
"""

import re
from dataclasses import dataclass

from proad.model import errors

_HTTP = ("http://", "https://")
_GIT = ("git://", "github.com/", "git@")
_ENDS_IN_GIT = re.compile(r"\.git(?:#.+)?$")
DEFAULT_REF = "HEAD"


@dataclass(frozen=True)
class GitUrl:
    """``ref`` is a branch, a tag or a commit; ``directory`` is empty for all of the repository."""

    remote: str
    ref: str
    directory: str


def is_git_url(text: str) -> bool:
    """Whether a context's URL is a repository's, and not a file's."""
    return bool(text.startswith(_HTTP) and _ENDS_IN_GIT.search(text)) or text.startswith(_GIT)


def parse_git_url(text: str) -> GitUrl:
    """
    Raises:
        errors.InvalidParameter: a part of it could be taken for an option, or for more than one line.
    """
    if not text.startswith((*_HTTP, "git://", "git@")):
        text = f"https://{text}"
    remote, _, fragment = text.partition("#")
    ref, _, directory = fragment.partition(":")
    for part in (remote, ref, directory):
        if part.startswith("-") or not part.isprintable() or "\0" in part:
            raise errors.InvalidParameter(f"invalid git URL: {text!r}")
    return GitUrl(remote, ref or DEFAULT_REF, directory)
