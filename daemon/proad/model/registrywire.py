"""Sync, pure. What registries say: challenges, errors, and the media types that pulls ask for.

Protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md; tokens:
https://distribution.github.io/distribution/spec/auth/token/. Errors have Docker's words.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from proad.model import errors, gojson, imagearchive

SCHEMA1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
ACCEPTED = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    imagearchive.OCI_MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    *sorted(SCHEMA1),
)
"""What a request for a manifest accepts. Schema 1 is among it, so that it can be refused by its name."""

_MESSAGES = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "TOOMANYREQUESTS": "too many requests",
    "UNKNOWN": "unknown error",
}
_CODE_OF_STATUS = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}
_CODE_OF_CHALLENGE = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}
_REASONS = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 416: "Requested Range Not Satisfiable", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_SHOWN_BODY_LENGTH = 200

_SCHEME = re.compile(r"\s*,*\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s+|$)")
_PARAMETER = re.compile(
    r"\s*,*\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))\s*"
)


class RegistryError(errors.System):
    """A registry could not be talked with, or would not do what was asked.

    ``is_transient``: the same may succeed a little later; ``retry_after_s``: when, by the registry's word.
    """

    is_transient = False
    retry_after_s: float | None = None


class Unreachable(RegistryError):
    """There was no answer, or it broke off; the text has the method and the URL.

    ``was_connected`` is false where there was not even a connection, ``is_unknown_host`` true where that was
    for lack of an address.
    """

    is_transient = True

    def __init__(self, message: str, *, was_connected: bool = True, is_unknown_host: bool = False) -> None:
        super().__init__(message)
        self.was_connected = was_connected
        self.is_unknown_host = is_unknown_host


class Untrusted(RegistryError):
    """The certificate of the registry, or ours, was not accepted."""


class Refused(RegistryError):
    """The registry answered with an error: HTTP ``status``, and the ``code`` of its body, if it had one."""

    def __init__(self, message: str, status: int, code: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.is_transient = status in _TRANSIENT


class NoCredentials(RegistryError):
    """The registry wants to know who is there, and nobody has said."""


class NotVerified(RegistryError):
    """What came is not what the digest stands for."""


@dataclass(frozen=True)
class Challenge:
    """How a registry wants to be told who is there; ``scheme`` in small letters, as parameters' names are."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges of ``WWW-Authenticate`` headers (RFC 9110, 11.6.1), those that are readable."""
    found = []
    for header in headers:
        position = 0
        while scheme := _SCHEME.match(header, position):
            position = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(header, position):
                name, quoted, bare = parameter.groups()
                parameters[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                position = parameter.end()
            found.append(Challenge(scheme.group(1).lower(), parameters))
    return found


def refusal(
    status: int, body: bytes, challenges: Iterable[Challenge] = (), retry_after_s: float | None = None
) -> Refused:
    """The error that an answer stands for, in Docker's words: ``denied: requested access to …``."""
    for challenge in challenges:
        code = _CODE_OF_CHALLENGE.get(challenge.parameters.get("error", ""), "")
        if challenge.scheme == "bearer" and code:
            text = challenge.parameters.get("error_description") or _MESSAGES[code]
            return Refused(_shown(code, text), status, code, retry_after_s)
    if not 400 <= status < 500:
        return Refused(
            f"received unexpected HTTP status: {status} {_REASONS.get(status, '')}".rstrip(),
            status,
            retry_after_s=retry_after_s,
        )
    code, text = _first_error(status, body)
    if code:
        return Refused(_shown(code, text), status, code, retry_after_s)
    content = body[:_SHOWN_BODY_LENGTH].decode(errors="replace")
    return Refused(
        f"error parsing HTTP {status} response body: no error details found in HTTP response body: "
        f"{msgspec.json.encode(content).decode()}",
        status,
        retry_after_s=retry_after_s,
    )


def reason(status: int) -> str:
    """The words that stand for a status."""
    return _REASONS.get(status, "")


def _shown(code: str, text: str) -> str:
    return f"{code.replace('_', ' ').lower()}: {text}"


def _first_error(status: int, body: bytes) -> tuple[str, str]:
    """Code and text of the first error of a body, or what the status alone says."""
    known = _CODE_OF_STATUS.get(status, "")
    try:
        fields: Any = msgspec.json.decode(body)
    except gojson.UNREADABLE:
        fields = None
    if not isinstance(fields, dict):
        return known, _MESSAGES.get(known, "")
    details = fields.get("details")
    if known and isinstance(details, str) and details:
        return known, details
    listed = fields.get("errors")
    first = listed[0] if isinstance(listed, list) and listed else None
    if isinstance(first, dict) and isinstance(first.get("code"), str):
        code = first["code"]
        text = first.get("message")
        shown = (
            text if isinstance(text, str) and text else _MESSAGES.get(code, code.replace("_", " ").lower())
        )
        return code, shown
    return known, _MESSAGES.get(known, "")
