"""Sync. Requests drawn from the API's reference, and what no answer to one may be.

A request is sent as bytes over a connection of its own. It fails where there is no answer within the time
that any answer may take, where the connection ends without one, where the answer is cut short, where it is an
error without Docker's ``{"message": ...}``, or where it is a 5xx that Docker would not give.
"""

import gzip
import http.client
import io
import json
import re
import socket
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import strategies as st

from tests.support import fuzzvalues
from tests.support.fuzzvalues import UNKNOWN_ID, Schema, Values, words

PATIENCE_S = 10.0
GLANCE_S = 0.3
MOST_READ_BYTES = 4 << 20

ENDLESS = frozenset({
    "POST /containers/{id}/attach", "POST /containers/{id}/wait", "POST /exec/{id}/start", "GET /events",
    "GET /containers/{id}/logs", "GET /containers/{id}/stats",
})  # fmt: skip
"""Operations whose answer may go on as long as the container does: of these only the head is waited for."""
SLOW = frozenset({"POST /containers/{id}/stop", "POST /containers/{id}/restart", "POST /exec/{id}/resize"})
"""Operations that wait for ten seconds where nobody does what they wait for, as Docker's do."""


EXECS = ("@exec-new", "@exec-live", "@exec-done")
"""In a path: execs of the present moment, see :meth:`Fuzzer.send`."""


class Defect(AssertionError):
    """The daemon answered as it never may."""


@dataclass(frozen=True)
class Operation:
    """One method of one path of the reference."""

    method: str
    path: str
    parameters: tuple[Schema, ...] = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Request:
    """What is sent: the target as it stands in the request line, without version."""

    operation: Operation
    version: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None

    @property
    def waits_silently(self) -> bool:
        """Whether not even the head of an answer comes before what is waited for (old versions)."""
        version = self.version.removeprefix("/v").split(".")
        return (
            self.operation.name == "POST /containers/{id}/wait"
            and self.version != ""
            and version < ["1", "30"]
        )

    def encoded(self, path: str) -> bytes:
        target = self.version + path + (f"?{self.query}" if self.query else "")
        lines = [
            f"{self.operation.method} {target} HTTP/1.1",
            "Host: x",
            *(f"{k}: {v}" for k, v in self.headers),
        ]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + (self.body or b"")


def operations(reference: Mapping[str, Any]) -> list[Operation]:
    """Return all of the reference's operations, in its order."""
    return [
        Operation(method.upper(), path, tuple(described.get("parameters", ())))
        for path, methods in reference["paths"].items()
        for method, described in methods.items()
        if method in ("get", "head", "post", "put", "delete")
    ]


# --- what is sent -------------------------------------------------------------------------------------------

_NAMES: dict[str, Values] = {
    "images": words(fuzzvalues.IMAGE, "busybox", "fuzz-made:one", "no-such", "sha256:" + UNKNOWN_ID,
        "a/b/c", "UPPER", "b"),
    "volumes": words(*fuzzvalues.VOLUMES, "no-such", "a%20b"),
    "networks": words("bridge", "host", "none", "no-such", UNKNOWN_ID, *[fuzzvalues.NETWORK] * 3,
        "fuzz-second"),
    "exec": words(*EXECS, UNKNOWN_ID),
}  # fmt: skip
_ODD_NAMES = words("..", "%2e%2e%2f", "%00", "%ff", "%zz", "%", "%2F", "%C3%A9", "json", "x" * 5000,
    "a%0d%0ab", "%20", "-1",
                   UNKNOWN_ID, "0", "%3F", "a:b@c", "sha256:")  # fmt: skip
