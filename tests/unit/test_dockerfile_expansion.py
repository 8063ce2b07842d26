"""Variables, quotes and escapes in Dockerfiles; arguments of builds."""

import pytest

from proad.model import errors
from proad.model.buildargs import BuildArgs
from proad.model.dockerfile import parse_dockerfile
from proad.model.expansion import expand
from proad.model.instructions import Arg, Copy, Env, Expose, From, Instruction, Label, Run
from proad.model.shelllex import MAX_DEPTH, MAX_EXPANDED, expand_word, expand_words

VARIABLES = {
    "a": "one",
    "b": "two words",
    "empty": "",
    "한국": "어",
    "path": "/x/y/file.tar.gz",
    "esc": "a*b",
}


def instruction_of(text: str) -> Instruction:
    return parse_dockerfile(f"FROM x\n{text}".encode()).stages[0].instructions[0]


# --- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("plain", "plain"),
        ("$a", "one"),
        ("${a}b$a", "onebone"),
        ("$unknown.", "."),
        ("$a_", ""),
        ("$1x", "x"),
        ("$12x", "x"),
        ("$@$*$?", ""),
        ("$.", "$."),
        ("end$", "end$"),
        ("$한국", "어"),
        ("\\$a \\${a} \\'", "$a ${a} '"),
        ("a\\tb\\", "atb"),
        ('"a\\tb \\$a \\" \\\\ $a \'$a\'"', "a\\tb $a \" \\ one 'one'"),
        ("'$a \\n \"'", '$a \\n "'),
        ("''\"\"", ""),
        ("${a:-w}", "one"),
        ("${no:-w}", "w"),
        ("${no-w}", "w"),
        ("${empty:-w}", "w"),
        ("${empty-w}", ""),
        ("${a:+w}", "w"),
        ("${a+w}", "w"),
        ("${empty:+w}", ""),
        ("${empty+w}", "w"),
        ("${no+w}", ""),
        ("${a:?w}", "one"),
        ("${empty?w}", ""),
        ("${no:-${b:-x}}", "two words"),
        ("${no:-'}'\"}\"\\}}", "}}}"),
        ("${no:-a {b}c", "a {bc"),
        ("${no:-}", ""),
        ("${no:-\\$a:}", "$a:"),
    ],
)
def test_words(word: str, result: str) -> None:
    assert expand_word(word, VARIABLES) == result


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("${path#*/}", "x/y/file.tar.gz"),
        ("${path##*/}", "file.tar.gz"),
        ("${path%.*}", "/x/y/file.tar"),
        ("${path%%.*}", "/x/y/file"),
        ("${path#?x}", "/y/file.tar.gz"),
        ("${path#nothing}", "/x/y/file.tar.gz"),
        ("${path%}", "/x/y/file.tar.gz"),
        ("${path##}", "/x/y/file.tar.gz"),
        ("${esc#a\\*}", "b"),
        ("${esc%$end}", "a*b"),
        ("${path/y/$a}", "/x/one/file.tar.gz"),
        ("${path//\\//-}", "-x-y-file.tar.gz"),
        ("${path/.*/}", "/x/y/file"),
        ("${path//?/.}", "................"),
        ("${esc/\\*/\\/}", "a\\/b"),
        ("${no/a/b}", ""),
        ("${esc//b*/}", "a*"),
    ],
)
def test_patterns(word: str, result: str) -> None:
    assert expand_word(word, VARIABLES) == result


def test_patterns_end_at_the_end_of_a_line() -> None:
    variables = {"x": "ab\nab\n"}
    assert expand_word("${x##*}", variables) == "\nab\n"
    assert expand_word("${x%%a*}", variables) == "ab\nab\n"
    assert expand_word("${x//a*/c}", variables) == "c\nc\n"
    assert expand_word("${x/b/c}", variables) == "ac\nab\n"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("he'llo", "unexpected end of statement while looking for matching single-quote"),
        ('he"llo\\"', "unexpected end of statement while looking for matching double-quote"),
        ("${", "syntax error: missing '}'"),
        ("${a", "unsupported modifier (\ufffd) in substitution"),
        ("${a:-b", "syntax error: missing '}'"),
        ("${no:-'}", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${{a}}", "syntax error: bad substitution"),
        ("${:-a}", "syntax error: bad substitution"),
        ("${a=b}", "unsupported modifier (=) in substitution"),
        ("${a:=b}", "unsupported modifier (:=) in substitution"),
        ("${a.}", "unsupported modifier (.) in substitution"),
        ("${a/b}", "syntax error: missing '/' in ${}"),
        ("${a/b/c", "syntax error: missing '}'"),
        ("${no?}", "no: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("${no:?set $a}", "no: set one"),
        ("${a#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
    ],
)
def test_wrong_words(word: str, message: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        expand_word(word, VARIABLES)
    quoted = word.replace("\\", "\\\\").replace('"', '\\"')
    assert caught.value.message == f'failed to process "{quoted}": {message}'


def test_backtick_as_escape() -> None:
    assert expand_word('`$a \\x "`$a `` `n"', VARIABLES, "`") == "$a \\x $a ` `n"


def test_words_are_cut_at_blanks_that_are_not_quoted() -> None:
    assert expand_words(' $a  $b "$b"x \\ y ', VARIABLES) == ("one", "two", "words", "two wordsx", " y")
    assert expand_words("$empty", VARIABLES) == ()


def test_growth_and_depth_have_limits() -> None:
    big = {"x": "y" * MAX_EXPANDED}
    assert len(expand_word("$x", big)) == MAX_EXPANDED
    for word in ("$x$x", '"$x$x"', "${x//y/yy}"):
        with pytest.raises(errors.InvalidParameter, match="expands to more than"):
            expand_word(word, big)
    with pytest.raises(errors.InvalidParameter, match="nested too deeply"):
        expand_word("${n:-" * MAX_DEPTH + "}" * MAX_DEPTH, {})
    with pytest.raises(errors.InvalidParameter, match="too long"):
        expand_word("${x#" + "?" * 1000 + "}", big)


# --- instructions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "RUN $a",
        "CMD $a",
        'ENTRYPOINT ["$a"]',
        "HEALTHCHECK CMD $a",
        'SHELL ["$a"]',
        "ONBUILD RUN $a",
        "MAINTAINER $a",
    ],
)
def test_some_instructions_keep_their_variables(text: str) -> None:
    instruction = instruction_of(text)
    assert expand(instruction, VARIABLES) == instruction


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("ENV $a='$a' x=$b", "pairs", (("one", "$a"), ("x", "two words"))),
        ("ENV old $b  ", "pairs", (("old", "two words"),)),
        ("ENV a=1 c=$a", "pairs", (("a", "1"), ("c", "one"))),
        ("LABEL k=\"$a\"", "pairs", (("k", "one"),)),
        ("ARG $a x=${a}", "defaults", (("one", None), ("x", "one"))),
        ("COPY --chown=$a $b \"$a\" $a", "sources", ("two words", "one")),
        ("COPY --chown=$a x y", "chown", "one"),
        ("COPY --from=$a x y", "from_", "$a"),
        ("ADD x $path", "destination", "/x/y/file.tar.gz"),
        ("EXPOSE $b $a/udp", "ports", ("one/udp", "two", "words")),
        ("VOLUME $b /c", "paths", ("two words", "/c")),
        ("VOLUME [\"$a\"]", "paths", ("one",)),
        ("USER $a", "user", "one"),
        ("WORKDIR /$a", "path", "/one"),
        ("STOPSIGNAL $a", "signal", "one"),
    ],
)  # fmt: skip
def test_some_instructions_take_variables(text: str, field: str, value: object) -> None:
    assert getattr(expand(instruction_of(text), VARIABLES), field) == value


