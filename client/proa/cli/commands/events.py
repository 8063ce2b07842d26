"""Sync, blocking. `proa events`: the daemon's events as they happen, and those that happened."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from proa.cli.filters import filter_option, parse_filters
from proa.cli.group import Command
from proa.cli.parse.times import parse_instant
from proa.cli.session import Session, pass_session
from proa.cli.text.units import local_rfc3339

if TYPE_CHECKING:
    from proa.types import Event


@click.command("events", cls=Command, help="Get real time events from the daemon")
@filter_option
@click.option("--format", "form", default="", help="'json' or a Go template")
@click.option("--since", help="Show all events created since timestamp")
@click.option("--until", help="Stream events until this timestamp")
@pass_session
def events(
    session: Session, /, filters: tuple[str, ...], form: str, since: str | None, until: str | None
) -> None:
    now_ns = time.time_ns()
    try:
        since, until = (text and parse_instant(text, now_ns) for text in (since, until))
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    show: Callable[[Event], str] = _line
    if form:
        from proa.cli.text.template import Template

        template = Template("{{json .}}" if form == "json" else form)
        show = template.render
    with session.client.system.events(since=since, until=until, filters=parse_filters(filters)) as stream:
        for event in stream:
            sys.stdout.write(f"{show(event)}\n")
            sys.stdout.flush()


def _line(event: Event) -> str:
    """Docker's line for people: time, type, action, id and attributes."""
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    shown = ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes))
    moment = local_rfc3339(event.get("timeNano") or event.get("time", 0) * 10**9)
    line = f"{moment} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    return f"{line} ({shown})" if shown else line
