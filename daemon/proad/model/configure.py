"""Sync, pure. What the instructions of a Dockerfile make of an image's configuration (``dispatchers.go``)."""

import ipaddress
import re
from collections.abc import Iterable

from msgspec.structs import replace

from proad.model import errors, gopath
from proad.model.durations import format_duration
from proad.model.gotext import quote, quote_all, quote_rune
from proad.model.health import DEFAULT_SHELL
from proad.model.hostconfig import Empty, Healthcheck
from proad.model.image import ImageConfig
from proad.model.instructions import (
    Arg,
    Cmd,
    CommandLine,
    Entrypoint,
    Env,
    Expose,
    HealthcheckInstruction,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from proad.model.signals import parse_signal

_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_PROTOCOLS = ("tcp", "udp", "sctp")


def configure(instruction: Instruction, config: ImageConfig, *, has_cmd: bool = False) -> ImageConfig:
    """The configuration after an instruction, whose variables have been put in. Those that say nothing of it
    (ARG, MAINTAINER, and what changes files) leave it as it is.

    Args:
        has_cmd: whether a CMD with arguments came before in this stage. An ENTRYPOINT makes any other void.

    Raises:
        errors.InvalidParameter: a port, a signal or a path is none.
    """
    match instruction:
        case Cmd():
            return replace(config, cmd=instruction.command.argv(shell_of(config)), args_escaped=False)
        case Entrypoint():
            return replace(
                config,
                entrypoint=_entrypoint(instruction.command, config),
                cmd=config.cmd if has_cmd else None,
                args_escaped=False,
            )
        case Env():
            variables = dict(variable.partition("=")[::2] for variable in config.env)
            variables.update(instruction.pairs)
            return replace(config, env=tuple(f"{name}={value}" for name, value in variables.items()))
        case Label():
            return replace(config, labels={**config.labels, **dict(instruction.pairs)})
        case Expose():
            ports = {port: Empty() for port in parse_ports(instruction.ports)}
            return replace(config, exposed_ports={**config.exposed_ports, **ports})
        case Volume():
            if not all(instruction.paths):
                raise errors.InvalidParameter("VOLUME specified can not be an empty string")
            return replace(
                config, volumes={**config.volumes, **{path: Empty() for path in instruction.paths}}
            )
        case Workdir():
            return replace(config, working_dir=_working_dir(config.working_dir, instruction.path))
        case User():
            return replace(config, user=instruction.user)
        case StopSignal():
            parse_signal(instruction.signal)
            return replace(config, stop_signal=instruction.signal)
        case HealthcheckInstruction():
            return replace(config, healthcheck=instruction.healthcheck)
        case Shell():
            return replace(config, shell=instruction.words)
        case OnBuild():
            return replace(config, on_build=(*(config.on_build or ()), instruction.trigger))
        case _:
            return config


def shell_of(config: ImageConfig) -> tuple[str, ...]:
    """What reads the shell form of commands."""
    return config.shell or DEFAULT_SHELL


def _entrypoint(command: CommandLine, config: ImageConfig) -> tuple[str, ...] | None:
    return command.argv(shell_of(config)) if command.words else None


def _working_dir(current: str, path: str) -> str:
    if not path:
        raise errors.InvalidParameter("cannot normalize nothing")
    return gopath.clean(path) if path.startswith("/") else gopath.join("/", current, path)


# --- ports --------------------------------------------------------------------------------------------------


def parse_ports(specs: Iterable[str]) -> tuple[str, ...]:
    """The ports (``80/tcp``) that ``[[ip:]public:]private[/protocol]`` name, each of them once; ``private``
    may be a range, and what stands before it is checked but means nothing in an image.

    Raises:
        errors.InvalidParameter: one is none.
    """
    wanted: dict[str, set[range]] = {}
    for spec in specs:
        protocol, ports = _parse_port(spec)
        wanted.setdefault(protocol, set()).add(ports)
    found: list[str] = []
    for protocol, ranges in wanted.items():
        numbers: set[int] = set()
        for ports in _merge(ranges):
            numbers.update(ports)
        found += (f"{number}/{protocol}" for number in sorted(numbers))
    return tuple(found)


def _parse_port(spec: str) -> tuple[str, range]:
    *before, private = spec.rsplit(":", 2)
    private, _, protocol = private.partition("/")
    if not private:
        raise errors.InvalidParameter(f"no port specified: {spec}<empty>")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise errors.InvalidParameter(f"invalid proto: {protocol}")
    ports = _parse_range(private)
    if ports is None or not ports[0]:
        raise errors.InvalidParameter(f"invalid containerPort: {private}")
    if len(before) == 2 and before[0]:
        _check_address(before[0])
    if before and before[-1]:
        public = _parse_range(before[-1])
        if public is None:
            raise errors.InvalidParameter(f"invalid hostPort: {before[-1]}")
        if len(ports) > 1 and len(ports) != len(public):
            raise errors.InvalidParameter(
                f"invalid ranges specified for container and host Ports: {private} and {before[-1]}"
            )
    return protocol, ports


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise errors.InvalidParameter(f"invalid IP address: {text}") from None


def _parse_range(text: str) -> range | None:
    found = _PORTS.fullmatch(text)
    if not found:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return range(first, last + 1) if first <= last <= 65535 else None


def _merge(ranges: Iterable[range]) -> list[range]:
    """The same numbers in ranges that do not overlap."""
    merged: list[range] = []
    for ports in sorted(ranges, key=lambda ports: ports.start):
        if merged and ports.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, ports.stop))
        else:
            merged.append(ports)
    return merged


# --- history ------------------------------------------------------------------------------------------------


def describe(instruction: Instruction, config: ImageConfig) -> str:
    """What the history of an image says of an instruction that changed no file, ``config`` being the result:
    ``CMD ["sh"]``. Docker writes the shell, ``#(nop)`` and two blanks before it, for WORKDIR one blank.
    """
    match instruction:
        case Cmd():
            return f"CMD {quote_all(config.cmd or ())}"
        case Entrypoint():
            return f"ENTRYPOINT {quote_all(config.entrypoint or ())}"
        case Env() | Label():
            return " ".join([instruction.keyword, *(f"{name}={value}" for name, value in instruction.pairs)])
        case Arg():
            words = (name if value is None else f"{name}={value}" for name, value in instruction.defaults)
            return " ".join([instruction.keyword, *words])
        case Expose():
            return " ".join([instruction.keyword, *instruction.ports])
        case Volume():
            return f"VOLUME [{' '.join(instruction.paths)}]"
        case Workdir():
            return f"WORKDIR {config.working_dir}"
        case User():
            return f"USER {instruction.user}"
        case StopSignal():
            return f"STOPSIGNAL {instruction.signal}"
        case HealthcheckInstruction():
            return f"HEALTHCHECK {_describe_healthcheck(instruction.healthcheck)}"
        case Shell():
            return f"SHELL [{' '.join(instruction.words)}]"
        case OnBuild():
            return f"ONBUILD {instruction.trigger}"
        case Maintainer():
            return f"MAINTAINER {instruction.name}"
        case _:
            return instruction.original


def _describe_healthcheck(healthcheck: Healthcheck) -> str:
    """As Go prints the structure."""
    durations_ns = (
        healthcheck.interval,
        healthcheck.timeout,
        healthcheck.start_period,
        healthcheck.start_interval,
    )
    fields = (
        quote_all(healthcheck.test or ()),
        *(quote(format_duration(duration_ns)) for duration_ns in durations_ns),
        quote_rune(healthcheck.retries),
    )
    return f"&{{{' '.join(fields)}}}"
