"""Flags as docker reads them, and what `run` and `create` make of them."""

from pathlib import Path
from typing import Any

import click
import pytest

from proa.cli.create_body import Wanted, build
from proa.cli.group import split_switches
from proa.cli.registry import COMMANDS, GROUPS
from proa.cli.run_flags import container_flags

OPTIONS: list[click.Parameter] = [
    click.Option(["-i", "--interactive"], is_flag=True),
    click.Option(["-t", "--tty"], is_flag=True),
    click.Option(["--rm"], is_flag=True),
    click.Option(["-p", "--publish"]),
]


@pytest.mark.parametrize(
    ("given", "left", "off"),
    [
        (["--rm=true", "image"], ["--rm", "image"], []),
        (["--rm=false", "image"], ["image"], ["rm"]),
        (["--rm=false", "--rm=true", "image"], ["--rm", "image"], []),
        (["-it=false", "image"], ["-i", "image"], ["tty"]),
        (["-t=1", "image"], ["-t", "image"], []),
        (["-itp", "80=90", "--rm=0", "image"], ["-itp", "80=90", "image"], ["rm"]),
        (["-p80=1", "--rm=0", "image"], ["-p80=1", "image"], ["rm"]),
        (["--publish", "--rm=0", "image"], ["--publish", "--rm=0", "image"], []),
        (["--publish=80", "image", "--rm=false"], ["--publish=80", "image", "--rm=false"], []),
        (["--", "--rm=false"], ["--", "--rm=false"], []),
        (["--unknown=false", "image"], ["--unknown=false", "image"], []),
    ],
)
def test_switches_take_values(given: list[str], left: list[str], off: list[str]) -> None:
    assert split_switches(OPTIONS, given, interspersed=False) == (left, off)


def test_switches_behind_arguments_count_where_flags_may_stand_anywhere() -> None:
    assert split_switches(OPTIONS, ["name", "--rm=false"], interspersed=True) == (["name"], ["rm"])


def test_a_switch_with_nonsense_is_refused() -> None:
    with pytest.raises(click.UsageError, match="invalid boolean value"):
        split_switches(OPTIONS, ["--rm=maybe"], interspersed=False)


def wanted(*flags: str, command: tuple[str, ...] = ()) -> Wanted:
    """What `proa create FLAGS image COMMAND` asks for."""
    parser = click.Command("create", params=[*container_flags()])
    values = parser.make_context("create", list(flags)).params
    return build(values, "image", command, {"HOME": "/root"}, lambda name: Path(name).read_text())


def test_only_what_is_given_is_sent() -> None:
    plain = wanted()
    assert plain.config == {
        "Image": "image",
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
    }
    assert plain.host_config == {}
    assert plain.networks == {}


