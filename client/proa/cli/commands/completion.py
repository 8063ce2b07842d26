"""Sync, pure. `proa completion`: the script that teaches a shell to complete our commands and names."""

from __future__ import annotations

import click

from proa.cli.group import Command


@click.command(
    "completion",
    cls=Command,
    usage="bash|zsh|fish",
    help="Print the completion script for a shell; e.g. source <(proa completion bash)",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"no completion for {shell}")
    print(kind(ctx.find_root().command, {}, "proa", "_PROA_COMPLETE").source())
