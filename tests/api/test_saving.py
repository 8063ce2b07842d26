"""``docker save`` over the API, and what reads its archives: ``docker load``, docker-py, skopeo."""

import gzip
import io
import json
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
import zstandard

from tests.api import steps
from tests.conftest import DockerCli
from tests.strictness import skip_for_lack_of
from tests.support.archives import Item, directory, docker_archive, make_tar, oci_layout, sha256
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.rawhttp import Api

LOW = make_tar([directory("etc"), Item("etc/low", b"low"), Item("etc/both", b"low")])
HIGH = make_tar([Item("etc/.wh.both"), Item("etc/high", b"high")])
BLOBS = "blobs/sha256/"


@pytest.fixture(autouse=True)
def _no_images(daemon: Daemon) -> Iterator[None]:
    yield
    daemon.remove_containers()
    for image in daemon.api("GET", "/images/json", all=True).json:
        daemon.api("DELETE", f"/images/{image['Id']}", force=True).expect(200)
    assert stored(daemon) == set()


def stored(daemon: Daemon) -> set[str]:
    root = daemon.data_root
    return {
        str(path.relative_to(root))
        for folder in ("layers", "blobs/sha256", "tmp")
        for path in (root / folder).iterdir()
    }


def load(api: Api, archive: bytes) -> None:
    answer = api("POST", "/images/load", body=archive, headers={"Content-Type": "application/x-tar"})
    assert b"error" not in answer.expect(200).body, answer.body


def save(api: Api, *names: str) -> bytes:
    answer = api("GET", "/images/get", names=names).expect(200)
    assert answer.headers["content-type"] == "application/x-tar"
    return answer.body


