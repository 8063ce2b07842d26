"""Sync, blocking. The front door of the `proa` command: global flags, and where errors become lines."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import click

from proa.cli.group import Command, LazyGroup
from proa.cli.registry import COMMANDS, GROUPS
from proa.cli.session import Session, describe
from proa.errors import ProaError

USAGE_FAILED = 125  # what docker exits with for wrong flags and for a run that never became a container
INTERRUPTED = 130


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from proa import __version__

        click.echo(f"proa version {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    groups=GROUPS,
    name="proa",
    help="Run containers with proad, or with any daemon that speaks Docker's Engine API.",
)
@click.option(
    "-H", "--host", metavar="ADDRESS", help="Daemon to connect to (unix:///path or tcp://address:port)"
)
@click.option(
    "-v",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print version information and quit",
)
@click.pass_context
def cli(ctx: click.Context, host: str | None) -> None:
    ctx.obj = Session(host)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(_run(sys.argv[1:]))


def _run(args: list[str]) -> int:
    try:
        outcome = cli.main(args, prog_name="proa", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return 0
    except click.UsageError as error:
        return _usage_failed(error)
    except ProaError as error:
        print(describe(error), file=sys.stderr)
        return 1
    except click.ClickException as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has had enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    return outcome if isinstance(outcome, int) else 0


def _usage_failed(error: click.UsageError) -> int:
    """Print a usage error in docker's words; returns the exit code."""
    ctx = error.ctx
    path = ctx.command_path if ctx else "proa"
    count = _count_complaint(error, ctx)
    if count:
        print(
            f"proa: '{path}' {count}\n\n{_usage(ctx)}\n\nSee '{path} --help' for more information",
            file=sys.stderr,
        )
        return 1
    if isinstance(ctx and ctx.command, LazyGroup) and not isinstance(error, click.NoSuchOption):
        print(
            f"proa: {_unknown_command(error, path)}\n\nRun '{path} --help' for more information",
            file=sys.stderr,
        )
        return 1
    words = error.format_message()
    if isinstance(error, click.NoSuchOption):
        words = f"unknown flag: {error.option_name}" + (
            f" (did you mean {', '.join(error.possibilities)}?)" if error.possibilities else ""
        )
    elif isinstance(error, click.BadParameter) and isinstance(error.param, click.Option):
        given = getattr(error, "given", None)
        value = "" if given is None else f'"{given}" '
        words = f'invalid argument {value}for "{", ".join(error.param.opts)}" flag: {error.message}'
    print(f"{words}\n\n{_usage(ctx)}\n\nRun '{path} --help' for more information", file=sys.stderr)
    return USAGE_FAILED


def _usage(ctx: click.Context | None) -> str:
    if ctx is None:
        return "Usage:  proa [OPTIONS] COMMAND"
    if isinstance(ctx.command, Command):
        return f"Usage:  {ctx.command_path} {ctx.command.usage}"
    return f"Usage:  {ctx.command_path} [OPTIONS] COMMAND"


def _unknown_command(error: click.UsageError, path: str) -> str:
    import difflib

    message = error.format_message()
    name = message.partition("'")[2].partition("'")[0]
    known = list(error.ctx.command.list_commands(error.ctx)) if error.ctx else []  # type: ignore[attr-defined]
    near = difflib.get_close_matches(name, known, 2)
    return f"unknown command: {path} {name}" + (f" (did you mean {' or '.join(near)}?)" if near else "")


def _count_complaint(error: click.UsageError, ctx: click.Context | None) -> str:
    """Docker's words for too few or too many arguments; empty when it is about something else."""
    if ctx is None or not isinstance(ctx.command, Command):
        return ""
    missing = isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument)
    if not missing and "unexpected extra argument" not in error.message:
        return ""
    arguments: list[Any] = [param for param in ctx.command.params if isinstance(param, click.Argument)]
    least = sum(1 for argument in arguments if argument.required)
    if any(argument.nargs == -1 for argument in arguments):
        return f"requires at least {_count(least)}"
    if not arguments:
        return "accepts no arguments"
    if least == len(arguments):
        return f"requires {_count(least)}"
    return f"requires at {'least ' + _count(least) if missing else 'most ' + _count(len(arguments))}"


def _count(number: int) -> str:
    return f"{number} argument" if number == 1 else f"{number} arguments"
