"""Sync, blocking. `proa network create`, `ls`, `connect`, `disconnect` and `rm`."""

from __future__ import annotations

import sys
from typing import Any

import click

from proa.cli import complete
from proa.cli.filters import filter_option, parse_filters
from proa.cli.group import Command
from proa.cli.parse.attachments import parse_driver_options, parse_link
from proa.cli.parse.environment import parse_labels
from proa.cli.parse.lists import parse_list
from proa.cli.parse.subnets import parse_subnets
from proa.cli.rows.networks import NetworkRow, natural_order
from proa.cli.run_flags import many, number, parsed, switch, text
from proa.cli.session import Session, pass_session, warn
from proa.cli.text.listing import print_list


def _create_flags() -> list[click.Parameter]:
    return [
        switch("--attachable", help="Enable manual container attachment"),
        many("--aux-address", help="Addresses that no container gets (NAME=ADDRESS)"),
        text("--config-from", help="The network from which to copy the configuration"),
        switch("--config-only", help="Create a configuration only network"),
        text("-d", "--driver", default="bridge", help='Driver to manage the network (default "bridge")'),
        many("--gateway", help="IPv4 or IPv6 gateway for the subnet that it lies in"),
        switch("--ingress", help="Create swarm routing-mesh network"),
        switch("--internal", help="Restrict external access to the network"),
        many("--ip-range", help="Allocate addresses of containers from a part of the subnet"),
        text("--ipam-driver", default="default", help='IP address management driver (default "default")'),
        many("--ipam-opt", help="Set IPAM driver specific options"),
        switch("--ipv4", help="Enable or disable IPv4 address assignment (default true)"),
        switch("--ipv6", help="Enable or disable IPv6 address assignment"),
        many("--label", help="Set metadata on a network"),
        many("-o", "--opt", help="Set driver specific options"),
        text("--scope", help="Control the network's scope"),
        many("--subnet", help="Subnet in CIDR format that represents a network segment"),
        click.Argument(["name"], metavar="NETWORK"),
    ]


@click.command(
    "create", cls=Command, usage="[OPTIONS] NETWORK", help="Create a network", params=_create_flags()
)
@pass_session
def create(session: Session, /, name: str, **flags: Any) -> None:
    try:
        subnets = parse_subnets(
            parse_list(flags["subnet"]),
            parse_list(flags["ip_range"]),
            parse_list(flags["gateway"]),
            flags["aux_address"],
        )
        labels = parse_labels(flags["label"], ())
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    # What only a swarm has is sent all the same: the daemon says what it makes of it.
    rare = {
        "Ingress": flags["ingress"],
        "ConfigOnly": flags["config_only"],
        "ConfigFrom": {"Network": flags["config_from"]} if flags["config_from"] else None,
        "Scope": flags["scope"],
    }
    created = session.client.networks.create(
        name,
        driver=flags["driver"],
        subnets=subnets,
        ipam_driver=flags["ipam_driver"],
        ipam_options=_pairs(flags["ipam_opt"]),
        ipv4=flags["ipv4"],
        ipv6=flags["ipv6"],
        internal=bool(flags["internal"]),
        attachable=bool(flags["attachable"]),
        options=_pairs(flags["opt"]),
        labels=labels,
        more={key: value for key, value in rare.items() if value},
    )
    warn(created.warnings)
    print(created.id)


def _pairs(flags: tuple[str, ...]) -> dict[str, str]:
    """Options of drivers: one without a value is an empty one."""
    return {key: value for key, _, value in (flag.partition("=") for flag in flags)}


@click.command("ls", cls=Command, help="List networks")
@filter_option
@click.option("--format", "form", default="", help="'table', 'table TEMPLATE', 'json' or a Go template")
@click.option("--no-trunc", is_flag=True, help="Do not truncate the output")
@click.option("-q", "--quiet", is_flag=True, help="Only display network IDs")
@pass_session
def ls(session: Session, /, filters: tuple[str, ...], form: str, no_trunc: bool, quiet: bool) -> None:
    networks = session.client.networks.list(parse_filters(filters))
    networks.sort(key=lambda network: natural_order(network["Name"]))
    print_list(
        sys.stdout,
        NetworkRow,
        [NetworkRow(network, no_trunc) for network in networks],
        columns=("ID", "Name", "Driver", "Scope"),
        form=form,
        quiet="ID" if quiet else "",
    )


@click.command(
    "connect",
    cls=Command,
    usage="[OPTIONS] NETWORK CONTAINER",
    help="Connect a container to a network",
    params=[
        many("--alias", help="Add network-scoped alias for the container"),
        many("--driver-opt", help="Driver options for the network"),
        number("--gw-priority", help="The highest provides the default gateway; may be negative"),
        text("--ip", help='IPv4 address (e.g., "172.30.100.104")'),
        text("--ip6", help='IPv6 address (e.g., "2001:db8::33")'),
        many(
            "--link",
            type=parsed(parse_link),
            metavar="CONTAINER[:ALIAS]",
            help="Add link to another container",
            shell_complete=complete.any_container,
        ),
        many("--link-local-ip", help="Add a link-local address for the container"),
        text("--mac-address", help='MAC address (e.g., "92:d0:c6:0a:29:33")'),
        click.Argument(["network"], metavar="NETWORK", shell_complete=complete.network),
        click.Argument(["container"], metavar="CONTAINER", shell_complete=complete.any_container),
    ],
)
@pass_session
def connect(session: Session, /, network: str, container: str, **flags: Any) -> None:
    complaint = "invalid key/value pair format in driver options"
    try:
        addresses = {
            "IPv4Address": flags["ip"],
            "IPv6Address": flags["ip6"],
            "LinkLocalIPs": parse_list(flags["link_local_ip"]),
        }
        settings = {
            "Aliases": parse_list(flags["alias"]),
            "DriverOpts": parse_driver_options(parse_list(flags["driver_opt"]), complaint),
            "GwPriority": flags["gw_priority"],
            "IPAMConfig": {key: value for key, value in addresses.items() if value},
            "Links": list(flags["link"]),
            "MacAddress": flags["mac_address"],
        }
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    given = {key: value for key, value in settings.items() if value}
    session.client.networks.connect(network, container, given)


@click.command(
    "disconnect",
    cls=Command,
    usage="[OPTIONS] NETWORK CONTAINER",
    help="Disconnect a container from a network",
)
@click.option("-f", "--force", is_flag=True, help="Force the container to disconnect from a network")
@click.argument("network", metavar="NETWORK", shell_complete=complete.network)
@click.argument("container", metavar="CONTAINER", shell_complete=complete.any_container)
@pass_session
def disconnect(session: Session, /, force: bool, network: str, container: str) -> None:
    session.client.networks.disconnect(network, container, force=force)


@click.command("rm", cls=Command, usage="NETWORK [NETWORK...]", help="Remove one or more networks")
@click.option("-f", "--force", is_flag=True, help="Do not error if the network does not exist")
@click.argument("names", nargs=-1, required=True, shell_complete=complete.network)
@pass_session
def rm(session: Session, /, force: bool, names: tuple[str, ...]) -> None:
    session.each(names, lambda client, name: client.networks.remove(name), tolerant=force)
