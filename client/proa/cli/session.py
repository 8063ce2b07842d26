"""Sync, blocking. What every command is given: the daemon to talk to, and how to print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

import click

from proa.client import Client, connect
from proa.errors import APIError, NotFound, ProaError, WorkFailed

WORKERS = 16


class Session:
    """One invocation of the command. The client connects when first used."""

    def __init__(self, host: str | None = None) -> None:
        self._host = host
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The one client that most of a command uses."""
        if self._client is None:
            self._client = self.another_client()
        return self._client

    def another_client(self) -> Client:
        """A client of its own, for a thread or a signal handler."""
        version = os.environ.get("PROA_API_VERSION") or os.environ.get("DOCKER_API_VERSION")
        if version is None and self._client is not None:
            version = self._client.api_version
        return connect(self._host, None, api_version=version)

    def each(
        self,
        names: Sequence[str],
        action: Callable[[Client, str], object],
        *,
        tolerant: bool = False,
        shows: Callable[[str], str] = str,
    ) -> None:
        """Do the same to several objects at once; print each name that succeeded and each error.

        Raises SystemExit(1) at the end when one failed. `tolerant` does not count unknown names as failures;
        `shows` makes the line for a name.
        """
        failed = False
        for name, error in _all(self, names, action):
            if error is None:
                print(shows(name))
            else:
                print(describe(error), file=sys.stderr)
                failed = failed or not (tolerant and isinstance(error, NotFound))
        if failed:
            raise SystemExit(1)


def _all(
    session: Session, names: Sequence[str], action: Callable[[Client, str], object]
) -> list[tuple[str, ProaError | None]]:
    def attempt(client: Client, name: str) -> tuple[str, ProaError | None]:
        try:
            action(client, name)
        except ProaError as error:
            return name, error
        return name, None

    if len(names) == 1:
        return [attempt(session.client, names[0])]
    from concurrent.futures import ThreadPoolExecutor

    _ = session.client.api_version  # agreed upon once, not by every thread
    with ThreadPoolExecutor(min(WORKERS, len(names))) as pool:
        return list(pool.map(lambda name: attempt(session.another_client(), name), names))


def describe(error: ProaError) -> str:
    """The line that tells a user about an error, with what to do where we know it."""
    if not isinstance(error, APIError) or isinstance(error, WorkFailed):
        return str(error)
    hint = ""
    if isinstance(error, NotFound) and "No such container" in error.message:
        hint = " (`proa ps -a` lists the containers there are)"
    elif isinstance(error, NotFound) and "No such image" in error.message:
        hint = " (`proa images` lists those there are; `proa pull`, `proa build` and `proa load` add some)"
    elif isinstance(error, NotFound) and error.message.startswith("network "):
        hint = " (`proa network ls` lists the networks there are)"
    elif isinstance(error, NotFound) and "volume" in error.message.lower():
        hint = " (`proa volume ls` lists the volumes there are)"
    return f"Error response from daemon: {error.message}{hint}"


def warn(warnings: Sequence[str]) -> None:
    """Show what the daemon warned about."""
    for warning in warnings:
        print(f"WARNING: {warning}", file=sys.stderr)


def is_colourful(out: TextIO) -> bool:
    """Whether to use colours there: on a terminal that can, and not against NO_COLOR."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")


def confirm(warning: str, force: bool) -> None:
    """Ask before something is destroyed, unless `force`. No answer is a no, and a no ends the command."""
    if force:
        return
    print(f"{warning}Are you sure you want to continue? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SystemExit(0)


pass_session = click.make_pass_decorator(Session)
