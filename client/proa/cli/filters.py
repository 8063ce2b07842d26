"""Sync, pure. The `--filter key=value` flag that many commands have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def filter_option(function: F) -> F:
    """Adds `-f/--filter`, handed over as `filters`."""
    return click.option(
        "-f", "--filter", "filters", multiple=True, metavar="FILTER", help="Only what matches KEY=VALUE"
    )(function)


def parse_filters(flags: Iterable[str]) -> dict[str, list[str]]:
    """ "key=value" flags as the API's filters; several values of one key mean any of them."""
    filters: dict[str, list[str]] = {}
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not equals:
            raise click.UsageError(f"invalid argument {flag!r} for '-f, --filter' flag: give key=value")
        filters.setdefault(key.strip().lower(), []).append(value.strip())
    return filters
