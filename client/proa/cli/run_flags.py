"""Sync, pure. The flags of `proa create` and `proa run` that describe a container.

Their values go to `proa.cli.create_body`, which knows what each becomes in the API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from proa.cli.complete import any_container, network
from proa.cli.parse import attachments, quantities


class UnusableValue(click.BadParameter):
    """A flag's value that cannot be meant; `given` is what was typed."""

    def __init__(self, message: str, given: str) -> None:
        super().__init__(message)
        self.given = given


def parsed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A flag's type made of a parsing function; its ValueError becomes a usage error."""

    def convert(given: str) -> Any:
        try:
            return parse(given)
        except ValueError as error:
            raise UnusableValue(str(error), given) from None

    return convert


BYTES = parsed(quantities.parse_bytes)
SWAP_BYTES = parsed(quantities.parse_swap_bytes)
CPUS = parsed(quantities.parse_nano_cpus)
DURATION = parsed(quantities.parse_duration_ns)


def text(*names: str, help: str, **more: Any) -> click.Option:
    """A flag with one text, None when it is not given."""
    return click.Option(names, help=help, **more)


def many(*names: str, help: str, **more: Any) -> click.Option:
    """A flag that may be given several times; a tuple."""
    return click.Option(names, multiple=True, help=help, **more)


def switch(*names: str, help: str) -> click.Option:
    """A flag that is there or not; None when neither it nor its opposite is given."""
    return click.Option(names, is_flag=True, default=None, help=help)


def number(*names: str, help: str) -> click.Option:
    """A flag with a whole number."""
    return click.Option(names, type=int, help=help)


def limits() -> list[click.Option]:
    """The resource flags, which `proa update` has as well."""
    return [
        number("--blkio-weight", help="Block IO (relative weight), between 10 and 1000, or 0 to disable"),
        number("--cpu-period", help="Limit CPU CFS (Completely Fair Scheduler) period"),
        number("--cpu-quota", help="Limit CPU CFS (Completely Fair Scheduler) quota"),
        number("--cpu-rt-period", help="Limit CPU real-time period in microseconds"),
        number("--cpu-rt-runtime", help="Limit CPU real-time runtime in microseconds"),
        number("-c", "--cpu-shares", help="CPU shares (relative weight)"),
        text("--cpus", type=CPUS, metavar="DECIMAL", help="Number of CPUs"),
        text("--cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)"),
        text("--cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)"),
        text("-m", "--memory", type=BYTES, metavar="BYTES", help="Memory limit"),
        text("--memory-reservation", type=BYTES, metavar="BYTES", help="Memory soft limit"),
        text(
            "--memory-swap",
            type=SWAP_BYTES,
            metavar="BYTES",
            help="Limit of memory plus swap; -1 for unlimited swap",
        ),
        number("--pids-limit", help="Limit on the number of processes (-1 for unlimited)"),
        text("--restart", help="Restart policy to apply when a container exits"),
    ]


def container_flags() -> list[click.Option]:
    """All flags that `run` and `create` have in common."""
    return [
        *_process_flags(),
        *_storage_flags(),
        *_network_flags(),
        *_security_flags(),
        *limits(),
        *_more_limits(),
    ]


def _process_flags() -> list[click.Option]:
    return [
        many("--annotation", help="Add an annotation, passed through to the OCI runtime"),
        many("-a", "--attach", help="Attach to STDIN, STDOUT or STDERR"),
        text("--cidfile", help="Write the container ID to the file", type=click.Path()),
        text("--domainname", help="Container NIS domain name"),
        text("--entrypoint", help="Overwrite the default ENTRYPOINT of the image"),
        many("-e", "--env", help="Set environment variables"),
        many("--env-file", help="Read in a file of environment variables", type=click.Path()),
        text("--health-cmd", help="Command to run to check health"),
        text(
            "--health-interval",
            type=DURATION,
            metavar="DURATION",
            help="Time between running the check (ms|s|m|h)",
        ),
        number("--health-retries", help="Consecutive failures needed to report unhealthy"),
        text(
            "--health-start-interval",
            type=DURATION,
            metavar="DURATION",
            help="Time between checks during the start period",
        ),
        text(
            "--health-start-period",
            type=DURATION,
            metavar="DURATION",
            help="Time to initialize before failures count",
        ),
        text(
            "--health-timeout",
            type=DURATION,
            metavar="DURATION",
            help="Maximum time to allow one check to run",
        ),
        text("-h", "--hostname", help="Container host name"),
        switch("--init", help="Run an init inside the container that forwards signals and reaps processes"),
        switch("-i", "--interactive", help="Keep STDIN open even if not attached"),
        many("-l", "--label", help="Set meta data on a container"),
        many("--label-file", help="Read in a line delimited file of labels", type=click.Path()),
        text("--log-driver", help="Logging driver for the container"),
        many("--log-opt", help="Log driver options"),
        text("--name", help="Assign a name to the container"),
        switch("--no-healthcheck", help="Disable any container-specified HEALTHCHECK"),
        text("--platform", help="Set platform if server is multi-platform capable"),
        text(
            "--pull",
            default="missing",
            type=click.Choice(["always", "missing", "never"]),
            help="Pull image before running (default missing)",
        ),
        switch("-q", "--quiet", help="Suppress the pull output"),
        switch("--rm", help="Automatically remove the container and its anonymous volumes when it exits"),
        text("--runtime", help="Runtime to use for this container"),
        text("--stop-signal", help="Signal to stop the container"),
        number("--stop-timeout", help="Timeout (in seconds) to stop a container"),
        switch("-t", "--tty", help="Allocate a pseudo-TTY"),
        text("-u", "--user", help="Username or UID (format: <name|uid>[:<group|gid>])"),
        text("-w", "--workdir", help="Working directory inside the container"),
    ]


