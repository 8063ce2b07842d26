"""A full disk: what would take more space fails clearly and leaves nothing; what has happened is written down
all the same, what frees space works, and when there is room again so does everything else.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.fault.conftest import close, events_of
from tests.strictness import skip_for_lack_of
from tests.support.archives import Item, docker_archive, make_tar
from tests.support.contexts import TAR, pack
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.registry import Registry, make_image

IMAGE = "busybox:latest"
DISK_BYTES = 24 << 20
FOLDERS = ("layers", "blobs/sha256", "tmp")
FULL = ("no space left", "disk is full")


class SmallDiskDaemon(Daemon):
    """A daemon whose data root is a file system of its own, of 24 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.own.given = (str(self.data_root),)
        self.data_root.mkdir()
        options = f"size={DISK_BYTES},mode=0710"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.data_root)], check=True)

    @property
    def filler(self) -> Path:
        return self.data_root / "tmp" / "filler"

    def fill(self) -> None:
        """Take the last byte."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
        assert os.statvfs(self.data_root).f_bavail == 0

    def free(self) -> None:
        self.filler.unlink(missing_ok=True)

    def close(self) -> list[str]:
        found = super().close()
        subprocess.run(["umount", "--lazy", str(self.data_root)], check=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        return found


@pytest.fixture(scope="module")
def small() -> Iterator[SmallDiskDaemon]:
    if os.geteuid() != 0:
        skip_for_lack_of("root")
    daemon = SmallDiskDaemon()
    try:
        daemon.start()
        daemon.import_busybox()
        yield daemon
    finally:
        daemon.free()
        close(daemon)


@pytest.fixture(autouse=True)
def freed(small: SmallDiskDaemon) -> Iterator[None]:
    yield
    small.free()
    if not small.is_running:
        small.start()
    small.remove_containers()
    assert small.settle() == []
    if not (small.data_root / "reserve").exists():
        small.restart()  # makes it again, as the timer would
    assert (small.data_root / "reserve").exists()


def state_of(daemon: Daemon, container_id: str) -> Any:
    return steps.inspect(daemon.api, container_id)["State"]


def actions(daemon: Daemon, container_id: str) -> list[str]:
    return [event["Action"] for event in events_of(daemon, container_id)]


def is_full(message: str) -> bool:
    return any(text in message.lower() for text in FULL)


def exhaust(daemon: SmallDiskDaemon) -> str:
    """Fill the disk, and create until the database has no page left either; returns the error's text."""
    daemon.fill()
    for _ in range(2000):
        answer = daemon.api(
            "POST", "/containers/create", json_body={"Image": IMAGE, "Labels": {"x": "y" * 4000}}
        )
        if answer.status != 201:
            return answer.expect(500).message
    raise AssertionError("the disk does not fill")


def test_create(small: SmallDiskDaemon) -> None:
    message = exhaust(small)
    assert is_full(message)
    before = small.api("GET", "/containers/json", all=True).json
    body = {"Image": IMAGE, "Volumes": {"/anonymous": {}}}
    assert is_full(small.api("POST", "/containers/create", json_body=body).expect(500).message)
    assert is_full(small.api("POST", "/volumes/create", json_body={"Name": "vol"}).expect(500).message)
    assert small.api("GET", "/containers/json", all=True).json == before
    assert small.api("GET", "/volumes").json["Volumes"] == []
    small.free()
    steps.create(small.api, IMAGE)


def test_start(small: SmallDiskDaemon) -> None:
    made = steps.create(small.api, IMAGE)
    exhaust(small)
    assert is_full(small.api("POST", f"/containers/{made}/start").expect(500).message)
    assert state_of(small, made)["Status"] == "created"
    assert [item for item in small.settle(made) if "file " not in item] == []
    small.free()
    small.api("POST", f"/containers/{made}/start").expect(204)
    assert state_of(small, made)["Running"]
    assert actions(small, made)[-1] == "start"


