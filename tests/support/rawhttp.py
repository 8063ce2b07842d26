"""Sync. HTTP over a unix socket, so raw that a test sees every byte that matters."""

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

DEFAULT_VERSION = "v1.51"


class UnixConnection(http.client.HTTPConnection):
    """http.client over a unix socket."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The text of an error."""
        return str(self.json["message"])

    def expect(self, status: int) -> "Answer":
        """Return itself if the status is this; else fail with what was said instead."""
        assert self.status == status, (
            f"{self.status} instead of {status}: {self.body.decode(errors='replace')}"
        )
        return self


class Api:
    """One daemon's API, a connection per request."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(
        self,
        method: str,
        path: str,
        /,
        *,
        json_body: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        version: str = DEFAULT_VERSION,
        timeout_s: float = 60.0,
        **query: object,
    ) -> Answer:
        """Ask ``method`` ``path``; keyword arguments are the query (lists and dicts go as JSON, a tuple as
        one parameter for each member)."""
        connection = UnixConnection(self.path, timeout_s)
        try:
            self.send(connection, method, path, json_body, body, headers, version, query)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def stream(
        self, method: str, path: str, /, *, headers: Mapping[str, str] | None = None, timeout_s: float = 30.0,
        version: str = DEFAULT_VERSION, **query: object,
    ) -> "Stream":  # fmt: skip
        """Ask and return as soon as the header is there; close it when done."""
        connection = UnixConnection(self.path, timeout_s)
        self.send(connection, method, path, None, None, headers, version, query)
        return Stream(connection)

    def send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        json_body: object,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        version: str,
        query: Mapping[str, object],
    ) -> None:
        target = (f"/{version}" if version else "") + quote(path, safe="/:@%")
        if query:
            pairs = [
                (name, _shown(one))
                for name, value in query.items()
                for one in (value if isinstance(value, tuple) else (value,))
            ]
            target += "?" + urlencode(pairs)
        sent = dict(headers or {})
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection.request(method, target, body=body, headers=sent)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    return json.dumps(value)


class Stream:
    """An answer that is still coming."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        self.status = self._response.status
        self.headers = self._response.headers

    def lines(self) -> Iterator[bytes]:
        """Lines as they come, without their ends."""
        while line := self._response.readline():
            yield line.rstrip(b"\n")

    def read(self) -> bytes:
        return self._response.read()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
