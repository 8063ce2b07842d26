"""Sync, pure. Names of images: Docker's normal form, the familiar form people see, and the grammar of both.

    busybox                      -> docker.io/library/busybox:latest
    me/tool:1.0                  -> docker.io/me/tool:1.0
    localhost:5000/x@sha256:...  -> localhost:5000/x@sha256:...

The store keeps canonical names (:attr:`Reference.canonical`); answers show :attr:`Reference.familiar`.
Grammar: https://pkg.go.dev/github.com/distribution/reference
"""

import fnmatch
import re

import msgspec

from proad.model import errors

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME_LENGTH = 255

_DOMAIN = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_DIGEST_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_FULL_ID = re.compile(r"[0-9a-f]{64}")


class Reference(msgspec.Struct, frozen=True):
    """A parsed image name. ``tag`` and ``digest`` may each be empty; ``digest`` is ``algorithm:hex``."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: without ``docker.io/`` and ``library/``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        head, _, tail = self.path.partition("/")
        return tail if head == "library" and tail and "/" not in tail else self.path

    @property
    def canonical(self) -> str:
        return self.name + self._suffix

    @property
    def familiar(self) -> str:
        return self.familiar_name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def with_default_tag(self) -> "Reference":
        """``latest`` where neither tag nor digest is given, else the same."""
        return self if self.tag or self.digest else msgspec.structs.replace(self, tag=DEFAULT_TAG)

    def matches(self, pattern: str) -> bool:
        """Whether a shell glob of a ``reference`` filter fits the familiar name, with or without its tag."""
        return _glob(pattern, self.familiar) or _glob(pattern, self.familiar_name)


def parse_reference(text: str) -> Reference:
    """Parse an image name as a user writes it; no default tag is added.

    Raises:
        errors.InvalidParameter: not a name; Docker's wording.
    """
    if _FULL_ID.fullmatch(text):
        raise errors.InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise errors.InvalidParameter("invalid reference format")
    name, tag = rest, ""
    colon = rest.rfind(":")
    if colon > rest.rfind("/"):
        name, tag = rest[:colon], rest[colon + 1 :]
        if not _TAG.fullmatch(tag):
            raise errors.InvalidParameter("invalid reference format")
    domain, path = _split_domain(name)
    if path.lower() != path:
        raise errors.InvalidParameter(f"invalid reference format: repository name ({path}) must be lowercase")
    if not _PATH.fullmatch(path) or not _DOMAIN.fullmatch(domain):
        raise errors.InvalidParameter("invalid reference format")
    if len(path) > MAX_NAME_LENGTH:
        raise errors.InvalidParameter(f"repository name must not be more than {MAX_NAME_LENGTH} characters")
    return Reference(domain, path, tag, digest)


def parse_repository_tag(repository: str, tag: str) -> Reference | None:
    """The name that ``repo`` and ``tag`` of a request give an image; None where they give none.

    Raises:
        errors.InvalidParameter: not a name, or ``repo`` carries a digest.
    """
    if not repository:
        return None
    reference = parse_reference(repository)
    if reference.digest:
        raise errors.InvalidParameter("cannot import digest reference")
    if not tag:
        return reference.with_default_tag()
    if is_digest(tag):
        raise errors.InvalidParameter("cannot import digest reference")
    if not _TAG.fullmatch(tag):
        raise errors.InvalidParameter("invalid tag format")
    return msgspec.structs.replace(reference, tag=tag)


def is_digest(text: str) -> bool:
    """Whether the text is a digest whose length fits its algorithm."""
    if not _DIGEST.fullmatch(text):
        return False
    algorithm, _, digits = text.partition(":")
    return len(digits) == _DIGEST_HEX_LENGTH.get(algorithm, -1) and digits == digits.lower()


def _split_domain(name: str) -> tuple[str, str]:
    head, slash, tail = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost" or head.lower() != head):
        domain, path = head, tail
    else:
        domain, path = DEFAULT_DOMAIN, name
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = f"library/{path}"
    return domain, path


def _glob(pattern: str, text: str) -> bool:
    """Go's ``path.Match``: a star stops at a slash, so pattern and text are compared piece by piece."""
    wanted, given = pattern.split("/"), text.split("/")
    return len(wanted) == len(given) and all(
        fnmatch.fnmatchcase(piece, glob) for glob, piece in zip(wanted, given, strict=True)
    )
