"""Sync, blocking. Commands in running containers: the exec operations of the Python API (`Client.execs`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from proa.http1 import percent
from proa.output import collect
from proa.results import Completed
from proa.transport import Hijacked, Transport

if TYPE_CHECKING:
    from proa.types import JSON, TerminalSize


class Execs:
    """An exec is created, started once, and known for some minutes after its end."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def create(self, container: str, config: JSON) -> str:
        """Prepare a command (Docker's ExecConfig: `{"Cmd": ["ls"], "AttachStdout": True}`); returns its id.

        Raises NotFound (no such container), Conflict (it is not running, or paused), BadRequest.
        """
        return str(self._http.json("POST", f"/containers/{percent(container)}/exec", None, config)["Id"])

    def start(self, exec_id: str, *, tty: bool = False, console_size: TerminalSize | None = None) -> Hijacked:
        """Run it, connected to its standard streams; the socket is the caller's to use and close.

        `console_size` is rows and columns. Shut the writing side down to end its stdin. Without a terminal
        the output is framed (`proa.streams.Demultiplexer`); it ends with the command.
        """
        body = {"Detach": False, "Tty": tty, "ConsoleSize": console_size}
        return self._http.hijack(_path(exec_id, "start"), None, body)

    def start_detached(self, exec_id: str, *, tty: bool = False) -> None:
        """Run it in the background. Raises BadRequest when there is no such command."""
        self._http.json("POST", _path(exec_id, "start"), None, {"Detach": True, "Tty": tty}, patient=True)

    def resize(self, exec_id: str, *, height: int, width: int) -> None:
        """Tell its terminal how large it is, in rows and columns."""
        self._http.json("POST", _path(exec_id, "resize"), {"h": height, "w": width})

    def inspect(self, exec_id: str) -> JSON:
        """Everything about it; `ExitCode` is None until it has ended."""
        return cast("JSON", self._http.json("GET", _path(exec_id, "json")))

    def run(self, container: str, command: Sequence[str], *, config: JSON | None = None) -> Completed:
        """Run a command to its end and return its exit code and what it wrote.

        `config` adds Docker's settings (`config={"User": "nobody"}`).
        """
        asked: JSON = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
        exec_id = self.create(container, {**asked, **(config or {})})
        started = self.start(exec_id)
        with started.sock:
            stdout, stderr = collect(started)
        return Completed(int(self.inspect(exec_id)["ExitCode"]), stdout, stderr)


def _path(exec_id: str, verb: str) -> str:
    return f"/exec/{percent(exec_id)}/{verb}"
