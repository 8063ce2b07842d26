"""Sync, blocking. Requests to a daemon: versions, errors, JSON, streaming answers and hijacked connections.

Plain requests share one kept-open connection; every streaming or hijacked answer has a connection of its own,
so that they can be open at the same time. A Transport belongs to one thread; while a streaming answer is
read, another of its own goes on with the upload that is answered.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from proa.errors import BadHost, Forbidden, HungUp, Lost, Unreachable, api_error
from proa.hosts import Host
from proa.http1 import CHUNK_BYTES, Connection, Head, Readable, percent
from proa.upload import Upload

NEWEST_VERSION = (1, 51)
OLDEST_VERSION = (1, 22)
READING = ("GET", "HEAD")
"""Methods that may be asked twice (RFC 9112, section 9.3.1)."""

__all__ = ["CHUNK_BYTES", "Answer", "Body", "Hijacked", "Query", "Readable", "Transport"]

Query: TypeAlias = Mapping[str, Any]
Body: TypeAlias = Mapping[str, Any] | bytes | Readable | None


class Hijacked(NamedTuple):
    """A connection that stopped being HTTP: its socket, what was already read from it, the media type."""

    sock: socket.socket
    early: bytes
    media_type: str


class Answer:
    """A streaming answer. Iterate over it for chunks, or use `lines()`; use `with`, or close it."""

    def __init__(self, connection: Connection, head: Head, method: str, upload: Upload | None) -> None:
        self._connection = connection
        self._upload = upload
        self._pieces = self._received(connection.body(head, method))
        self.headers = head.headers
        self.media_type = head.headers.get("content-type", "")

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def _received(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except Lost:
            if self._upload is not None:
                self._upload.raise_error()  # why there is no more of the answer
            raise

    def lines(self) -> Iterator[bytes]:
        """The body's lines that are not blank, without their ends, as they arrive."""
        rest = b""
        for piece in self._pieces:
            *whole, rest = (rest + piece).split(b"\n")
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
        self._kept: Connection | None = None

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
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Body = None,
        *,
        patient: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request and decode the JSON answer (None when it has no body).

        `patient` is for operations that rightly take as long as they take (stop, prune): no timeout.
        Raises APIError for 4xx and 5xx; 304 is a success without a body, as Docker's clients treat it.
        """
        url = self._url(path, query)
        head, content = self._plain(method, url, body, None if patient else self.timeout_s, headers or {})
        _raise_for(head, content)
        return json.loads(content) if content.strip() else None

    def head(self, path: str, query: Query | None = None) -> Mapping[str, str]:
        """The headers (names in lower case) of an answer to HEAD. Raises APIError, without any words.

        Without a query the path is an unversioned one.
        """
        url = path if query is None else self._url(path, query)
        head, content = self._plain("HEAD", url, None, self.timeout_s, {})
        _raise_for(head, content)
        return head.headers

    def stream(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return once the answer's head is there, perhaps before all of `body` is sent.

        Raises APIError for 4xx and 5xx, and what reading `body` raises.
        """
        connection, head, upload = self._open(method, self._url(path, query), body, headers or {})
        return Answer(connection, head, method, upload)

    def hijack(self, path: str, query: Query | None = None, body: Body = None) -> Hijacked:
        """POST and take the connection over for raw bytes both ways. Raises APIError for 4xx and 5xx."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        connection, head, _ = self._open("POST", self._url(path, query), body, upgrade)
        return Hijacked(connection.sock, connection.take_early(), head.headers.get("content-type", ""))

    def _agree(self) -> tuple[int, int]:
        theirs = self.head("/_ping").get("api-version", "1.24")
        offered = _version(theirs)
        if offered < OLDEST_VERSION:
            raise BadHost(
                f"the daemon at {self.host.text} speaks API {theirs}, which is too old: "
                f"this client needs {_dotted(OLDEST_VERSION)} or newer"
            )
        return min(offered, NEWEST_VERSION)

    def _url(self, path: str, query: Query | None) -> str:
        pairs = "&".join(f"{key}={percent(_query_text(value))}" for key, value in _flat(query or {}))
        return f"/v{_dotted(self.version())}{path}" + (f"?{pairs}" if pairs else "")

    def _plain(
        self, method: str, url: str, body: Body, timeout_s: float | None, headers: Mapping[str, str]
    ) -> tuple[Head, bytes]:
        kept = self._kept
        connection = self._reusable()
        connection.sock.settimeout(timeout_s)
        try:
            upload = _send(connection, method, url, body, headers)
            if upload is not None:
                upload.run()
                upload.raise_error()
            head = connection.read_head()
            content = b"".join(connection.body(head, method))
        except HungUp:
            self.close()
            if connection is not kept or method not in READING:
                raise
            return self._plain(
                method, url, body, timeout_s, headers
            )  # it hung up while we were writing: ask anew
        except BaseException:
            self.close()  # an answer half read cannot be told from the next one
            raise
        if head.headers.get("connection", "").lower() == "close":
            self.close()
        return head, content

    def _open(
        self, method: str, url: str, body: Body, headers: Mapping[str, str]
    ) -> tuple[Connection, Head, Upload | None]:
        connection = self._connect()
        try:
            connection.sock.settimeout(None)
            upload = _send(connection, method, url, body, headers)
            if upload is not None:
                upload.start()
            try:
                head = connection.read_head()
            except Lost:
                if upload is not None:
                    upload.raise_error()
                raise
            if head.status >= 400:
                _raise_for(head, b"".join(connection.body(head, method)))
        except BaseException:
            connection.close()
            raise
        return connection, head, upload

    def _reusable(self) -> Connection:
        if self._kept is not None and select.select([self._kept.sock], [], [], 0)[0]:
            self.close()  # readable while idle: the daemon has hung up
        if self._kept is None:
            self._kept = self._connect()
        return self._kept

    def _connect(self) -> Connection:
        host = self.host
        sock = socket.socket(socket.AF_UNIX) if host.socket_path else None
        try:
            if sock is None:
                return Connection(socket.create_connection((host.address, host.port), self.timeout_s))
            sock.settimeout(self.timeout_s)
            sock.connect(host.socket_path)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise explain_connect_failure(host, error) from error
        return Connection(sock)


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


def _send(
    connection: Connection, method: str, url: str, body: Body, headers: Mapping[str, str]
) -> Upload | None:
    """Send a request; where its body is read from something, that is left to the upload returned."""
    fields = {"User-Agent": "proa", **headers}
    payload: bytes | Readable | None
    if isinstance(body, Mapping):
        payload = json.dumps(body).encode()
        fields["Content-Type"] = "application/json"
    else:
        payload = body
        if body is not None:
            fields["Content-Type"] = "application/x-tar"
    try:
        # A daemon that answers before it has read the whole body hangs up; its answer says why.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(method, url, fields, payload)
    except TimeoutError:
        raise Lost("the daemon did not take the request in time") from None
    return None if payload is None or isinstance(payload, bytes) else Upload(connection, payload)


def _raise_for(head: Head, content: bytes) -> None:
    if head.status < 400:
        return
    try:
        message = json.loads(content)["message"]
    except (ValueError, KeyError, TypeError):
        message = content.decode(errors="replace")
    raise api_error(head.status, str(message).strip() or f"{head.status} {head.reason}")


def _group_of(socket_path: str) -> str:
    import grp
    import os

    try:
        name = grp.getgrgid(os.stat(socket_path).st_gid).gr_name
    except (OSError, KeyError):
        return ""  # it is only for the hint; the directory may be closed to us as well
    return "" if name == "root" else f" (usermod -aG {name} $USER)"


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