def contents(archive: bytes) -> dict[str, bytes]:
    """The files of an archive; whatever would make it differ from another of the same images fails."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
            assert member.mode == (0o755 if member.isdir() else 0o644)
            assert member.name not in found, "twice"
            file = tar.extractfile(member)
            if file:
                found[member.name] = file.read()
    return found


def inspect(api: Api, name: str) -> Any:
    return api("GET", f"/images/{name}/json").expect(200).json


def saves(api: Api, begin: float) -> list[str]:
    lines = api(
        "GET", "/events", since=f"{begin:.9f}", until=f"{time.time():.9f}",
        filters={"type": ["image"], "event": ["save"]},
    ).body.splitlines()  # fmt: skip
    told = [json.loads(line)["Actor"] for line in lines]
    assert all(actor["Attributes"]["name"] == actor["ID"] for actor in told)
    return [actor["ID"] for actor in told]


# --- what is written ----------------------------------------------------------------------------------------


def test_an_archive_is_a_layout_and_what_docker_load_reads(api: Api, daemon: Daemon) -> None:
    load(api, oci_layout([LOW, HIGH], "docker.io/library/two:1", Cmd=["x"]))
    load(api, docker_archive([LOW], ["one:1", "localhost:5000/one:2"]))
    begin = time.time()
    archive = save(api, "two:1", "one", "localhost:5000/one:2")
    assert save(api, "two:1", "one:1", "localhost:5000/one:2") == archive
    files = contents(archive)
    two, one = inspect(api, "two:1"), inspect(api, "one:1")
    assert saves(api, begin) == [two["Id"], one["Id"]] * 2

    index = json.loads(files["index.json"])
    assert (index["schemaVersion"], index["mediaType"].split(".")[-1]) == (2, "v1+json")
    assert [
        (item["digest"], item["annotations"]["io.containerd.image.name"]) for item in index["manifests"]
    ] == [
        (two["Descriptor"]["digest"], "docker.io/library/two:1"),
        (one["Descriptor"]["digest"], "docker.io/library/one:1"),
        (one["Descriptor"]["digest"], "localhost:5000/one:2"),
    ]
    assert index["manifests"][2]["annotations"]["org.opencontainers.image.ref.name"] == "2"

    first, second = json.loads(files["manifest.json"])
    assert (first["Config"], second["Config"]) == (BLOBS + two["Id"][7:], BLOBS + one["Id"][7:])
    assert (first["RepoTags"], second["RepoTags"]) == (["two:1"], ["one:1", "localhost:5000/one:2"])
    assert [gzip.decompress(files[name]) for name in first["Layers"]] == [LOW, HIGH]
    assert [files[name] for name in second["Layers"]] == [LOW]
    assert json.loads(files["repositories"]) == {
        "two": {"1": sha256(HIGH)[7:]},
        "one": {"1": sha256(LOW)[7:]},
        "localhost:5000/one": {"2": sha256(LOW)[7:]},
    }
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    kept = {path.name: path.read_bytes() for path in (daemon.data_root / BLOBS).iterdir()}
    assert {name.removeprefix(BLOBS): content for name, content in files.items() if BLOBS in name} == kept


def test_a_repository_is_all_its_tags_and_an_id_has_no_name(api: Api) -> None:
    load(api, docker_archive([LOW], ["many:1", "many:2"]))
    load(api, docker_archive([HIGH], ["many:3", "other:1"]))
    tags = [item["RepoTags"] for item in json.loads(contents(save(api, "many"))["manifest.json"])]
    assert sorted(map(sorted, tags)) == [["many:1", "many:2"], ["many:3"]]
    image_id = inspect(api, "many:1")["Id"]
    for ref in (image_id, image_id[7:], image_id[7:19]):
        files = contents(save(api, ref))
        (item,) = json.loads(files["manifest.json"])
        (descriptor,) = json.loads(files["index.json"])["manifests"]
        assert item["RepoTags"] is None
        assert "annotations" not in descriptor
        assert "repositories" not in files
    answer = api("GET", f"/images/{image_id}/get").expect(200)
    assert answer.body == save(api, image_id)


def test_nothing_is_sent_unless_all_is_there(api: Api, daemon: Daemon) -> None:
    load(api, docker_archive([LOW], ["here:1"]))
    begin = time.time()
    for names, text in (
        (("here:1", "gone:1"), "No such image: gone:1"),
        (("gone",), "No such image: gone:latest"),
        (("here:2",), "No such image: here:2"),
    ):
        answer = api("GET", "/images/get", names=names)
        assert (answer.status, answer.json["message"]) == (404, text)
    assert api("GET", "/images/UPPER/get").status == 400
    wanted = json.dumps({"os": "linux", "architecture": "s390x"})
    answer = api("GET", "/images/here:1/get", platform=wanted)
    assert (answer.status, answer.json["message"]) == (
        404,
        "no suitable export target found for platform linux/s390x",
    )
    own = json.dumps({"os": "linux", "architecture": "amd64"})
    assert api("GET", "/images/here:1/get", platform=own).status == 200
    assert api("GET", "/images/here:1/get", version="v1.47", platform=wanted).status == 200
    assert len(saves(api, begin)) == 2
    layer = daemon.data_root / BLOBS / sha256(LOW)[7:]
    layer.unlink()
    answer = api("GET", "/images/here:1/get")
    assert answer.status == 500
    assert "lacks blob" in answer.json["message"]


# --- round trips --------------------------------------------------------------------------------------------


def test_what_was_saved_loads_as_the_same(api: Api, daemon: Daemon) -> None:
    """Digests of manifests and blobs included, whatever compression the layers have; and who was made from
    whom."""
    load(api, zstandard.compress(oci_layout([busybox_tar(), LOW], "docker.io/library/base:1", Cmd=["sh"])))
    made = steps.create(api, "base:1", "sh", "-c", "echo x >/x")
    api("POST", f"/containers/{made}/start").expect(204)
    steps.wait_exit(api, made)
    api("POST", "/commit", container=made, repo="child", tag="1").expect(201)
    api("DELETE", f"/containers/{made}").expect(204)
    before = [inspect(api, name) for name in ("base:1", "child:1")]
    kept = stored(daemon)
    archive = save(api, "base:1", "child:1")
    for name in ("child:1", "base:1"):
        api("DELETE", f"/images/{name}").expect(200)
    assert stored(daemon) == set()
    load(api, archive)
    assert stored(daemon) == kept
    for old in before:
        new = inspect(api, old["Id"])
        del old["Metadata"], new["Metadata"]
        assert new == old
    assert before[1]["Parent"] == before[0]["Id"]
    load(api, archive)
    assert stored(daemon) == kept


def test_docker_cli_and_docker_py(
    api: Api, docker: DockerCli, docker_client: docker_py.DockerClient, tmp_path: Path
) -> None:
    load(api, docker_archive([busybox_tar(), LOW, HIGH], ["cli:1"], Cmd=["cat", "/etc/high"]))
    saved = docker("save", "-o", str(tmp_path / "saved.tar"), "cli:1")
    assert saved.returncode == 0, saved.stderr
    assert docker("save", "cli:1").stdout == (tmp_path / "saved.tar").read_bytes()
    assert b"No such image: gone:1" in docker("save", "-o", str(tmp_path / "x"), "gone:1").stderr
    image_id = docker_client.images.get("cli:1").id
    from_py = b"".join(docker_client.images.get("cli:1").save(named=True))
    assert from_py == (tmp_path / "saved.tar").read_bytes()
    docker_client.images.remove("cli:1")
    assert docker("load", "-i", str(tmp_path / "saved.tar")).stdout == b"Loaded image: cli:1\n"
    assert docker_client.images.get("cli:1").id == image_id
    assert docker("run", "--rm", "cli:1").stdout == b"high"


def skopeo(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["skopeo", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        skip_for_lack_of("skopeo")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_agrees_about_digests(api: Api, daemon: Daemon, tmp_path: Path) -> None:
    """Straight from the store, from an archive as a layout, and from one as ``docker save``'s."""
    layers = [busybox_tar(), LOW, HIGH]
    load(api, oci_layout(layers, "docker.io/library/agreed:1", Cmd=["sh"]))
    shown = inspect(api, "agreed:1")
    (tmp_path / "saved.tar").write_bytes(save(api, "agreed:1"))
    sources = (
        f"oci:{daemon.data_root}:docker.io/library/agreed:1",
        f"oci-archive:{tmp_path}/saved.tar:1",
        f"docker-archive:{tmp_path}/saved.tar:agreed:1",
    )
    for number, source in enumerate(sources):
        target = tmp_path / f"copied{number}"
        skopeo("copy", "--insecure-policy", source, f"oci:{target}:x")
        index = json.loads((target / "index.json").read_bytes())
        manifest = json.loads((target / BLOBS / index["manifests"][0]["digest"][7:]).read_bytes())
        config = json.loads((target / BLOBS / manifest["config"]["digest"][7:]).read_bytes())
        assert config["rootfs"]["diff_ids"] == shown["RootFS"]["Layers"]
        if not source.startswith("docker"):  # whose manifests are made anew, as there is none in it
            assert index["manifests"][0]["digest"] == shown["Descriptor"]["digest"]
            assert manifest["config"]["digest"] == shown["Id"]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_archives_of_skopeo_load(api: Api, tmp_path: Path, form: str) -> None:
    layers = [busybox_tar(), LOW, LOW, HIGH]
    (tmp_path / "first.tar").write_bytes(docker_archive(layers, ["from/skopeo:1"], Cmd=["sh"]))
    skopeo(
        "copy", "--insecure-policy", f"docker-archive:{tmp_path}/first.tar",
        f"{form}:{tmp_path}/second.tar:docker.io/from/skopeo:2",
    )  # fmt: skip
    load(api, (tmp_path / "second.tar").read_bytes())
    shown = inspect(api, "from/skopeo:2")
    assert shown["RootFS"]["Layers"] == [sha256(layer) for layer in layers]
    if form == "oci-archive":
        said = json.loads(skopeo("inspect", f"oci-archive:{tmp_path}/second.tar:docker.io/from/skopeo:2"))
        assert shown["Descriptor"]["digest"] == said["Digest"]


