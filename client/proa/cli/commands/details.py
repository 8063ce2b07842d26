"""Sync, blocking. `proa top` and `proa port`: details of one running container."""

from __future__ import annotations

import sys

import click

from proa.cli import complete
from proa.cli.group import Command
from proa.cli.session import Session, pass_session
from proa.cli.text.listing import print_columns

TOP_COLUMN = 20


@click.command(
    "top",
    cls=Command,
    usage="CONTAINER [ps OPTIONS]",
    stops_at_argument=True,
    help="Display the running processes of a container",
)
@click.argument("name", shell_complete=complete.running_container)
@click.argument("ps_options", nargs=-1, required=False)
@pass_session
def top(session: Session, /, name: str, ps_options: tuple[str, ...]) -> None:
    titles, processes = session.client.containers.top(name, " ".join(ps_options) or None)
    print_columns(sys.stdout, [titles, *processes], min_width=TOP_COLUMN)


@click.command(
    "port",
    cls=Command,
    usage="CONTAINER [PRIVATE_PORT[/PROTO]]",
    help="List port mappings or a specific mapping for the container",
)
@click.argument("name", shell_complete=complete.running_container)
@click.argument("private_port", required=False)
@pass_session
def port(session: Session, /, name: str, private_port: str | None) -> None:
    details = session.client.containers.inspect(name)
    published = (details.get("NetworkSettings") or {}).get("Ports") or {}
    if private_port is None:
        for inside in sorted(published, key=_port_order):
            for binding in published[inside] or []:
                print(f"{inside} -> {_address(binding)}")
        return
    wanted = private_port if "/" in private_port else f"{private_port}/tcp"
    bindings = published.get(wanted) or []
    if not bindings:
        raise click.ClickException(f"Error: No public port '{wanted}' published for {name}")
    for binding in bindings:
        print(_address(binding))


def _port_order(port_and_protocol: str) -> tuple[int, str]:
    number, _, protocol = port_and_protocol.partition("/")
    return int(number), protocol


def _address(binding: dict[str, str]) -> str:
    host = binding.get("HostIp", "")
    return f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"