@pytest.mark.parametrize(
    ("flags", "config"),
    [
        (["-it"], {"Tty": True, "OpenStdin": True, "AttachStdin": True, "StdinOnce": True}),
        (["-a", "stderr"], {"AttachStdout": False, "AttachStderr": True}),
        (["-e", "A=1", "-e", "HOME"], {"Env": ["A=1", "HOME=/root"]}),
        (["--entrypoint", "/x"], {"Entrypoint": ["/x"]}),
        (["--entrypoint="], {"Entrypoint": [""]}),
        (["-p", "80:80", "--expose", "90"], {"ExposedPorts": {"80/tcp": {}, "90/tcp": {}}}),
        (["-v", "/data"], {"Volumes": {"/data": {}}}),
        (
            ["-h", "box", "--domainname", "d", "-u", "1:2", "-w", "/w"],
            {"Hostname": "box", "WorkingDir": "/w"},
        ),
        (["--stop-signal", "INT", "--stop-timeout", "0"], {"StopSignal": "INT", "StopTimeout": 0}),
        (["-l", "a=b"], {"Labels": {"a": "b"}}),
        (["--no-healthcheck"], {"Healthcheck": {"Test": ["NONE"]}}),
        (
            ["--health-cmd", "x", "--health-interval", "1s"],
            {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": 10**9}},
        ),
        (
            ["--health-start-period", "1m", "--health-start-interval", "500ms", "--health-retries", "2"],
            {"Healthcheck": {"StartPeriod": 60 * 10**9, "StartInterval": 5 * 10**8, "Retries": 2}},
        ),
    ],
)
def test_config(flags: list[str], config: dict[str, Any]) -> None:
    asked = wanted(*flags).config
    assert {key: asked.get(key) for key in config} == config


@pytest.mark.parametrize(
    ("flags", "host_config"),
    [
        (["--rm"], {"AutoRemove": True}),
        (
            ["-m", "64m", "--memory-swap", "-1", "--cpus", "1.5"],
            {"Memory": 64 << 20, "MemorySwap": -1, "NanoCpus": 15 * 10**8},
        ),
        (["-p", "8080:80"], {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}}),
        (["-P"], {"PublishAllPorts": True}),
        (["-v", "/a:/b"], {"Binds": ["/a:/b"]}),
        (["--tmpfs", "/t"], {"Tmpfs": {"/t": ""}}),
        (["--mount", "type=tmpfs,dst=/t"], {"Mounts": [{"Type": "tmpfs", "Target": "/t"}]}),
        (["--network", "host"], {"NetworkMode": "host"}),
        (["--restart", "on-failure:2"], {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}),
        (["--cap-add", "NET_ADMIN", "--cap-drop", "ALL"], {"CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"]}),
        (
            ["--privileged", "--read-only", "--init"],
            {"Privileged": True, "ReadonlyRootfs": True, "Init": True},
        ),
        (["--ulimit", "nofile=1:2"], {"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}]}),
        (["--add-host", "h:[::1]", "--dns", "1.1.1.1"], {"ExtraHosts": ["h:::1"], "Dns": ["1.1.1.1"]}),
        (
            ["--log-driver", "local", "--log-opt", "max-size=1m"],
            {"LogConfig": {"Type": "local", "Config": {"max-size": "1m"}}},
        ),
        (["--security-opt", "systempaths=unconfined"], {"MaskedPaths": [], "ReadonlyPaths": []}),
        (["--sysctl", "a.b=1", "--shm-size", "1m"], {"Sysctls": {"a.b": "1"}, "ShmSize": 1 << 20}),
        (["--oom-score-adj", "0", "--pids-limit", "-1"], {"OomScoreAdj": 0, "PidsLimit": -1}),
        (["--link", "db:d", "--volumes-from", "v:ro"], {"Links": ["db:d"], "VolumesFrom": ["v:ro"]}),
    ],
)
def test_host_config(flags: list[str], host_config: dict[str, Any]) -> None:
    asked = wanted(*flags).host_config
    assert {key: asked.get(key) for key in host_config} == host_config


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rm", "--restart", "always"], "conflicting options"),
        (["--no-healthcheck", "--health-cmd", "x"], "conflicts"),
        (["--health-timeout", "-1s"], "--health-timeout cannot be negative"),
        (["--health-retries", "-1"], "--health-retries cannot be negative"),
        (["-a", "nowhere"], "STDIN, STDOUT and STDERR"),
        (["--env-file", "/does/not/exist"], "open /does/not/exist: no such file"),
        (["--add-host", "nope"], "bad format for add-host"),
        (["--memory-swappiness", "200"], "0-100"),
    ],
)
def test_contradictions_are_refused(flags: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wanted(*flags)


def test_a_flag_that_cannot_be_read_is_a_usage_error() -> None:
    with pytest.raises(click.BadParameter, match="invalid size: 'x'"):
        wanted("-m", "x")


def test_every_registered_command_exists_and_can_describe_itself() -> None:
    from importlib import import_module

    entries = [*COMMANDS.values(), *(entry for _, group in GROUPS.values() for entry in group.values())]
    for entry in entries:
        command = getattr(import_module(f"proa.cli.commands.{entry.module}"), entry.attribute)
        assert command.get_help(click.Context(command, info_name="x")).startswith("Usage:  x")
