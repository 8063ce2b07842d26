"""Builds and the network: contexts at URLs and in repositories, files by ADD, bases out of a registry."""

import base64
import email.utils
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.api import steps
from tests.strictness import skip_for_lack_of
from tests.support.contexts import Told, build, files_of, pack, text_of
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.rawhttp import Api
from tests.support.registry import Registry, RemoteImage, make_image
from tests.support.whose import own_port

MODIFIED_S = 1_234_567_890


@pytest.fixture(autouse=True)
def nothing_is_left(daemon: Daemon, image: str, clean: None) -> Iterator[None]:
    yield
    assert list((daemon.data_root / "tmp").iterdir()) == []


class Server(http.server.ThreadingHTTPServer):
    """Answers with what ``pages`` has: type and content, by path."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, bytes]] = {}
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        kind, content = self.server.pages.get(self.path.partition("?")[0], ("", b"not here"))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", email.utils.formatdate(MODIFIED_S, usegmt=True))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing to standard error."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.shutdown()
    started.server_close()


def remote(api: Api, url: str, *, status: int = 200, **query: object) -> Told:
    return Told(api("POST", "/build", remote=url, **query).expect(status))


def test_files_by_add(api: Api, server: Server) -> None:
    server.pages["/dir/file.tar"] = ("application/x-tar", pack({"inner": "x"}))
    server.pages["/"] = ("text/plain", b"root")
    url = server.url
    told = build(
        api,
        f"FROM busybox\nADD {url('/dir/file.tar')} /x/\n"
        f"ADD --chown=user {url('/dir/file.tar?q=1')} /renamed\n"
        f"ADD {url('/')} /named\nADD a {url('/dir/file.tar')} /both/\n",
        {"a": "a"},
        t="added",
    )
    assert told.image_id
    files = files_of(api, "added")
    assert {"x/file.tar", "renamed", "named", "both/a", "both/file.tar"} <= files.keys()
    assert "x/inner" not in files, "what comes from the network is not unpacked"
    assert (files["x/file.tar"].mode & 0o777, files["x/file.tar"].uid) == (0o600, 0)
    assert files["x/file.tar"].mtime == MODIFIED_S
    assert files["renamed"].uid == 1000
    assert any(line.get("status") == "Downloading" for line in told.lines)
    again = build(api, f"FROM busybox\nADD {url('/dir/file.tar')} /x/\n")
    assert "Using cache" in again.text
    server.pages["/dir/file.tar"] = ("application/x-tar", pack({"inner": "y"}))
    assert "Using cache" not in build(api, f"FROM busybox\nADD {url('/dir/file.tar')} /x/\n").text


def test_files_that_cannot_be_had(api: Api, server: Server) -> None:
    server.pages["/"] = ("text/plain", b"root")
    nameless = build(api, f"FROM busybox\nADD {server.url('/')} /x/\n").error
    assert nameless == f"ADD failed: cannot determine filename for source {server.url('/')}"
    missing = build(api, f"FROM busybox\nADD {server.url('/missing')} /x/\n").error
    assert missing.startswith(f"ADD failed: failed to GET {server.url('/missing')} with status 404")
    assert "ADD failed" in build(api, "FROM busybox\nADD http://127.0.0.1:1/x /x/\n").error


def test_a_dockerfile_at_a_url(api: Api, server: Server) -> None:
    server.pages["/Dockerfile"] = ("text/plain; charset=utf-8", b"FROM busybox\nENV A=b\n")
    server.pages["/octets"] = ("application/octet-stream", b"FROM busybox\nENV A=b\n")
    assert remote(api, server.url("/octets")).image_id == remote(api, server.url("/Dockerfile")).image_id
    server.pages["/copies"] = ("text/plain", b"FROM busybox\nCOPY a /\n")
    assert remote(api, server.url("/copies")).error == "COPY failed: missing build context"


def test_an_archive_at_a_url(api: Api, server: Server) -> None:
    content = pack({"sub/Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "x"}, "gz")
    server.pages["/context.tar.gz"] = ("application/gzip", content)
    told = remote(api, server.url("/context.tar.gz"), dockerfile="sub/Dockerfile", t="remote")
    assert any(line.get("status") == "Downloading context" for line in told.lines)
    assert text_of(api, "remote", "/a") == "x"


def test_urls_that_are_no_context(api: Api, server: Server) -> None:
    server.pages["/page"] = ("text/html", b"<html>")
    server.pages["/empty"] = ("text/plain", b"")
    for path, words in (
        ("/page", 'unsupported Content-Type "text/html"'),
        ("/empty", "empty response"),
        ("/missing", "error downloading remote context"),
    ):
        answer = api("POST", "/build", remote=server.url(path))
        told = Told(answer).error if answer.status == 200 else answer.message
        assert words in told


# --- repositories -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a repository with two branches, served by git itself."""
    if shutil.which("git") is None:
        skip_for_lack_of("git")
    base, port = tmp_path_factory.mktemp("repositories"), own_port()
    repository = base / "repo"

    def run(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *identity, "-C", str(repository), *arguments], check=True, capture_output=True)

    repository.mkdir()
    run("init", "--initial-branch", "main")
    for branch in ("main", "other"):
        (repository / "Dockerfile").write_text(f"FROM busybox\nCOPY branch /branch\nRUN echo {branch}\n")
        (repository / "branch").write_text(branch)
        (repository / "sub").mkdir(exist_ok=True)
        (repository / "sub/Dockerfile").write_text("FROM busybox\nCOPY . /sub/\n")
        if branch == "other":
            run("checkout", "-b", branch)
            (repository / "out").symlink_to("/")
        run("add", ".")
        run("commit", "-m", branch)
    run("checkout", "main")
    daemon = subprocess.Popen(
        ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={base}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"git://127.0.0.1:{port}/repo"
    steps.until(lambda: subprocess.run(["git", "ls-remote", url], capture_output=True).returncode == 0)
    yield url
    daemon.terminate()
    daemon.wait()


def test_repositories(api: Api, git: str) -> None:
    assert remote(api, git, t="git").image_id
    assert text_of(api, "git", "/branch") == "main"
    assert remote(api, f"{git}#other", t="git").image_id
    assert text_of(api, "git", "/branch") == "other"
    assert remote(api, f"{git}#main:sub", t="git").image_id
    assert {name for name in files_of(api, "git") if name.startswith("sub/")} == {"sub/Dockerfile"}


def test_repositories_that_are_none(api: Api, git: str) -> None:
    for url, words in (
        (f"{git}#nowhere", "error fetching"),
        (f"{git}x", "error fetching"),
        (f"{git}#main:nowhere", "error setting git context, not a directory: nowhere"),
        (f"{git}#other:out/etc", "error setting git context"),
        (f"{git}#--upload-pack=touch /tmp/x", "invalid git URL"),
    ):
        assert words in Told(api("POST", "/build", remote=url).expect(400)).answer.message


# --- bases --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base() -> RemoteImage:
    return make_image([busybox_tar()], Env=["PATH=/bin", "FROM=registry"], Cmd=["sh"])


def test_a_base_is_pulled(api: Api, registry: Registry, base: RemoteImage) -> None:
    name = registry.put("base", "1", base)
    dockerfile = f"FROM {name}\nRUN echo $FROM >/from\nCOPY --from={name} /etc/passwd /copied\n"
    told = build(api, dockerfile, t="pulled")
    statuses = [line["status"] for line in told.lines if "status" in line]
    assert statuses[0] == f"Pulling from {registry.host}/base"
    assert text_of(api, "pulled", "/from") == "registry\n"
    assert not [line for line in build(api, dockerfile).lines if "status" in line], "it is here now"
    newer = make_image([busybox_tar()], Env=["PATH=/bin", "FROM=newer"])
    registry.put("base", "1", newer)
    assert "Using cache" in build(api, dockerfile).text
    assert build(api, dockerfile, pull=True, t="pulled").image_id
    assert text_of(api, "pulled", "/from") == "newer\n"


def test_a_base_that_needs_a_login(api: Api, base: RemoteImage) -> None:
    registry = Registry(login=("somebody", "secret"))
    try:
        registry.start()
        name = registry.put("private", "1", base)
        config = {registry.host: {"username": "somebody", "password": "secret"}}
        header = base64.urlsafe_b64encode(json.dumps(config).encode()).decode()
        body = pack({"Dockerfile": f"FROM {name}\nENV A=b\n"})
        asked = api("POST", "/build", body=body, headers={"X-Registry-Config": header})
        assert Told(asked.expect(200)).image_id
        api("DELETE", f"/images/{name}", force=True)
        assert build(api, f"FROM {name}\nENV A=c\n").error
    finally:
        registry.close()
