"""Sync. A registry that misbehaves: in front of a real one, it breaks what it is told to break, and keeps a
list of all that was asked of it.

    rogue = Rogue(registry.port)
    rogue.on("GET", "/blobs/", Cut(after_bytes=1000), times=2)
    ...
    assert [ask.header("Range") for ask in rogue.asked("GET", "/blobs/")] == ["", "bytes=1000-"]
"""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.support.registry import basic
from tests.support.whose import own_port

WAIT_S = 30.0


@dataclass(frozen=True)
class Ask:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")


@dataclass(frozen=True)
class Cut:
    """Say all of the length, send some of it, and hang up."""

    after_bytes: int


@dataclass
class Stall:
    """Send some of it, and then nothing more until the test lets go."""

    after_bytes: int
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Status:
    """Answer with an error."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lie:
    """Change the body, but not its length."""

    change: Callable[[bytes], bytes] = lambda body: body[:-1] + bytes([body[-1] ^ 1])


@dataclass(frozen=True)
class Redirect:
    """Send the client to another server's address, with the same path."""

    base: str


@dataclass(frozen=True)
class NoRanges:
    """Pass the request on without its ``Range``."""


@dataclass(frozen=True)
class HangUp:
    """Close the connection instead of an answer."""


Action = Cut | Stall | Status | Lie | Redirect | NoRanges | HangUp


@dataclass
class _Rule:
    method: str
    part: str
    action: Action
    times: int


@dataclass(frozen=True)
class Tokens:
    """Wants tokens, and hands them out: to everybody for ``public`` repositories, else to one user."""

    name: str
    password: str
    public: tuple[str, ...] = ()
    identity: str = "an identity token"


class Rogue:
    """The server; a reverse proxy of ``upstream`` (a port of this machine), or of nobody."""

    def __init__(self, upstream: int, tokens: Tokens | None = None) -> None:
        self.port = own_port()
        self.host = f"127.0.0.1:{self.port}"
        self.upstream = upstream
        self.tokens = tokens
        self.asks: list[Ask] = []
        self.forms: list[dict[str, list[str]]] = []
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self.issued: dict[str, set[str]] = {}
        handler = type("Handler", (_Handler,), {"rogue": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def start(self) -> "Rogue":
        self._thread.start()
        return self

    def close(self) -> None:
        for rule in self._rules:
            if isinstance(rule.action, Stall):
                rule.action.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, method: str, part: str, action: Action, times: int = 1_000_000) -> None:
        """Do this to the next requests with that method whose path has that part."""
        self._rules.append(_Rule(method, part, action, times))

    def behave(self) -> None:
        """Break nothing from now on, and forget what was asked."""
        self._rules.clear()
        self.asks.clear()
        self.forms.clear()

    def asked(self, method: str, part: str) -> list[Ask]:
        return [ask for ask in self.asks if ask.method == method and part in ask.path]

    def action_for(self, method: str, path: str) -> Action | None:
        with self._lock:
            for rule in self._rules:
                if rule.method == method and rule.part in path and rule.times > 0:
                    rule.times -= 1
                    return rule.action
        return None


class _Handler(BaseHTTPRequestHandler):
    rogue: Rogue
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _any(self) -> None:
        rogue = self.rogue
        headers = {name.lower(): value for name, value in self.headers.items()}
        rogue.asks.append(Ask(self.command, self.path, headers))
        body = self._body(headers)
        action = rogue.action_for(self.command, self.path)
        if isinstance(action, HangUp):
            return self._hang_up()
        if isinstance(action, Status):
            return self._answer(action.status, action.headers.items(), action.body)
        if isinstance(action, Redirect):
            return self._answer(307, [("Location", action.base + self.path)], b"")
        if rogue.tokens and self.path.startswith("/token"):
            return self._hand_out(rogue.tokens, headers, body)
        if rogue.tokens and (refused := self._check(rogue.tokens, headers)):
            return self._answer(401, [("WWW-Authenticate", refused)], _UNAUTHORIZED)
        if isinstance(action, NoRanges):
            headers.pop("range", None)
        return self._forward(headers, body, action)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    # --- tokens -----------------------------------------------------------------------------------------

    def _check(self, tokens: Tokens, headers: Mapping[str, str]) -> str:
        """The challenge to a request without the right to what it asks; empty where it has it."""
        realm = f'Bearer realm="http://{self.rogue.host}/token",service="the service"'
        told = headers.get("authorization", "").removeprefix("Bearer ")
        if self.path == "/v2/":
            return "" if told in self.rogue.issued else realm
        name = self.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
        action = "push" if self.command in ("POST", "PUT", "PATCH") else "pull"
        if f"{name}:{action}" in self.rogue.issued.get(told, set()):
            return ""
        scope = f',scope="repository:{name}:{action}"'
        return realm + scope + (',error="insufficient_scope"' if told else "")

    def _hand_out(self, tokens: Tokens, headers: Mapping[str, str], body: bytes) -> None:
        query = parse_qs(urlsplit(self.path).query) | parse_qs(body.decode())
        self.rogue.forms.append(query)
        known = headers.get("authorization") == basic(tokens.name, tokens.password)
        known = known or query.get("refresh_token") == [tokens.identity]
        if not known and ("authorization" in headers or "refresh_token" in query):
            return self._answer(401, [], _WRONG_PASSWORD)
        granted: set[str] = set()
        for scope in " ".join(query.get("scope", [])).split():
            _, name, actions = scope.split(":")
            granted |= {
                f"{name}:{a}" for a in actions.split(",") if known or (name in tokens.public and a == "pull")
            }
        token = f"token {len(self.rogue.issued)}".replace(" ", "-")
        self.rogue.issued[token] = granted
        answer: dict[str, object] = {"token": token, "expires_in": 300}
        if known and query.get("offline_token") == ["true"]:
            answer["refresh_token"] = tokens.identity
        return self._answer(200, [("Content-Type", "application/json")], json.dumps(answer).encode())

    # --- passing on -------------------------------------------------------------------------------------

    def _forward(self, headers: Mapping[str, str], body: bytes, action: Action | None) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.rogue.upstream, timeout=WAIT_S)
        try:
            sent = {
                name: value
                for name, value in headers.items()
                if name not in ("authorization", "content-length", "transfer-encoding", "connection")
            }
            upstream.request(self.command, self.path, body=body, headers=sent)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        kept = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server")
        ]
        if self.command == "HEAD":
            kept.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            return self._answer(answer.status, kept, None)
        if isinstance(action, Lie):
            content = action.change(content)
        if isinstance(action, (Cut, Stall)) and len(content) > action.after_bytes:
            self._begin(answer.status, [*kept, ("Content-Length", str(len(content)))])
            self.wfile.write(content[: action.after_bytes])
            self.wfile.flush()
            if isinstance(action, Stall):
                action.reached.set()
                action.released.wait(WAIT_S)
            return self._hang_up()
        return self._answer(answer.status, kept, content)

    def _answer(self, status: int, headers: Iterable[tuple[str, str]], body: bytes | None) -> None:
        length = [] if body is None else [("Content-Length", str(len(body)))]
        self._begin(status, [*headers, *length])
        if body and self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(headers.get("content-length", "0")))

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


_UNAUTHORIZED = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
_WRONG_PASSWORD = b'{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}'
