"""Sync, blocking. HTTP to the daemon over its unix or TCP socket, with streaming and hijacked connections.

Plain requests share one kept-open connection; every streaming or hijacked answer has a connection of its own,
so that they can be open at the same time. A Transport belongs to one thread.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import urlencode

from proa.errors import BadHost, Forbidden, Lost, Unreachable, api_error
from proa.hosts import Host

NEWEST_VERSION = (1, 51)
OLDEST_VERSION = (1, 22)
CHUNK_BYTES = 64 * 1024
Query: TypeAlias = Mapping[str, Any]
# http.client raises its own family for answers that are no HTTP or stop half-way.
_BROKEN = (http.client.HTTPException, OSError)


class Readable(Protocol):
    """A body to upload: a file opened in binary mode, or whatever reads like one."""

    def read(self, size: int, /) -> bytes: ...


Body: TypeAlias = Mapping[str, Any] | bytes | Readable | None


class Hijacked(NamedTuple):
    """A connection that stopped being HTTP: its socket, what was already read from it, the media type."""

    sock: socket.socket
    early: bytes
    media_type: str


class _Connection(http.client.HTTPConnection):
    """An HTTP connection to a Host, whose failures to connect say what to do."""

    def __init__(self, host: Host, timeout_s: float | None) -> None:
        super().__init__(host.address or "localhost", host.port or None, timeout=timeout_s)
        self.daemon = host

    def connect(self) -> None:
        path = self.daemon.socket_path
        if path:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if path:
                self.sock.settimeout(self.timeout)
                self.sock.connect(path)
            else:
                super().connect()
        except OSError as error:
            self.close()
            raise explain_connect_failure(self.daemon, error) from error


class Answer:
    """A streaming answer. Iterate over it for chunks, or use `lines()`; use `with`, or close it."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.media_type = response.headers.get("Content-Type", "")

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def fileno(self) -> int:
        """The descriptor to poll for the beginning of the body; only before the first read."""
        return self._response.fileno()

    def read(self) -> bytes:
        """The whole rest of the body."""
        try:
            return self._response.read()
        except _BROKEN as error:
            raise _lost(error) from error

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                chunk = self._response.read1(CHUNK_BYTES)
            except _BROKEN as error:
                raise _lost(error) from error
            if not chunk:
                return
            yield chunk

    def lines(self) -> Iterator[bytes]:
        """The body's lines, without their ends, as they arrive."""
        rest = b""
        for chunk in self:
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line.strip())
        if rest.strip():
            yield rest

    def objects(self) -> Iterator[dict[str, Any]]:
        """The JSON objects of a body that has one per line (progress, events)."""
        for line in self.lines():
            yield json.loads(line)


