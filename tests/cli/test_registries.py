"""`proa pull`, `push`, `login`, `logout`, `search` and what `run` fetches, with a real registry."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import proa as proa_api
from proa.credentials import Credentials
from proa.errors import WorkFailed
from tests.cli.conftest import Proa, environment
from tests.cli.dialogue import Dialogue
from tests.conftest import DockerCli
from tests.support.archives import Item, make_tar
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.registry import MANIFEST, Registry, make_image

LOGIN = ("ada", "love:lace")
Terminal = Callable[..., Dialogue]


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """One that is open to everybody, with `tool:1`, `tool:2` and `box`."""
    started = Registry()
    try:
        started.start()
        for tag in ("1", "2"):
            layers = [make_tar([Item("a", b"1" * 5000)]), make_tar([Item(f"of-{tag}", b"2")])]
            started.put("tool", tag, make_image(layers, Cmd=["x"]))
        started.put("box", "latest", make_image([busybox_tar()], Cmd=["echo", "pulled"]))
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def closed() -> Iterator[Registry]:
    """One that wants to know who is there."""
    started = Registry(login=LOGIN)
    try:
        started.start()
        started.put("secret", "1", make_image([make_tar([Item("a", b"secret")])]))
        yield started
    finally:
        started.close()


@pytest.fixture(autouse=True)
def nothing_stays(daemon: Daemon, clean: None) -> Iterator[None]:
    """Images of one test are none of the next one's."""
    yield
    daemon.remove_containers()
    for image in daemon.api("GET", "/images/json", all=True).json:
        assert daemon.api("DELETE", f"/images/{image['Id']}", force=True).status in (200, 404)


# --- pull and push ------------------------------------------------------------------------------------------


def test_pull(proa: Proa, registry: Registry) -> None:
    name = f"{registry.host}/tool"
    pulled = proa("pull", f"{name}:1")
    lines = pulled.out.splitlines()
    assert (pulled.code, pulled.err) == (0, "")
    assert lines[0] == f"1: Pulling from {name}"
    assert sum(line.endswith(": Pull complete") for line in lines) == 2
    assert lines[-2:] == [f"Status: Downloaded newer image for {name}:1", f"{name}:1"]
    assert proa("pull", "-q", f"{name}:1") == (0, f"{name}:1\n", "")
    everything = proa("image", "pull", "-a", name)
    assert everything.code == 0, everything.err
    assert everything.out.endswith(f"\n{name}\n")
    assert set(proa("images", "--format", "{{.Tag}}", name).out.split()) == {"1", "2"}
    missing = proa("pull", f"{name}:3")
    assert missing.code == 1
    assert f"manifest for {name}:3 not found" in missing.err


def test_pull_draws_its_layers(terminal: Terminal, registry: Registry) -> None:
    pulling = terminal("pull", f"{registry.host}/tool:1", columns=120)
    pulling.expect("Pulling from")
    pulling.expect("\x1b[1A\x1b[2K\r")
    pulling.expect(": Pull complete \r")
    pulling.expect("Status: Downloaded newer image")
    assert pulling.end() == 0


def test_like_docker(proa: Proa, docker: DockerCli, registry: Registry) -> None:
    name = f"{registry.host}/tool"
    for words in (
        ("pull", f"{name}:1"), ("pull", f"{name}:nope"), ("pull", "-a", name), ("pull", "-q", f"{name}:2"),
        ("push", f"{name}:1"), ("push", "-q", f"{name}:2"), ("push", f"{name}:nope"), ("push", "-a", name),
    ):  # fmt: skip
        theirs = docker(*words)
        if words[0] == "pull":
            proa("rmi", "-f", f"{name}:1", f"{name}:2")
        ours = proa(*words)
        assert (ours.code, sorted(ours.out.splitlines())) == (
            theirs.returncode,
            sorted(theirs.stdout.decode().splitlines()),
        )


def test_push(proa: Proa, registry: Registry) -> None:
    name = f"{registry.host}/tool"
    proa("pull", "-q", f"{name}:1")
    proa("tag", f"{name}:1", f"{registry.host}/copy/of-tool:x")
    pushed = proa("push", f"{registry.host}/copy/of-tool:x")
    assert (pushed.code, pushed.err) == (0, "")
    assert pushed.out.startswith(f"The push refers to repository [{registry.host}/copy/of-tool]\n")
    status, headers, _ = registry.ask("HEAD", "/v2/copy/of-tool/manifests/x", headers={"Accept": MANIFEST})
    assert status == 200
    assert f"x: digest: {headers['Docker-Content-Digest']} size: " in pushed.out
    absent = proa("push", f"{registry.host}/copy/of-tool")
    assert absent.code == 1
    assert absent.out.startswith("Using default tag: latest\n")
    assert absent.err.splitlines()[-1] == f"tag does not exist: {registry.host}/copy/of-tool:latest"


# --- what run fetches ---------------------------------------------------------------------------------------


def test_run_fetches_what_is_missing(proa: Proa, registry: Registry) -> None:
    name = f"{registry.host}/box"
    ran = proa("run", "--rm", "--network", "none", name)
    assert (ran.code, ran.out) == (0, "pulled\n")
    assert ran.err.startswith(f"Unable to find image '{name}:latest' locally\nlatest: Pulling from {name}\n")
    assert ran.err.endswith(f"Status: Downloaded newer image for {name}:latest\n")
    assert proa("run", "--rm", "--network", "none", name) == (0, "pulled\n", "")
    always = proa("run", "--rm", "--pull", "always", "--network", "none", name)
    assert always.err.endswith(f"Status: Image is up to date for {name}:latest\n")
    assert proa("run", "-q", "--rm", "--pull", "always", "--network", "none", name).err == ""
    proa("rmi", name)
    never = proa("run", "--rm", "--pull", "never", name)
    assert never.code == 125
    assert "No such image" in never.err
    assert "Unable to find" not in never.err
    assert proa("run", "--rm", "-q", "--network", "none", name) == (0, "pulled\n", "")
    nowhere = proa("run", "--rm", f"{registry.host}/nowhere")
    assert nowhere.code == 125
    assert "not found" in nowhere.err


