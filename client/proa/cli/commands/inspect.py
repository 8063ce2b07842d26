"""Sync, blocking. `proa inspect`, for objects of every kind and for each kind by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from proa.cli import complete
from proa.cli.group import Command
from proa.cli.session import Session, describe, pass_session
from proa.client import Client
from proa.errors import APIError, BadRequest, NotFound

Finder = Callable[[Client, str, bool], Any]

FINDERS: dict[str, Finder] = {
    "container": lambda client, name, size: client.containers.inspect(name, size=size),
    "image": lambda client, name, _size: client.images.inspect(name),
    "network": lambda client, name, _size: client.networks.inspect(name),
    "volume": lambda client, name, _size: client.volumes.inspect(name),
}
FORMAT_HELP = "'json' or a Go template"


@click.command(
    "inspect",
    cls=Command,
    usage="[OPTIONS] NAME|ID [NAME|ID...]",
    help="Return low-level information on objects: containers, images, networks, volumes",
)
@click.option("-f", "--format", "form", default="", help=FORMAT_HELP)
@click.option("-s", "--size", is_flag=True, help="Display total file sizes if the type is container")
@click.option("--timeline", is_flag=True, help="Show the measured steps of a container's latest start")
@click.option(
    "--type", "kind", type=click.Choice(list(FINDERS)), help="Only inspect objects of the given type"
)
@click.argument("names", nargs=-1, required=True, shell_complete=complete.any_container)
@pass_session
def inspect(
    session: Session, /, names: tuple[str, ...], form: str, size: bool, timeline: bool, kind: str | None
) -> None:
    if timeline:
        _timelines(session, names)
        return
    _inspect(session, names, form, size, {kind: FINDERS[kind]} if kind else FINDERS)


@click.command(
    "inspect",
    cls=Command,
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    help="Display detailed information on one or more containers",
)
@click.option("-f", "--format", "form", default="", help=FORMAT_HELP)
@click.option("-s", "--size", is_flag=True, help="Display total file sizes")
@click.option("--timeline", is_flag=True, help="Show the measured steps of the latest start")
@click.argument("names", nargs=-1, required=True, shell_complete=complete.any_container)
@pass_session
def inspect_container(
    session: Session, /, names: tuple[str, ...], form: str, size: bool, timeline: bool
) -> None:
    if timeline:
        _timelines(session, names)
        return
    _inspect(session, names, form, size, {"container": FINDERS["container"]})


@click.command(
    "inspect",
    cls=Command,
    usage="[OPTIONS] IMAGE [IMAGE...]",
    help="Display detailed information on one or more images",
)
@click.option("-f", "--format", "form", default="", help=FORMAT_HELP)
@click.argument("names", nargs=-1, required=True, shell_complete=complete.image)
@pass_session
def inspect_image(session: Session, /, names: tuple[str, ...], form: str) -> None:
    _inspect(session, names, form, False, {"image": FINDERS["image"]})


@click.command(
    "inspect",
    cls=Command,
    usage="[OPTIONS] VOLUME [VOLUME...]",
    help="Display detailed information on one or more volumes",
)
@click.option("-f", "--format", "form", default="", help=FORMAT_HELP)
@click.argument("names", nargs=-1, required=True, shell_complete=complete.volume)
@pass_session
def inspect_volume(session: Session, /, names: tuple[str, ...], form: str) -> None:
    _inspect(session, names, form, False, {"volume": FINDERS["volume"]})


@click.command(
    "inspect",
    cls=Command,
    usage="[OPTIONS] NETWORK [NETWORK...]",
    help="Display detailed information on one or more networks",
)
@click.option("-f", "--format", "form", default="", help=FORMAT_HELP)
@click.option("-v", "--verbose", is_flag=True, help="Verbose output for diagnostics")
@click.argument("names", nargs=-1, required=True, shell_complete=complete.network)
@pass_session
def inspect_network(session: Session, /, names: tuple[str, ...], form: str, verbose: bool) -> None:
    finder: Finder = lambda client, name, _size: client.networks.inspect(name, verbose=verbose)  # noqa: E731
    _inspect(session, names, form, False, {"network": finder})


def _timelines(session: Session, names: tuple[str, ...]) -> None:
    from proa.cli.timeline import print_timeline

    for name in names:
        print_timeline(sys.stdout, session.client.containers.inspect(name))


def _inspect(
    session: Session, names: tuple[str, ...], form: str, size: bool, finders: Mapping[str, Finder]
) -> None:
    """Print what was found of the names, then the errors. Raises SystemExit(1) after errors."""
    render = _renderer(form)
    found: list[Any] = []
    complaints: list[str] = []
    for name in names:
        try:
            value = _find(session.client, name, size, finders)
        except APIError as error:
            complaints.append(describe(error))
            continue
        if value is None:
            complaints.append(f"Error: No such object: {name}")
        else:
            found.append(value)
    if form == "json":
        print(json.dumps(found, ensure_ascii=False, separators=(",", ":")))
    elif render is None:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for value in found:
            print(render(value))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if complaints:
        raise SystemExit(1)


def _renderer(form: str) -> Callable[[Any], str] | None:
    if form in ("", "json"):
        return None
    from proa.cli.text.template import Template

    return Template(form).render


def _find(client: Client, name: str, size: bool, finders: Mapping[str, Finder]) -> Any:
    """The first object of that name, kind by kind; None when there is none. Raises APIError."""
    for finder in finders.values():
        try:
            return finder(client, name, size)
        except (NotFound, BadRequest):
            # Of several kinds the next may have it, though it be no possible name of this one.
            if len(finders) == 1:
                raise
    return None
