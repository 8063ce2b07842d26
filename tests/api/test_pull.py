"""Pull over the API, with the docker CLI and docker-py, from a real registry on loopback."""

import gzip
import time
from collections.abc import Callable

import docker as docker_py
import pytest
import zstandard

from tests.api.pulls import (
    HIGH,
    LOW,
    NOISE,
    PLAIN,
    TWO,
    ask,
    files,
    inspect,
    pull,
    pull_error,
    pull_events,
    shown,
    statuses,
)
from tests.conftest import DockerCli
from tests.support import schema
from tests.support.archives import Item, make_tar, sha256
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.rawhttp import Api
from tests.support.registry import LAYER, MANIFEST, Registry, RemoteImage, make_image
from tests.support.rogue import Cut, HangUp, Lie, Rogue, Status

pytestmark = pytest.mark.usefixtures("no_images")


# --- what is pulled, and how it is told ---------------------------------------------------------------------


def test_lines_of_progress_are_dockers(api: Api, registry: Registry) -> None:
    name = registry.put("told", "1", make_image([LOW]))
    lines = pull(api, name.removesuffix(":1"), tag="1")
    (layer,) = make_image([LOW]).layers
    assert statuses(lines) == [
        ("1", f"Pulling from {registry.host}/told"),
        (shown(layer), "Pulling fs layer"),
        (shown(layer), "Downloading"),
        (shown(layer), "Verifying Checksum"),
        (shown(layer), "Download complete"),
        (shown(layer), "Extracting"),
        (shown(layer), "Pull complete"),
        ("", f"Digest: {make_image([LOW]).digest}"),
        ("", f"Status: Downloaded newer image for {name}"),
    ]
    downloading = next(line for line in lines if line["status"] == "Downloading")
    size = len(gzip.compress(LOW, compresslevel=1, mtime=0))
    assert downloading["progressDetail"] == {"current": size, "total": size}
    assert downloading["progress"] == f"[{'=' * 50}>]  {size:>6}B/{size}B"
    assert next(line for line in lines if line["status"] == "Pull complete")["progressDetail"] == {}
    again = pull(api, name)
    assert statuses(again) == [
        ("1", f"Pulling from {registry.host}/told"),
        ("", f"Digest: {make_image([LOW]).digest}"),
        ("", f"Status: Image is up to date for {name}"),
    ]


def test_the_image_is_what_the_registry_has(api: Api, registry: Registry, daemon: Daemon) -> None:
    begin = time.time()
    name = registry.put("same", "1", TWO)
    pull(api, name)
    image = inspect(api, name)
    schema.check_answer("GET", "/images/same/json", 200, image)
    assert image["Id"] == TWO.image_id
    assert image["RepoTags"] == [name]
    assert image["RepoDigests"] == [f"{registry.host}/same@{TWO.digest}"]
    assert image["Descriptor"] == {"mediaType": MANIFEST, "digest": TWO.digest, "size": len(TWO.manifest)}
    assert image["RootFS"]["Layers"] == [sha256(LOW), sha256(HIGH)]
    assert image["Config"]["Cmd"] == ["x"]
    assert image["Size"] == 7000
    kept = {path.removeprefix("blobs/sha256/") for path in files(daemon) if path.startswith("blobs/")}
    assert kept == {digest[7:] for digest in (TWO.digest, *TWO.blobs)}
    for digest, content in TWO.blobs.items():
        assert (daemon.data_root / "blobs" / "sha256" / digest[7:]).read_bytes() == content
    attributes = {"k": "v", "name": f"{registry.host}/same"}
    assert pull_events(api, begin) == [("pull", name, attributes)]
    assert api("GET", f"/images/{registry.host}/same@{TWO.digest}/json").expect(200).json["Id"] == image["Id"]


