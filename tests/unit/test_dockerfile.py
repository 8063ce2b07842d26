"""Dockerfiles: lines, directives, flags, arguments, typed instructions and stages."""

import pytest

from proad.model import errors
from proad.model.dockerfile import Dockerfile, parse_dockerfile, parse_trigger
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
from proad.model.statements import MAX_LINE_BYTES

BUILDKIT = (
    "requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ "
    "to learn how to build images with BuildKit enabled"
)


def parse(text: str) -> Dockerfile:
    return parse_dockerfile(text.encode())


def parse_one(text: str) -> Instruction:
    """The instruction after a FROM, without its place and original text."""
    (instruction,) = parse(f"FROM x\n{text}").stages[0].instructions
    return type(instruction)(
        **{
            name: getattr(instruction, name)
            for name in instruction.__struct_fields__
            if name not in ("original", "line", "end_line")
        }
    )


def shell(text: str) -> CommandLine:
    return CommandLine((text,))


def words(*texts: str) -> CommandLine:
    return CommandLine(texts, is_shell=False)


def refusal(text: str) -> str:
    with pytest.raises(errors.InvalidParameter) as caught:
        parse(text)
    return caught.value.message


# --- lines --------------------------------------------------------------------------------------------------


def runs(text: str) -> list[str]:
    return [instruction.original for instruction in parse(f"FROM x\n{text}").stages[0].instructions]


@pytest.mark.parametrize(
    ("text", "originals"),
    [
        ("RUN a\n\n# comment\n  # indented\n\tRUN b", ["RUN a", "RUN b"]),
        ("RUN a \\\n  b \\ \t\nc", ["RUN a   b c"]),
        ("RUN a \\\n# between\n  # and indented\n b", ["RUN a  b"]),
        ("RUN a\\\\\nRUN b", ["RUN a\\\\", "RUN b"]),
        ("RUN a\\ b\nRUN c", ["RUN a\\ b", "RUN c"]),
        ("\\\nRUN a", ["RUN a"]),
        ("RUN a # not a comment", ["RUN a # not a comment"]),
        ("RUN a \\", ["RUN a"]),
        ("RUN a\r\nRUN b \\\r\n c\r\n", ["RUN a", "RUN b  c"]),
        ("\u2003run \u00e9", ["run \u00e9"]),
    ],
)
def test_lines_are_joined_and_comments_dropped(text: str, originals: list[str]) -> None:
    assert runs(text) == originals


def test_byte_order_mark_and_bytes_that_are_no_utf_8_do_no_harm() -> None:
    dockerfile = parse_dockerfile(b"\xef\xbb\xbf# escape=`\nFROM x\nRUN \xff `\n y")
    assert dockerfile.escape == "`"
    assert dockerfile.stages[0].instructions[0].original == "RUN \ufffd  y"


def test_instructions_know_their_lines() -> None:
    dockerfile = parse("# c\n\nFROM x\nRUN a \\\n b\n\nRUN c")
    places = [(i.line, i.end_line) for i in (dockerfile.stages[0].base, *dockerfile.stages[0].instructions)]
    assert places == [(3, 3), (4, 5), (7, 7)]


def test_empty_continuation_lines_are_warned_of() -> None:
    dockerfile = parse("FROM x\nRUN a \\\n\n  b\nRUN c \\\n# comments are none\n d\nRUN e \\\n \n f")
    assert dockerfile.warnings == (
        "[WARNING]: Empty continuation line found in: RUN a   b",
        "[WARNING]: Empty continuation line found in: RUN e  f",
        "[WARNING]: Empty continuation lines will become errors in a future release.",
    )
    assert parse("FROM x\nRUN a").warnings == ()


def test_longest_line() -> None:
    longest = "RUN " + "a" * (MAX_LINE_BYTES - 4)
    assert runs(longest) == [longest]
    assert runs(f"{longest}\nRUN b") == [longest, "RUN b"]
    message = "failed to parse Dockerfile: dockerfile line greater than max allowed size of 65535"
    assert refusal(f"FROM x\n{longest}a") == message
    assert refusal(f"FROM x\nRUN b \\\n{longest}a\nRUN c") == message


# --- directives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "escape"),
    [
        ("# escape=`\nFROM x", "`"),
        ("#EsCaPe = ` \nFROM x", "`"),
        ("# escape=\\\nFROM x", "\\"),
        ("# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\nFROM x", "`"),
        ("# a comment\n# escape=`\nFROM x", "\\"),
        ("\n# escape=`\nFROM x", "\\"),
        ("# unknown=x\n# escape=`\nFROM x", "\\"),
        ("FROM x\n# escape=`", "\\"),
        ("#!/usr/bin/env docker\n# escape=`\nFROM x", "\\"),
    ],
)
def test_directives_stand_before_everything_else(text: str, escape: str) -> None:
    assert parse(text).escape == escape


