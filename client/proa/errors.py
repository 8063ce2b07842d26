"""Sync, pure. What can go wrong between this client and a daemon.

    ProaError
    ├── BadHost            the host text (-H, PROA_HOST, DOCKER_HOST) cannot be used
    ├── Unreachable        nobody answers at the host
    │   └── Forbidden      the socket is there, this user may not open it
    ├── BadName            the name of an image is not one
    ├── CredentialsFailed  docker's configuration file or a credential helper cannot be used
    ├── ContextFailed      there is nothing to build from: the context or the Dockerfile cannot be used
    ├── Lost               the daemon went away in the middle of an answer
    └── APIError           the daemon answered with an error; `.status`, `.message`
        ├── BadRequest     400
        ├── NotFound       404
        ├── Conflict       409
        ├── NotSupported   501
        └── WorkFailed     it had begun to answer: a pull, a push, a load or a build failed on the way

`str()` of each is one line, fit to be shown to a user as it is.
"""

from __future__ import annotations


class ProaError(Exception):
    """Base of everything this package raises on purpose."""


class BadHost(ProaError):
    """The address of the daemon is not one this client can use."""


class Unreachable(ProaError):
    """No daemon answers at the address."""


class Forbidden(Unreachable):
    """The daemon's socket exists but may not be opened by this user."""


class BadName(ProaError):
    """A name that no image can have."""


class CredentialsFailed(ProaError):
    """Docker's configuration file or a credential helper cannot be used."""


class ContextFailed(ProaError):
    """The context of a build, or its Dockerfile, is not there or cannot be used."""


class Lost(ProaError):
    """The connection broke before the answer was complete."""


class HungUp(Lost):
    """The other side closed the connection; one that was kept open perhaps before it heard us."""


class APIError(ProaError):
    """The daemon refused or failed; `status` is the HTTP status, `message` the daemon's own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class BadRequest(APIError):
    """The request was wrong (400)."""


class NotFound(APIError):
    """No such container, image, volume … (404)."""


class Conflict(APIError):
    """Not possible in the state the object is in, or the name is taken (409)."""


class NotSupported(APIError):
    """The daemon knows the operation and does not offer it (501)."""


class WorkFailed(APIError):
    """What was begun failed on the way; `status` is the code that the daemon gave, which of a build is the
    exit code of the command that failed, or 0."""


_BY_STATUS: dict[int, type[APIError]] = {400: BadRequest, 404: NotFound, 409: Conflict, 501: NotSupported}


def api_error(status: int, message: str) -> APIError:
    """The error object for an HTTP status of 400 and above."""
    return _BY_STATUS.get(status, APIError)(status, message)
