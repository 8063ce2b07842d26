"""Sync, blocking. `proa start`: start containers; -a and -i attach, --timeline shows the steps."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import click

from proa.cli import complete, signals, terminal
from proa.cli.attachment import Attachment
from proa.cli.group import Command
from proa.cli.session import Session, describe, pass_session
from proa.errors import ProaError


@click.command(
    "start",
    cls=Command,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    help="Start one or more stopped containers",
)
@click.option("-a", "--attach", "attaches", is_flag=True, help="Attach STDOUT/STDERR and forward signals")
@click.option("--detach-keys", help="Override the key sequence for detaching a container")
@click.option("-i", "--interactive", is_flag=True, help="Attach container's STDIN")
@click.option("--sig-proxy", is_flag=True, default=True, help="Proxy received signals (default true)")
@click.option("--timeline", is_flag=True, help="Show the measured steps of each start")
@click.argument("names", nargs=-1, required=True, shell_complete=complete.stopped_container)
@pass_session
def start(
    session: Session,
    /,
    names: tuple[str, ...],
    attaches: bool,
    detach_keys: str | None,
    interactive: bool,
    sig_proxy: bool,
    timeline: bool,
) -> int:
    if attaches or interactive:
        if len(names) > 1:
            raise click.ClickException("you cannot start and attach multiple containers at once")
        return _start_attached(session, names[0], attaches, interactive, sig_proxy, detach_keys)
    failed: list[str] = []
    for name in names:
        try:
            session.client.containers.start(name, detach_keys=detach_keys)
        except ProaError as error:
            print(describe(error), file=sys.stderr)
            failed.append(name)
            continue
        print(name, flush=True)
        if timeline:
            _show_timeline(session, name)
    if failed:
        raise click.ClickException(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _show_timeline(session: Session, name: str) -> None:
    from proa.cli.timeline import print_timeline

    print_timeline(sys.stdout, session.client.containers.inspect(name))


def _start_attached(
    session: Session, name: str, attaches: bool, interactive: bool, sig_proxy: bool, detach_keys: str | None
) -> int:
    containers = session.client.containers
    details = containers.inspect(name)
    config, host_config = details["Config"], details.get("HostConfig") or {}
    tty = bool(config.get("Tty"))
    stdin = interactive and bool(config.get("OpenStdin"))
    if tty and stdin and not sys.stdin.isatty():
        raise click.ClickException("the input device is not a TTY")
    try:
        keys = terminal.parse_detach_keys(detach_keys or terminal.DEFAULT_DETACH_KEYS)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    container_id = details["Id"]
    with ExitStack() as stack:
        if sig_proxy and not tty:
            stack.enter_context(signals.forwarding(session.another_client, container_id))
        hijacked = containers.attach(container_id, stdin=stdin, detach_keys=detach_keys)
        attachment = Attachment(hijacked, stdin=stdin, tty=tty, detach_keys=keys)
        waiter = containers.wait(container_id, "removed" if host_config.get("AutoRemove") else "next-exit")
        try:
            containers.start(container_id)
        except ProaError:
            attachment.close()
            waiter.close()
            raise
        if tty and os.isatty(1):
            stack.enter_context(signals.resizing(session.another_client, container_id))
            signals.resize(session.another_client, container_id)
        if not attachment.serve():
            raise click.ClickException("read escape sequence")
        return waiter.result()
