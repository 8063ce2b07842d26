"""`proa build`, `save`, `load` and `builder prune` against a real daemon."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import proa as proa_api
from proa.errors import ContextFailed, WorkFailed
from tests.cli.conftest import Proa, environment
from tests.cli.dialogue import Dialogue
from tests.conftest import DockerCli
from tests.support.daemon import Daemon

Terminal = Callable[..., Dialogue]
DOCKERFILE = """FROM busybox
ARG GREETING=hello
COPY . /app
RUN echo "$GREETING" >/greeting
LABEL made=here
CMD ["cat", "/greeting"]
"""


@pytest.fixture(autouse=True)
def nothing_stays(daemon: Daemon, image: str, clean: None) -> Iterator[None]:
    """Images of one test are none of the next one's."""
    before = {entry["Id"] for entry in daemon.api("GET", "/images/json", all=True).json}
    yield
    daemon.remove_containers()
    for entry in daemon.api("GET", "/images/json", all=True).json:
        if entry["Id"] not in before:
            assert daemon.api("DELETE", f"/images/{entry['Id']}", force=True).status in (200, 404, 409)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "ctx"
    root.mkdir()
    (root / "Dockerfile").write_text(DOCKERFILE)
    (root / "kept").write_text("kept")
    (root / "left").write_text("left out")
    (root / ".dockerignore").write_text("left\nDockerfile\n.dockerignore\n")
    return root


def test_build(proa: Proa, context: Path) -> None:
    made = proa("build", "-t", "made:1", "-t", "made:2", "--build-arg", "GREETING=hi there", str(context))
    assert (made.code, made.err) == (0, "")
    lines = made.out.splitlines()
    assert lines[0].startswith("Sending build context to Docker daemon  ")
    assert "Step 1/6 : FROM busybox" in lines
    assert lines[-2:] == ["Successfully tagged made:1", "Successfully tagged made:2"]
    assert proa("run", "--rm", "--network", "none", "made:2").out == "hi there\n"
    assert proa("run", "--rm", "--network", "none", "made:1", "ls", "/app").out == "kept\n"
    cached = proa("build", "--build-arg", "GREETING=hi there", str(context))
    assert cached.out.count(" ---> Using cache") == 5
    fresh = proa("build", "--no-cache", "-q", str(context))
    assert fresh.code == 0
    assert fresh.out.startswith("sha256:")
    assert fresh.out.count("\n") == 1


def test_where_the_id_goes(proa: Proa, context: Path, tmp_path: Path) -> None:
    id_file = tmp_path / "iid"
    assert proa("image", "build", "-q", "--iidfile", str(id_file), "-t", "made", str(context)).code == 0
    assert proa("inspect", "-f", "{{.Id}}", "made").out.strip() == id_file.read_text()
    (context / "Dockerfile").write_text("FROM busybox\nRUN exit 7\n")
    failed = proa("builder", "build", "--iidfile", str(id_file), str(context))
    assert failed.code == 7
    assert failed.err.splitlines()[-1] == "The command '/bin/sh -c exit 7' returned a non-zero code: 7"
    assert not id_file.exists()


