"""Sync. Execs over the raw API: created, started with the connection taken over, looked at."""

import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.support.hijack import Hijack, demultiplex
from tests.support.rawhttp import Api

OUTPUT = {"AttachStdout": True, "AttachStderr": True}


def create(api: Api, container: str, *command: str, **config: Any) -> str:
    """Create an exec that shows its output; returns its id."""
    body = {"Cmd": list(command), **OUTPUT, **config}
    answer = api("POST", f"/containers/{container}/exec", json_body=body).expect(201)
    return str(answer.json["Id"])


def inspect(api: Api, exec_id: str) -> Any:
    return api("GET", f"/exec/{exec_id}/json").expect(200).json


def run(api: Api, container: str, *command: str, **config: Any) -> tuple[int, bytes, bytes]:
    """Run a command to its end; returns exit code, stdout and stderr."""
    exec_id = create(api, container, *command, **config)
    with ExecStream(api.path, exec_id) as stream:
        out, err = demultiplex(stream.read())
    return int(inspect(api, exec_id)["ExitCode"]), out, err


def told(api: Api, exec_id: str) -> list[str]:
    """The events of an exec so far: the actions, with the exit code at the end."""
    answer = api("GET", "/events", since="0", until=f"{time.time():.9f}").expect(200)
    found = []
    for line in answer.body.splitlines():
        event = json.loads(line)
        attributes = event["Actor"]["Attributes"]
        if attributes.get("execID") == exec_id:
            found.append(" ".join(filter(None, (event["Action"], attributes.get("exitCode")))))
    return found


class ExecStream(Hijack):
    """The connection on which an exec was started."""

    def __init__(
        self,
        path: Path,
        exec_id: str,
        *,
        upgrade: bool = True,
        version: str = "v1.51",
        early: bytes = b"",
        timeout_s: float = 30.0,
        pieces: bool = False,
        chunked: bool = False,
        **config: Any,
    ) -> None:
        """``early`` is sent with the request; with ``pieces`` head and body are sent apart,
        with ``chunked`` without their length.
        """
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect(str(path))
        body = json.dumps({"Detach": False, "Tty": False, **config}).encode()
        head = f"POST /{version}/exec/{exec_id}/start HTTP/1.1\r\nHost: x\r\n"
        if upgrade:
            head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        head += f"Content-Type: application/json\r\n{length}\r\n\r\n"
        if chunked:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        self.socket.sendall(head.encode() + (b"" if pieces else body + early))
        if pieces:
            time.sleep(0.05)
            self.socket.sendall(body + early)
        self.rest = b""
        self.head = self._read_head()
        self.status = int(self.head.split(b" ", 2)[1])
