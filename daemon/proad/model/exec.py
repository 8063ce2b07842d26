"""Sync, pure. A command run beside the first process of a running container: as asked for, as it is kept, as
the OCI runtime is told.

References: the Engine API's ExecConfig and ExecStartConfig; runtime-spec ``config.md``, "Process"; for what
an exec inherits of its container moby's ``daemon/exec.go`` and ``daemon/exec_linux.go``.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from proad.model import capabilities, errors, gojson
from proad.model.hostconfig import Uint16, api_name
from proad.model.links import merge_environment
from proad.model.stdstreams import parse_detach_keys
from proad.model.user import ProcessUser

Json = dict[str, Any]
ApiVersion = tuple[int, int]
TERMINAL_VARIABLE = "TERM=xterm"
CONSOLE_SIZE_SINCE: ApiVersion = (1, 42)

EXIT_NOT_STARTED = 126
"""What an exec ends with that could not be started for a reason without a code of its own."""
EXIT_KILLED = 137
"""128 and SIGKILL: what is told of an exec that was killed, or ended unseen."""


class ExecStatus(StrEnum):
    """Where an exec is in its life; it runs once."""

    CREATED = "created"
    RUNNING = "running"
    ENDED = "ended"


class ExecConfig(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """An exec as asked for. ``console_size`` is height and width."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    console_size: tuple[Uint16, ...] | None = None
    detach_keys: str = ""
    tty: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    privileged: bool = False
    user: str = ""
    working_dir: str = ""

    @property
    def command_line(self) -> str:
        """As events tell it: the program, then its arguments."""
        return f"{self.cmd[0]} {' '.join(self.cmd[1:])}"


class ExecStart(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """How a created exec is started: in the background, or with the client on its streams."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[Uint16, ...] | None = None


class ExecRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk of an exec that was started and has not ended: enough to end its story."""

    id: str
    container_id: str
    run_id: str
    detached: bool
    config: ExecConfig


def parse_exec_create(body: bytes, api_version: ApiVersion) -> ExecConfig:
    """Read the body of ``POST /containers/{ref}/exec``.

    Raises:
        errors.InvalidParameter: it is not JSON, a field has the wrong type or is out of range, there is no
            command, or a detach key is none.
    """
    config = gojson.convert(gojson.parse_object(body), ExecConfig)
    if not config.cmd:
        raise errors.InvalidParameter("No exec command specified")
    if any("\0" in text for text in (*config.cmd, *config.env, config.working_dir, config.user)):
        raise errors.InvalidParameter("invalid exec config: a string holds a NUL byte")
    if config.detach_keys:
        try:
            parse_detach_keys(config.detach_keys)
        except errors.InvalidParameter:
            raise errors.InvalidParameter(f"Invalid escape keys ({config.detach_keys}) provided") from None
    size = config.console_size if api_version >= CONSOLE_SIZE_SINCE else None
    return replace(config, console_size=_box(size))


def parse_exec_start(body: bytes, api_version: ApiVersion) -> ExecStart:
    """Read the body of ``POST /exec/{id}/start``.

    Raises:
        errors.InvalidParameter: it is not JSON, or a field has the wrong type or is out of range.
    """
    start = gojson.convert(gojson.parse_object(body), ExecStart)
    honoured = start.tty and api_version >= CONSOLE_SIZE_SINCE
    return replace(start, console_size=_box(start.console_size) if honoured else None)


def _box(size: tuple[int, ...] | None) -> tuple[int, int] | None:
    """Two numbers, as Go reads an array of two: what is missing is 0, what is too much is dropped."""
    if size is None:
        return None
    height, width, *_ = (*size, 0, 0)
    return height, width


def process_spec(
    container_process: Json,
    config: ExecConfig,
    user: ProcessUser | None,
    console_size: tuple[int, ...] | None,
    held_capabilities: Collection[str],
) -> Json:
    """The OCI process of an exec: the container's own, but for what was asked for.

    ``container_process`` is from the container's runtime config: its environment, limits, security profiles
    and capabilities are inherited. ``user`` None is the container's. ``held_capabilities`` are what
    ``privileged`` means.
    """
    process = {**container_process, "args": list(config.cmd), "terminal": config.tty}
    process.pop("consoleSize", None)
    if config.tty and console_size is not None and any(console_size):
        process["consoleSize"] = {"height": console_size[0], "width": console_size[1]}
    if config.working_dir:
        process["cwd"] = config.working_dir
    if user is not None:
        process["user"] = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)}
    process["capabilities"] = _capabilities(process, config, held_capabilities)
    process["env"] = _environment(container_process, config, user)
    return process


def _capabilities(process: Json, config: ExecConfig, held: Collection[str]) -> Json:
    """The container's, or all; root has them in effect, another user in its bounding set alone.

    See :func:`proad.model.spec.build_spec`.
    """
    given = process.get("capabilities", {}).get("bounding", [])
    if config.privileged:
        given, _ = capabilities.choose((), (), privileged=True, held=held)
    if process["user"]["uid"] != 0:
        return {"bounding": given}
    return {"bounding": given, "effective": given, "permitted": given}


def _environment(container_process: Json, config: ExecConfig, user: ProcessUser | None) -> list[str]:
    """The container's environment with what was asked for on top; ``TERM`` goes with a terminal.

    Where ``HOME`` is not set it is that of the user that was asked for: the runtime would take the
    container's.
    """
    inherited = container_process["env"]
    if container_process["terminal"] and not config.tty:
        inherited = [entry for entry in inherited if entry != TERMINAL_VARIABLE]
    defaults = [TERMINAL_VARIABLE] if config.tty else []
    if user is not None:
        defaults.append(f"HOME={user.home or '/'}")
    return merge_environment([*defaults, *inherited], config.env)
