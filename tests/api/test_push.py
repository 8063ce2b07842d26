"""Push over the API, with the docker CLI and docker-py, to a real registry on loopback."""

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import docker as docker_py
import pytest

from tests.api.pulls import HIGH, LOW, TWO, files, inspect, pull, pull_events, statuses
from tests.conftest import DockerCli
from tests.support import schema
from tests.support.archives import docker_archive, image_config, oci_layout, sha256
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api
from tests.support.registry import LAYER, Registry, RemoteImage, make_image
from tests.support.rogue import HangUp, Rogue, Status, Tokens

pytestmark = pytest.mark.usefixtures("no_images")


def load(api: Api, archive: bytes) -> None:
    api("POST", "/images/load", body=archive, headers={"Content-Type": "application/x-tar"}).expect(200)


def tag(api: Api, image: str, name: str) -> None:
    repository, _, tag = name.rpartition(":")
    api("POST", f"/images/{image}/tag", repo=repository, tag=tag).expect(201)


def push(api: Api, name: str, **query: Any) -> list[dict[str, Any]]:
    """Push; returns the lines of progress, of which none may tell an error."""
    lines = _lines(api, name, **query)
    assert not any("error" in line for line in lines), lines
    return lines


def push_error(api: Api, name: str, **query: Any) -> str:
    """What a push says that fails; the first line is out by then."""
    lines = _lines(api, name, **query)
    assert lines[0]["status"].startswith("The push refers to repository [")
    assert lines[-1]["errorDetail"] == {"message": lines[-1]["error"]}
    return str(lines[-1]["error"])


def _lines(api: Api, name: str, **query: Any) -> list[dict[str, Any]]:
    answer = api("POST", f"/images/{name}/push", headers={"X-Registry-Auth": "e30="}, **query).expect(200)
    lines = [json.loads(line) for line in answer.body.splitlines()]
    for line in lines:
        if "aux" not in line:
            schema.check(line, "PushImageInfo")
    return lines


def told_of(lines: list[dict[str, Any]], diff_id: str) -> list[str]:
    """What was said of a layer, how far it was left out."""
    own = [line for line in lines if line.get("id") == diff_id[7:19]]
    return [status for _, status in statuses(own)]


def test_a_pulled_image_goes_back_as_it_came(api: Api, registry: Registry) -> None:
    pull(api, registry.put("source", "1", TWO))
    name = f"{registry.host}/target"
    tag(api, f"{registry.host}/source:1", f"{name}:2")
    begin = time.time()
    lines = push(api, name, tag="2")
    assert lines[0] == {"status": f"The push refers to repository [{name}]"}
    assert lines[-2] == {"status": f"2: digest: {TWO.digest} size: {len(TWO.manifest)}"}
    aux = {"Tag": "2", "Digest": TWO.digest, "Size": len(TWO.manifest)}
    assert lines[-1] == {"progressDetail": {}, "aux": aux}
    assert registry.manifest("target", "2") == (TWO.manifest, TWO.media_type)
    for digest, content in TWO.blobs.items():
        assert registry.blob("target", digest) == content
    assert f"{name}@{TWO.digest}" in inspect(api, f"{name}:2")["RepoDigests"]
    attributes = {"k": "v", "name": name}
    assert pull_events(api, begin) == [("push", f"{name}:2", attributes)]
    for layer in (LOW, HIGH):
        assert told_of(lines, sha256(layer)) == ["Preparing", "Mounted from source"]
    again = push(api, name, tag="2")
    assert told_of(again, sha256(LOW)) == ["Preparing", "Layer already exists"]