def test_ends_are_told_and_removal_works(small: SmallDiskDaemon) -> None:
    """With the disk full to the last byte: kill, stop, exit, remove; the reserve is there for that."""
    api = small.api
    killed, stopped, removed = (steps.start(api, IMAGE) for _ in range(3))
    leaving = steps.start(api, IMAGE, HostConfig={"AutoRemove": True})
    exhaust(small)
    api("POST", f"/containers/{killed}/kill").expect(204)
    assert (state_of(small, killed)["Status"], state_of(small, killed)["ExitCode"]) == ("exited", 137)
    api("POST", f"/containers/{stopped}/stop", t=0).expect(204)
    api("DELETE", f"/containers/{removed}", force=True).expect(204)
    api("POST", f"/containers/{leaving}/kill").expect(204)
    steps.until(lambda: api("GET", f"/containers/{leaving}/json").status == 404)
    assert actions(small, killed) == ["create", "start", "kill", "die"]
    assert actions(small, removed) == ["create", "start", "kill", "die", "destroy"]
    assert actions(small, leaving) == ["create", "start", "kill", "die", "destroy"]


def test_a_new_daemon_on_a_full_disk(small: SmallDiskDaemon) -> None:
    running = steps.start(small.api, IMAGE)
    exhaust(small)
    small.kill()
    small.start()
    assert state_of(small, running)["Running"]
    small.api("DELETE", f"/containers/{running}", force=True).expect(204)


def test_without_any_reserve_the_end_is_told_when_there_is_room(small: SmallDiskDaemon) -> None:
    made = steps.start(small.api, IMAGE, "sh", "-c", "read x; exit 4", OpenStdin=True)
    pid = state_of(small, made)["Pid"]
    exhaust(small)
    (small.data_root / "reserve").unlink()
    small.fill()
    waiting = small.api.stream("POST", f"/containers/{made}/wait")
    os.kill(pid, 9)
    steps.until(lambda: "not recorded yet" in small.log_path.read_text())
    small.free()
    assert json.loads(waiting.read())["StatusCode"] == 137
    assert actions(small, made) == ["create", "start", "die"]


def test_logs(small: SmallDiskDaemon) -> None:
    """A container whose output finds no room runs on, and its log goes on when there is some again."""
    script = "i=0; while :; do echo line $i; i=$((i+1)); head -c 4000 /dev/zero | tr '\\0' x; echo; done"
    made = steps.start(small.api, IMAGE, "sh", "-c", script)
    log = small.data_root / "containers" / made / "container.log"
    small.fill()
    steps.until(lambda: os.statvfs(small.data_root).f_bavail == 0)
    full_size = log.stat().st_size
    assert state_of(small, made)["Running"]
    tail = small.api("GET", f"/containers/{made}/logs", stdout=True, tail="1")
    assert tail.status == 200
    small.free()
    steps.until(lambda: log.stat().st_size > full_size)
    small.api("POST", f"/containers/{made}/kill").expect(204)
    small.api("GET", f"/containers/{made}/logs", stdout=True, tail="5").expect(200)


def test_import(small: SmallDiskDaemon) -> None:
    small.fill()
    with small.filler.open("r+b") as file:
        file.truncate(small.filler.stat().st_size - (256 << 10))
    before = sorted(path.name for path in (small.data_root / "layers").iterdir())
    headers = {"Content-Type": "application/x-tar"}
    answer = small.api(
        "POST", "/images/create", body=busybox_tar() + b"\0" * 512, headers=headers, fromSrc="-",
        repo="other", changes="LABEL a=b",
    )  # fmt: skip
    text = answer.body.decode()
    assert is_full(text), text
    assert sorted(path.name for path in (small.data_root / "layers").iterdir()) == before
    assert [path.name for path in (small.data_root / "tmp").iterdir()] == ["filler"]
    assert len(small.api("GET", "/images/json").json) == 1
    small.free()
    small.import_busybox("other:latest")
    small.api("DELETE", "/images/other:latest").expect(200)


