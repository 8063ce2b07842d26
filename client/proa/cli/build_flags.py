"""Sync, pure. The flags of `proa build`, and the API's parameters that they become."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import click

from proa.cli.parse import attachments, environment, limits, lists
from proa.cli.run_flags import BYTES, SWAP_BYTES, many, number, parsed, switch, text
from proa.errors import BadName
from proa.reference import parse_reference


def _tag(given: str) -> str:
    try:
        parse_reference(given)
    except BadName as error:
        raise ValueError(str(error)) from None
    return given


def _argument(given: str) -> str:
    if not given.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {given}")
    return given


def _label(given: str) -> str:
    environment.parse_labels([given], [])
    return given


def build_flags() -> list[click.Option]:
    """All of them."""
    return [
        many(
            "--add-host",
            type=parsed(attachments.parse_extra_host),
            metavar="HOST:IP",
            help='Add a custom host-to-IP mapping ("host:ip")',
        ),
        many("--build-arg", type=parsed(_argument), metavar="NAME[=VALUE]", help="Set build-time variables"),
        many("--cache-from", help="Images to consider as cache sources"),
        text("--cgroup-parent", help='Set the parent cgroup for the "RUN" instructions during build'),
        switch("--compress", help="Compress the build context using gzip"),
        number("--cpu-period", help="Limit the CPU CFS (Completely Fair Scheduler) period"),
        number("--cpu-quota", help="Limit the CPU CFS (Completely Fair Scheduler) quota"),
        number("-c", "--cpu-shares", help="CPU shares (relative weight)"),
        text("--cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)"),
        text("--cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)"),
        text("-f", "--file", default="", help='Name of the Dockerfile (Default is "PATH/Dockerfile")'),
        switch("--force-rm", help="Always remove intermediate containers"),
        text("--iidfile", help="Write the image ID to the file"),
        text("--isolation", help="Container isolation technology"),
        many("--label", type=parsed(_label), metavar="KEY[=VALUE]", help="Set metadata for an image"),
        text("-m", "--memory", type=BYTES, metavar="BYTES", help="Memory limit"),
        text(
            "--memory-swap",
            type=SWAP_BYTES,
            metavar="BYTES",
            help="Limit of memory plus swap; -1 for unlimited swap",
        ),
        text("--network", help="Set the networking mode for the RUN instructions during build"),
        switch("--no-cache", help="Do not use cache when building the image"),
        text(
            "--platform",
            default="",
            envvar="DOCKER_DEFAULT_PLATFORM",
            help="Set platform if server is multi-platform capable",
        ),
        switch("--pull", help="Always attempt to pull a newer version of the image"),
        switch("-q", "--quiet", help="Suppress the build output and print image ID on success"),
        click.Option(
            ["--rm"],
            is_flag=True,
            default=True,
            help="Remove intermediate containers after a successful build (default true)",
        ),
        many("--security-opt", help="Security options"),
        text("--shm-size", type=BYTES, metavar="BYTES", help='Size of "/dev/shm"'),
        switch("--squash", help="Squash newly built layers into a single new layer"),
        many("-t", "--tag", type=parsed(_tag), metavar="NAME", help='Name and optionally a tag ("name:tag")'),
        text("--target", default="", help="Set the target build stage to build."),
        many("--ulimit", type=parsed(limits.parse_ulimit), metavar="NAME=SOFT[:HARD]", help="Ulimit options"),
    ]


def build_arguments(
    flags: Iterable[str], environ: Mapping[str, str], proxies: Mapping[str, str]
) -> dict[str, str | None]:
    """The values of `--build-arg`, and the proxies where none is given.

    A name without "=" takes its value from `environ`; None where it has none there.
    """
    given: dict[str, str | None] = {}
    for flag in flags:
        name, equals, value = flag.partition("=")
        given[name] = value if equals else environ.get(name)
    return {**proxies, **given}


def build_options(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that shape the containers of a build; only what was given. Raises ValueError."""
    options = {
        "rm": None if flags["rm"] else False,
        "forcerm": flags["force_rm"],
        "squash": flags["squash"],
        "memory": flags["memory"],
        "memswap": flags["memory_swap"],
        "cpushares": flags["cpu_shares"],
        "cpuperiod": flags["cpu_period"],
        "cpuquota": flags["cpu_quota"],
        "cpusetcpus": flags["cpuset_cpus"],
        "cpusetmems": flags["cpuset_mems"],
        "cgroupparent": flags["cgroup_parent"],
        "shmsize": flags["shm_size"],
        "ulimits": _json(list(flags["ulimit"])),
        "networkmode": flags["network"],
        "extrahosts": list(flags["add_host"]),
        "isolation": flags["isolation"],
        "securityopt": lists.parse_list(flags["security_opt"]),
    }
    return {key: value for key, value in options.items() if value is not None}


def _json(values: list[Any]) -> str | None:
    return json.dumps(values) if values else None
