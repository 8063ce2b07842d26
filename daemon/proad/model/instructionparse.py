"""Sync, pure. One statement of a Dockerfile made into a typed instruction (moby: BuildKit's instructions).

Flags that the classic builder cannot honour are known here, as they are to Docker: it says that they need
BuildKit where it comes to them.
"""

import re
from collections.abc import Callable, Iterable

import msgspec

from proad.model import errors
from proad.model.durations import format_duration, parse_duration_ns
from proad.model.gotext import SPACE, quote
from proad.model.health import SHORTEST_NS
from proad.model.hostconfig import Healthcheck
from proad.model.instructions import (
    Add,
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthcheckInstruction,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from proad.model.statements import KEYWORDS, Statement, split_words

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_ONBUILD = re.compile(r"\s*ONBUILD\s*", re.IGNORECASE | re.ASCII)
_HEREDOC = re.compile(r"""\d*<<-?(?!(?:''|"")$)[^<]+""")
_INT32 = re.compile(r"[-+]?[0-9]{1,10}")
_NEEDS_BUILDKIT = (
    "Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled"
)


def needs_buildkit(what: str) -> errors.InvalidParameter:
    """What Docker says of something that only BuildKit does."""
    return errors.InvalidParameter(f"the {what} requires BuildKit. {_NEEDS_BUILDKIT}")


def parse_instruction(statement: Statement) -> Instruction:
    """The instruction that a statement is.

    Raises:
        errors.InvalidParameter: it is unknown, or its flags or arguments are wrong.
    """
    parse = _PARSERS.get(statement.keyword.upper())
    if parse is None:
        hint = _did_you_mean(statement.keyword, KEYWORDS)
        raise errors.InvalidParameter(f"unknown instruction: {statement.keyword}{hint}")
    return msgspec.structs.replace(
        parse(statement),
        original=statement.original.strip(SPACE),
        line=statement.line,
        end_line=statement.end_line,
    )


# --- what to run --------------------------------------------------------------------------------------------


def _command(statement: Statement, arguments: tuple[str, ...]) -> CommandLine:
    return CommandLine(arguments, is_shell=not statement.is_json)


def _run(statement: Statement) -> Instruction:
    _refuse_heredoc(statement)
    flags = _parse_flags(
        statement, texts=("device", "mount", "network", "security"), repeated=("device", "mount")
    )
    return Run(command=_command(statement, statement.arguments), flags=tuple(flags))


def _cmd(statement: Statement) -> Instruction:
    _parse_flags(statement)
    return Cmd(command=_command(statement, statement.arguments))


def _entrypoint(statement: Statement) -> Instruction:
    _parse_flags(statement)
    return Entrypoint(command=_command(statement, statement.arguments))


def _shell(statement: Statement) -> Instruction:
    _parse_flags(statement)
    _at_least_one(statement)
    if not statement.is_json:
        raise errors.InvalidParameter("SHELL requires the arguments to be in JSON form")
    return Shell(words=statement.arguments)


def _healthcheck(statement: Statement) -> Instruction:
    _at_least_one(statement)
    kind, arguments = statement.arguments[0].upper(), statement.arguments[1:]
    if kind == "NONE":
        if arguments:
            raise errors.InvalidParameter("HEALTHCHECK NONE takes no arguments")
        return HealthcheckInstruction(healthcheck=Healthcheck(test=("NONE",)))
    flags = _parse_flags(
        statement, texts=("interval", "timeout", "start-period", "start-interval", "retries")
    )
    if kind != "CMD":
        raise errors.InvalidParameter(f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)")
    if not arguments:
        raise errors.InvalidParameter("Missing command after HEALTHCHECK CMD")
    return HealthcheckInstruction(
        healthcheck=Healthcheck(
            test=("CMD" if statement.is_json else "CMD-SHELL", *arguments),
            interval=_probe_duration_ns(flags, "interval"),
            timeout=_probe_duration_ns(flags, "timeout"),
            start_period=_probe_duration_ns(flags, "start-period"),
            start_interval=_probe_duration_ns(flags, "start-interval"),
            retries=_retries(flags.get("retries") or "0"),
        )
    )


def _probe_duration_ns(flags: dict[str, str], name: str) -> int:
    text = flags.get(name) or "0s"
    duration_ns = parse_duration_ns(text.removeprefix("-"))
    if duration_ns and (text.startswith("-") or duration_ns < SHORTEST_NS):
        raise errors.InvalidParameter(f'Interval "{name}" cannot be less than {format_duration(SHORTEST_NS)}')
    return duration_ns


def _retries(text: str) -> int:
    if not _INT32.fullmatch(text) or not -(2**31) <= int(text) < 2**31:
        raise errors.InvalidParameter(f"--retries is not a number: {text}")
    if int(text) < 0:
        raise errors.InvalidParameter(f"--retries cannot be negative ({int(text)})")
    return int(text)


# --- stages and variables -----------------------------------------------------------------------------------


def _from(statement: Statement) -> Instruction:
    image, *rest = statement.arguments or ("",)
    name = ""
    if len(rest) == 2 and rest[0].lower() == "as":
        name = rest[1].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise errors.InvalidParameter(
                f"invalid name for build stage: {quote(rest[1])}, "
                "name can't start with a number or contain symbols"
            )
    elif rest or not image:
        raise errors.InvalidParameter("FROM requires either one or three arguments")
    return From(
        image=image, name=name, platform=_parse_flags(statement, texts=("platform",)).get("platform", "")
    )


def _arg(statement: Statement) -> Instruction:
    _at_least_one(statement)
    defaults: list[tuple[str, str | None]] = []
    for word in statement.arguments:
        name, equals, value = word.partition("=")
        if not name:
            raise errors.InvalidParameter("ARG names can not be blank")
        defaults.append((name, value if equals else None))
    return Arg(defaults=tuple(defaults))


def _env(statement: Statement) -> Instruction:
    return Env(pairs=_pairs(statement))


def _label(statement: Statement) -> Instruction:
    return Label(pairs=_pairs(statement))


def _pairs(statement: Statement) -> tuple[tuple[str, str], ...]:
    _parse_flags(statement)
    _at_least_one(statement)
    names, values = statement.arguments[::2], statement.arguments[1::2]
    if not all(names):
        raise errors.InvalidParameter(f"{statement.keyword.upper()} names can not be blank")
    return tuple(zip(names, values, strict=True))


# --- files --------------------------------------------------------------------------------------------------


def _copy(statement: Statement) -> Instruction:
    sources, destination = _sources_and_destination(statement)
    flags = _parse_flags(statement, texts=("chown", "from", "chmod"), switches=("link",))
    return Copy(
        sources=sources,
        destination=destination,
        from_=flags.get("from", ""),
        chown=flags.get("chown", ""),
        chmod=flags.get("chmod", ""),
        link=flags.get("link") == "true",
    )


def _add(statement: Statement) -> Instruction:
    sources, destination = _sources_and_destination(statement)
    flags = _parse_flags(statement, texts=("chown", "chmod", "checksum"), switches=("link", "keep-git-dir"))
    return Add(
        sources=sources,
        destination=destination,
        chown=flags.get("chown", ""),
        chmod=flags.get("chmod", ""),
        checksum=flags.get("checksum", ""),
        keep_git_dir=flags.get("keep-git-dir") == "true",
        link=flags.get("link") == "true",
    )


def _sources_and_destination(statement: Statement) -> tuple[tuple[str, ...], str]:
    _refuse_heredoc(statement)
    if len(statement.arguments) < 2:
        raise errors.InvalidParameter(
            f"{statement.keyword.upper()} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    return statement.arguments[:-1], statement.arguments[-1]


def _workdir(statement: Statement) -> Instruction:
    _exactly_one(statement)
    _parse_flags(statement)
    return Workdir(path=statement.arguments[0])


def _volume(statement: Statement) -> Instruction:
    _at_least_one(statement)
    _parse_flags(statement)
    paths = tuple(path.strip(SPACE) for path in statement.arguments)
    if not all(paths):
        raise errors.InvalidParameter("VOLUME specified can not be an empty string")
    return Volume(paths=paths)


# --- the rest -----------------------------------------------------------------------------------------------


def _expose(statement: Statement) -> Instruction:
    _at_least_one(statement)
    _parse_flags(statement)
    return Expose(ports=tuple(sorted(statement.arguments)))


def _user(statement: Statement) -> Instruction:
    _exactly_one(statement)
    _parse_flags(statement)
    return User(user=statement.arguments[0])


def _stopsignal(statement: Statement) -> Instruction:
    _exactly_one(statement)
    return StopSignal(signal=statement.arguments[0])


def _maintainer(statement: Statement) -> Instruction:
    _exactly_one(statement)
    _parse_flags(statement)
    return Maintainer(name=statement.arguments[0])


def _onbuild(statement: Statement) -> Instruction:
    _at_least_one(statement)
    _parse_flags(statement)
    trigger = statement.arguments[0].strip(SPACE).split(maxsplit=1)[0].upper()
    if trigger == "ONBUILD":
        raise errors.InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise errors.InvalidParameter(f"{trigger} isn't allowed as an ONBUILD trigger")
    if trigger in ("ADD", "COPY", "RUN"):
        _refuse_heredoc(statement)
    return OnBuild(trigger=_ONBUILD.sub("", statement.original, count=1))


_PARSERS: dict[str, Callable[[Statement], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


# --- checks that several make -------------------------------------------------------------------------------


def _at_least_one(statement: Statement) -> None:
    if not statement.arguments:
        raise errors.InvalidParameter(f"{statement.keyword.upper()} requires at least one argument")


def _exactly_one(statement: Statement) -> None:
    if len(statement.arguments) != 1:
        raise errors.InvalidParameter(f"{statement.keyword.upper()} requires exactly one argument")


def _refuse_heredoc(statement: Statement) -> None:
    if statement.is_json or "<<" not in statement.original:
        return
    for word in split_words(statement.original, "\\"):
        if _HEREDOC.fullmatch(word):
            raise needs_buildkit(f"here-document {word}")


def _parse_flags(
    statement: Statement,
    texts: tuple[str, ...] = (),
    switches: tuple[str, ...] = (),
    repeated: tuple[str, ...] = (),
) -> dict[str, str]:
    """The flags that were given, in order: those with a value; and switches, ``true`` or ``false``."""
    flags: dict[str, str] = {}
    for flag in statement.flags:
        option, equals, value = flag.partition("=")
        name = option[2:]
        if name not in texts and name not in switches:
            raise errors.InvalidParameter(f"unknown flag: {option}{_did_you_mean(name, (*texts, *switches))}")
        if name in flags and name not in repeated:
            raise errors.InvalidParameter(f"duplicate flag specified: {option}")
        if not value and (equals if name in switches else not equals):
            raise errors.InvalidParameter(f"missing a value on flag: {option}")
        if name in switches:
            value = value.lower() or "true"
            if value not in ("true", "false"):
                raise errors.InvalidParameter(f"expecting boolean value for flag {option}, not: {value}")
        flags[name] = value
    return flags


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at what is at most two letters off, in the letters' own case; nothing where nothing is near."""
    is_small = word == word.lower()
    near = min((_distance(word.lower(), name.lower()), name) for name in (*known, " " * 99))
    if near[0] > 2:
        return ""
    match = near[1].lower() if is_small else near[1]
    return f" (did you mean {match}?)"


def _distance(one: str, other: str) -> int:
    """How many letters must change, come or go (Levenshtein); 99 where lengths differ by more than two."""
    if abs(len(one) - len(other)) > 2:
        return 99
    row = list(range(len(other) + 1))
    for index, letter in enumerate(one, 1):
        above, row[0] = row[0], index
        for column, match in enumerate(other, 1):
            above, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, above + (letter != match)),
            )
    return row[-1]
