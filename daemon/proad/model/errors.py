"""Sync, pure. What can go wrong, by meaning.

    ProaError
    ├── InvalidParameter   the request is malformed or asks for something impossible     400
    ├── Unauthorized       whoever asks is not who may, or has not said who it is        401
    ├── Forbidden          understood, and never allowed                                 403
    ├── NotFound           no such container, image, volume, network                     404
    ├── Conflict           the thing's present state does not allow it                   409
    ├── NotModified        already so                                                    304
    ├── NotImplemented     a route or option that this engine does not have              501
    ├── Unavailable        this host, or a peer, cannot do it now                        503
    └── System             our own failure, or the kernel's                              500

The status of each is decided in one place, ``api/server.py``. Messages carry Docker's wording where
clients match on it. Errors of libraries and tools are translated where they enter, in ``host``.
"""


class ProaError(Exception):
    """Base of all errors that reach a client; ``str(error)`` is the message that it reads."""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class InvalidParameter(ProaError):
    """The request is malformed, out of range, or asks for something impossible."""


class Unauthorized(ProaError):
    """A registry does not accept the name and the password, or wants some."""


class Forbidden(ProaError):
    """Understood, and never allowed (removing a predefined network)."""


class NotFound(ProaError):
    """The thing that the request names does not exist."""


class Conflict(ProaError):
    """The thing's present state does not allow what is asked."""


class NotModified(ProaError):
    """It is already as asked; carries no body on the wire."""


class NotImplemented(ProaError):  # the meaning's name is fixed; always used as errors.NotImplemented
    """A route or an option that this engine does not have."""


class Unavailable(ProaError):
    """The host, or a peer, cannot do it at the moment."""


class System(ProaError):
    """A failure of the engine or of the kernel; the text says which call failed on what."""


class StartFailed(ProaError):
    """A container could not be started.

    ``exit_code`` is what the container ends with: 127 where the command was not found, 126 where it could not
    be executed, else 128. Docker answers 400 for the first two and 500 otherwise.
    """

    def __init__(self, message: str, exit_code: int = 128) -> None:
        super().__init__(message)
        self.exit_code = exit_code