def test_a_layer_that_is_here_is_not_fetched(api: Api, registry: Registry, rogue: Rogue) -> None:
    registry.put("base", "1", make_image([LOW]))
    registry.put("more", "1", TWO)
    pull(api, f"{rogue.host}/base:1")
    rogue.behave()
    lines = pull(api, f"{rogue.host}/more:1")
    low, high = TWO.layers
    assert (shown(low), "Already exists") in statuses(lines)
    assert (shown(high), "Pull complete") in statuses(lines)
    assert not rogue.asked("GET", low)


def test_a_manifest_cannot_pair_what_is_here_as_it_likes(api: Api, registry: Registry) -> None:
    """Layer and blob are both in the store, but the one is not made of the other."""
    pull(api, registry.put("first", "1", make_image([LOW])))
    pull(api, registry.put("second", "1", make_image([HIGH])))
    liar = make_image([LOW], packed=[("+gzip", gzip.compress(HIGH, compresslevel=1, mtime=0))], Cmd=["liar"])
    name = registry.put("liar", "1", liar)
    assert pull_error(api, name) == "layers from manifest don't match image configuration"
    assert api("GET", f"/images/{name}/json").status == 404


def test_by_digest(api: Api, registry: Registry) -> None:
    name = registry.put("digested", "1", TWO).removesuffix(":1")
    lines = pull(api, name, tag=TWO.digest)
    assert statuses(lines)[0] == (f"{name}@{TWO.digest}", f"Pulling from {registry.host}/digested")
    assert lines[-1]["status"] == f"Status: Downloaded newer image for {name}@{TWO.digest}"
    image = inspect(api, f"{name}@{TWO.digest}")
    assert (image["RepoTags"], image["RepoDigests"]) == ([], [f"{name}@{TWO.digest}"])
    assert pull(api, f"{name}@{TWO.digest}")[-1]["status"].startswith("Status: Image is up to date for ")


def test_a_tag_moves(api: Api, registry: Registry) -> None:
    name = registry.put("moving", "1", make_image([LOW]))
    pull(api, name)
    registry.put("moving", "1", TWO)
    assert pull(api, name)[-1]["status"] == f"Status: Downloaded newer image for {name}"
    assert inspect(api, name)["Id"] == TWO.image_id
    old = inspect(api, make_image([LOW]).image_id)
    assert (old["RepoTags"], old["RepoDigests"]) == (
        [],
        [f"{registry.host}/moving@{make_image([LOW]).digest}"],
    )


def test_all_tags(api: Api, registry: Registry, docker_client: docker_py.DockerClient) -> None:
    registry.put("many", "a", make_image([LOW]))
    registry.put("many", "b", TWO)
    name = f"{registry.host}/many"
    begin = time.time()
    lines = pull(api, name)
    assert {line["id"] for line in lines if line["status"].startswith("Pulling from")} == {"a", "b"}
    assert lines[-1]["status"] == f"Status: Downloaded newer image for {name}"
    assert [event[:2] for event in pull_events(api, begin)] == [("pull", name)]
    pulled = docker_client.images.pull(name, all_tags=True)
    assert {tag for image in pulled for tag in image.tags} == {f"{name}:a", f"{name}:b"}


def test_compressions_and_docker_types(api: Api, registry: Registry) -> None:
    packed = [("", LOW), ("+gzip", gzip.compress(HIGH)), ("+zstd", zstandard.compress(NOISE))]
    image = make_image([LOW, HIGH, NOISE], packed=packed)
    old = RemoteImage(
        image.manifest.replace(MANIFEST.encode(), b"application/vnd.docker.distribution.manifest.v2+json")
        .replace(
            b"application/vnd.oci.image.config.v1+json", b"application/vnd.docker.container.image.v1+json"
        )
        .replace(f"{LAYER}+gzip".encode(), b"application/vnd.docker.image.rootfs.diff.tar.gzip"),
        "application/vnd.docker.distribution.manifest.v2+json",
        image.blobs,
    )
    for tag, each in (("oci", image), ("docker", old)):
        name = registry.put("packed", tag, each)
        pull(api, name)
        assert inspect(api, name)["RootFS"]["Layers"] == [sha256(LOW), sha256(HIGH), sha256(NOISE)]


