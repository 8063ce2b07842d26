"""Sync. A daemon's stand-in that keeps what it is asked: so what docker and proa send can be compared."""

import base64
import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

VERSION = "1.49"


class Asked(NamedTuple):
    """One request. `path` is without its version, `query` decoded; bodies in chunks are put together."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def told(self, header: str) -> object:
        """The JSON in a header, of base64."""
        return json.loads(base64.urlsafe_b64decode(self.headers[header.lower()]))


class Recorder:
    """Answers each request but pings with the next of `answers`, the last of them again and again."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.asked: list[Asked] = []
        self.answers: list[tuple[int, bytes]] = [(200, b"")]

    def say(self, *messages: object, status: int = 200) -> None:
        """Answer with these JSON messages from now on."""
        self.answers = [(status, b"".join(json.dumps(message).encode() + b"\n" for message in messages))]

    def take(self) -> list[Asked]:
        """What was asked since the last time."""
        taken, self.asked[:] = list(self.asked), []
        return taken


@contextmanager
def recording() -> Iterator[Recorder]:
    """A recorder on a port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            url = urlsplit(self.path)
            if url.path.endswith("/_ping"):
                self.reply(200, b"")
                return
            asked = Asked(
                self.command,
                url.path.split("/", 2)[-1] if url.path.startswith("/v1.") else url.path,
                parse_qs(url.query, keep_blank_values=True),
                {name.lower(): value for name, value in self.headers.items()},
                b"".join(self.received()),
            )
            recorder.asked.append(asked)
            answers = recorder.answers
            self.reply(*(answers.pop(0) if len(answers) > 1 else answers[0]))

        do_GET = do_HEAD = do_POST = do_DELETE = answer

        def received(self) -> Iterator[bytes]:
            if self.headers.get("Transfer-Encoding") != "chunked":
                yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
                return
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Api-Version", VERSION)
            self.send_header("Builder-Version", "1")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recorder = Recorder(f"tcp://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()


def only(asked: Sequence[Asked]) -> Asked:
    """The one request there is."""
    assert len(asked) == 1, asked
    return asked[0]


class Outcome:
    """What a command printed, exited with, and asked."""

    def __init__(
        self, ended: "subprocess.CompletedProcess[bytes]", asked: list[Asked], config: object
    ) -> None:
        self.code = ended.returncode
        self.out = ended.stdout.decode()
        self.err = ended.stderr.decode().replace("proa ", "docker ").replace("proa:", "docker:")
        self.asked = asked
        self.config = config
        """Docker's configuration file as it was left."""


Both = Callable[..., tuple[Outcome, ...]]
"""Runs docker, then proa, with the same words; with `whose` only one of them."""

NOTHING = {"0", "", "{}", "[]", "null", "default"}


def meaning(query: dict[str, list[str]]) -> dict[str, object]:
    """What a query says: without what is the default anyway, and JSON as what it means."""
    meant: dict[str, object] = {}
    for key, values in query.items():
        if set(values) <= NOTHING and key != "rm":
            continue
        decoded = [json.loads(value) if value[:1] in ("{", "[") else value for value in values]
        if key == "filters":  # of which docker has two spellings
            decoded = [{name: sorted(wanted) for name, wanted in decoded[0].items()}]
        meant[key] = decoded[0] if key == "ulimits" else decoded
    if isinstance(meant.get("ulimits"), list):
        meant["ulimits"] = sorted(meant["ulimits"], key=json.dumps)  # type: ignore[call-overload]
    return meant