_VERSIONS = words(
    *["/v1.51"] * 60, "", "/v1.22", "/v1.24", "/v1.40", "/v1.44", "/v1.99", "/v0.1", "/v1", "/v1.51.1", "/v-1"
)
_TYPES = words(
    *["application/json"] * 60,
    "",
    "text/plain",
    "application/json; charset=utf-8",
    "application/x-tar",
    ";",
    "é",
)
_HEADERS: Values = st.dictionaries(
    words("X-Registry-Auth", "Accept", "Accept-Encoding", "Upgrade", "Connection", "X-Request-Id",
        "Last-Event-ID", "Range",
          "X-Registry-Config", "If-None-Match", "Cookie"),
    words("", "x", "gzip", "gzip;q=x", "tcp", "Upgrade", "e30=", "!!!", "text/event-stream",
        "application/json-seq", "-1", "9" * 40,
          "close", "keep-alive", "a" * 4000),
    max_size=2,
)  # fmt: skip
_BROKEN_JSON = words(b"", b"null", b"[]", b'"x"', b"1", b"{", b'{"a":', b"{}{}", b"{} x",
    b"\xef\xbb\xbf{}", b"\xff\xfe", b"NaN",
                     b'{"Cmd": ["a\xff"]}', b"[" * 5000, b'{"a":' * 5000, b'{"Cmd": ["true"], "cmd": 1}',
                         b"  \n", b"\0",
                     b'{"Memory": 1e400}', b'{"Memory": -0}', b'{"Tty": "true"}',
                         b"{" + b" " * 70000 + b"}")  # fmt: skip


def requests(operation: Operation, definitions: Schema) -> Values:
    """Return requests for an operation: half of them as the reference has it, half with something odd."""
    path_values = {
        p["name"]: _in_path(operation.path, p["name"]) for p in operation.parameters if p["in"] == "path"
    }
    query = {
        p["name"]: (_in_query(p, definitions), bool(p.get("required")))
        for p in operation.parameters
        if p["in"] == "query"
    }
    body = next((_body(p["schema"], definitions) for p in operation.parameters if p["in"] == "body"), None)

    @st.composite
    def request(draw: Callable[[Values], Any]) -> Request:
        path = operation.path
        for name, values in path_values.items():
            path = path.replace(f"{{{name}}}", draw(values))
        fields = [
            (name, draw(values))
            for name, (values, needed) in query.items()
            if draw(_chance(9 if needed else 4))
        ]
        if draw(_chance(1)):
            fields += draw(
                st.lists(st.tuples(words("x", "", "filters", *query), fuzzvalues.text), max_size=2)
            )
        headers = tuple(draw(_HEADERS).items()) if draw(_chance(1)) else ()
        content = draw(body) if body is not None and draw(_chance(9)) else None
        if content is not None or draw(_chance(1)):
            kind = draw(_TYPES)
            headers = (*headers, ("Content-Type", kind)) if kind else headers
        return Request(operation, draw(_VERSIONS), path, "&".join(map(_field, fields)), headers, content)

    return request()


def _chance(tenths: int) -> Values:
    return st.integers(0, 9).map(lambda drawn: drawn < tenths)


def _in_path(path: str, name: str) -> Values:
    known = _NAMES.get(path.split("/")[1], words(*fuzzvalues.CONTAINERS))
    if path == "/exec/{id}/resize":  # it waits, as Docker's does, for one that is not started
        known = words("@exec-live", "@exec-done", UNKNOWN_ID)
    return _chance(9).flatmap(lambda usual: known if usual else _ODD_NAMES)


def _in_query(parameter: Schema, definitions: Schema) -> Values:
    name = parameter["name"]
    if parameter.get("type") == "boolean":
        usual = words("1", "0", "true", "false", "")
    else:
        usual = fuzzvalues.of_schema(parameter, definitions, name)
    # What makes an operation wait has only its own words, else the daemon would do as it is told: wait.
    if name == "t":
        return usual
    return _chance(8).flatmap(lambda is_usual: usual if is_usual else fuzzvalues.odd)


def _field(field: tuple[str, Any]) -> str:
    name, value = field
    shown = value if isinstance(value, str) else json.dumps(value)
    return "=".join(quote_from_bytes(part.encode(errors="surrogatepass")) for part in (name, shown))


def _body(schema: Schema, definitions: Schema) -> Values:
    if schema.get("format") == "binary" or schema.get("type") == "string":
        return st.one_of(words(*_archives()), st.binary(max_size=600))
    meant = fuzzvalues.of_schema(schema, definitions).map(_stoppable)
    whole = meant.map(_encoded)
    spoilt = meant.flatmap(fuzzvalues.spoilt).map(_encoded)
    return st.one_of(whole, whole, whole, whole, whole, spoilt, spoilt, spoilt, _cut(whole), _BROKEN_JSON)


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def _stoppable(value: Any) -> Any:
    """A container that is asked to stop may not take longer than a request may."""
    if isinstance(value, dict) and {"Image", "HostConfig"} & set(value):
        return {"StopTimeout": 1, **value}
    return value