def test_backtick_joins_lines_where_it_is_the_escape() -> None:
    (run,) = parse("# escape=`\nFROM x\nRUN c:\\ `\n d").stages[0].instructions
    assert run.original == "RUN c:\\  d"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# escape=x\nFROM x", "invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM x", "only one escape parser directive can be used"),
        ("# syntax=a\n# syntax=b\nFROM x", "only one syntax parser directive can be used"),
    ],
)
def test_wrong_directives(text: str, message: str) -> None:
    assert refusal(text) == f"failed to parse Dockerfile: {message}"


# --- typed instructions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        ("RUN a  b", Run(command=shell("a  b"))),
        ('RUN ["a", "b c"]', Run(command=words("a", "b c"))),
        ("RUN ['a']", Run(command=shell("['a']"))),
        ('RUN ["a"] b', Run(command=shell('["a"] b'))),
        ('RUN ["a"', Run(command=shell('["a"'))),
        ("RUN [ -f x ] && y", Run(command=shell("[ -f x ] && y"))),
        ("RUN", Run(command=CommandLine(()))),
        ("RUN -- --mount=x", Run(command=shell("--mount=x"))),
        ("RUN --mount=type=cache,target=/x --mount=type=tmpfs,target=/y --network=none z",
         Run(command=shell("z"), flags=("mount", "network"))),
        ('CMD ["a"]', Cmd(command=words("a"))),
        ("CMD []", Cmd(command=words())),
        ("ENTRYPOINT exec x", Entrypoint(command=shell("exec x"))),
        ('SHELL ["/bin/bash", "-c"]', Shell(words=("/bin/bash", "-c"))),
        ("COPY a b /c/", Copy(sources=("a", "b"), destination="/c/")),
        ('COPY --chown=1:2 --from=0 ["a b", "c"]',
         Copy(sources=("a b",), destination="c", from_="0", chown="1:2")),
        ('COPY --chown="a b" --link=false x y', Copy(sources=("x",), destination="y", chown="a b")),
        ("COPY --chmod=755 --link a b", Copy(sources=("a",), destination="b", chmod="755", link=True)),
        ("ADD --checksum=x --keep-git-dir=True u /",
         Add(sources=("u",), destination="/", checksum="x", keep_git_dir=True)),
        ("ENV a=b c='d e' f=\\ g \"h\"=",
         Env(pairs=(("a", "b"), ("c", "'d e'"), ("f", "\\ g"), ('"h"', "")))),
        ("ENV a b=c  d", Env(pairs=(("a", "b=c  d"),))),
        ("ENV\ta\tb", Env(pairs=(("a", "b"),))),
        ("ENV a=b\\", Env(pairs=(("a", "b"),))),
        ("LABEL x.y=1 z", "error"),
        ('LABEL "a b"="c=d"', Label(pairs=(('"a b"', '"c=d"'),))),
        ("ARG a b= c=d", Arg(defaults=(("a", None), ("b", ""), ("c", "d")))),
        ("EXPOSE 90 80/udp", Expose(ports=("80/udp", "90"))),
        ("VOLUME /a /b", Volume(paths=("/a", "/b"))),
        ('VOLUME [" /a b "]', Volume(paths=("/a b",))),
        ("USER a:b", User(user="a:b")),
        ("WORKDIR a b", Workdir(path="a b")),
        ("STOPSIGNAL 9", StopSignal(signal="9")),
        ("MAINTAINER Me <me@x>", Maintainer(name="Me <me@x>")),
        ("ONBUILD  run  a", OnBuild(trigger="run  a")),
        ("onbuild COPY --from=x a b", OnBuild(trigger="COPY --from=x a b")),
        ("HEALTHCHECK NONE", HealthcheckInstruction(healthcheck=Healthcheck(test=("NONE",)))),
        ("HEALTHCHECK --interval=1m30s --timeout=0 cmd a b",
         HealthcheckInstruction(healthcheck=Healthcheck(test=("CMD-SHELL", "a b"), interval=90 * 10**9))),
        ('HEALTHCHECK --retries=2147483647 --start-period=1s --start-interval=2s CMD ["a"]',
         HealthcheckInstruction(healthcheck=Healthcheck(
             test=("CMD", "a"), retries=2**31 - 1, start_period=10**9, start_interval=2 * 10**9))),
    ],
)  # fmt: skip
def test_instructions(text: str, instruction: Instruction | str) -> None:
    if isinstance(instruction, str):
        assert "can't find = in" in refusal(f"FROM x\n{text}")
    else:
        assert parse_one(text) == instruction


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FOO bar", "unknown instruction: FOO (did you mean FROM?)"),
        ("NOTHING", "unknown instruction: NOTHING"),
        ("RUNN x", "unknown instruction: RUNN (did you mean RUN?)"),
        ("coppy a b", "unknown instruction: coppy (did you mean copy?)"),
        ("RUN --bogus x", "unknown flag: --bogus"),
        ("COPY --form=x a b", "unknown flag: --form (did you mean from?)"),
        ("COPY --from x y", "missing a value on flag: --from"),
        ("COPY --from=a --from=b x y", "duplicate flag specified: --from"),
        ("COPY --link= x y", "missing a value on flag: --link"),
        ("COPY --link=maybe x y", "expecting boolean value for flag --link, not: maybe"),
        ("CMD --x y", "unknown flag: --x"),
        ("EXPOSE --x 80", "unknown flag: --x"),
        ("COPY a", "COPY requires at least two arguments, but only one was provided. "
                   "Destination could not be determined"),
        ("ADD", "ADD requires at least two arguments, but only one was provided. "
                "Destination could not be determined"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a AS", "FROM requires either one or three arguments"),
        ("FROM a IN b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b", '
                         "name can't start with a number or contain symbols"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV =b", "ENV names can not be blank"),
        ("LABEL =b", "LABEL names can not be blank"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =b", "ARG names can not be blank"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ('VOLUME [" "]', "VOLUME specified can not be an empty string"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("SHELL sh -c", "SHELL requires the arguments to be in JSON form"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD onbuild RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK maybe", 'Unknown type "MAYBE" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --timeout=-1s CMD x", 'Interval "timeout" cannot be less than 1ms'),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --retries=2147483648 CMD x", "--retries is not a number: 2147483648"),
        ("RUN cat <<EOF\nfoo\nEOF", f"the here-document <<EOF {BUILDKIT}"),
        ("COPY <<-'X' /y\nX", f"the here-document <<-'X' {BUILDKIT}"),
        ("ONBUILD RUN <<X", f"the here-document <<X {BUILDKIT}"),
    ],
)  # fmt: skip
def test_wrong_instructions_are_told_with_their_line(text: str, message: str) -> None:
    assert refusal(f"FROM x\n# comment\n{text}") == f"dockerfile parse error on line 3: {message}"


@pytest.mark.parametrize("text", ["RUN x <<<y", 'RUN echo "a << b"', "RUN echo $((1 << 3))", 'RUN ["<<EOF"]'])
def test_what_looks_like_a_here_document_and_is_none(text: str) -> None:
    assert parse_one(text).keyword == "RUN"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENV a", "ENV must have two arguments"),
        ("LABEL a", "LABEL must have two arguments"),
        ('ENV a=b "c d"', 'Syntax error - can\'t find = in "\\"c d\\"". Must be of the form: name=value'),
        ('CMD ["a", 1]', "when using JSON array syntax, arrays must be comprised of strings only"),
        ("ONBUILD ENV a", "ENV must have two arguments"),
        ("FOO\nENV a", "ENV must have two arguments"),
    ],
)
def test_wrong_arguments_are_told_before_wrong_instructions(text: str, message: str) -> None:
    assert refusal(f"FROM x\n{text}") == f"failed to parse Dockerfile: {message}"


