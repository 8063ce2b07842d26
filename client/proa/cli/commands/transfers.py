"""Sync, blocking. `proa pull` and `proa push`: images from registries and to them."""

from __future__ import annotations

import sys

import click

from proa.cli import complete
from proa.cli.group import Command
from proa.cli.logins import credentials_for
from proa.cli.messages import Messages
from proa.cli.session import Session, pass_session
from proa.reference import DEFAULT_TAG, Reference, parse_reference


@click.command(
    "pull", cls=Command, usage="[OPTIONS] NAME[:TAG|@DIGEST]", help="Download an image from a registry"
)
@click.option("-a", "--all-tags", is_flag=True, help="Download all tagged images in the repository")
@click.option(
    "--platform",
    default="",
    envvar="DOCKER_DEFAULT_PLATFORM",
    help="Set platform if server is multi-platform capable",
)
@click.option("-q", "--quiet", is_flag=True, help="Suppress verbose output")
@click.argument("name")
@pass_session
def pull(session: Session, /, all_tags: bool, platform: str, quiet: bool, name: str) -> None:
    wanted = _meant(name, all_tags, quiet)
    session.client.images.pull(
        wanted.full,
        all_tags=all_tags,
        platform=platform,
        credentials=credentials_for(wanted),
        progress=None if quiet else Messages(sys.stdout).show,
    )
    print(wanted.full)


@click.command("push", cls=Command, usage="[OPTIONS] NAME[:TAG]", help="Upload an image to a registry")
@click.option("-a", "--all-tags", is_flag=True, help="Push all tags of an image to the repository")
@click.option("--platform", default="", help="Push only this platform's manifest of a multi-platform image")
@click.option("-q", "--quiet", is_flag=True, help="Suppress verbose output")
@click.argument("name", shell_complete=complete.image)
@pass_session
def push(session: Session, /, all_tags: bool, platform: str, quiet: bool, name: str) -> None:
    given = _meant(name, all_tags, quiet)
    session.client.images.push(
        given.full,
        all_tags=all_tags,
        platform=platform,
        credentials=credentials_for(given),
        progress=None if quiet else Messages(sys.stdout).show,
    )
    if quiet:
        print(given.full)


def _meant(name: str, all_tags: bool, quiet: bool) -> Reference:
    """The name with the tag that is meant, of which the user hears; none with `all_tags`."""
    reference = parse_reference(name)
    if all_tags:
        if not reference.is_name_only:
            raise click.ClickException("tag can't be used with --all-tags/-a")
        return reference
    if reference.is_name_only:
        reference = reference._replace(tag=DEFAULT_TAG)
        if not quiet:
            print(f"Using default tag: {reference.tag}", flush=True)
    return reference