@st.composite
def _cut(draw: Callable[[Values], Any], encoded: Values) -> bytes:
    whole: bytes = draw(encoded)
    return whole[: draw(st.integers(0, len(whole)))]


def _archives() -> tuple[bytes, ...]:
    """Tars, whole and broken, with members that would like to be elsewhere."""
    plain = _tar(("file", tarfile.REGTYPE, ""), ("dir", tarfile.DIRTYPE, ""))
    hostile = _tar(
        ("../../fuzz-escaped", tarfile.REGTYPE, ""), ("link", tarfile.SYMTYPE, "/"), ("link/fuzz-escaped",
            tarfile.REGTYPE, ""),
        ("hard", tarfile.LNKTYPE, "../../etc/passwd"), ("device", tarfile.CHRTYPE, ""), ("é" * 200,
            tarfile.REGTYPE, ""),
    )  # fmt: skip
    return (
        plain,
        hostile,
        plain[:700],
        gzip.compress(plain),
        gzip.compress(plain)[:40],
        b"",
        bytes(1024),
        b"\x1f\x8b",
        bytes(100),
    )


def _tar(*members: tuple[str, bytes, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"abc"))
    return buffer.getvalue()


# --- what comes back ----------------------------------------------------------------------------------------


class Fuzzer:
    """Sends requests to one daemon and judges what it answers."""

    def __init__(self, socket_path: Path, execs: Callable[[str], str]) -> None:
        """``execs`` gives the id of an exec for a word of :data:`EXECS`."""
        self._socket_path = socket_path
        self._execs = execs
        self.statuses: dict[int, int] = {}

    def send(self, request: Request) -> tuple[int, bytes]:
        """Send it, and return the status and as much of the body as was read.

        Raises:
            Defect: it is not answered, or not as any request may be.
        """
        path = request.path
        for word in EXECS:
            if word in path:
                path = path.replace(word, self._execs(word))
        patient = request.operation.name in SLOW
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE_S * 2 if patient else PATIENCE_S)
        with connection:
            connection.connect(str(self._socket_path))
            # It may refuse before it has read all; what it said is still there to read.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request.encoded(path))
            try:
                response = http.client.HTTPResponse(connection, method=request.operation.method)
                response.begin()
                body = self._rest(request, connection, response)
            except TimeoutError:
                if request.waits_silently:
                    return 0, b""
                raise Defect(f"no answer within {PATIENCE_S:g} s: {request!r}") from None
            except (http.client.HTTPException, OSError) as error:
                raise Defect(f"{type(error).__name__}: {error}: {request!r}") from error
        self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
        _judge(request, response, body)
        return response.status, body

    def _rest(self, request: Request, connection: socket.socket, response: http.client.HTTPResponse) -> bytes:
        if response.status >= 400 or request.operation.name not in ENDLESS:
            return response.read(MOST_READ_BYTES)
        # The client of a stream looks at it for a moment, and is gone.
        connection.settimeout(GLANCE_S)
        try:
            return response.read1(1024) if response.status == 200 else b""
        except TimeoutError:
            return b""


def _judge(request: Request, response: http.client.HTTPResponse, body: bytes) -> None:
    status = response.status
    if status < 400:
        return
    if request.operation.method == "HEAD":
        message = ""
    else:
        try:
            message = json.loads(body)["message"]
        except (ValueError, KeyError, TypeError):
            raise Defect(f"{status} without a message: {body[:300]!r}: {request!r}") from None
    if status >= 500 and not _docker_says_so(request, status, message):
        raise Defect(f"{status} {message!r}: {request!r}")


def _docker_says_so(request: Request, status: int, message: str) -> bool:
    """Whether a 5xx is one that a healthy daemon may give to such a request."""
    if status == 501:
        return "does not have" in message
    if status == 503:
        return "This node is not a swarm manager" in message or "cluster volumes" in message
    if "dial tcp" in message:  # of another machine, or of none
        return True
    said_by_docker = {
        "POST /exec/{id}/resize": "waiting for exec session",
        "POST /containers/{id}/start": "unable to find (user|group)",
    }.get(request.operation.name)
    return said_by_docker is not None and re.search(said_by_docker, message) is not None


__all__ = ["EXECS", "Defect", "Fuzzer", "Operation", "Request", "operations", "requests"]