def test_dockerfiles_from_elsewhere(proa: Proa, context: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("FROM busybox\nCOPY . /x\nCMD ls -A /x\n")
    for words, given in (
        (("-f", str(elsewhere), str(context)), b""),
        (("-f", "-", str(context)), elsewhere.read_bytes()),
    ):
        assert proa("build", "-q", "-t", "made", *words, input=given).code == 0
        assert proa("run", "--rm", "--network", "none", "made").out == "kept\n"
    assert proa("build", "-q", "-t", "alone", "-", input=b"FROM busybox\nCMD echo alone\n").code == 0
    assert proa("run", "--rm", "--network", "none", "alone").out == "alone\n"


def test_the_owner_is_root_and_the_rest_stays(proa: Proa, context: Path) -> None:
    (context / "tool").write_text("#!/bin/sh\n")
    os.chown(context / "tool", 1234, 1234)
    (context / "tool").chmod(0o711)
    (context / "link").symlink_to("tool")
    (context / "Dockerfile").write_text("FROM busybox\nCOPY . /x\n")
    assert proa("build", "-q", "-t", "made", str(context)).code == 0
    listed = proa("run", "--rm", "--network", "none", "made", "ls", "-ln", "/x").out
    by_name = {line.split()[-1]: line.split() for line in listed.splitlines()[1:]}
    assert by_name["tool"][0] == "-rwx--x--x"
    assert by_name["tool"][2:4] == ["0", "0"]
    assert " link -> tool" in listed


def test_what_a_terminal_shows(terminal: Terminal, context: Path) -> None:
    with (context / "large").open("wb") as file:
        file.truncate(3 << 20)
    building = terminal("build", "--no-cache", str(context), columns=120)
    building.expect("Sending build context to Docker daemon ")
    building.expect("\rSending build context to Docker daemon ")
    building.expect("Step 6/6")
    building.expect("Successfully built")
    assert building.end() == 0


def test_builds_that_are_refused(proa: Proa, context: Path) -> None:
    empty = proa("build", "-", input=b"")
    assert (empty.code, empty.err) == (
        1, "Error response from daemon: the Dockerfile (Dockerfile) cannot be empty\n",
    )  # fmt: skip
    assert proa("build", "--target", "nowhere", str(context)).code == 1
    squashed = proa("build", "--squash", str(context))
    assert squashed.code == 1
    assert "squash" in squashed.err
    missing = proa("build", str(context / "nowhere"))
    assert missing == (1, "", f'unable to prepare context: path "{context / "nowhere"}" not found\n')


def test_an_interrupted_build_leaves_nothing(daemon: Daemon, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo begun && sleep 1000\n")
    building = subprocess.Popen(
        [sys.executable, "-m", "proa", "build", str(context)],
        env=environment(daemon.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert building.stdout is not None
    assert building.stderr is not None
    while (line := building.stdout.readline()) and line != b"begun\n":
        pass
    assert line == b"begun\n"
    building.terminate()
    building.wait(20)
    building.stdout.close()
    building.stderr.close()
    assert daemon.settle() == []


def test_like_docker(proa: Proa, docker: DockerCli, context: Path) -> None:
    for words in (
        ("build", "-t", "same", "."), ("build", "--no-cache", "--target", "x", "."),
        ("build", "--label", "a=b", "-q", "."), ("builder", "prune", "-f"), ("image", "prune", "-f"),
    ):  # fmt: skip
        arguments = [str(context) if word == "." else word for word in words]
        docker(*arguments)  # so that both find the same in the cache
        theirs, ours = docker(*arguments), proa(*arguments)
        assert (ours.code, ours.out) == (theirs.returncode, theirs.stdout.decode())


def test_save_and_load(proa: Proa, context: Path, tmp_path: Path, terminal: Terminal) -> None:
    proa("build", "-q", "-t", "saved:1", str(context))
    target = tmp_path / "saved.tar"
    assert proa("save", "-o", str(target), "saved:1", "busybox") == (0, "", "")
    assert target.stat().st_mode & 0o777 == 0o600
    before = proa("images", "-q", "--no-trunc", "saved:1").out
    assert proa("rmi", "saved:1").code == 0
    loaded = proa("image", "load", "-i", str(target))
    assert loaded.code == 0
    assert "Loaded image: saved:1\n" in loaded.out
    assert proa("images", "-q", "--no-trunc", "saved:1").out == before
    proa("rmi", "saved:1")
    drawn = terminal("load", "-i", str(target), columns=120)
    drawn.expect("Loaded image: saved:1")
    assert drawn.end() == 0
    refused = terminal("save", "busybox")
    refused.expect("cowardly refusing to save to a terminal")
    assert refused.end() == 1
    missing = proa("save", "-o", str(tmp_path / "none.tar"), "no-such-image")
    assert missing.code == 1
    assert "No such image: no-such-image" in missing.err
    assert not (tmp_path / "none.tar").exists()


def test_prune_of_builds(proa: Proa, context: Path) -> None:
    proa("build", "-q", str(context))
    asked = proa("builder", "prune", input=b"n\n")
    question = "WARNING! This will remove all dangling build cache. Are you sure you want to continue? [y/N] "
    assert asked == (0, question, "")
    pruned = proa("builder", "prune", "-a", "-f")
    assert pruned.code == 0
    assert pruned.out.splitlines()[-1].startswith("Total reclaimed space: ")
    asked = proa("system", "prune", "-a", "--filter", "label=x", input=b"n\n")
    assert asked.code == 0
    assert asked.out.startswith("WARNING! This will remove:\n  - all stopped containers\n")
    assert "  - all build cache\n\n  Items to be pruned will be filtered with:\n  - label=x\n\n" in asked.out
    assert proa("system", "prune", "-f").code == 0


def test_the_python_api(client: proa_api.Client, context: Path) -> None:
    told: list[dict[str, object]] = []
    image_id = client.images.build(
        str(context),
        tags=["py:1"],
        build_args={"GREETING": "from python"},
        labels={"a": "b"},
        options={"memory": 64 << 20, "networkmode": "none"},
        progress=told.append,
    )
    assert client.images.inspect("py:1")["Id"] == image_id
    assert client.images.inspect("py:1")["Config"]["Labels"] == {"a": "b", "made": "here"}
    assert client.run("py:1", host_config={"NetworkMode": "none"}).stdout == b"from python\n"
    assert str(told[0]["stream"]).startswith("Step 1/7 : FROM busybox")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("Other")
        content = b"FROM busybox\nRUN exit 3\n"
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    with pytest.raises(WorkFailed, match="non-zero code: 3") as caught:
        client.images.build(buffer, dockerfile="Other")
    assert caught.value.status == 3
    with pytest.raises(ContextFailed):
        client.images.build(str(context / "nowhere"))
    assert client.images.prune_builds(all=True).space_bytes >= 0