def _storage_flags() -> list[click.Option]:
    return [
        many("--mount", help="Attach a filesystem mount to the container"),
        switch("--read-only", help="Mount the container's root filesystem as read only"),
        many("--storage-opt", help="Storage driver options for the container"),
        many("--tmpfs", help="Mount a tmpfs directory"),
        many("-v", "--volume", help="Bind mount a volume"),
        text("--volume-driver", help="Optional volume driver for the container"),
        many(
            "--volumes-from",
            help="Mount volumes from the specified container(s)",
            shell_complete=any_container,
        ),
    ]


def _network_flags() -> list[click.Option]:
    return [
        many("--add-host", help="Add a custom host-to-IP mapping (host:ip, or host:host-gateway)"),
        many(
            "--dns",
            type=parsed(attachments.parse_dns_server),
            metavar="ADDRESS",
            help="Set custom DNS servers",
        ),
        many("--dns-option", "--dns-opt", help="Set DNS options"),
        many("--dns-search", help="Set custom DNS search domains"),
        many("--expose", help="Expose a port or a range of ports"),
        text("--ip", help="IPv4 address (e.g., 172.30.100.104)"),
        text("--ip6", help="IPv6 address (e.g., 2001:db8::33)"),
        many(
            "--link",
            type=parsed(attachments.parse_link),
            metavar="CONTAINER[:ALIAS]",
            help="Add link to another container",
            shell_complete=any_container,
        ),
        many("--link-local-ip", help="Container IPv4/IPv6 link-local addresses"),
        text("--mac-address", help="Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
        many(
            "--network",
            "--net",
            help="Connect a container to a network (NAME, or name=NAME,alias=…,ip=…,…; may be repeated)",
            shell_complete=network,
        ),
        many("--network-alias", "--net-alias", help="Add network-scoped alias for the container"),
        many("-p", "--publish", help="Publish a container's port(s) to the host"),
        switch("-P", "--publish-all", help="Publish all exposed ports to random ports"),
    ]


def _security_flags() -> list[click.Option]:
    return [
        many("--cap-add", help="Add Linux capabilities"),
        many("--cap-drop", help="Drop Linux capabilities"),
        text("--cgroup-parent", help="Optional parent cgroup for the container"),
        text("--cgroupns", help="Cgroup namespace to use (host|private)"),
        many("--device", help="Add a host device to the container"),
        many("--device-cgroup-rule", help="Add a rule to the cgroup allowed devices list"),
        many("--group-add", help="Add additional groups to join"),
        text("--ipc", help="IPC mode to use"),
        text("--isolation", help="Container isolation technology"),
        text("--pid", help="PID namespace to use"),
        switch("--privileged", help="Give extended privileges to this container"),
        many("--security-opt", help="Security Options"),
        many("--sysctl", help="Sysctl options"),
        text("--userns", help="User namespace to use"),
        text("--uts", help="UTS namespace to use"),
    ]


def _more_limits() -> list[click.Option]:
    return [
        many("--blkio-weight-device", help="Block IO weight (relative device weight)"),
        many("--device-read-bps", help="Limit read rate (bytes per second) from a device"),
        many("--device-read-iops", help="Limit read rate (IO per second) from a device"),
        many("--device-write-bps", help="Limit write rate (bytes per second) to a device"),
        many("--device-write-iops", help="Limit write rate (IO per second) to a device"),
        text("--kernel-memory", type=BYTES, metavar="BYTES", help="Kernel memory limit"),
        number("--memory-swappiness", help="Tune container memory swappiness (0 to 100)"),
        switch("--oom-kill-disable", help="Disable OOM Killer"),
        number("--oom-score-adj", help="Tune host's OOM preferences (-1000 to 1000)"),
        text("--shm-size", type=BYTES, metavar="BYTES", help="Size of /dev/shm"),
        many("--ulimit", help="Ulimit options"),
    ]
