"""The daemon is killed at every change that an image verb makes on the disk, one death after the other.

After each of them the new daemon has an image whole, to the last byte of its layers, or does not have it;
nothing lies about that belongs to none; and what was cut short can be done again.
"""

import contextlib
import gzip
import http.client
import io
import itertools
import json
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon
from tests.fault.crash import make, post, sweep
from tests.support import contexts
from tests.support.archives import Item, directory, docker_archive, make_tar, sha256
from tests.support.registry import Registry, make_image
from tests.support.treefacts import Facts, tree_facts

LOW = make_tar([directory("etc"), Item("etc/low", b"low" * 1000), Item("etc/both", b"low")])
HIGH = make_tar([Item("etc/.wh.both"), Item("etc/high", b"high")])
TAR = {"Content-Type": "application/x-tar"}


class Shelf:
    """The images of a daemon as they lie on its disk."""

    def __init__(self, daemon: SabotagedDaemon) -> None:
        self.daemon = daemon
        self._layers: dict[str, Facts] = {}

    def images(self) -> dict[str, Any]:
        """By id, what inspect says."""
        listed = self.daemon.api("GET", "/images/json", all=True).expect(200).json
        return {
            item["Id"]: self.daemon.api("GET", f"/images/{item['Id']}/json").expect(200).json
            for item in listed
        }

    def names(self) -> set[str]:
        return {tag for image in self.images().values() for tag in image["RepoTags"]}

    def check(self) -> None:
        """All of every image is there, fits together, and is as when it first came; and nothing else is."""
        root, images = self.daemon.data_root, self.images()
        blobs, layers = set(), set()
        for image_id, image in images.items():
            manifest = json.loads(self._blob(image["Descriptor"]["digest"]))
            assert manifest["config"]["digest"] == image_id
            blobs |= {image_id, image["Descriptor"]["digest"]}
            graph = image["GraphDriver"]["Data"]
            trees = [*reversed(graph.get("LowerDir", "").split(":")), graph["UpperDir"]]
            for diff_id, blob, tree in zip(
                image["RootFS"]["Layers"], manifest["layers"], filter(None, trees), strict=True
            ):
                self._check_layer(diff_id, self._blob(blob["digest"]), Path(tree))
                blobs.add(blob["digest"])
                layers.add(tree)
        for digest in blobs:
            assert sha256(self._blob(digest)) == digest
        assert {f"sha256:{path.name}" for path in (root / "blobs/sha256").iterdir()} == blobs
        assert {str(path / "diff") for path in (root / "layers").iterdir()} == layers
        assert list((root / "tmp").iterdir()) == []
        index = json.loads((root / "index.json").read_bytes())["manifests"]
        manifests = {image["Descriptor"]["digest"] for image in images.values()}
        assert {item["digest"] for item in index} == manifests

    def _check_layer(self, diff_id: str, blob: bytes, tree: Path) -> None:
        plain = gzip.decompress(blob) if blob.startswith(b"\x1f\x8b") else blob
        assert sha256(plain) == diff_id
        facts = _without_whiteouts_times(tree_facts(tree))
        assert self._layers.setdefault(str(tree), facts) == facts
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file and ".wh." not in member.name:
                    assert (tree / member.name).read_bytes() == file.read()

    def _blob(self, digest: str) -> bytes:
        return (self.daemon.data_root / "blobs/sha256" / digest[7:]).read_bytes()

    def clear(self) -> None:
        for image_id, image in self.images().items():
            if "busybox:latest" not in image["RepoTags"]:
                self.daemon.api("DELETE", f"/images/{image_id}", force=True)


def _without_whiteouts_times(facts: Facts) -> Facts:
    """They are made anew with each unpacking, and nobody ever sees them."""
    return {
        path: {**fact, "mtime_ns": 0} if fact["mode"].startswith("0o2") and not fact["device"] else fact
        for path, fact in facts.items()
    }


@pytest.fixture
def shelf(sabotaged: SabotagedDaemon) -> Iterator[Shelf]:
    made = Shelf(sabotaged)
    yield made
    sweep(sabotaged)
    while len(made.images()) > 1:
        made.clear()
    made.check()


