"""Builds without a machine: what is said and how far a client may fall behind, names of repositories."""

import pytest
import trio
import trio.testing

from proad.engine.buildbases import credentials_for
from proad.engine.buildoutput import MAX_BACKLOG_BYTES, MAX_HELD_BYTES, BuildOutput, StepOutput
from proad.model import errors
from proad.model.credentials import NOBODY, Credentials
from proad.model.giturl import GitUrl, is_git_url, parse_git_url
from proad.model.reference import parse_reference


def output(**options: bool) -> tuple[BuildOutput, list[None]]:
    notified: list[None] = []
    return BuildOutput(lambda: notified.append(None), **options), notified


def test_lines_are_taken_once() -> None:
    said, notified = output()
    assert not said.has_begun
    said.say("one")
    said.aux({"ID": "x"})
    said.warn("two")
    assert (said.has_begun, len(notified)) == (True, 3)
    assert said.take() == [
        {"stream": "one"}, {"aux": {"ID": "x"}}, {"stream": "\x1b[91mtwo\x1b[0m"},
    ]  # fmt: skip
    assert said.take() == []
    assert said.has_begun


def test_a_quiet_build_says_its_end() -> None:
    said, _ = output(quiet=True)
    said.say("held back")
    said.conclude("sha256:x")
    assert said.take() == [{"stream": "sha256:x\n"}]
    said.fail("broken", 3)
    assert said.take() == [
        {"stream": "held back"},
        {"errorDetail": {"code": 3, "message": "broken"}, "error": "broken"},
    ]
    for _ in range(40):
        said.say("x" * (1 << 20))
    said.fail("broken")
    kept = said.take()
    assert sum(len(line.get("stream", "")) for line in kept) <= MAX_HELD_BYTES
    assert kept[-1] == {"errorDetail": {"message": "broken"}, "error": "broken"}


def test_a_step_waits_for_its_client() -> None:
    async def main() -> None:
        said, _ = output()
        step = StepOutput(said)
        await step.room()
        step.stdout(b"x" * (MAX_BACKLOG_BYTES + 1))
        with trio.move_on_after(0.01) as scope:
            await step.room()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(step.room)
            await trio.testing.wait_all_tasks_blocked()
            said.take()

    trio.run(main)


def test_characters_come_in_pieces() -> None:
    said, _ = output()
    step = StepOutput(said)
    for byte in "ä€\n".encode():
        step.stdout(bytes([byte]))
        step.stderr(b"!")
    step.stdout(b"\xe2")
    step.end()
    told = "".join(line["stream"] for line in said.take())
    assert told.replace("\x1b[91m!\x1b[0m", "") == "ä€\n\ufffd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://x/y.git", GitUrl("https://x/y.git", "HEAD", "")),
        ("https://x/y.git#branch:some/where", GitUrl("https://x/y.git", "branch", "some/where")),
        ("git://x/y#:sub", GitUrl("git://x/y", "HEAD", "sub")),
        ("git@x:y/z#v1", GitUrl("git@x:y/z", "v1", "")),
        ("github.com/x/y", GitUrl("https://github.com/x/y", "HEAD", "")),
    ],
)
def test_git_urls(text: str, expected: GitUrl) -> None:
    assert is_git_url(text)
    assert parse_git_url(text) == expected


@pytest.mark.parametrize("text", ["https://x/y.tar", "https://x/y.gitx", "ftp://x/y.git", "", "Dockerfile"])
def test_what_is_no_git_url(text: str) -> None:
    assert not is_git_url(text)


@pytest.mark.parametrize("text", ["git://x/y#--option", "git://x/y#a:-b", "git://x/y#a\nb"])
def test_git_urls_that_could_be_options(text: str) -> None:
    with pytest.raises(errors.InvalidParameter, match="invalid git URL"):
        parse_git_url(text)


def test_credentials_are_those_of_the_registry() -> None:
    hub, own = Credentials(username="hub"), Credentials(username="own")
    known = {"https://index.docker.io/v1/": hub, "https://own:5000/v2/": own}
    assert credentials_for(parse_reference("busybox"), known) is hub
    assert credentials_for(parse_reference("own:5000/x"), known) is own
    assert credentials_for(parse_reference("other/x"), known) is hub
    assert credentials_for(parse_reference("other.example/x"), known) is NOBODY
