"""`proa diff`, `proa export` and `proa commit` against a real daemon, and beside docker's."""

import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

import proa as proa_api
from tests.cli.conftest import Proa
from tests.cli.dialogue import Dialogue
from tests.conftest import DockerCli

Terminal = Callable[..., Dialogue]
DEEDS = "mkdir /new && echo hi >/new/file && rm /bin/ls && chmod 700 /home"
CHANGED = "C /bin\nD /bin/ls\nC /home\nA /new\nA /new/file\n"


@pytest.fixture
def done(proa: Proa, image: str) -> str:
    """A container that has done its deeds."""
    said = proa("run", "--name", "done", "--network", "none", image, "sh", "-c", DEEDS)
    assert said.code == 0, said.err
    return "done"


def test_diff(proa: Proa, terminal: Terminal, done: str) -> None:
    assert proa("diff", done) == (0, CHANGED, "")
    assert proa("container", "diff", done).out == CHANGED
    coloured = terminal("diff", done)
    coloured.expect("\x1b[31mD\x1b[0m /bin/ls")
    assert coloured.end() == 0
    unknown = proa("diff", "nope")
    assert unknown.code == 1
    assert "No such container: nope" in unknown.err


def test_export_to_a_file(proa: Proa, done: str, tmp_path: Path) -> None:
    target = tmp_path / "all.tar"
    assert proa("export", "-o", str(target), done) == (0, "", "")
    with tarfile.open(target) as tar:
        assert tar.getmember("new/file").size == 3
        assert "bin/ls" not in tar.getnames()
    assert os.listdir(tmp_path) == ["all.tar"]


def test_a_failed_export_leaves_no_file(proa: Proa, tmp_path: Path) -> None:
    target = tmp_path / "all.tar"
    target.write_text("kept")
    assert proa("export", "-o", str(target), "nope").code == 1
    assert target.read_text() == "kept"
    assert os.listdir(tmp_path) == ["all.tar"]
    nowhere = proa("export", "-o", str(tmp_path / "no/where"), "nope")
    assert nowhere.code == 1
    assert "no such file or directory" in nowhere.err


def test_export_is_not_for_terminals(terminal: Terminal, done: str) -> None:
    refused = terminal("export", done)
    refused.expect("cowardly refusing to save to a terminal")
    assert refused.end() == 1


def test_commit(proa: Proa, done: str) -> None:
    said = proa(
        "commit", "-a", "me", "-m", "why", "-c", "ENV A=b", "-c", 'CMD ["cat", "/new/file"]', done, "made:1"
    )
    assert said.code == 0, said.err
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", said.out)
    assert proa("run", "--rm", "--network", "none", "made:1").out == "hi\n"
    shown = proa("inspect", "-f", "{{.Author}} {{.Comment}} {{.Config.Env}}", "made:1").out
    assert shown == "me why [A=b]\n"
    assert "why" in proa("history", "made:1").out
    assert proa("commit", "--no-pause", done).code == 0
    for words, message in (
        (("nope",), "No such container: nope"),
        ((done, "Upper"), "must be lowercase"),
        (("-c", "NONSENSE x", done), "nonsense is not a valid change command"),
    ):
        refused = proa("commit", *words)
        assert refused.code == 1
        assert message in refused.err


def test_the_python_api(client: proa_api.Client, done: str) -> None:
    assert ("D", "/bin/ls") in client.containers.changes(done)
    with client.containers.export(done) as archive:
        assert b"new/file" in b"".join(archive)
    made = client.containers.commit(done, repository="py", tag="api", config={"Cmd": ["true"]}, pause=False)
    assert client.images.inspect("py:api")["Id"] == made
    assert client.images.inspect("py:api")["Config"]["Cmd"] == ["true"]
    with pytest.raises(proa_api.NotFound):
        client.containers.export("nope")


def test_like_docker(proa: Proa, docker: DockerCli, done: str, tmp_path: Path) -> None:
    for words in (("diff", done), ("diff", "nope"), ("commit", "nope"), ("export", "nope")):
        theirs, ours = docker(*words), proa(*words)
        assert (ours.code, ours.out) == (theirs.returncode, theirs.stdout.decode())
    theirs_to_file = docker("export", "-o", str(tmp_path / "a"), done)
    assert theirs_to_file.returncode == proa("export", "-o", str(tmp_path / "b"), done).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
