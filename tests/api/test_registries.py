"""Registries beside pulls and pushes: who may, inspection, search; and archives from URLs."""

import json
from typing import Any

import pytest

from tests.api.pulls import LOW, TWO, ask, inspect, lines_of, pull
from tests.conftest import DockerCli
from tests.support import schema
from tests.support.archives import sha256
from tests.support.rawhttp import Api
from tests.support.registry import MANIFEST, Registry, RemoteImage
from tests.support.rogue import Rogue, Status, Tokens

pytestmark = pytest.mark.usefixtures("no_images")


# --- who may ------------------------------------------------------------------------------------------------


def test_passwords(api: Api, docker: DockerCli) -> None:
    guarded = Registry(login=("me", "secret"))
    try:
        guarded.start()
        name = guarded.put("mine", "1", TWO)
        answer = ask(api, name).expect(500)
        assert answer.message == (
            f'Head "http://{guarded.host}/v2/mine/manifests/1": no basic auth credentials'
        )
        assert ask(api, name, credentials={"username": "me", "password": "no"}).expect(500).message == (
            "unauthorized: authentication required"
        )
        assert docker("pull", name).returncode == 1
        wrong = docker("login", "-u", "me", "--password-stdin", guarded.host, input=b"wrong")
        assert b"login attempt to http://" in wrong.stderr
        assert b"failed with status: 401 Unauthorized" in wrong.stderr
        done = docker("login", "-u", "me", "--password-stdin", guarded.host, input=b"secret")
        assert b"Login Succeeded" in done.stdout
        assert docker("pull", name).returncode == 0
    finally:
        guarded.close()


def test_tokens(api: Api, registry: Registry, docker: DockerCli) -> None:
    gate = Rogue(registry.port, Tokens("me", "secret", public=("open",))).start()
    try:
        registry.put("open", "1", TWO)
        registry.put("closed", "1", TWO)
        pull(api, f"{gate.host}/open:1")
        text = (
            f"pull access denied for {gate.host}/closed, repository does not exist or may require "
            "'docker login': denied: requested access to the resource is denied"
        )
        assert ask(api, f"{gate.host}/closed:1").expect(404).message == text
        assert text in docker("pull", f"{gate.host}/closed:1").stderr.decode()
        me = {"username": "me", "password": "secret"}
        answer = api("POST", "/auth", json_body={**me, "serveraddress": gate.host}).expect(200).json
        schema.check_answer("POST", "/auth", 200, answer)
        assert answer == {"Status": "Login Succeeded", "IdentityToken": "an identity token"}
        pull(api, f"{gate.host}/closed:1", credentials=me)
        pull(api, f"{gate.host}/closed:1", credentials={"identitytoken": answer["IdentityToken"]})
        wrong = {"username": "me", "password": "no", "serveraddress": gate.host}
        assert api("POST", "/auth", json_body=wrong).expect(401).message == (
            f'Get "http://{gate.host}/v2/": unauthorized: incorrect username or password'
        )
    finally:
        gate.close()


def test_requests_to_log_in_that_are_none(api: Api) -> None:
    api("POST", "/auth", body=b"[]", headers={"Content-Type": "application/json"}).expect(400)
    api("POST", "/auth", json_body={"serveraddress": "http://a:b:c/"}).expect(400)
    api("POST", "/auth", json_body={"serveraddress": "127.0.0.1:1"}).expect(500)


# --- other ways in ------------------------------------------------------------------------------------------


def test_import_from_a_url(api: Api, registry: Registry, docker: DockerCli) -> None:
    registry.put_blob("files", LOW)
    url = f"{registry.url}/v2/files/blobs/{sha256(LOW)}"
    lines = lines_of(api("POST", "/images/create", fromSrc=url, repo="from/url").expect(200))
    assert lines[0] == {"status": f"Downloading from {url}"}
    assert lines[1]["status"] == "Importing"
    image = inspect(api, "from/url")
    assert lines[-1] == {"status": image["Id"]}
    assert (image["RootFS"]["Layers"], image["Comment"]) == ([sha256(LOW)], f"Imported from {url}")
    assert docker("import", url, "from/cli").returncode == 0
    answer = api("POST", "/images/create", fromSrc=f"{url}x").expect(400)
    assert answer.message.startswith(f"failed to GET {url}x with status 400")
    answer = api("POST", "/images/create", fromSrc="127.0.0.1:1/x").expect(500)
    assert "connection refused" in answer.message


def test_distribution(api: Api, registry: Registry, docker: DockerCli, multi: RemoteImage) -> None:
    registry.put("known", "1", TWO)
    answer = api("GET", f"/distribution/{registry.host}/known:1/json").expect(200).json
    schema.check_answer("GET", "/distribution/known/json", 200, answer)
    assert answer == {
        "Descriptor": {"mediaType": MANIFEST, "digest": TWO.digest, "size": len(TWO.manifest)},
        "Platforms": [{"architecture": "amd64", "os": "linux"}],
    }
    listed = api("GET", f"/distribution/{registry.host}/multi:1/json").expect(200).json
    assert listed["Descriptor"]["digest"] == multi.digest
    assert {"architecture": "arm", "os": "linux", "variant": "v6"} in listed["Platforms"]
    answer = api("GET", f"/distribution/{registry.host}/known:2/json").expect(404)
    assert answer.message == "manifest unknown: manifest unknown"


def test_search(api: Api, rogue: Rogue, docker: DockerCli) -> None:
    found = [
        {"name": "one", "description": "first", "star_count": 5, "is_official": True, "is_automated": True},
        {"name": "two", "description": "second", "star_count": 1, "is_official": False},
    ]
    rogue.on("GET", "/v1/search?q=some%2Fterm&n=3", Status(200, json.dumps({"results": found}).encode()))
    answer = api("GET", "/images/search", term=f"{rogue.host}/some/term", limit="3").expect(200).json
    schema.check_answer("GET", "/images/search", 200, answer)
    assert [item["name"] for item in answer] == ["one", "two"]
    assert not answer[0]["is_automated"]
    rogue.on("GET", "/v1/search", Status(200, json.dumps({"results": found}).encode()))
    for wanted, names in (
        ({"is-official": ["false"]}, ["two"]), ({"stars": ["3"]}, ["one"]), ({"is-automated": ["true"]}, []),
    ):  # fmt: skip
        answer = api("GET", "/images/search", term=f"{rogue.host}/x", filters=wanted).expect(200).json
        assert [item["name"] for item in answer] == names
    listed = docker("search", "--limit", "7", "--filter", "stars=2", f"{rogue.host}/x").stdout.decode()
    assert ("one" in listed, "two" in listed) == (True, False)
    assert rogue.asked("GET", "/v1/search?q=x&n=7")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"limit": "0"}, "limit 0 is outside the range of [1, 100]"),
        ({"limit": "101"}, "limit 101 is outside the range of [1, 100]"),
        ({"filters": {"stars": ["many"]}}, "invalid filter 'stars=many'"),
        ({"filters": {"colour": ["red"]}}, "invalid filter 'colour'"),
        ({"term": "http://x"}, "should not have a scheme"),
        ({"term": ""}, "term"),
    ],
)
def test_searches_that_cannot_be(api: Api, query: dict[str, Any], text: str) -> None:
    assert text in api("GET", "/images/search", **{"term": "x", **query}).expect(400).message


def test_an_index_that_is_not_there(api: Api) -> None:
    answer = api("GET", "/images/search", term="127.0.0.1:1/x").expect(500)
    assert "connect: connection refused" in answer.message