def kill_everywhere(
    daemon: SabotagedDaemon,
    work: Callable[[], object],
    check: Callable[[], None],
    again: Callable[[], object],
) -> int:
    """Do ``work`` as often as it makes changes, and die at one after the other; returns how many there were.

    After each death ``check`` has its say, and ``again`` makes the state that ``work`` begins with.
    """
    for number in itertools.count(1):
        daemon.order("kill", "before", f"change {number}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            work()
        try:
            daemon.order_path.unlink()
        except FileNotFoundError:
            daemon.wait_for_death()
            daemon.start()
            check()
            again()
        else:
            check()
            return number - 1
    raise AssertionError


def load(daemon: SabotagedDaemon, archive: bytes) -> None:
    body = daemon.api("POST", "/images/load", body=archive, headers=TAR).expect(200).body
    assert b"error" not in body, body


def import_(daemon: SabotagedDaemon, archive: bytes, repository: str) -> None:
    daemon.api(
        "POST", "/images/create", body=archive, headers=TAR, fromSrc="-", repo=repository, tag="1"
    ).expect(200)


# --- coming in ----------------------------------------------------------------------------------------------


def test_import(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    def check() -> None:
        shelf.check()
        assert len(shelf.images()) == 1 + ("made:1" in shelf.names())

    assert kill_everywhere(sabotaged, lambda: import_(sabotaged, LOW, "made"), check, shelf.clear) > 6
    assert "made:1" in shelf.names()


def test_load(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    """An image is there with all its names, or not at all."""
    both = docker_archive([LOW, HIGH], ["two:1", "two:2"])
    whole = {"busybox:latest", "two:1", "two:2"}

    def check() -> None:
        shelf.check()
        assert shelf.names() in ({"busybox:latest"}, whole)
        assert len(shelf.images()) == (2 if shelf.names() == whole else 1)

    assert kill_everywhere(sabotaged, lambda: load(sabotaged, both), check, shelf.clear) > 8
    assert shelf.names() == whole


def test_commit(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    made = make(sabotaged, "sh", "-c", "echo x >/x")
    post(sabotaged, f"/containers/{made}/start").expect(204)
    steps.wait_exit(sabotaged.api, made)

    def commit() -> None:
        post(sabotaged, "/commit", container=made, repo="made", tag="1").expect(201)

    assert kill_everywhere(sabotaged, commit, shelf.check, shelf.clear) > 6
    assert "made:1" in shelf.names()


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    started = Registry()
    try:
        yield started.start()
    finally:
        started.close()


def test_pull(sabotaged: SabotagedDaemon, shelf: Shelf, registry: Registry) -> None:
    registry.put("image", "1", make_image([LOW, HIGH], packed=[("+gzip", gzip.compress(LOW)), ("", HIGH)]))
    name = f"{registry.host}/image:1"

    def pull() -> None:
        body = post(sabotaged, "/images/create", fromImage=name).expect(200).body
        assert b"error" not in body, body

    def check() -> None:
        shelf.check()
        assert len(shelf.images()) == 1 + (name in shelf.names())

    assert kill_everywhere(sabotaged, pull, check, shelf.clear) > 8
    assert name in shelf.names()


def test_push(sabotaged: SabotagedDaemon, shelf: Shelf, registry: Registry) -> None:
    """Which packs the plain layers of an image that was made here."""
    name = f"{registry.host}/pushed:1"

    def begin() -> None:
        shelf.clear()
        import_(sabotaged, LOW, name.removesuffix(":1"))

    def push() -> None:
        headers = {"X-Registry-Auth": "e30="}
        body = post(sabotaged, f"/images/{name.removesuffix(':1')}/push", tag="1", headers=headers).body
        assert b"error" not in body, body

    def check() -> None:
        shelf.check()
        assert name in shelf.names()

    begin()
    assert kill_everywhere(sabotaged, push, check, begin) > 3
    registry.manifest("pushed", "1")


def test_build(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    """Steps that were whole before stay, for the next build to begin with."""
    files = {"Dockerfile": "FROM busybox\nCOPY x /x\nRUN echo y >/y; rm /x\n", "x": "x" * 10_000}

    def build() -> None:
        body = post(sabotaged, "/build", body=contexts.pack(files), headers=TAR, t="made:1").expect(200).body
        assert b"error" not in body, body

    def check() -> None:
        shelf.check()
        assert sabotaged.settle() == []
        assert sabotaged.api("GET", "/containers/json", all=True).json == []

    assert kill_everywhere(sabotaged, build, check, shelf.clear) > 12
    assert "made:1" in shelf.names()


# --- going --------------------------------------------------------------------------------------------------


def test_remove(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    """With the image that it was made from, whose layer it shares with one that stays."""
    archive = docker_archive([LOW, HIGH], ["two:1", "two:2"])

    def begin() -> None:
        load(sabotaged, archive)
        load(sabotaged, docker_archive([LOW], ["one:1"]))

    def remove() -> None:
        for name in ("two:1", "two:2"):
            sabotaged.api("DELETE", f"/images/{name}")

    def check() -> None:
        shelf.check()
        assert "one:1" in shelf.names()

    begin()
    assert kill_everywhere(sabotaged, remove, check, begin) > 3
    assert shelf.names() == {"busybox:latest", "one:1"}


def test_prune(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    def begin() -> None:
        load(sabotaged, docker_archive([LOW], []))
        load(sabotaged, docker_archive([LOW, HIGH], []))

    def prune() -> None:
        post(sabotaged, "/images/prune")

    begin()
    assert kill_everywhere(sabotaged, prune, shelf.check, begin) > 3


# --- names, and going out -----------------------------------------------------------------------------------


def test_tag(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    def tag() -> None:
        post(sabotaged, "/images/busybox/tag", repo="other", tag="1").expect(201)

    def untag() -> None:
        sabotaged.api("DELETE", "/images/other:1")

    assert kill_everywhere(sabotaged, tag, shelf.check, untag) > 1
    assert shelf.names() == {"busybox:latest", "other:1"}
    assert kill_everywhere(sabotaged, untag, shelf.check, tag) > 1
    assert shelf.names() == {"busybox:latest"}


def test_save(sabotaged: SabotagedDaemon, shelf: Shelf) -> None:
    """Killed while it sends an image that has been removed meanwhile: what was kept for it goes."""
    load(sabotaged, docker_archive([make_tar([Item("big", b"x" * (8 << 20))])], ["big:1"]))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sabotaged.socket))
        client.sendall(b"GET /images/big:1/get HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        sabotaged.api("DELETE", "/images/big:1").expect(200)
        assert len(list((sabotaged.data_root / "blobs/sha256").iterdir())) > 3
        sabotaged.kill()
    sabotaged.start()
    shelf.check()
    assert shelf.names() == {"busybox:latest"}