def test_images_that_do_not_fit(small: SmallDiskDaemon) -> None:
    """Load, commit and a new name fail and leave nothing; saving and removing go on as ever."""
    tar = {"Content-Type": "application/x-tar"}
    layer = make_tar([Item("some", os.urandom(256 << 10))])
    small.api("POST", "/images/load", body=docker_archive([layer], ["there:1"]), headers=tar).expect(200)
    whole = small.api("GET", "/images/there:1/get").expect(200).body
    made = steps.start(small.api, IMAGE, "sh", "-c", "head -c 900000 /dev/urandom >/big")
    steps.wait_exit(small.api, made)
    before = _stored(small)
    for room_bytes in (0, 64 << 10, 1 << 20):
        small.fill()
        with small.filler.open("r+b") as file:
            file.truncate(small.filler.stat().st_size - room_bytes)
        big = make_tar([Item("big", os.urandom(1 << 20))])
        answer = small.api("POST", "/images/load", body=docker_archive([big], ["big:1"]), headers=tar)
        assert is_full(json.loads(answer.expect(200).body.splitlines()[-1])["error"])
        answer = small.api("POST", "/commit", container=made, repo="big")
        assert is_full(answer.message)
        assert _stored(small) == before
    exhaust(small)
    assert is_full(small.api("POST", "/images/there:1/tag", repo="more").expect(500).message)
    assert small.api("GET", "/images/there:1/get").expect(200).body == whole
    gone = small.api("DELETE", "/images/there:1").expect(200).json
    assert [set(item) for item in gone] == [{"Untagged"}, {"Deleted"}, {"Deleted"}]
    assert len(before - _stored(small)) == 4
    small.free()
    small.remove_containers()
    small.api("POST", "/images/load", body=whole, headers=tar).expect(200)
    small.api("DELETE", "/images/there:1").expect(200)


def _stored(daemon: SmallDiskDaemon) -> set[str]:
    """Layers, blobs and unfinished work on the disk."""
    root = daemon.data_root
    paths = (path for folder in ("layers", "blobs/sha256", "tmp") for path in (root / folder).iterdir())
    return {str(path.relative_to(root)) for path in paths if path != daemon.filler}


@pytest.mark.parametrize(
    ("dockerfile", "files"),
    [
        ("FROM busybox\n", {"large": os.urandom(DISK_BYTES)}),
        ("FROM busybox\nCOPY large /a\nCOPY large /b\n", {"large": os.urandom(DISK_BYTES // 5)}),
        ("FROM busybox\nRUN head -c 9000000 /dev/urandom >/a\nRUN head -c 9000000 /dev/urandom >/b\n", {}),
    ],
    ids=["context", "copy", "run"],
)
def test_builds(small: SmallDiskDaemon, dockerfile: str, files: dict[str, bytes]) -> None:
    """What was built before it was full is there and whole; the rest has left nothing."""
    body = pack({"Dockerfile": dockerfile, **files})
    answer = small.api("POST", "/build", body=body, headers=TAR, forcerm=True)
    assert any(words in answer.body.decode().lower() for words in (*FULL, "non-zero code")), answer.body
    steps.until(lambda: list((small.data_root / "tmp").iterdir()) == [])
    assert small.api("GET", "/containers/json", all=True).json == []
    small.api("POST", "/build/prune").expect(200)
    assert len(small.api("GET", "/images/json", all=True).json) == 1
    assert len(list((small.data_root / "layers").iterdir())) == 1


def test_pull(small: SmallDiskDaemon) -> None:
    """An image that the disk has no room for, and one that it has."""
    registry = Registry()
    try:
        registry.start()
        kept = [
            f"{folder}/{path.name}" for folder in FOLDERS for path in (small.data_root / folder).iterdir()
        ]
        large = make_tar([Item("large", os.urandom(DISK_BYTES * 6 // 10))])
        name = registry.put("large", "1", make_image([make_tar([Item("x")]), large]))
        answer = small.api("POST", "/images/create", fromImage=name).expect(200)
        assert is_full(json.loads(answer.body.splitlines()[-1])["error"])
        left = [
            f"{folder}/{path.name}" for folder in FOLDERS for path in (small.data_root / folder).iterdir()
        ]
        assert sorted(left) == sorted(kept)
        name = registry.put("small", "1", make_image([make_tar([Item("x", b"x")])]))
        answer = small.api("POST", "/images/create", fromImage=name).expect(200)
        assert "Downloaded newer image" in json.loads(answer.body.splitlines()[-1])["status"]
        small.api("DELETE", f"/images/{name}").expect(200)
    finally:
        registry.close()
