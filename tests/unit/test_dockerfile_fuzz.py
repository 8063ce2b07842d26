"""Whatever a Dockerfile holds, it is understood or refused."""

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proad.model import errors
from proad.model.changes import apply_changes
from proad.model.configure import configure, describe
from proad.model.dockerfile import parse_dockerfile
from proad.model.dockerignore import parse_dockerignore
from proad.model.expansion import expand
from proad.model.gopath import match
from proad.model.image import ImageConfig
from proad.model.instructions import Instruction
from proad.model.shelllex import MAX_EXPANDED
from proad.model.statements import KEYWORDS

PIECES = st.sampled_from(
    [
        *KEYWORDS, "CMD", "NONE", "AS", "--from=", "--chown=", "--interval=", "--retries=", "--mount=", "--",
        *"=\\`\"'$ \t\n\r#{}[]:,/*?%@!-+<\0\x1c\x85\u2028\ufeff\ud7ff\U0001f600", "${a", ":-", "##", "//",
        "<<EOF",
        '["a", "b"]', '["\\ud800"]', "[" * 50, "a", "b=c", "80/tcp", "1-65535", "9" * 400 + "h", "1e999",
    ]
)  # fmt: skip
LINES = st.builds("{} {}".format, st.sampled_from(KEYWORDS), st.lists(PIECES, max_size=8).map("".join))
FILES = st.one_of(
    st.lists(LINES, max_size=6).map(
        lambda lines: "\n".join(["ARG a=1", "FROM x", *lines]).encode(errors="replace")
    ),
    st.lists(PIECES, max_size=30).map(lambda pieces: "".join(pieces).encode(errors="replace")),
    st.binary(max_size=200),
)
VARIABLES = {"a": "x*y\nz", "b": "", "c": "'\"\\ "}


def try_instruction(instruction: Instruction, config: ImageConfig, escape: str) -> ImageConfig:
    try:
        expanded = expand(instruction, VARIABLES, escape)
        config = configure(expanded, config)
    except errors.InvalidParameter:
        return config
    describe(expanded, config).encode()
    return config


@settings(deadline=None, max_examples=300)
@given(FILES)
@example(b"FROM x\nHEALTHCHECK --interval=" + b"9" * 400 + b"h CMD x")
@example(b"FROM x\nHEALTHCHECK --interval=" + b"9" * 60000 + b" CMD x")
@example(b"# escape=x" + b" " * 60000 + b"y\nFROM x")
@example(b"FROM x\nRUN x\\" + b" \\" * 30000 + b"y")
@example(b"FROM x\nCMD " + b"[" * 60000)
@example(b'FROM x\nCMD ["\\ud800"]')
@example(b"FROM x\n" + b"ONBUILD " * 8000 + b"RUN x")
@example(b"FROM x\nENV a=" + b"${a:-" * 10000)
@example(b'FROM x\nENV a="' + b'${a:+"' * 99 + b'"}' * 99 + b'"')
@example(b"FROM x\nRUN a" + b"\\\n" * 20000)
@example(b"FROM x\nENV a=${a//" + b"*a" * 20000 + b"b/c}")
@example(b"FROM x\nEXPOSE " + b" ".join(b"%d-65535" % port for port in range(1, 4000)))
@example(b"# escape=`\nFROM x\nENV a=`")
def test_any_dockerfile_is_understood_or_refused(content: bytes) -> None:
    try:
        dockerfile = parse_dockerfile(content)
    except errors.InvalidParameter as error:
        error.message.encode()
        return
    config = ImageConfig()
    for stage in dockerfile.stages:
        for instruction in (stage.base, *stage.instructions):
            config = try_instruction(instruction, config, dockerfile.escape)
    msgspec.json.encode((dockerfile, config))


@settings(deadline=None)
@given(st.lists(st.one_of(LINES, st.text(max_size=30)), max_size=5))
def test_any_changes_are_applied_or_refused(changes: list[str]) -> None:
    try:
        msgspec.json.encode(apply_changes(ImageConfig(env=("a=1",)), changes))
    except errors.InvalidParameter as error:
        error.message.encode()


@settings(deadline=None)
@given(st.text(alphabet="ab*?[]^-\\/!# \n.", max_size=30), st.text(alphabet="ab*]/.", max_size=20))
def test_any_ignore_file_is_understood_or_refused(content: str, path: str) -> None:
    try:
        patterns = parse_dockerignore(content.encode())
    except errors.InvalidParameter:
        return
    patterns.excludes(path)


@settings(deadline=None)
@given(st.text(alphabet="ab*?[]^-\\/", max_size=12), st.text(alphabet="ab*]/", max_size=12))
def test_any_pattern_matches_or_is_refused(pattern: str, name: str) -> None:
    try:
        match(pattern, name)
    except errors.InvalidParameter:
        return


def test_variables_cannot_grow_without_end() -> None:
    with pytest.raises(errors.InvalidParameter, match="expands to more than"):
        apply_changes(ImageConfig(), [f"ENV a={'x' * 100}", *["ENV a=$a$a"] * 60])
    config = apply_changes(ImageConfig(), [f"ENV a={'x' * 100}", *["ENV a=$a$a"] * 10])
    assert len(config.env[0]) < MAX_EXPANDED