def test_plain_layers_are_compressed_first(api: Api, registry: Registry, daemon: Daemon) -> None:
    name = f"{registry.host}/plain"
    load(api, docker_archive([LOW, HIGH], [f"{name}:1", f"{name}:2"]))
    lines = push(api, name, tag="1")
    assert told_of(lines, sha256(LOW)) == ["Preparing", "Pushing", "Pushed"]
    content, _ = registry.manifest("plain", "1")
    manifest = json.loads(content)
    assert [layer["mediaType"] for layer in manifest["layers"]] == [f"{LAYER}+gzip"] * 2
    packed = [registry.blob("plain", layer["digest"]) for layer in manifest["layers"]]
    assert [gzip.decompress(layer) for layer in packed] == [LOW, HIGH]
    assert manifest["config"]["digest"] == sha256(image_config([LOW, HIGH]))
    image = inspect(api, f"{name}:1")
    assert image["Descriptor"]["digest"] == sha256(content)
    assert image["RepoDigests"] == [f"{name}@{sha256(content)}"]
    blobs = {path.removeprefix("blobs/sha256/") for path in files(daemon) if path.startswith("blobs/")}
    kept = {sha256(content), manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
    assert blobs == {digest[7:] for digest in kept}
    again = push(api, name, tag="2")
    assert told_of(again, sha256(LOW)) == ["Preparing", "Layer already exists"]
    assert registry.manifest("plain", "2")[0] == content


def test_compressing_the_same_gives_the_same(api: Api, registry: Registry) -> None:
    digests = []
    for attempt in ("a", "b"):
        name = f"{registry.host}/again:{attempt}"
        load(api, docker_archive([LOW], [name]))
        push(api, f"{registry.host}/again", tag=attempt)
        digests.append(sha256(registry.manifest("again", attempt)[0]))
        api("DELETE", f"/images/{name}").expect(200)
    assert digests[0] == digests[1]


def test_a_layer_that_was_pulled_is_not_compressed_anew(api: Api, registry: Registry) -> None:
    pull(api, registry.put("base", "1", make_image([LOW])))
    name = f"{registry.host}/derived"
    load(api, docker_archive([LOW, HIGH], [f"{name}:1"]))
    lines = push(api, name, tag="1")
    manifest = json.loads(registry.manifest("derived", "1")[0])
    assert manifest["layers"][0]["digest"] == make_image([LOW]).layers[0]
    assert told_of(lines, sha256(LOW)) == ["Preparing", "Mounted from base"]


def test_an_image_with_a_manifest_of_its_own_keeps_it(api: Api, registry: Registry) -> None:
    name = f"{registry.host}/layout:1"
    load(api, oci_layout([LOW], name))
    digest = inspect(api, name)["Descriptor"]["digest"]
    push(api, f"{registry.host}/layout", tag="1")
    assert sha256(registry.manifest("layout", "1")[0]) == digest


def test_all_tags(api: Api, registry: Registry) -> None:
    name = f"{registry.host}/all"
    load(api, docker_archive([LOW], [f"{name}:1", f"{name}:2"]))
    lines = push(api, name)
    assert [line["aux"]["Tag"] for line in lines if "aux" in line] == ["1", "2"]
    assert registry.manifest("all", "1") == registry.manifest("all", "2")


def test_docker_pushes(docker: DockerCli, api: Api, registry: Registry) -> None:
    name = f"{registry.host}/cli"
    load(api, docker_archive([LOW, HIGH], [f"{name}:latest"]))
    pushed = docker("push", name)
    assert pushed.returncode == 0, pushed.stderr
    content, _ = registry.manifest("cli", "latest")
    assert f"latest: digest: {sha256(content)} size: {len(content)}" in pushed.stdout.decode()
    assert docker("rmi", f"{name}:latest").returncode == 0
    assert docker("pull", f"{name}@{sha256(content)}").returncode == 0
    assert docker("push", "--all-tags", name).stderr == f"no tags to push for {name}\n".encode()


def test_docker_py_pushes(docker_client: docker_py.DockerClient, api: Api, registry: Registry) -> None:
    name = f"{registry.host}/python"
    load(api, docker_archive([LOW], [f"{name}:1"]))
    lines = list(docker_client.images.push(name, tag="1", stream=True, decode=True))
    assert lines[-1]["aux"]["Digest"] == sha256(registry.manifest("python", "1")[0])
    assert docker_client.images.get_registry_data(f"{name}:1").id == lines[-1]["aux"]["Digest"]


# --- what fails -----------------------------------------------------------------------------------------


def test_what_is_not_here(api: Api, registry: Registry) -> None:
    name = f"{registry.host}/nothing"
    assert push_error(api, name, tag="1") == f"An image does not exist locally with the tag: {name}"
    load(api, docker_archive([LOW], [f"{name}:1"]))
    assert push_error(api, name, tag="2") == f"tag does not exist: {name}:2"
    assert push_error(api, f"{name}@{TWO.digest}") == "cannot push a digest reference"
    api("POST", "/images/UPPER/push").expect(400)
    api("POST", f"/images/{name}/push", tag="a b").expect(400)


def test_nobody_there(api: Api) -> None:
    load(api, docker_archive([LOW], ["127.0.0.1:1/x:1"]))
    text = 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert push_error(api, "127.0.0.1:1/x", tag="1") == text


def test_an_upload_that_breaks_off(api: Api, registry: Registry, rogue: Rogue) -> None:
    name = f"{rogue.host}/broken"
    load(api, docker_archive([LOW], [f"{name}:1"]))
    rogue.on("PATCH", "/broken/blobs/uploads/", HangUp(), times=1)
    push(api, name, tag="1")
    assert len(rogue.asked("PATCH", "/broken/blobs/uploads/")) == 3  # the layer twice, and the configuration
    assert registry.manifest("broken", "1")


def test_a_registry_that_takes_nothing(api: Api, rogue: Rogue) -> None:
    name = f"{rogue.host}/closed"
    load(api, docker_archive([LOW], [f"{name}:1"]))
    rogue.on("POST", "/uploads/", Status(403, b'{"errors":[{"code":"DENIED","message":"not yours"}]}'))
    assert push_error(api, name, tag="1") == "denied: not yours"


def test_a_mount_asks_for_the_right_to_read_there(api: Api, registry: Registry) -> None:
    gate = Rogue(registry.port, Tokens("me", "secret")).start()
    try:
        registry.put("from/here", "1", TWO)
        me = {"username": "me", "password": "secret"}
        pull(api, f"{gate.host}/from/here:1", credentials=me)
        tag(api, f"{gate.host}/from/here:1", f"{gate.host}/to/there:1")
        assert push_error(api, f"{gate.host}/to/there", tag="1").startswith("denied: ")
        gate.behave()
        docker_header = {"X-Registry-Auth": "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ=="}
        answer = api("POST", f"/images/{gate.host}/to/there/push", headers=docker_header, tag="1").expect(200)
        assert b"Mounted from from/here" in answer.body
        scopes = {scope for form in gate.forms for scope in form["scope"]}
        assert {"repository:to/there:push,pull", "repository:from/here:pull"} <= scopes
    finally:
        gate.close()


def test_foreign_layers(make_daemon: Callable[..., Daemon]) -> None:
    registry = Registry({"validation": {"manifests": {"urls": {"allow": ["^http://"]}}}})
    daemon = make_daemon("--allow-nondistributable-artifacts", registry.host).start()
    rogue = Rogue(registry.port).start()
    try:
        registry.start()
        registry.put_blob("elsewhere", TWO.blobs[TWO.layers[0]])
        url = f"{registry.url}/v2/elsewhere/blobs/{TWO.layers[0]}"
        manifest = json.loads(TWO.manifest)
        manifest["layers"][0] |= {
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "urls": [url],
        }
        blobs = {digest: content for digest, content in TWO.blobs.items() if digest != TWO.layers[0]}
        image = RemoteImage(json.dumps(manifest).encode(), TWO.media_type, blobs)
        registry.put("foreign", "1", image)
        pull(daemon.api, f"{rogue.host}/foreign:1")
        for host, said in ((rogue.host, "Skipped foreign layer"), (registry.host, "Pushed")):
            tag(daemon.api, f"{rogue.host}/foreign:1", f"{host}/copy-{said[:4].lower()}:1")
            lines = push(daemon.api, f"{host}/copy-{said[:4].lower()}", tag="1")
            assert told_of(lines, sha256(LOW))[-1] == said
        assert registry.blob("copy-push", TWO.layers[0]) == TWO.blobs[TWO.layers[0]]
    finally:
        rogue.close()
        registry.close()
