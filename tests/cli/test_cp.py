"""`proa cp` against a real daemon, beside `docker cp`, and what a hostile archive gets."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import proa as proa_api
from proa.cli.copy.pack import tree
from proa.cli.copy.plan import (
    CopyRefused,
    Destination,
    Plan,
    Source,
    absolute,
    arrange,
    renamed,
    split_argument,
)
from proa.cli.copy.unpack import Pieces, unpack
from proa.errors import BadRequest
from proa.packing import Packed
from tests.api import steps
from tests.cli.conftest import Proa, environment
from tests.cli.dialogue import Dialogue
from tests.conftest import DockerCli
from tests.support.archives import Item, directory, hardlink, make_tar, symlink
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

Terminal = Callable[..., Dialogue]
HAS_FILES = (
    "mkdir -p /d/sub /empty; echo one >/d/a; echo two >/d/sub/b; ln -s /d/sub /link; ln -s a /d/l; sleep 1000"
)


@pytest.fixture
def box(api: Api, image: str) -> str:
    made = steps.start(api, image, "sh", "-c", HAS_FILES, name="box", HostConfig={"NetworkMode": "none"})
    steps.until(lambda: api("HEAD", f"/containers/{made}/archive", path="/d/l").status == 200)
    return "box"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Some files here."""
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "file").write_text("of the tree")
    (tree / "inner" / "deep").write_text("deep")
    (tree / "link").symlink_to("file")
    os.link(tree / "file", tree / "same")
    (tmp_path / "single").write_text("single")
    (tmp_path / "single").chmod(0o640)
    return tmp_path


