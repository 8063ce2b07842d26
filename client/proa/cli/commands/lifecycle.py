"""Sync, blocking. The short verbs: stop, restart, kill, pause, unpause, rm, wait, rename."""

from __future__ import annotations

import click

from proa.cli import complete
from proa.cli.group import Command
from proa.cli.session import Session, pass_session

SOME = "[OPTIONS] CONTAINER [CONTAINER...]"


def _containers(completer: complete.Completer = complete.any_container) -> click.Argument:
    return click.Argument(["names"], nargs=-1, required=True, shell_complete=completer)


def _ending_flags() -> list[click.Parameter]:
    return [
        click.Option(["-s", "--signal"], help="Signal to send to the container"),
        click.Option(
            ["-t", "--timeout", "--time"], type=int, help="Seconds to wait before killing the container"
        ),
        _containers(complete.running_container),
    ]


@click.command(
    "stop", cls=Command, usage=SOME, help="Stop one or more running containers", params=_ending_flags()
)
@pass_session
def stop(session: Session, /, names: tuple[str, ...], signal: str | None, timeout: int | None) -> None:
    session.each(names, lambda client, name: client.containers.stop(name, signal=signal, timeout_s=timeout))


@click.command(
    "restart", cls=Command, usage=SOME, help="Restart one or more containers", params=_ending_flags()
)
@pass_session
def restart(session: Session, /, names: tuple[str, ...], signal: str | None, timeout: int | None) -> None:
    session.each(
        names, lambda client, name: client.containers.restart(name, signal=signal, timeout_s=timeout)
    )


@click.command(
    "kill",
    cls=Command,
    usage=SOME,
    help="Kill one or more running containers",
    params=[
        click.Option(["-s", "--signal"], default="KILL", help="Signal to send to the container"),
        _containers(complete.running_container),
    ],
)
@pass_session
def kill(session: Session, /, names: tuple[str, ...], signal: str) -> None:
    session.each(names, lambda client, name: client.containers.kill(name, signal))


@click.command(
    "pause",
    cls=Command,
    usage="CONTAINER [CONTAINER...]",
    help="Pause all processes within one or more containers",
    params=[_containers(complete.running_container)],
)
@pass_session
def pause(session: Session, /, names: tuple[str, ...]) -> None:
    session.each(names, lambda client, name: client.containers.pause(name))


@click.command(
    "unpause",
    cls=Command,
    usage="CONTAINER [CONTAINER...]",
    help="Unpause all processes within one or more containers",
    params=[_containers(complete.paused_container)],
)
@pass_session
def unpause(session: Session, /, names: tuple[str, ...]) -> None:
    session.each(names, lambda client, name: client.containers.unpause(name))


@click.command(
    "rm",
    cls=Command,
    usage=SOME,
    help="Remove one or more containers",
    params=[
        click.Option(
            ["-f", "--force"], is_flag=True, help="Force the removal of a running container (SIGKILL)"
        ),
        click.Option(["-l", "--link"], is_flag=True, help="Remove the specified link"),
        click.Option(["-v", "--volumes"], is_flag=True, help="Remove its anonymous volumes as well"),
        _containers(),
    ],
)
@pass_session
def rm(session: Session, /, names: tuple[str, ...], force: bool, link: bool, volumes: bool) -> None:
    session.each(
        [name.strip("/") for name in names],
        lambda client, name: client.containers.remove(name, force=force, volumes=volumes, link=link),
        tolerant=force,
    )


@click.command(
    "wait",
    cls=Command,
    usage="CONTAINER [CONTAINER...]",
    help="Block until one or more containers stop, then print their exit codes",
    params=[_containers(complete.running_container)],
)
@pass_session
def wait(session: Session, /, names: tuple[str, ...]) -> None:
    codes: dict[str, int] = {}
    session.each(
        names,
        lambda client, name: codes.__setitem__(name, client.containers.wait(name).result()),
        shows=lambda name: str(codes[name]),
    )


@click.command(
    "rename",
    cls=Command,
    usage="CONTAINER NEW_NAME",
    help="Rename a container",
    params=[
        click.Argument(["name"], shell_complete=complete.any_container),
        click.Argument(["new_name"]),
    ],
)
@pass_session
def rename(session: Session, /, name: str, new_name: str) -> None:
    session.client.containers.rename(name, new_name)
