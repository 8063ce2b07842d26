"""Pulls and pushes that are cut short: by the death of the daemon at each moment, or of its helper. What was
there before is whole afterwards, and of what was not finished nothing is left.
"""

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.fault.conftest import SabotagedDaemon
from tests.fault.crash import AFTER, killed_at, moments
from tests.support.archives import Item, docker_archive, make_tar
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api
from tests.support.registry import Registry, make_image
from tests.support.rogue import Rogue, Stall

LOW = make_tar([Item("low", b"low" * 1000)])
NOISE = make_tar([Item("noise", bytes(range(256)) * 4000)])
IMAGE = make_image([LOW, NOISE], packed=[("", LOW), ("", NOISE)])


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    started = Registry()
    try:
        started.start()
        started.put("image", "1", IMAGE)
        yield started
    finally:
        started.close()


@pytest.fixture
def rogue(registry: Registry) -> Iterator[Rogue]:
    started = Rogue(registry.port).start()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def swept(sabotaged: SabotagedDaemon) -> Iterator[None]:
    """Remove what the test pulled; nothing else may be there beside the image of all tests."""
    before = files(sabotaged)
    yield
    for image in sabotaged.api("GET", "/images/json").json:
        if "busybox:latest" not in image["RepoTags"]:
            sabotaged.api("DELETE", f"/images/{image['Id']}", force=True).expect(200)
    assert files(sabotaged) == before


def files(daemon: Daemon) -> set[str]:
    root = daemon.data_root
    return {
        str(path.relative_to(root))
        for folder in ("layers", "blobs/sha256", "tmp")
        for path in (root / folder).iterdir()
    }


def pull(api: Api, name: str) -> Any:
    """The last line of a pull."""
    answer = api("POST", "/images/create", fromImage=name).expect(200)
    return json.loads(answer.body.splitlines()[-1])


class Behind:
    """A request that nobody waits for: the daemon may die of it."""

    def __init__(self, daemon: Daemon, path: str, **query: object) -> None:
        self._thread = threading.Thread(target=self._ask, args=(daemon, path, query))
        self._thread.start()

    def _ask(self, daemon: Daemon, path: str, query: dict[str, object]) -> None:
        try:
            daemon.api("POST", path, **query)
        except (OSError, http.client.HTTPException):  # the daemon is gone
            return

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def helpers(daemon: Daemon) -> list[int]:
    """The processes that unpack below the data root."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"proad.host.unpack" in command and str(daemon.data_root).encode() in command:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize(("when", "commit"), moments(1))
def test_death_at_the_transaction(
    sabotaged: SabotagedDaemon, registry: Registry, when: str, commit: int
) -> None:
    name = f"{registry.host}/image:1"
    before = files(sabotaged)
    with killed_at(sabotaged, when, commit):
        sabotaged.api("POST", "/images/create", fromImage=name)
    known = when == AFTER
    assert sabotaged.api("GET", f"/images/{name}/json").status == (200 if known else 404)
    assert len(files(sabotaged) - before) == (6 if known else 0)  # two layers, their blobs, two of JSON
    status = "Image is up to date for" if known else "Downloaded newer image for"
    assert pull(sabotaged.api, name)["status"] == f"Status: {status} {name}"


def test_death_in_the_middle_of_a_layer(sabotaged: SabotagedDaemon, rogue: Rogue, registry: Registry) -> None:
    stall = Stall(300_000)
    rogue.on("GET", IMAGE.layers[1], stall, times=1)
    before = files(sabotaged)
    asked = Behind(sabotaged, "/images/create", fromImage=f"{rogue.host}/image:1")
    assert stall.reached.wait(20)
    steps.until(lambda: len(files(sabotaged) - before) > 2)  # the other layer is in its place
    sabotaged.kill()
    asked.join()
    steps.until(lambda: helpers(sabotaged) == [])  # they die with the daemon
    sabotaged.start()
    assert files(sabotaged) == before
    assert pull(sabotaged.api, f"{registry.host}/image:1")["status"].startswith("Status: Downloaded newer")


def test_death_of_the_helper(sabotaged: SabotagedDaemon, rogue: Rogue) -> None:
    stall = Stall(300_000)
    rogue.on("GET", IMAGE.layers[1], stall, times=1)
    lines: list[Any] = []
    thread = threading.Thread(target=lambda: lines.append(pull(sabotaged.api, f"{rogue.host}/image:1")))
    thread.start()
    assert stall.reached.wait(20)
    steps.until(lambda: len(helpers(sabotaged)) == 1)
    os.kill(helpers(sabotaged)[0], signal.SIGKILL)
    thread.join(30)
    assert lines[0]["error"].startswith("cannot unpack the archive: the helper ended early")


def test_a_transaction_that_fails(sabotaged: SabotagedDaemon, registry: Registry) -> None:
    before = files(sabotaged)
    sabotaged.order("raise", "before", "commit 1")
    assert pull(sabotaged.api, f"{registry.host}/image:1")["error"] == "sabotage"
    assert files(sabotaged) == before


def load(api: Api, name: str) -> None:
    archive = docker_archive([LOW, NOISE], [name])
    api("POST", "/images/load", body=archive, headers={"Content-Type": "application/x-tar"}).expect(200)


@pytest.mark.parametrize(("when", "commit"), moments(2))
def test_death_in_a_push(sabotaged: SabotagedDaemon, registry: Registry, when: str, commit: int) -> None:
    """At the record of compressed layers, and at the end."""
    name = f"{registry.host}/pushed-{when}-{commit}"
    load(sabotaged.api, f"{name}:1")
    count = len(files(sabotaged))
    with killed_at(sabotaged, when, commit):
        sabotaged.api("POST", f"/images/{name}/push", tag="1")
    assert len(files(sabotaged)) == count  # plain blobs or compressed ones, not both
    answer = sabotaged.api("POST", f"/images/{name}/push", tag="1").expect(200)
    assert "aux" in json.loads(answer.body.splitlines()[-1])
    assert sabotaged.api("GET", f"/images/{name}:1/json").expect(200).json["RepoDigests"]
    assert registry.manifest(f"pushed-{when}-{commit}", "1")
