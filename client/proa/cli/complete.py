"""Sync, blocking. Completion of names, asked from the daemon while a user is typing.

A daemon that does not answer quickly means no suggestions, never an error in the middle of someone's prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from proa.client import Client, connect
from proa.errors import ProaError

PATIENCE_S = 1.0
Source = Callable[[Client], Iterable[str]]
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _completer(source: Source) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        host = ctx.find_root().params.get("host")
        try:
            with connect(host, PATIENCE_S) as client:
                return sorted(name for name in source(client) if name.startswith(incomplete))
        except ProaError:
            return []  # nobody there to ask

    return complete


def _containers(states: tuple[str, ...]) -> Source:
    def names(client: Client) -> Iterable[str]:
        filters: dict[str, Any] = {"status": list(states)} if states else {}
        for summary in client.containers.list(all=True, filters=filters):
            yield from (name.removeprefix("/") for name in summary["Names"] if name.count("/") == 1)

    return names


def _images(client: Client) -> Iterable[str]:
    for summary in client.images.list():
        yield from (tag for tag in summary.get("RepoTags") or [] if tag != "<none>:<none>")


any_container = _completer(_containers(()))
running_container = _completer(_containers(("running", "paused", "restarting")))
stopped_container = _completer(_containers(("created", "exited")))
paused_container = _completer(_containers(("paused",)))
image = _completer(_images)
network = _completer(lambda client: (entry["Name"] for entry in client.networks.list()))
volume = _completer(lambda client: (entry["Name"] for entry in client.volumes.list()))
