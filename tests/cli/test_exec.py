"""`proa exec`, and the Python API's execs."""

from collections.abc import Callable
from pathlib import Path

import pytest

import proa as proa_api
from tests.api import steps
from tests.cli.conftest import Proa
from tests.cli.dialogue import Dialogue
from tests.support.rawhttp import Api

Terminal = Callable[..., Dialogue]


@pytest.fixture
def container(api: Api, image: str) -> str:
    """A container called `box` that sleeps."""
    return steps.start(api, image, name="box", HostConfig={"NetworkMode": "none"})


def test_streams_and_exit_code(proa: Proa, container: str) -> None:
    assert proa("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert proa("exec", "-i", "box", "cat", input=b"typed") == (0, "typed", "")
    assert proa("exec", "box", "cat", input=b"not typed") == (0, "", "")
    assert proa("container", "exec", "box", "true").code == 0


def test_what_it_is_given(proa: Proa, container: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nFROM_FILE=1\n")
    said = proa(
        "exec", "-e", "A=2", "--env-file", str(tmp_path / "env"), "-w", "/etc", "-u", "7:8", "box",
        "sh", "-c", "echo $A $FROM_FILE; pwd; id -u; id -g",
    )  # fmt: skip
    assert said == (0, "2 1\n/etc\n7\n8\n", "")
    _, plain, _ = proa("exec", "box", "grep", "CapEff", "/proc/self/status")
    _, privileged, _ = proa("exec", "--privileged", "box", "grep", "CapEff", "/proc/self/status")
    assert int(privileged.split()[1], 16) > int(plain.split()[1], 16)


def test_in_the_background(proa: Proa, container: str) -> None:
    assert proa("exec", "-d", "box", "touch", "/made") == (0, "", "")
    steps.until(lambda: proa("exec", "box", "test", "-e", "/made").code == 0)
    said = proa("exec", "-d", "box", "nope")
    assert said.code == 1
    assert "executable file not found in $PATH" in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["box", "nope"], 127, "executable file not found in $PATH"),
        (["box", "/etc"], 126, "permission denied"),
        (["-w", "/nowhere", "box", "true"], 127, "no such file or directory"),
        (["-u", "nobody", "box", "true"], 1, "unable to find user nobody"),
        (["none", "true"], 1, "No such container: none"),
        (["-it", "box", "sh"], 1, "the input device is not a TTY"),
        (["-e", "=1", "box", "true"], 1, "invalid environment variable: =1"),
        (["--env-file", "/no/such", "box", "true"], 1, "open /no/such: No such file or directory"),
        (["--detach-keys", "ctrl-nonsense", "box", "true"], 1, "in the detach keys"),
        (["box"], 1, "requires at least 2 arguments"),
    ],
)
def test_failures(proa: Proa, container: str, arguments: list[str], code: int, words: str) -> None:
    said = proa("exec", *arguments)
    assert said.code == code, said
    assert words in said.out + said.err
    assert "Traceback" not in said.err


def test_a_terminal(terminal: Terminal, container: str) -> None:
    dialogue = terminal("exec", "-it", "box", "sh", rows=33, columns=77)
    dialogue.expect("# ")
    dialogue.type("stty size\r")
    dialogue.expect("33 77")
    dialogue.resize(20, 50)
    dialogue.type("stty size; exit 5\r")
    dialogue.expect("20 50")
    assert dialogue.end() == 5


def test_the_detach_keys(terminal: Terminal, api: Api, container: str) -> None:
    dialogue = terminal("exec", "-it", "--detach-keys", "ctrl-a,d", "box", "sh", "-c", "echo on; sleep 1000")
    dialogue.expect("on")
    steps.until(dialogue.is_raw)
    dialogue.type("\x01d")
    dialogue.expect("read escape sequence")
    assert dialogue.end() == 1
    assert len(steps.inspect(api, "box")["ExecIDs"]) == 1


def test_from_python(client: proa_api.Client, container: str) -> None:
    assert client.execs.run("box", ["sh", "-c", "echo o; echo e >&2; exit 3"]) == (3, b"o\n", b"e\n")
    exec_id = client.execs.create("box", {"Cmd": ["sleep", "1000"]})
    client.execs.start_detached(exec_id)
    assert client.execs.inspect(exec_id)["Running"] is True
    with pytest.raises(proa_api.Conflict):
        client.execs.start_detached(exec_id)