def listing(root: Path) -> dict[str, str]:
    """All below a directory, with what tells it apart."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        else:
            found[name] = f"{path.stat().st_mode:o} " + ("" if path.is_dir() else path.read_text())
    return found


def inside(api: Api, path: str) -> dict[str, str]:
    """All below a path of the box."""
    body = api("GET", "/containers/box/archive", path=path).expect(200).body
    found = {}
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() or member.islnk() else None
            found[member.name] = (file.read().decode() if file else member.linkname) + f" {member.mode:o}"
    return found


# --- the same as docker cp ----------------------------------------------------------------------------------

OUT = ["/d", "/d/", "/d/.", "/d/a", "/d/l", "/link", "/link/", "/link/."]
TARGETS = ["there", "there/", "missing", "missing/", "file", "there/.", "no/where"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", OUT)
def test_out_of_a_container_as_docker_does(
    proa: Proa, docker: DockerCli, box: str, tmp_path: Path, source: str, target: str
) -> None:
    results = []
    for name, run in (("proa", proa), ("docker", docker)):
        root = tmp_path / name
        (root / "there").mkdir(parents=True)
        (root / "file").write_text("was there")
        ended = run("cp", f"{box}:{source}", f"{root}/{target}")
        code = ended.code if hasattr(ended, "code") else ended.returncode
        results.append((code, listing(root)))
    assert results[0] == results[1]


IN = ["tree", "tree/", "tree/.", "single", "tree/link", "nothing"]
REMOTE = ["/empty", "/empty/", "/missing", "/missing/", "/d/a", "/link", "/d/l", "/no/where", "/empty/."]


@pytest.mark.parametrize("target", REMOTE)
@pytest.mark.parametrize("source", IN)
def test_into_a_container_as_docker_does(
    proa: Proa, docker: DockerCli, api: Api, image: str, local: Path, source: str, target: str
) -> None:
    results = []
    for run in (proa, docker):
        made = steps.create(api, image, name="box")
        api("PUT", "/containers/box/archive", path="/", body=make_tar([
            directory("d"), directory("d/sub"), directory("empty"), Item("d/a", b"one"),
            symlink("link", "/d/sub"), symlink("d/l", "a"),
        ])).expect(200)  # fmt: skip
        ended = run("cp", f"{local}/{source}", f"box:{target}")
        code = ended.code if hasattr(ended, "code") else ended.returncode
        found = {name: text for path in ("/d", "/empty") for name, text in inside(api, path).items()}
        if api("HEAD", "/containers/box/archive", path="/missing").status == 200:
            found |= inside(api, "/missing")
        results.append((code, found))
        api("DELETE", f"/containers/{made}").expect(204)
    assert results[0] == results[1]


def test_follow_links(proa: Proa, docker: DockerCli, api: Api, box: str, local: Path) -> None:
    results = []
    for name, run in (("proa", proa), ("docker", docker)):
        (local / name).mkdir()
        run("cp", "-L", f"{box}:/link", f"{local}/{name}")
        run("cp", "-L", f"{box}:/d/l", f"{local}/{name}")
        results.append(listing(local / name))
        run("cp", "-L", f"{local}/tree/link", f"{box}:/empty/{name}")
    assert results[0] == results[1]
    assert list(results[0]) == ["l", "link", "link/b"]
    found = inside(api, "/empty")
    assert found["empty/proa"] == found["empty/docker"] == "of the tree 644"


def test_archives_on_the_standard_streams(proa: Proa, api: Api, daemon: Daemon, box: str) -> None:
    out = subprocess.run(
        [sys.executable, "-m", "proa", "cp", f"{box}:/d/a", "-"],
        env=environment(daemon.url), capture_output=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert tar.getnames() == ["a"]
    said = proa("cp", "-", f"{box}:/empty", input=make_tar([Item("piped", b"in", uid=5)]))
    assert said == (0, "", "")
    assert inside(api, "/empty/piped") == {"piped": "in 644"}
    refused = proa("cp", "-", f"{box}:/d/a", input=b"")
    assert refused.code == 1
    assert 'destination "box:/d/a" must be a directory' in refused.err


def test_what_cannot_be_copied(proa: Proa, box: str, local: Path) -> None:
    for arguments, words in (
        (("box:/a", "other:/b"), "copying between containers is not supported"),
        (("here", "there"), "must specify at least one container source"),
        (("", "box:/"), "source can not be empty"),
        (("box:/nope", str(local)), "Could not find the file /nope in container box"),
        (("nobody:/x", str(local)), "No such container: nobody"),
        ((f"{local}/tree", "box:/d/a"), "cannot copy directory"),
        ((f"{local}/nothing", "box:/"), "no such file or directory"),
        ((f"{local}/single", "box:/nope/"), "no such directory"),
        (("box:/d/a", "/dev/null"), "must be a directory or a regular file"),
    ):
        said = proa("cp", *arguments)
        assert said.code == 1, arguments
        assert words in said.err


def test_what_it_says_on_a_terminal(terminal: Terminal, box: str, local: Path) -> None:
    into = terminal("cp", str(local / "single"), f"{box}:/empty/x")
    into.expect("Successfully copied 6B (transferred 2.05kB) to box:/empty/x")
    assert into.end() == 0
    out = terminal("cp", f"{box}:/empty/x", str(local / "back"))
    out.expect(f"Successfully copied 6B (transferred 2.05kB) to {local / 'back'}")
    assert out.end() == 0
    assert (local / "back").read_text() == "single"
    with (local / "large").open("wb") as file:
        file.truncate(200 << 20)
    large = terminal("cp", str(local / "large"), f"{box}:/empty/large", columns=100)
    large.expect("Copying to box")
    large.expect("Successfully copied 210MB")
    assert large.end() == 0
    quiet = terminal("cp", "-q", f"{box}:/empty/x", str(local / "quiet"))
    assert quiet.end() == 0
    assert (local / "quiet").exists()


def test_the_python_api(client: proa_api.Client, box: str) -> None:
    status = client.containers.path_status(box, "/link")
    assert (status.name, status.is_symlink, status.link_target) == ("link", True, "/d/sub")
    client.containers.put_archive(box, "/empty", io.BytesIO(make_tar([Item("x", b"1")])))
    with client.containers.get_archive(box, "/empty") as archive:
        assert archive.status.is_directory
        body = b"".join(archive)
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert tar.getnames() == ["empty", "empty/x"]
    with pytest.raises(proa_api.NotFound):
        client.containers.path_status(box, "/nope")
    with pytest.raises(BadRequest, match="cannot overwrite"):
        client.containers.put_archive(box, "/", io.BytesIO(make_tar([Item("empty", b"1")])), replace=False)


# --- a hostile archive --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items",
    [
        [Item("../../planted", b"!")],
        [Item("d/../../planted", b"!")],
        [symlink("d/out", "../../outside"), Item("d/out/planted", b"!")],
        [symlink("d/out", "OUTSIDE"), Item("d/out/planted", b"!")],
        [symlink("d/out", "OUTSIDE/kept"), Item("d/out", b"!"), hardlink("d/kept", "../outside/kept")],
        [hardlink("d/kept", "OUTSIDE/kept"), Item("d/kept", b"!")],
        [symlink("d/out", "OUTSIDE"), directory("d/out", 0o777)],
    ],
    ids=range(7),
)
def test_a_hostile_archive_writes_nowhere_else(tmp_path: Path, items: list[Item]) -> None:
    outside, target = tmp_path / "outside", tmp_path / "deep" / "target"
    outside.mkdir(mode=0o700)
    target.mkdir(parents=True)
    (outside / "kept").write_text("kept")
    body = make_tar([
        Item(item.name, item.content, item.type, item.link.replace("OUTSIDE", str(outside)), item.mode)
        for item in [directory("d"), *items]
    ])  # fmt: skip
    with suppress(CopyRefused, OSError):
        unpack(Pieces(iter([body]), lambda count: None), str(target), "d", "d")
    assert listing(outside) == {"kept": "100644 kept"}
    assert outside.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "outside"]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["target"]


def test_what_is_packed_comes_out_the_same(local: Path) -> None:
    (local / "tree" / ("n" * 150)).write_text("long")
    body = Packed(tree(str(local / "tree"), "tree"))
    pieces = iter(lambda: body.read(1000), b"")
    unpack(Pieces(pieces, lambda count: None), str(local), "tree", "again")
    assert listing(local / "again") == listing(local / "tree")
    assert (local / "again" / "same").stat().st_ino == (local / "again" / "file").stat().st_ino


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("box:/a", ("box", "/a")),
        ("box:a:b", ("box", "a:b")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("../a:b", ("", "../a:b")),
        ("plain", ("", "plain")),
        ("-", ("", "-")),
    ],
)
def test_arguments(argument: str, expected: tuple[str, str]) -> None:
    assert split_argument(argument) == expected


def test_plans() -> None:
    tree, file = Source("tree", True), Source("file", False)
    assert arrange(tree, Destination("/there/", True, True)) == Plan("/there/", "tree")
    assert arrange(file, Destination("/there/old", True, False)) == Plan("/there", "old")
    assert arrange(tree, Destination("/there/new/")) == Plan("/there", "new")
    assert arrange(Source(".", True), Destination("new")) == Plan(".", "new")
    with pytest.raises(CopyRefused, match="no such directory"):
        arrange(file, Destination("/there/new/"))
    with pytest.raises(CopyRefused, match="cannot copy directory"):
        arrange(tree, Destination("/old", True, False))


def test_paths() -> None:
    assert absolute("a/../b", "/here") == "/here/b"
    assert absolute("a/", "/here") == "/here/a/"
    assert absolute(".", "/here") == "/here/."
    assert absolute("..", "/here/there") == "/here"
    assert renamed("d/x/y", "d", "e") == "e/x/y"
    assert renamed("d", "d", "e") == "e"
    assert renamed("./x", ".", "e") == "e/x"
    assert renamed("/bin/x", "/", "e") == "e/bin/x"
    assert renamed("", "/", "/") == "."
    assert renamed("./x", ".", ".") == "x"