class Transport:
    """Requests to one daemon.

    `timeout_s` bounds connecting and each wait for bytes of a plain answer; None waits for ever.
    `api_version` is agreed upon with the daemon on first use unless given (as "1.44").
    """

    def __init__(self, host: Host, timeout_s: float | None = None, api_version: str | None = None) -> None:
        self.host = host
        self.timeout_s = timeout_s
        self._version = _version(api_version) if api_version else None
        self._kept: _Connection | None = None

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def version(self) -> tuple[int, int]:
        """The API version spoken: the newest that both sides know. Raises BadHost where there is none."""
        if self._version is None:
            self._version = self._agree()
        return self._version

    def json(
        self, method: str, path: str, query: Query | None = None, body: Body = None, *, patient: bool = False
    ) -> Any:
        """Send a request and decode the JSON answer (None when it has no body).

        `patient` is for operations that rightly take as long as they take (stop, prune): no timeout.
        Raises APIError for 4xx and 5xx; 304 is a success without a body, as Docker's clients treat it.
        """
        connection = self._reusable(None if patient else self.timeout_s)
        response = self._exchange(connection, method, self._url(path, query), body, {})
        content = _read_all(response)
        if response.status >= 400:
            raise api_error(response.status, _message(content, response))
        return json.loads(content) if content.strip() else None

    def head(self, path: str) -> http.client.HTTPMessage:
        """The headers of an answer to HEAD on an unversioned path. Raises APIError for 4xx and 5xx."""
        response = self._exchange(self._reusable(self.timeout_s), "HEAD", path, None, {})
        response.read()
        if response.status >= 400:
            raise api_error(response.status, f"HEAD {path}: {response.reason}")
        return response.headers

    def stream(self, method: str, path: str, query: Query | None = None, body: Body = None) -> Answer:
        """Send a request and return once the answer's header is there. Raises APIError for 4xx and 5xx."""
        url = self._url(path, query)
        connection = _Connection(self.host, None)
        response = self._exchange(connection, method, url, body, {})
        if response.status >= 400:
            content = _read_all(response)
            connection.close()
            raise api_error(response.status, _message(content, response))
        return Answer(connection, response)

    def hijack(self, path: str, query: Query | None = None, body: Body = None) -> Hijacked:
        """POST and take the connection over for raw bytes both ways. Raises APIError for 4xx and 5xx."""
        url = self._url(path, query)
        connection = _Connection(self.host, None)
        connection.connect()
        # http.client closes its socket with the response; the duplicate is ours for the time after HTTP.
        sock = connection.sock.dup()
        response = self._exchange(connection, "POST", url, body, {"Connection": "Upgrade", "Upgrade": "tcp"})
        if response.status >= 400:
            content = _read_all(response)
            sock.close()
            connection.close()
            raise api_error(response.status, _message(content, response))
        early = b"" if response.fp is None else _buffered(sock, response)
        media_type = response.headers.get("Content-Type", "")
        response.close()
        connection.close()
        return Hijacked(sock, early, media_type)

    def _agree(self) -> tuple[int, int]:
        theirs = self.head("/_ping").get("Api-Version", "1.24")
        offered = _version(theirs)
        if offered < OLDEST_VERSION:
            raise BadHost(
                f"the daemon at {self.host.text} speaks API {theirs}, which is too old: "
                f"this client needs {_dotted(OLDEST_VERSION)} or newer"
            )
        return min(offered, NEWEST_VERSION)

    def _url(self, path: str, query: Query | None) -> str:
        pairs = [(key, _query_text(value)) for key, value in _flat(query or {})]
        return f"/v{_dotted(self.version())}{path}" + (f"?{urlencode(pairs)}" if pairs else "")

    def _reusable(self, timeout_s: float | None) -> _Connection:
        kept = self._kept
        if kept is None:
            kept = self._kept = _Connection(self.host, self.timeout_s)
        elif kept.sock is not None and select.select([kept.sock], [], [], 0)[0]:
            kept.close()  # readable while idle: the daemon has hung up; http.client will connect anew
        kept.timeout = timeout_s
        if kept.sock is not None:
            kept.sock.settimeout(timeout_s)
        return kept

    def _exchange(
        self, connection: _Connection, method: str, url: str, body: Body, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        payload: Any = body
        if isinstance(body, Mapping):
            payload = json.dumps(body).encode()
            headers = {**headers, "Content-Type": "application/json"}
        elif body is not None:
            headers = {**headers, "Content-Type": "application/x-tar"}
        try:
            # A daemon that answers before it has read the whole body hangs up; its answer says why.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, url, payload, {"User-Agent": "proa", **headers})
            return connection.getresponse()
        except _BROKEN as error:
            connection.close()
            raise _lost(error) from error


def explain_connect_failure(host: Host, error: OSError) -> Unreachable:
    """The one-line error for a failed connect, with what to do about it."""
    if isinstance(error, PermissionError):
        return Forbidden(
            f"permission denied on the daemon's socket {host.text}: "
            f"run as root, or join the socket's group{_group_of(host.socket_path)} and log in again"
        )
    reason = error.strerror or str(error) or type(error).__name__
    return Unreachable(
        f"cannot connect to the daemon at {host.text} ({reason.lower()}): "
        "is proad running there? Start it (systemctl start proad), or name another with -H or PROA_HOST"
    )


def _group_of(socket_path: str) -> str:
    import grp
    import os

    try:
        name = grp.getgrgid(os.stat(socket_path).st_gid).gr_name
    except (OSError, KeyError):
        return ""  # it is only for the hint; the directory may be closed to us as well
    return "" if name == "root" else f" (usermod -aG {name} $USER)"


def _buffered(sock: socket.socket, response: http.client.HTTPResponse) -> bytes:
    # Bytes that came together with the header sit in the response's buffered reader. A non-blocking peek
    # gives exactly those, or, had it none, what the socket has ready: either way they are the stream's first.
    timeout_s = sock.gettimeout()
    sock.setblocking(False)
    try:
        return response.fp.peek()
    finally:
        sock.settimeout(timeout_s)


def _read_all(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read()
    except _BROKEN as error:
        raise _lost(error) from error


def _lost(error: Exception) -> Lost:
    if isinstance(error, TimeoutError):
        return Lost("the daemon did not answer in time")
    return Lost(f"the connection to the daemon broke: {error or type(error).__name__}")


def _message(content: bytes, response: http.client.HTTPResponse) -> str:
    try:
        message = json.loads(content)["message"]
    except (ValueError, KeyError, TypeError):
        message = content.decode(errors="replace")
    return str(message).strip() or f"{response.status} {response.reason}"


def _flat(query: Query) -> Iterator[tuple[str, Any]]:
    for key, value in query.items():
        if value is None:
            continue
        if isinstance(value, list | tuple):
            yield from ((key, item) for item in value)
        else:
            yield key, value


def _query_text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Mapping):
        return json.dumps(value)
    return str(value)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.strip().removeprefix("v").partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise BadHost(f"{text!r} is not an API version; give one such as {_dotted(NEWEST_VERSION)}")
    return int(major), int(minor)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