# --- on the way ---------------------------------------------------------------------------------------------


def begin_save(daemon: Daemon, name: str) -> tuple[socket.socket, bytearray]:
    """The connection, and what came of the archive with the header."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(daemon.socket))
    client.sendall(f"GET /images/{name}/get HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    early = bytearray()
    while b"\r\n\r\n" not in early:
        early += client.recv(1000)
    assert early.startswith(b"HTTP/1.1 200")
    return client, early.partition(b"\r\n\r\n")[2]


def test_removed_while_it_is_saved(api: Api, daemon: Daemon) -> None:
    """The archive comes to its end all the same; then nothing is left."""
    big = make_tar([Item("big", os.urandom(12 << 20))])
    load(api, docker_archive([big], ["big:1"]))
    whole = save(api, "big:1")
    client, received = begin_save(daemon, "big:1")
    with client:
        api("DELETE", "/images/big:1").expect(200)
        assert api("GET", "/images/big:1/json").status == 404
        while len(received) < len(whole):
            received += client.recv(1 << 20)
    assert received == whole
    steps.until(lambda: not stored(daemon))


def test_clients_that_stall_or_vanish(api: Api, daemon: Daemon) -> None:
    """Nobody waits for them, the daemon holds nothing of the archive, and no file stays open."""
    big = make_tar([Item("big", os.urandom(64 << 20))])
    load(api, docker_archive([big], ["big:1"]))
    save(api, "big:1")
    files, rss = open_files(daemon), rss_bytes(daemon)
    clients = [begin_save(daemon, "big:1")[0] for _ in range(20)]
    steps.until(lambda: open_files(daemon) >= files + 20 * 2)
    assert len(save(api, "big:1")) > 64 << 20
    assert rss_bytes(daemon) - rss < 30 << 20
    for client in clients:
        client.close()
    steps.until(lambda: open_files(daemon) <= files)


def open_files(daemon: Daemon) -> int:
    """Blobs and connections that the daemon holds."""
    return sum(
        "/blobs/" in os.readlink(path) or "socket" in os.readlink(path)
        for path in Path(f"/proc/{daemon.pid}/fd").iterdir()
        if path.is_symlink()
    )


def rss_bytes(daemon: Daemon) -> int:
    (line,) = [
        line
        for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) << 10