def test_one_blob_twice_in_an_image_is_fetched_once(api: Api, registry: Registry, rogue: Rogue) -> None:
    registry.put("twice", "1", make_image([LOW, HIGH, LOW]))
    pull(api, f"{rogue.host}/twice:1")
    assert len(rogue.asked("GET", make_image([LOW]).layers[0])) == 1


def test_docker_pulls_and_runs(docker: DockerCli, registry: Registry) -> None:
    image = make_image([busybox_tar(), HIGH], Cmd=["cat", "/etc/high"])
    name = registry.put("first", "latest", image)
    pulled = docker("pull", name.removesuffix(":latest"))
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.decode().splitlines()[0] == "Using default tag: latest"
    assert f"Digest: {image.digest}\nStatus: Downloaded newer image for {name}\n" in pulled.stdout.decode()
    assert docker("run", "--rm", name).stdout == b"high" * 1000
    assert f"Status: Image is up to date for {name}" in docker("pull", name).stdout.decode()
    gone = docker("rmi", name)
    assert f"Untagged: {registry.host}/first@{image.digest}" in gone.stdout.decode()
    ran = docker("run", "--rm", "--pull", "always", name)
    assert ran.stdout == b"high" * 1000


def test_docker_py_pulls(docker_client: docker_py.DockerClient, registry: Registry) -> None:
    registry.put("python", "1", TWO)
    image = docker_client.images.pull(f"{registry.host}/python", tag="1")
    assert (image.id, image.tags) == (TWO.image_id, [f"{registry.host}/python:1"])
    with pytest.raises(
        docker_py.errors.NotFound, match=r"manifest for .*/python:2 not found: manifest unknown"
    ):
        docker_client.images.pull(f"{registry.host}/python", tag="2")


# --- platforms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "chosen"),
    [
        ("linux/amd64", ["amd64"]), ("linux/386", ["386"]), ("linux/arm64", ["arm64"]),
        ("linux/arm64/v8", ["arm64"]), ("linux/arm/v7", ["arm", "v7"]), ("linux/arm", ["arm", "v7"]),
        ("linux/arm/v6", ["arm", "v6"]), ("linux/arm/v8", ["arm", "v7"]),
    ],
)  # fmt: skip
def test_the_platform_is_chosen(
    api: Api, registry: Registry, multi: RemoteImage, platform: str, chosen: list[str]
) -> None:
    lines = pull(api, f"{registry.host}/multi:1", platform=platform)
    assert ("", f"Digest: {multi.digest}") in statuses(lines)
    image = inspect(api, f"{registry.host}/multi:1")
    assert image["Config"]["Cmd"] == chosen
    assert image["RepoDigests"] == [f"{registry.host}/multi@{multi.digest}"]


def test_a_platform_that_is_not_there(
    api: Api, docker: DockerCli, registry: Registry, multi: RemoteImage
) -> None:
    text = "no matching manifest for linux/s390x in the manifest list entries"
    assert pull_error(api, f"{registry.host}/multi:1", platform="linux/s390x") == text
    failed = docker("pull", "--platform", "linux/s390x", f"{registry.host}/multi:1")
    assert failed.stderr.decode() == f"{text}\n"
    assert ask(api, "x", platform="a/b/c/d").expect(400)


def test_one_image_for_another_platform_is_pulled_with_a_warning(api: Api, registry: Registry) -> None:
    name = registry.put("single", "1", TWO)
    warning = (
        f"WARNING: image with reference {name} was found but its platform (linux/amd64) does not match the "
        "specified platform (linux/arm64)"
    )
    assert ("", warning) in statuses(pull(api, name, platform="linux/arm64"))


# --- what fails ---------------------------------------------------------------------------------------------


