"""Sync, blocking. `proa attach`: our standard streams become those of a running container."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import click

from proa.cli import complete, signals, terminal
from proa.cli.attachment import Attachment
from proa.cli.group import Command
from proa.cli.session import Session, pass_session


@click.command(
    "attach",
    cls=Command,
    usage="[OPTIONS] CONTAINER",
    help="Attach local standard input, output, and error streams to a running container",
)
@click.option("--detach-keys", help="Override the key sequence for detaching a container")
@click.option("--no-stdin", is_flag=True, help="Do not attach STDIN")
@click.option("--sig-proxy", is_flag=True, default=True, help="Proxy received signals (default true)")
@click.argument("name", shell_complete=complete.running_container)
@pass_session
def attach(session: Session, /, name: str, detach_keys: str | None, no_stdin: bool, sig_proxy: bool) -> int:
    containers = session.client.containers
    details = containers.inspect(name)
    state = details["State"]
    for wrong, words in (
        (not state.get("Running"), "You cannot attach to a stopped container, start it first"),
        (state.get("Paused"), "You cannot attach to a paused container, unpause it first"),
        (state.get("Restarting"), "You cannot attach to a restarting container, wait until it is running"),
    ):
        if wrong:
            raise click.ClickException(words)
    try:
        keys = terminal.parse_detach_keys(detach_keys or terminal.DEFAULT_DETACH_KEYS)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    container_id, config = details["Id"], details["Config"]
    tty = bool(config.get("Tty"))
    stdin = bool(config.get("OpenStdin")) and not no_stdin
    if tty and stdin and not sys.stdin.isatty():
        raise click.ClickException("the input device is not a TTY")
    with ExitStack() as stack:
        if sig_proxy and not tty:
            stack.enter_context(signals.forwarding(session.another_client, container_id))
        # Asked for before the streams are served: an exit in between must not be missed.
        waiter = containers.wait(container_id, "not-running")
        hijacked = containers.attach(container_id, stdin=stdin, detach_keys=detach_keys)
        if tty and os.isatty(1):
            stack.enter_context(signals.resizing(session.another_client, container_id))
            signals.resize(session.another_client, container_id)
        if not Attachment(hijacked, stdin=stdin, tty=tty, detach_keys=keys).serve():
            raise click.ClickException("read escape sequence")
        return waiter.result()
