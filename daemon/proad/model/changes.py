"""Sync, pure. Dockerfile instructions that change the configuration of an image (``docker import --change``).

Understood are those that Docker allows there: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
STOPSIGNAL, USER, VOLUME, WORKDIR. Variables are those of the image's environment so far.
"""

from collections.abc import Iterable

from proad.model import errors
from proad.model.configure import configure
from proad.model.expansion import expand
from proad.model.image import ImageConfig
from proad.model.instructionparse import parse_instruction
from proad.model.instructions import Cmd
from proad.model.statements import Statement, read_statements

_ALLOWED = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME",
    "WORKDIR",
)  # fmt: skip


def apply_changes(config: ImageConfig, changes: Iterable[str]) -> ImageConfig:
    """The configuration after all instructions, in order; one text may hold several lines.

    Raises:
        errors.InvalidParameter: an instruction is unknown, not allowed here, or wrong.
    """
    text = "\n".join(changes)
    if not text.strip():
        return config
    read = read_statements(text.encode(errors="replace"))
    for statement in read.statements:
        _check(statement)
    has_cmd = False
    for instruction in map(parse_instruction, read.statements):
        environment = dict(variable.partition("=")[::2] for variable in config.env)
        config = configure(expand(instruction, environment, read.escape), config, has_cmd=has_cmd)
        has_cmd = has_cmd or (isinstance(instruction, Cmd) and bool(instruction.command.words))
    return config


def _check(statement: Statement) -> None:
    keyword = statement.keyword.upper()
    if keyword not in _ALLOWED:
        raise errors.InvalidParameter(f"{keyword.lower()} is not a valid change command")
    if not statement.arguments and not statement.is_json:
        raise errors.InvalidParameter(f"{keyword} requires at least one argument")