def test_what_is_not_there(api: Api, registry: Registry) -> None:
    registry.put("there", "1", TWO)
    answer = ask(api, f"{registry.host}/there:2").expect(404)
    assert (
        answer.message
        == f"manifest for {registry.host}/there:2 not found: manifest unknown: manifest unknown"
    )
    answer = ask(api, f"{registry.host}/nowhere").expect(404)
    assert answer.message == (
        f"repository {registry.host}/nowhere not found: name unknown: repository name not known to registry"
    )


def test_nobody_there(api: Api) -> None:
    answer = ask(api, "127.0.0.1:1/x:1").expect(500)
    text = 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert answer.message == text


@pytest.mark.parametrize("tag", ["@", "a b", "sha256:123"])
def test_names_that_are_none(api: Api, tag: str) -> None:
    assert ask(api, "x", tag=tag).status == 400


def test_schema_1_is_refused(api: Api, rogue: Rogue) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    rogue.on("GET", "/manifests/", Status(200, b'{"schemaVersion": 1}', {"Content-Type": kind}))
    answer = ask(api, f"{rogue.host}/old:1").expect(400)
    assert answer.message.startswith(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. "
        f"Suggest the author of {rogue.host}/old:1 to upgrade the image to the OCI Format"
    )


def test_what_is_no_image_is_refused(api: Api, registry: Registry) -> None:
    manifest = TWO.manifest.replace(b"application/vnd.oci.image.config.v1+json", b"application/vnd.cncf.helm")
    name = registry.put("chart", "1", RemoteImage(manifest, MANIFEST, TWO.blobs))
    assert pull_error(api, name) == "unsupported media type application/vnd.cncf.helm"


def test_a_layer_that_is_not_its_digest_is_not_taken(api: Api, registry: Registry, rogue: Rogue) -> None:
    registry.put("lie", "1", make_image([NOISE], packed=PLAIN))
    (layer,) = make_image([NOISE], packed=PLAIN).layers
    rogue.on("GET", layer, Lie(lambda body: body.replace(b"\x01\x02", b"\x02\x01")))
    text = f"filesystem layer verification failed for digest {layer}"
    assert pull_error(api, f"{rogue.host}/lie:1") == text


def test_layers_that_are_not_those_of_the_configuration(api: Api, registry: Registry) -> None:
    other = make_image([LOW], packed=[("+gzip", gzip.compress(HIGH))])
    name = registry.put("other", "1", other)
    assert pull_error(api, name) == "layers from manifest don't match image configuration"
    fewer = make_image([LOW, HIGH], packed=[("+gzip", gzip.compress(LOW))])
    name = registry.put("other", "2", fewer)
    assert pull_error(api, name) == "layers from manifest don't match image configuration"


def test_a_layer_that_cannot_be_unpacked(api: Api, registry: Registry) -> None:
    bad = make_tar([Item("../../outside", b"x")])
    assert "leads out" in pull_error(api, registry.put("bad", "1", make_image([LOW, bad])))
    broken = make_image([LOW], packed=[("+gzip", gzip.compress(LOW)[:-20])])
    assert "cannot unpack" in pull_error(api, registry.put("bad", "2", broken))


def test_a_cut_is_mended_on_the_way(api: Api, registry: Registry, rogue: Rogue) -> None:
    image = make_image([NOISE], packed=PLAIN)
    registry.put("cut", "1", image)
    rogue.on("GET", image.layers[0], Cut(500_000), times=1)
    pull(api, f"{rogue.host}/cut:1")
    assert [ask.header("Range") for ask in rogue.asked("GET", image.layers[0])] == ["", "bytes=500000-"]


def test_a_registry_that_gives_up(api: Api, registry: Registry, make_daemon: Callable[..., Daemon]) -> None:
    rogue = Rogue(registry.port).start()
    try:
        registry.put("gone", "1", TWO)
        rogue.on("GET", TWO.layers[1], HangUp())
        once = make_daemon("--max-download-attempts", "1").start()
        assert pull_error(once.api, f"{rogue.host}/gone:1").endswith(": EOF")
        assert files(once) == set()
    finally:
        rogue.close()
