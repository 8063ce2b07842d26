"""Sync, blocking. `proa exec`: one more command in a container that runs."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from proa.cli import complete, signals, terminal
from proa.cli.attachment import Attachment
from proa.cli.group import Command
from proa.cli.parse.environment import parse_env
from proa.cli.run_flags import many, switch, text
from proa.cli.session import Session, pass_session
from proa.errors import ProaError


@click.command(
    "exec",
    cls=Command,
    usage="[OPTIONS] CONTAINER COMMAND [ARG...]",
    stops_at_argument=True,
    help="Execute a command in a running container",
    params=[
        switch("-d", "--detach", help="Detached mode: run command in the background"),
        text("--detach-keys", help="Override the key sequence for detaching a container"),
        many("-e", "--env", help="Set environment variables"),
        many("--env-file", help="Read in a file of environment variables"),
        switch("-i", "--interactive", help="Keep STDIN open even if not attached"),
        switch("--privileged", help="Give extended privileges to the command"),
        switch("-t", "--tty", help="Allocate a pseudo-TTY"),
        text("-u", "--user", help='Username or UID (format: "<name|uid>[:<group|gid>]")'),
        text("-w", "--workdir", help="Working directory inside the container"),
        click.Argument(["container"], shell_complete=complete.running_container),
        click.Argument(["command"], nargs=-1, required=True),
    ],
)
@pass_session
def exec_(session: Session, /, container: str, command: tuple[str, ...], **flags: Any) -> int:
    try:
        config = _config(flags, command)
    except ValueError as error:
        raise click.ClickException(f"proa: {error}") from None
    if config["AttachStdin"] and config["Tty"] and not sys.stdin.isatty():
        raise click.ClickException("the input device is not a TTY")
    exec_id = session.client.execs.create(container, config)
    if flags["detach"]:
        session.client.execs.start_detached(exec_id, tty=config["Tty"])
        return 0
    return _serve(session, exec_id, config)


def _config(flags: dict[str, Any], command: tuple[str, ...]) -> dict[str, Any]:
    """Docker's ExecConfig. Raises ValueError."""
    try:
        files = [(name, Path(name).read_text()) for name in flags["env_file"]]
    except OSError as error:
        raise ValueError(f"open {error.filename}: {error.strerror}") from None
    attaches = not flags["detach"]
    config = {
        "Cmd": list(command),
        "Env": parse_env(flags["env"], files, os.environ),
        "User": flags["user"] or "",
        "WorkingDir": flags["workdir"] or "",
        "Privileged": bool(flags["privileged"]),
        "Tty": bool(flags["tty"]),
        "AttachStdin": attaches and bool(flags["interactive"]),
        "AttachStdout": attaches,
        "AttachStderr": attaches,
    }
    if flags["detach_keys"]:
        terminal.parse_detach_keys(flags["detach_keys"])  # what is wrong is told in our own words
        config["DetachKeys"] = flags["detach_keys"]
    size = terminal.size(1)
    if config["Tty"] and all(size):
        config["ConsoleSize"] = size
    return config


def _serve(session: Session, exec_id: str, config: dict[str, Any]) -> int:
    """Be the command's standard streams until it ends; returns its exit code."""
    execs = session.client.execs
    tty = config["Tty"]
    hijacked = execs.start(exec_id, tty=tty, console_size=config.get("ConsoleSize"))
    with ExitStack() as stack:
        if tty and os.isatty(1):
            stack.enter_context(signals.Handlers((signal.SIGWINCH,), lambda _: _resize(session, exec_id)))
        # The daemon looks for the detach keys: so it can tell others that we have left.
        Attachment(hijacked, stdin=config["AttachStdin"], tty=tty, detach_keys=b"").serve()
    details = execs.inspect(exec_id)
    if details["Running"]:
        raise click.ClickException("read escape sequence")
    return int(details["ExitCode"])


def _resize(session: Session, exec_id: str) -> None:
    height, width = terminal.size(1)
    try:
        with session.another_client() as client:
            client.execs.resize(exec_id, height=height, width=width)
    except ProaError:
        return  # not running yet, or no longer
