"""Sync, pure. Command classes that read flags as docker does, and load commands only when they are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from proa.cli.parse.booleans import parse_bool
from proa.cli.registry import ALIASES, Entry

SETTINGS = {"help_option_names": ["--help"]}


class Command(click.Command):
    """A command whose switches also take `=true` and `=false`, and whose usage line is written out.

    `usage` is what stands behind the command's name ("[OPTIONS] CONTAINER [CONTAINER...]").
    With `stops_at_argument`, flags behind the first argument belong to the container's command.
    """

    def __init__(
        self, *args: Any, usage: str = "[OPTIONS]", stops_at_argument: bool = False, **kwargs: Any
    ) -> None:
        kwargs["context_settings"] = {**SETTINGS, "allow_interspersed_args": not stops_at_argument}
        super().__init__(*args, **kwargs)
        self.usage = usage

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args, off = split_switches(self.params, args, ctx.allow_interspersed_args)
        rest = super().parse_args(ctx, args)
        ctx.params.update(dict.fromkeys(off, False))
        return rest

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"Usage:  {ctx.command_path} {self.usage}\n")


class LazyGroup(click.Group):
    """A group that knows its commands by the registry and imports one when it is asked for."""

    def __init__(self, *args: Any, entries: dict[str, Entry], groups: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, context_settings=SETTINGS, **kwargs)
        self._entries = entries
        self._groups = groups

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._entries, *self._groups]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._groups:
            summary, entries = self._groups[cmd_name]
            return LazyGroup(cmd_name, entries=entries, groups={}, help=summary)
        entry = self._entries.get(cmd_name)
        if entry is None and ctx.parent is not None:
            entry = self._entries.get(ALIASES.get(cmd_name, ""))
        if entry is None:
            return None
        from importlib import import_module

        command: click.Command = getattr(import_module(f"proa.cli.commands.{entry.module}"), entry.attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        # The usage line shows the name as it was typed: `proa container ls`, not `proa container ps`.
        return (args[0] if command else name), command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self._groups:
            with formatter.section("Management Commands"):
                formatter.write_dl([(name, summary) for name, (summary, _) in self._groups.items()])
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self._entries.items()])


def split_switches(
    params: Sequence[click.Parameter], args: list[str], interspersed: bool
) -> tuple[list[str], list[str]]:
    """Arguments in which `--switch=true` reads `--switch`, without `--switch=false`; and who that was.

    Click's switches take no value. What follows the first plain argument is left alone unless `interspersed`.
    """
    options = {name: param for param in params if isinstance(param, click.Option) for name in param.opts}
    out: list[str] = []
    off: list[str] = []
    index = 0
    while index < len(args):
        arg = args[index]
        index += 1
        if arg == "--" or (not interspersed and not _is_flag(arg)):
            return [*out, arg, *args[index:]], off
        name, equals, value = arg.partition("=")
        option = options.get(_last_letter(name, options) if _is_cluster(name) else name)
        if option is not None and option.is_flag and equals and option.name:
            if not _boolean(value, arg):
                off.append(option.name)
                name = name[:-1] if _is_cluster(name) else ""
            elif option.name in off:
                off.remove(option.name)
            if name not in ("", "-"):
                out.append(name)
            continue
        out.append(arg)
        if option is not None and not option.is_flag and not equals and _wants_next(arg, options):
            out += args[index : index + 1]
            index += 1
    return out, off


def _is_flag(arg: str) -> bool:
    return arg.startswith("-") and arg != "-"


def _is_cluster(name: str) -> bool:
    return len(name) > 1 and name[0] == "-" and name[1] != "-"


def _last_letter(name: str, options: dict[str, click.Option]) -> str:
    """The flag a cluster such as `-itp` ends in: the first that takes a value, or else its last letter."""
    for letter in name[1:]:
        option = options.get(f"-{letter}")
        if option is None or not option.is_flag:
            return f"-{letter}"
    return f"-{name[-1]}"


def _wants_next(arg: str, options: dict[str, click.Option]) -> bool:
    """Whether a flag's value is the next argument: for `--flag` always, for `-itp` but not for `-p80`."""
    return not _is_cluster(arg) or _last_letter(arg, options) == f"-{arg[-1]}"


def _boolean(value: str, arg: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError as error:
        raise click.UsageError(
            f"invalid argument {value!r} for {arg.partition('=')[0]!r} flag: {error}"
        ) from None