# --- logging in ---------------------------------------------------------------------------------------------


def test_login(proa: Proa, closed: Registry, docker_config: Path) -> None:
    name = f"{closed.host}/secret:1"
    refused = proa("pull", name)
    assert refused.code == 1
    assert "no basic auth credentials" in refused.err
    wrong = proa("login", "-u", "ada", "--password-stdin", closed.host, input=b"wrong\n")
    assert wrong.code == 1
    assert "401 Unauthorized" in wrong.err or "unauthorized" in wrong.err
    assert not docker_config.exists()
    entered = proa("login", "-u", "ada", "--password-stdin", closed.host, input=b"love:lace\r\n")
    assert (entered.code, entered.out) == (0, "Login Succeeded\n")
    assert f"Your credentials are stored unencrypted in '{docker_config}'." in entered.err
    assert docker_config.stat().st_mode & 0o777 == 0o600
    assert proa("pull", "-q", name) == (0, f"{name}\n", "")
    proa("tag", name, f"{closed.host}/mine:1")
    assert proa("push", "-q", f"{closed.host}/mine:1").code == 0
    again = proa("login", closed.host)
    assert (again.code, again.out) == (0, "Login Succeeded\n")
    assert "Authenticating with existing credentials... [Username: ada]" in again.err
    assert proa("logout", closed.host) == (0, f"Removing login credentials for {closed.host}\n", "")
    assert json.loads(docker_config.read_text()) == {"auths": {}}
    assert proa("push", "-q", f"{closed.host}/mine:1").code == 1


def test_login_asks(terminal: Terminal, closed: Registry, docker_config: Path) -> None:
    asking = terminal("login", closed.host)
    asking.expect("Username: ")
    asking.type("ada\n")
    asking.expect("Password: ")
    asking.type("love:lace\n")
    asking.expect("Login Succeeded")
    assert asking.end() == 0
    assert b"love:lace" not in asking.shown
    stored = json.loads(docker_config.read_text())["auths"]
    assert list(stored) == [closed.host]
    nobody = terminal("login", closed.host + "0")
    nobody.expect("Username: ")
    nobody.type("\n")
    nobody.expect("error: username is required")
    assert nobody.end() == 1


def test_credentials_that_cannot_be_had_are_no_reason_to_give_up(
    proa: Proa, registry: Registry, docker_config: Path
) -> None:
    docker_config.parent.mkdir()
    docker_config.write_text('{"credsStore": "absent"}')
    pulled = proa("pull", "-q", f"{registry.host}/tool:1")
    assert pulled.code == 0
    assert pulled.err.startswith("WARNING: asking without credentials: error getting credentials")
    docker_config.write_text("nonsense")
    assert proa("pull", "-q", f"{registry.host}/tool:1").code == 0
    refused = proa("login", "-u", "a", "--password-stdin", registry.host, input=b"b")
    assert refused.code == 1
    assert docker_config.read_text() == "nonsense"


def test_search_goes_to_the_registry(proa: Proa, registry: Registry) -> None:
    found = proa("search", f"{registry.host}/word")
    assert found.code == 1
    assert found.err.startswith("Error response from daemon: ")


def test_an_interrupted_pull_is_given_up(daemon: Daemon, registry: Registry) -> None:
    """Nobody wants the layer any more: the daemon stops fetching it."""
    noise = os.urandom(64 << 20)
    name = registry.put("noise", "1", make_image([make_tar([Item("noise", noise)])]))
    pulling = subprocess.Popen(
        [sys.executable, "-m", "proa", "pull", name], env=environment(daemon.url), stdout=subprocess.PIPE
    )
    assert pulling.stdout is not None
    assert pulling.stdout.readline().startswith(b"1: Pulling from")
    pulling.terminate()
    pulling.wait(20)
    pulling.stdout.close()
    listed = daemon.api("GET", "/images/json").json
    assert not [image for image in listed if name in (image["RepoTags"] or [])]


def test_the_python_api(client: proa_api.Client, registry: Registry, closed: Registry) -> None:
    told: list[dict[str, object]] = []
    client.images.pull(f"{registry.host}/tool:1", progress=told.append)
    assert told[0]["status"] == f"Pulling from {registry.host}/tool"
    client.images.tag(f"{registry.host}/tool:1", f"{registry.host}/py", "1")
    (pushed,) = client.images.push(f"{registry.host}/py:1")
    assert pushed["Tag"] == "1"
    assert pushed["Digest"].startswith("sha256:")
    with pytest.raises(proa_api.APIError):
        client.images.pull(f"{closed.host}/secret:1")
    known = Credentials(*LOGIN, server_address=closed.host)
    assert client.system.login(known) == ("Login Succeeded", "")
    client.images.pull(f"{closed.host}/secret:1", credentials=known)
    with pytest.raises(WorkFailed, match="tag does not exist"):
        client.images.push(f"{registry.host}/py:2")
    with client.images.save([f"{registry.host}/tool:1"]) as archive:
        body = b"".join(archive)
    assert b"manifest.json" in body