# --- stages -------------------------------------------------------------------------------------------------


def test_stages() -> None:
    dockerfile = parse(
        "ARG v=1\nFROM a:$v AS Low\nRUN x\nFROM --platform=linux/amd64 low\nfrom b as c\nRUN y\nRUN z"
    )
    assert [argument.defaults for argument in dockerfile.arguments] == [(("v", "1"),)]
    assert [(stage.base.image, stage.base.name, stage.base.platform) for stage in dockerfile.stages] == [
        ("a:$v", "low", ""), ("low", "", "linux/amd64"), ("b", "c", ""),
    ]  # fmt: skip
    assert [len(stage.instructions) for stage in dockerfile.stages] == [1, 0, 2]
    assert dockerfile.steps == 7


def test_target_ends_the_file() -> None:
    dockerfile = parse("FROM a AS one\nFROM b AS two\nRUN x\nFROM c")
    assert [stage.base.image for stage in dockerfile.until("TWO").stages] == ["a", "b"]
    with pytest.raises(errors.InvalidParameter, match='target stage "three" could not be found'):
        dockerfile.until("three")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("\n# only comments\n", "failed to parse Dockerfile: file with no instructions"),
        ("RUN x", "no build stage in current context"),
        ("ARG a\nENV b=c\nFROM x", "no build stage in current context"),
    ],
)
def test_files_without_a_stage(text: str, message: str) -> None:
    assert refusal(text) == message


def test_messages_bear_the_name_of_the_file() -> None:
    with pytest.raises(errors.InvalidParameter, match=r"^failed to parse sub/My\.file: file with no"):
        parse_dockerfile(b"#", "sub/My.file")


def test_only_arguments_is_a_file_without_stages() -> None:
    assert parse("ARG a").stages == ()


def test_triggers() -> None:
    trigger = parse_trigger("COPY --chown=a b c")
    assert isinstance(trigger, Copy)
    assert trigger.chown == "a"
    for text, message in (
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("FOO", "unknown instruction: FOO (did you mean FROM?)"),
    ):
        with pytest.raises(errors.InvalidParameter) as caught:
            parse_trigger(text)
        assert caught.value.message == message


def test_every_instruction_has_its_keyword() -> None:
    assert {kind.keyword for kind in Instruction.__subclasses__()} == {
        "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
        "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
    }  # fmt: skip
    assert From(image="x").keyword == "FROM"
