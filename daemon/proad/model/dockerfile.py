"""Sync, pure. Dockerfiles as Docker's classic builder reads them (moby: ``daemon/builder/dockerfile`` and the
parser that it takes from BuildKit).

A file is read in two steps, and an error of the first is told before any of the second: lines are joined and
cut into keyword, flags and arguments; then each becomes a typed instruction, and instructions become stages.
"""

import msgspec

from proad.model import errors
from proad.model.instructionparse import parse_instruction
from proad.model.instructions import Arg, From, Instruction
from proad.model.statements import read_statements


class Stage(msgspec.Struct, frozen=True):
    """A FROM and what follows it."""

    base: From
    instructions: tuple[Instruction, ...] = ()


class Dockerfile(msgspec.Struct, frozen=True):
    """A whole file: the ARGs before the first FROM, the stages, the escape character (backslash or backtick),
    and lines that a builder prints before it begins, as warnings.
    """

    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """How many a builder counts."""
        return len(self.arguments) + sum(1 + len(stage.instructions) for stage in self.stages)

    def until(self, target: str) -> "Dockerfile":
        """Without the stages after the one that is wanted; capitals do not matter in its name.

        Raises:
            errors.InvalidParameter: there is no such stage.
        """
        for index, stage in enumerate(self.stages):
            if stage.base.name == target.lower():
                return msgspec.structs.replace(self, stages=self.stages[: index + 1])
        raise errors.InvalidParameter(f'target stage "{target}" could not be found')


def parse_dockerfile(content: bytes, name: str = "Dockerfile") -> Dockerfile:
    """Read a Dockerfile.

    Args:
        name: the file's, for messages.

    Raises:
        errors.InvalidParameter: with Docker's words for what is wrong, and mostly where.
    """
    if not content:
        raise errors.InvalidParameter(f"the Dockerfile ({name}) cannot be empty")
    try:
        statements = read_statements(content)
    except errors.InvalidParameter as error:
        raise errors.InvalidParameter(f"failed to parse {name}: {error.message}") from None
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for statement in statements.statements:
        try:
            instruction = parse_instruction(statement)
        except errors.InvalidParameter as error:
            text = f"dockerfile parse error on line {statement.line}: {error.message}"
            raise errors.InvalidParameter(text) from None
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            raise errors.InvalidParameter("no build stage in current context")
    return Dockerfile(
        arguments=tuple(arguments),
        stages=tuple(Stage(base, tuple(instructions)) for base, instructions in stages),
        escape=statements.escape,
        warnings=statements.warnings,
    )


def parse_trigger(trigger: str) -> Instruction:
    """Read one instruction that an image asks of builds on top of it.

    Raises:
        errors.InvalidParameter: it is not one instruction, or is wrong.
    """
    statements = read_statements(trigger.encode()).statements
    if len(statements) != 1:
        raise errors.InvalidParameter("onbuild trigger should be a single expression")
    instruction = parse_instruction(statements[0])
    if isinstance(instruction, From):
        raise errors.InvalidParameter("FROM isn't allowed as an ONBUILD trigger")
    return instruction
