"""Sync, pure. Variables put into the instructions that take them: ADD, ARG, COPY, ENV, EXPOSE, FROM, LABEL,
STOPSIGNAL, USER, VOLUME and WORKDIR. What CMD, ENTRYPOINT, HEALTHCHECK, RUN, SHELL and ONBUILD hold stays as
it is.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from msgspec.structs import replace

from proad.model import errors
from proad.model.instructionparse import needs_buildkit
from proad.model.instructions import (
    Add,
    Arg,
    Copy,
    Env,
    Expose,
    From,
    Instruction,
    Label,
    Run,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from proad.model.shelllex import expand_word, expand_words

Kind = TypeVar("Kind", bound=Instruction)


def expand(instruction: Kind, variables: Mapping[str, str], escape: str = "\\") -> Kind:
    """The instruction with variables put in, and without quotes.

    Args:
        variables: the image's environment and the build's arguments; for FROM only the arguments before it.
        escape: the file's escape character.

    Raises:
        errors.InvalidParameter: a word is wrong, a base image is blank, or what is asked for needs BuildKit.
    """

    def word(text: str) -> str:
        return expand_word(text, variables, escape)

    return cast(Kind, _expand(instruction, word, lambda text: expand_words(text, variables, escape)))


def _expand(
    instruction: Instruction, word: Callable[[str], str], words: Callable[[str], tuple[str, ...]]
) -> Instruction:
    match instruction:
        case Env():
            return replace(instruction, pairs=_expand_pairs(instruction.pairs, word))
        case Label() if not instruction.is_literal:
            return replace(instruction, pairs=_expand_pairs(instruction.pairs, word))
        case Arg():
            defaults = tuple(
                (word(name), None if value is None else word(value)) for name, value in instruction.defaults
            )
            return replace(instruction, defaults=defaults)
        case Add() | Copy():
            expanded = replace(
                instruction,
                chown=word(instruction.chown),
                chmod=word(instruction.chmod),
                sources=tuple(map(word, instruction.sources)),
                destination=word(instruction.destination),
            )
            _refuse_buildkit_flags(expanded)
            return expanded
        case Run(flags=(flag, *_)):
            raise needs_buildkit(f"--{flag} option")
        case From():
            return _expand_from(instruction, word)
        case Expose():
            ports = tuple(port for text in instruction.ports for port in words(text))
            return replace(instruction, ports=ports)
        case StopSignal():
            return replace(instruction, signal=word(instruction.signal))
        case User():
            return replace(instruction, user=word(instruction.user))
        case Volume():
            return replace(instruction, paths=tuple(map(word, instruction.paths)))
        case Workdir():
            return replace(instruction, path=word(instruction.path))
        case _:
            return instruction


def _expand_pairs(
    pairs: tuple[tuple[str, str], ...], word: Callable[[str], str]
) -> tuple[tuple[str, str], ...]:
    return tuple((word(name), word(value)) for name, value in pairs)


def _expand_from(instruction: From, word: Callable[[str], str]) -> From:
    platform = word(instruction.platform)
    image = word(instruction.image)
    if not image:
        raise errors.InvalidParameter(f"base name ({instruction.image}) should not be blank")
    return replace(instruction, image=image, platform=platform)


def _refuse_buildkit_flags(instruction: Add | Copy) -> None:
    """Refuse what must not be ignored. ``--link`` may be: it says how to be fast, not what to do."""
    if instruction.chmod:
        raise needs_buildkit("--chmod option")
    if isinstance(instruction, Add):
        if instruction.checksum:
            raise needs_buildkit("--checksum option")
        if instruction.keep_git_dir:
            raise needs_buildkit("--keep-git-dir option")
