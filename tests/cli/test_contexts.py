"""Contexts of builds that are no directory here: URLs, git repositories, and what goes wrong with them."""

import gzip
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from proa.context.archive import read_all
from proa.context.git import Repository, is_git_url, parse_git_url
from proa.context.ignore import Patterns
from proa.context.prepare import prepare
from proa.errors import ContextFailed
from proa.http1 import Readable
from proa.packing import Entry, Packed
from tests.support.archives import Item, make_tar

ARCHIVE = make_tar([Item("Dockerfile", b"FROM scratch\n"), Item("dir/file", b"content")])


class Site(SimpleHTTPRequestHandler):
    """Serves a directory, and some misbehaviour."""

    def do_GET(self) -> None:
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(ARCHIVE)))
            self.end_headers()
            self.wfile.write(ARCHIVE[:2000])
            self.close_connection = True
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/context.tar.gz")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/refused":
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b" not for you \n")
        else:
            super().do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a web server, of what is below `site`."""
    root = tmp_path / "site"
    root.mkdir(exist_ok=True)
    (root / "context.tar").write_bytes(ARCHIVE)
    (root / "context.tar.gz").write_bytes(gzip.compress(ARCHIVE))
    (root / "Dockerfile").write_bytes(b"FROM url\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def sent(context: str, dockerfile: str = "", **more: Readable) -> tuple[dict[str, bytes], str]:
    """The files of the archive that goes out, and which of them is the Dockerfile."""
    with prepare(context, dockerfile, **more) as prepared:  # type: ignore[arg-type]
        body = read_all(prepared.archive)
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isreg()}
        return {name: file.read() for name, file in files.items() if file}, prepared.dockerfile


# --- URLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["context.tar", "context.tar.gz", "moved"])
def test_an_archive_from_a_url(site: str, name: str) -> None:
    files, dockerfile = sent(f"{site}/{name}", "dir/file")
    assert files == {"Dockerfile": b"FROM scratch\n", "dir/file": b"content"}
    assert dockerfile == "dir/file"


def test_a_dockerfile_from_a_url(site: str) -> None:
    assert sent(f"{site}/Dockerfile") == ({"Dockerfile": b"FROM url\n"}, "Dockerfile")


@pytest.mark.parametrize("name", ["context.tar", "context.tar.gz"])
def test_an_archive_from_a_url_with_a_dockerfile_from_here(site: str, name: str) -> None:
    files, dockerfile = sent(f"{site}/{name}", "-", stdin=io.BytesIO(b"FROM stdin\n"))
    assert files.pop(dockerfile) == b"FROM stdin\n"
    assert files.pop(".dockerignore") == b".dockerignore\n" + dockerfile.encode() + b"\n"
    assert files == {"Dockerfile": b"FROM scratch\n", "dir/file": b"content"}


def test_what_the_archive_ignores_is_kept_in_mind(site: str, tmp_path: Path) -> None:
    archive = make_tar([Item("a", b"1"), Item(".dockerignore", b"secret"), Item("z", b"2")])
    (tmp_path / "site" / "ignoring.tar").write_bytes(archive)
    files, dockerfile = sent(f"{site}/ignoring.tar", "-", stdin=io.BytesIO(b"FROM stdin\n"))
    assert files.pop(dockerfile) == b"FROM stdin\n"
    assert files == {"a": b"1", ".dockerignore": b"secret\n" + dockerfile.encode() + b"\n", "z": b"2"}


@pytest.mark.parametrize(
    ("path", "dockerfile", "words"),
    [
        ("/missing", "", "with status 404 File not found"),
        ("/refused", "", "with status 403 Forbidden: not for you"),
        ("/cut", "", "bytes are missing at its end"),
        ("/Dockerfile", "-", "build context is not an archive"),
        ("/Dockerfile", "other", "ambiguous Dockerfile source"),
    ],
)
def test_downloads_that_fail(site: str, path: str, dockerfile: str, words: str) -> None:
    with pytest.raises(ContextFailed, match=words):
        sent(site + path, dockerfile, stdin=io.BytesIO(b"FROM stdin\n"))


def test_nobody_serves(site: str) -> None:
    with pytest.raises(ContextFailed, match=r"unable to download remote context http://127\.0\.0\.1:1/x: "):
        sent("http://127.0.0.1:1/x")


# --- git ----------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., str]:
    """A repository below `site`: a branch `other`, a tag `v1`, a directory `sub`; its HEAD is `trunk`."""
    work = tmp_path / "work"

    def git(*arguments: str, cwd: Path = work) -> str:
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=trunk")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    (work / "sub").mkdir(parents=True)
    git("init")
    (work / "Dockerfile").write_text("FROM first\n")
    (work / "sub" / "Dockerfile").write_text("FROM sub\n")
    (work / "out").symlink_to("/etc")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "v1")
    git("checkout", "-b", "other")
    (work / "Dockerfile").write_text("FROM other\n")
    git("commit", "-am", "other")
    git("checkout", "trunk")
    (work / "Dockerfile").write_text("FROM trunk\n")
    git("commit", "-am", "second")
    bare = tmp_path / "site" / "repo.git"
    git("clone", "--bare", str(work), str(bare))
    git("update-server-info", cwd=bare)
    return git


@pytest.mark.parametrize(
    ("fragment", "dockerfile", "content"),
    [
        ("", "", b"FROM trunk\n"),
        ("#other", "", b"FROM other\n"),
        ("#v1", "", b"FROM first\n"),
        ("#refs/heads/other", "", b"FROM other\n"),
        ("#:sub", "", b"FROM sub\n"),
        ("#v1:/sub", "", b"FROM sub\n"),
        ("#other", "sub/Dockerfile", b"FROM sub\n"),
    ],
)
def test_a_repository(
    repository: Callable[..., str], site: str, fragment: str, dockerfile: str, content: bytes
) -> None:
    files, found = sent(f"{site}/repo.git{fragment}", dockerfile)
    assert files[found] == content


def test_a_repository_leaves_nothing_here(
    repository: Callable[..., str], site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    sent(f"{site}/repo.git")
    with pytest.raises(ContextFailed):
        sent(f"{site}/repo.git#no-such-branch")
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.parametrize(
    ("rest", "dockerfile", "words"),
    [
        ("#no-such-branch", "", "unable to 'git clone' to temporary context directory: error fetching"),
        ("#-x", "", "invalid refspec: -x"),
        ("#:nowhere", "", "error setting git context, not a directory: nowhere"),
        ("#:Dockerfile", "", "error setting git context, not a directory: Dockerfile"),
        ("#:out", "", "not within git root"),
        ("#:../..", "", "not within git root"),
        (
            "",
            "../nowhere",
            "unable to evaluate symlinks in Dockerfile path: lstat .*: no such file",
        ),
        ("", "out/passwd", r"the Dockerfile \(out/passwd\) must be within the build context"),
    ],
)
def test_repositories_that_are_no_context(
    repository: Callable[..., str], site: str, rest: str, dockerfile: str, words: str
) -> None:
    with pytest.raises(ContextFailed, match=words):
        sent(f"{site}/repo.git{rest}", dockerfile)


def test_which_are_repositories() -> None:
    for text in ("git://h/r", "git@h:r", "github.com/a/b", "http://h/r.git", "https://h/r.git#x:y"):
        assert is_git_url(text), text
    for text in ("http://h/r", "https://h/r.git/x", "./r.git", "gitlab.com/a/b", "ftp://h/r.git"):
        assert not is_git_url(text), text
    assert parse_git_url("github.com/a/b#main:d") == Repository("https://github.com/a/b", "main", "d")
    assert parse_git_url("git@h:r") == Repository("git@h:r", "HEAD", "")


# --- archives -----------------------------------------------------------------------------------------------


def test_files_that_change_while_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    with (tmp_path / "shrinking").open("wb") as file:
        file.truncate(3 << 20)
    with prepare(str(tmp_path)) as prepared:
        beginning = prepared.archive.read(1 << 20)
        (tmp_path / "shrinking").write_bytes(b"short")
        (tmp_path / "zz").write_text("late")
        body = beginning + read_all(prepared.archive)
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert tar.getmember("shrinking").size == 3 << 20
        assert tar.getnames() == ["Dockerfile", "shrinking"]


def test_capabilities_of_files_are_packed(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(tmp_path / "Dockerfile", "security.capability", capability)
    with prepare(str(tmp_path)) as prepared:
        body = read_all(prepared.archive)
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        kept = tar.getmember("Dockerfile").pax_headers["SCHILY.xattr.security.capability"]
    assert kept.encode("utf-8", "surrogateescape") == capability


def test_names_that_are_no_text_are_packed(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    (tmp_path / ("n" * 250)).write_text("long")
    files, _ = sent(str(tmp_path))
    assert set(files) == {"Dockerfile", os.fsdecode(b"caf\xe9"), "n" * 250}


def test_nothing_large_is_held() -> None:
    class Endless(io.RawIOBase):
        """More than fits into memory."""

        largest = 0

        def read(self, size: int = -1, /) -> bytes:
            self.largest = max(self.largest, size)
            return bytes(size)

    info = tarfile.TarInfo("large")
    info.size = 1 << 30
    source = Endless()
    packed = Packed([Entry(info, source=source)])  # type: ignore[arg-type]
    while packed.read(1 << 18):
        pass
    assert packed.total > 1 << 30
    assert source.largest <= 1 << 18


@pytest.mark.parametrize("pattern", ["[", "a[", "[]", "[]a]", "[-x]", "[x-]", "[a-b-c]", "[^", "a\\", "!"])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(ContextFailed):
        Patterns([pattern])