def test_label_of_the_request_is_taken_as_it_is() -> None:
    label = Label(pairs=(("a", "$a 'b"),), is_literal=True)
    assert expand(label, VARIABLES) == label


def test_from() -> None:
    base = From(image="x:${v:-1}", platform="$p")
    assert expand(base, {"p": "linux/arm64"}) == From(image="x:1", platform="linux/arm64")
    with pytest.raises(errors.InvalidParameter) as caught:
        expand(From(image="$none"), {})
    assert caught.value.message == "base name ($none) should not be blank"


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("COPY --chmod=1 a b", "chmod"),
        ("ADD --chmod=1 a b", "chmod"),
        ("ADD --checksum=sha256:1 a b", "checksum"),
        ("ADD --keep-git-dir a b", "keep-git-dir"),
        ("RUN --mount=type=cache,target=/x y", "mount"),
        ("RUN --network=none y", "network"),
    ],
)
def test_what_only_buildkit_does_is_refused(text: str, option: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        expand(instruction_of(text), {})
    assert caught.value.message == (
        f"the --{option} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ "
        "to learn how to build images with BuildKit enabled"
    )


def test_link_is_no_more_than_a_hint() -> None:
    assert isinstance(expand(instruction_of("COPY --link a b"), {}), Copy)
    assert isinstance(expand(instruction_of("RUN a"), {}), Run)


# --- arguments of builds ------------------------------------------------------------------------------------


def arg(**defaults: str | None) -> Arg:
    return Arg(defaults=tuple(defaults.items()))


def test_arguments_before_from_reach_froms_and_give_defaults() -> None:
    args = BuildArgs(given={"b": "given"}).with_argument(arg(a="1", b="2", c=None), before_from=True)
    assert args.in_from() == {"a": "1", "b": "given"}
    stage = args.new_stage()
    assert stage.variables(()) == {}
    assert stage.with_argument(arg(a=None, c=None)).variables(()) == {"a": "1"}
    assert stage.with_argument(arg(a="own")).variables(()) == {"a": "own"}


def test_what_the_request_gives_needs_an_arg_and_goes_before_its_default() -> None:
    args = BuildArgs(given={"x": "given", "none": None})
    assert args.variables(()) == {}
    assert args.with_argument(arg(x="default", none="default")).variables(()) == {
        "x": "given",
        "none": "default",
    }
    assert args.with_argument(arg(x=None)).new_stage().variables(()) == {}


def test_environment_hides_arguments() -> None:
    args = BuildArgs().with_argument(arg(a="1", b="2"))
    assert args.variables(["a=env", "c=3"]) == {"a": "env", "b": "2", "c": "3"}
    assert args.for_run(["a=env"]) == ("b=2",)


def test_proxies_need_no_arg_and_leave_no_trace_without_one() -> None:
    args = BuildArgs(given={"HTTP_PROXY": "p", "all_proxy": "q", "other": "r"})
    assert args.for_run(()) == ("HTTP_PROXY=p", "all_proxy=q")
    assert args.for_history(()) == ()
    assert args.with_argument(arg(HTTP_PROXY=None)).for_history(()) == ("HTTP_PROXY=p",)
    assert args.unused() == ("other",)
    assert args.with_argument(arg(other=None)).new_stage().unused() == ()


def test_instructions_see_what_came_before() -> None:
    args = BuildArgs().with_argument(arg(p="80 443"))
    ports = expand(Expose(ports=("$p",)), args.variables(()))
    assert ports.ports == ("80", "443")
    assert expand(Env(pairs=(("x", "$p"),)), args.variables(["p=mine"])).pairs == (("x", "mine"),)
