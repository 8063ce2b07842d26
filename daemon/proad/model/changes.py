"""Sync, pure. Dockerfile instructions that change the configuration of an image (``docker import --change``).

Understood are those that Docker allows there: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
STOPSIGNAL, USER, VOLUME, WORKDIR. Variables (``$NAME``, ``${NAME:-default}``) are those of the image's
environment so far.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterable

import msgspec

from proad.model import errors
from proad.model.durations import format_duration, parse_duration_ns
from proad.model.health import SHORTEST_NS
from proad.model.hostconfig import Empty, Healthcheck
from proad.model.image import ImageConfig
from proad.model.signals import parse_signal

SHELL = ("/bin/sh", "-c")

_VARIABLE = re.compile(r"\\(.)|\$(?:(\w+)|\{(\w+)(?:(:[-+])([^}]*))?\})")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s*")
_INT32 = re.compile(r"[-+]?[0-9]{1,9}")
_NO_ONBUILD = ("ONBUILD", "FROM", "MAINTAINER")


def apply_changes(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """The configuration after all instructions, in order; one text may hold several lines.

    Raises:
        errors.InvalidParameter: an instruction is unknown, not allowed here, or wrong.
    """
    cmd_given = False
    for line in _lines("\n".join(changes)):
        word, _, rest = line.partition(" ") if " " in line else line.partition("\t")
        keyword, rest = word.upper(), rest.strip()
        instruction = _INSTRUCTIONS.get(keyword)
        if instruction is None:
            raise errors.InvalidParameter(f"{word.lower()} is not a valid change command")
        if not rest:
            raise errors.InvalidParameter(f"{keyword} requires at least one argument")
        before = config
        config = instruction(config, rest)
        cmd_given = cmd_given or keyword == "CMD"
        if keyword == "ENTRYPOINT" and not cmd_given and before.cmd is not None:
            config = msgspec.structs.replace(config, cmd=None)  # it belonged to the entrypoint that was
    return config


def _lines(text: str) -> list[str]:
    """Logical lines: comments and empty ones dropped, those ended by a backslash joined."""
    lines: list[str] = []
    pending = ""
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.endswith("\\"):
            pending += stripped[:-1]
            continue
        lines.append(pending + stripped)
        pending = ""
    return [*lines, pending] if pending.strip() else lines


# --- instructions -------------------------------------------------------------------------------------------


def _cmd(config: ImageConfig, rest: str) -> ImageConfig:
    return msgspec.structs.replace(config, cmd=_command(rest))


def _entrypoint(config: ImageConfig, rest: str) -> ImageConfig:
    return msgspec.structs.replace(config, entrypoint=_command(rest))


def _env(config: ImageConfig, rest: str) -> ImageConfig:
    variables = dict(variable.partition("=")[::2] for variable in config.env)
    variables.update(_pairs(config, rest, "ENV"))
    return msgspec.structs.replace(config, env=tuple(f"{key}={value}" for key, value in variables.items()))


def _label(config: ImageConfig, rest: str) -> ImageConfig:
    return msgspec.structs.replace(config, labels={**config.labels, **_pairs(config, rest, "LABEL")})


def _expose(config: ImageConfig, rest: str) -> ImageConfig:
    ports = dict(config.exposed_ports)
    for word in _words(config, rest):
        found = _PORT.fullmatch(word)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not found or not 0 < first <= last <= 65535:
            raise errors.InvalidParameter(f"invalid containerPort: {word}")
        ports |= {f"{port}/{(found[3] or 'tcp').lower()}": Empty() for port in range(first, last + 1)}
    return msgspec.structs.replace(config, exposed_ports=ports)


def _volume(config: ImageConfig, rest: str) -> ImageConfig:
    paths = _json_words(rest) or _words(config, rest)
    if not all(path.strip() for path in paths):
        raise errors.InvalidParameter("VOLUME specified can not be an empty string")
    return msgspec.structs.replace(
        config, volumes={**config.volumes, **{path.strip(): Empty() for path in paths}}
    )


def _workdir(config: ImageConfig, rest: str) -> ImageConfig:
    path = posixpath.join("/", config.working_dir, _one(config, rest, "WORKDIR"))
    return msgspec.structs.replace(config, working_dir=posixpath.normpath(path).replace("//", "/"))


def _user(config: ImageConfig, rest: str) -> ImageConfig:
    return msgspec.structs.replace(config, user=_one(config, rest, "USER"))


def _stopsignal(config: ImageConfig, rest: str) -> ImageConfig:
    signal = _one(config, rest, "STOPSIGNAL")
    parse_signal(signal)
    return msgspec.structs.replace(config, stop_signal=signal)


def _onbuild(config: ImageConfig, rest: str) -> ImageConfig:
    trigger = rest.split()[0].upper()
    if trigger in _NO_ONBUILD:
        raise errors.InvalidParameter(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
            if trigger == "ONBUILD"
            else f"{trigger} isn't allowed as an ONBUILD trigger"
        )
    return msgspec.structs.replace(config, on_build=(*(config.on_build or ()), rest))


def _healthcheck(config: ImageConfig, rest: str) -> ImageConfig:
    options: dict[str, str] = {}
    while found := _FLAG.match(rest):
        options[found[1]] = found[2]
        rest = rest[found.end() :]
    kind, command = (*rest.split(None, 1), "", "")[:2]
    if kind.upper() == "NONE":
        if command:
            raise errors.InvalidParameter("HEALTHCHECK NONE takes no arguments")
        return msgspec.structs.replace(config, healthcheck=Healthcheck(test=("NONE",)))
    if kind.upper() != "CMD":
        raise errors.InvalidParameter(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    words = _json_words(command)
    if not (words if words is not None else command):
        raise errors.InvalidParameter("Missing command after HEALTHCHECK CMD")
    test = ("CMD-SHELL", command) if words is None else ("CMD", *words)
    retries = options.pop("retries", "0")
    if not _INT32.fullmatch(retries):
        raise errors.InvalidParameter(f"--retries is not a number: {retries}")
    if retries.startswith("-"):
        raise errors.InvalidParameter(f"--retries cannot be negative ({retries})")
    durations = {
        name: _probe_duration_ns(name, options.pop(name, "0s"))
        for name in ("interval", "timeout", "start-period", "start-interval")
    }
    if options:
        raise errors.InvalidParameter(f"unknown flag: {next(iter(options))}")
    return msgspec.structs.replace(
        config,
        healthcheck=Healthcheck(
            test=test,
            retries=int(retries),
            interval=durations["interval"],
            timeout=durations["timeout"],
            start_period=durations["start-period"],
            start_interval=durations["start-interval"],
        ),
    )


def _probe_duration_ns(name: str, text: str) -> int:
    duration_ns = parse_duration_ns(text)
    if 0 < duration_ns < SHORTEST_NS:
        raise errors.InvalidParameter(f'Interval "{name}" cannot be less than {format_duration(SHORTEST_NS)}')
    return duration_ns


_INSTRUCTIONS: dict[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


# --- words --------------------------------------------------------------------------------------------------


def _command(rest: str) -> tuple[str, ...]:
    """The JSON form as it stands, the other through the shell."""
    words = _json_words(rest)
    return (*SHELL, rest) if words is None else words


def _json_words(rest: str) -> tuple[str, ...] | None:
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    return tuple(words) if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _one(config: ImageConfig, rest: str, keyword: str) -> str:
    value = _expand(config, rest)
    if not value:
        raise errors.InvalidParameter(f"{keyword} requires exactly one argument")
    return value


def _pairs(config: ImageConfig, rest: str, keyword: str) -> dict[str, str]:
    """``key=value`` words, or the old form ``key rest of the line``."""
    key, space, value = rest.partition(" ")
    if "=" not in key:
        if not space:
            raise errors.InvalidParameter(f"{keyword} must have two arguments")
        return {key: _expand(config, value.strip())}
    pairs = {}
    for word in _split(rest):
        key, equals, value = word.partition("=")
        key = _expand(config, key)
        if not equals or not key:
            raise errors.InvalidParameter(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
                if not equals
                else f"{keyword} names can not be blank"
            )
        pairs[key] = _expand(config, value)
    return pairs


def _words(config: ImageConfig, rest: str) -> tuple[str, ...]:
    return tuple(_expand(config, word) for word in _split(rest))


def _split(rest: str) -> list[str]:
    """Cut at blanks outside of quotes; quotes and backslashes stay for :func:`_expand`."""
    words: list[str] = []
    word, quote, escaped = "", "", False
    for character in rest:
        if escaped:
            word, escaped = word + character, False
        elif character == "\\" and quote != "'":
            word, escaped = word + character, True
        elif character in (quote, "'", '"') and quote in ("", character):
            word, quote = word + character, "" if quote else character
        elif character in " \t" and not quote:
            words, word = [*words, word] if word else words, ""
        else:
            word += character
    return [*words, word] if word else words


def _expand(config: ImageConfig, text: str) -> str:
    """Take off quotes and put in variables; nothing is put in between single quotes."""
    variables = dict(variable.partition("=")[::2] for variable in config.env)

    def value(found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[1]
        known = variables.get(found[2] or found[3], "")
        if found[4] == ":-":
            return known or found[5]
        if found[4] == ":+":
            return found[5] if known else ""
        return known

    pieces = re.split(r"""('[^']*'|"(?:\\.|[^"\\])*")""", text)
    result = ""
    for index, piece in enumerate(pieces):
        if index % 2 and piece.startswith("'"):
            result += piece[1:-1]
        else:
            result += _VARIABLE.sub(value, piece[1:-1] if index % 2 else piece)
    return result
