"""Sync, pure. Names of images as people write them: `busybox` means docker.io/library/busybox.

Source: the grammar of github.com/distribution/reference, and Docker's rules of what may be left out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proa.errors import BadName

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
HUB_KEY = "https://index.docker.io/v1/"
"""What the credentials for docker.io are filed under, for historical reasons."""

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"({_DOMAIN})/({_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::([\w][\w.-]{0,127}))?"
    r"(?:@([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_ID = re.compile(r"[a-f0-9]{64}")


class Reference(NamedTuple):
    """A name with everything said. `tag` and `digest` are empty where there is none."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def is_name_only(self) -> bool:
        """Whether it says neither a tag nor a digest."""
        return not self.tag and not self.digest

    @property
    def full_name(self) -> str:
        """The repository, with its registry."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as short as it may be written."""
        if self.domain != DEFAULT_DOMAIN:
            return self.full_name
        return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path

    @property
    def full(self) -> str:
        """All of it."""
        return self.full_name + self._suffix

    @property
    def familiar(self) -> str:
        """All of it, as short as it may be written."""
        return self.familiar_name + self._suffix

    @property
    def registry_key(self) -> str:
        """What credentials for its registry are filed under."""
        return HUB_KEY if self.domain == DEFAULT_DOMAIN else self.domain

    @property
    def version(self) -> str:
        """The digest, or else the tag: what the API calls `tag` where an image is pulled."""
        return self.digest or self.tag

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Read a name. Raises BadName in Docker's words."""
    if _ID.fullmatch(text):
        raise BadName(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(text)
    name = rest.partition("@")[0].partition(":")[0]
    if name != name.lower():
        raise BadName(f"invalid reference format: repository name ({name}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None or len(match[1]) + len(match[2]) + 1 > 255:
        raise BadName("invalid reference format")
    return Reference(match[1], match[2], match[3] or "", match[4] or "")


def parse_tagged(text: str) -> Reference:
    """Read a name; without tag and digest its tag is `latest`. Raises BadName."""
    reference = parse_reference(text)
    return reference._replace(tag=DEFAULT_TAG) if reference.is_name_only else reference


def searched(term: str) -> Reference:
    """What a search for a term is asked of: of the registry that the term names, or else of Docker's."""
    host, slash, _ = term.partition("/")
    is_host = slash and ("." in host or ":" in host or host == "localhost")
    return Reference(host if is_host else DEFAULT_DOMAIN, "")


def _split_domain(text: str) -> tuple[str, str]:
    """A first part is a registry's if it has a dot, a colon or a capital letter, or is `localhost`."""
    first, slash, rest = text.partition("/")
    is_domain = slash and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    if not is_domain:
        first, rest = DEFAULT_DOMAIN, text
    if first in (DEFAULT_DOMAIN, "index.docker.io"):
        first, rest = DEFAULT_DOMAIN, rest if "/" in rest else f"library/{rest}"
    return first, rest
