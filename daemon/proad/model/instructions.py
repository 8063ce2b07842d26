"""Sync, pure. The instructions of a Dockerfile, typed, as Docker's classic builder knows them.

Values are as written: quotes, escapes and variables are still in them until
:func:`proad.model.expansion.expand` is asked. ``original`` is the whole instruction, continuation lines
joined, as builders print it; ``line`` and ``end_line`` count from 1.
"""

from typing import ClassVar

import msgspec

from proad.model.hostconfig import Healthcheck


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """What all have. ``keyword`` is in capitals."""

    keyword: ClassVar[str] = ""

    original: str = ""
    line: int = 0
    end_line: int = 0


class CommandLine(msgspec.Struct, frozen=True):
    """What RUN, CMD and ENTRYPOINT run: the words of the JSON form, or one text for the shell."""

    words: tuple[str, ...] = ()
    is_shell: bool = True

    def argv(self, shell: tuple[str, ...]) -> tuple[str, ...]:
        """All of it, the shell put before where one is to read it."""
        return (*shell, *self.words) if self.is_shell else self.words


class From(Instruction, frozen=True, kw_only=True):
    """``FROM [--platform=platform] image [AS name]``; ``name`` is in small letters, or empty."""

    keyword = "FROM"

    image: str
    platform: str = ""
    name: str = ""


class Arg(Instruction, frozen=True, kw_only=True):
    """``ARG name[=default] …``; None where no default is given."""

    keyword = "ARG"

    defaults: tuple[tuple[str, str | None], ...]


class Env(Instruction, frozen=True, kw_only=True):
    """``ENV key=value …`` or ``ENV key value``."""

    keyword = "ENV"

    pairs: tuple[tuple[str, str], ...]


class Label(Instruction, frozen=True, kw_only=True):
    """``LABEL key=value …`` or ``LABEL key value``; a literal one came with the request."""

    keyword = "LABEL"

    pairs: tuple[tuple[str, str], ...]
    is_literal: bool = False


class Run(Instruction, frozen=True, kw_only=True):
    """``RUN command``; ``flags`` are the names of those it was given, all of them BuildKit's."""

    keyword = "RUN"

    command: CommandLine
    flags: tuple[str, ...] = ()


class Cmd(Instruction, frozen=True, kw_only=True):
    """``CMD command``."""

    keyword = "CMD"

    command: CommandLine


class Entrypoint(Instruction, frozen=True, kw_only=True):
    """``ENTRYPOINT command``."""

    keyword = "ENTRYPOINT"

    command: CommandLine


class Copy(Instruction, frozen=True, kw_only=True):
    """``COPY [--from=stage or image] [--chown=user:group] source … destination``."""

    keyword = "COPY"

    sources: tuple[str, ...]
    destination: str
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False


class Add(Instruction, frozen=True, kw_only=True):
    """``ADD [--chown=user:group] source … destination``; sources may be URLs, tar archives are unpacked."""

    keyword = "ADD"

    sources: tuple[str, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    link: bool = False


class Expose(Instruction, frozen=True, kw_only=True):
    """``EXPOSE port[-port][/protocol] …``, sorted as texts."""

    keyword = "EXPOSE"

    ports: tuple[str, ...]


class Volume(Instruction, frozen=True, kw_only=True):
    """``VOLUME path …`` or the JSON form."""

    keyword = "VOLUME"

    paths: tuple[str, ...]


class User(Instruction, frozen=True, kw_only=True):
    """``USER user[:group]``."""

    keyword = "USER"

    user: str


class Workdir(Instruction, frozen=True, kw_only=True):
    """``WORKDIR path``; relative to the one before."""

    keyword = "WORKDIR"

    path: str


class StopSignal(Instruction, frozen=True, kw_only=True):
    """``STOPSIGNAL signal``."""

    keyword = "STOPSIGNAL"

    signal: str


class HealthcheckInstruction(Instruction, frozen=True, kw_only=True):
    """``HEALTHCHECK [flags] CMD command`` or ``HEALTHCHECK NONE``."""

    keyword = "HEALTHCHECK"

    healthcheck: Healthcheck


class Shell(Instruction, frozen=True, kw_only=True):
    """``SHELL ["shell", "flag"]``."""

    keyword = "SHELL"

    words: tuple[str, ...]


class OnBuild(Instruction, frozen=True, kw_only=True):
    """``ONBUILD instruction``; ``trigger`` is the instruction as it was written."""

    keyword = "ONBUILD"

    trigger: str


class Maintainer(Instruction, frozen=True, kw_only=True):
    """``MAINTAINER name``; becomes the author of the image."""

    keyword = "MAINTAINER"

    name: str
