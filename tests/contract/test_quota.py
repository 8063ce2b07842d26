"""Project quotas on real file systems, and what a container may write under them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from proad.host.overlay import Overlay
from proad.host.quota import ProjectQuotas
from tests.api import steps
from tests.strictness import skip_for_lack_of
from tests.support.daemon import Daemon
from tests.support.loopfs import project_quota_file_system

MIB = 1 << 20
ID, OTHER = "c" * 64, "d" * 64


@pytest.fixture(params=["xfs", "ext4"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        skip_for_lack_of("root")
    with project_quota_file_system(request.param, tmp_path) as place:
        yield place


def is_full(file: Path, size_mib: int) -> bool:
    """Whether the file system refuses to hold so much more.

    It is written as by a container, without CAP_SYS_RESOURCE, which ext4 lets pass all limits.
    """
    drop = ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"]
    write = ["dd", "if=/dev/zero", f"of={file}", "bs=1M", f"count={size_mib}", "conv=fsync"]
    done = subprocess.run([*drop, *write], capture_output=True, text=True, check=False)
    full = "No space left" in done.stderr or "quota exceeded" in done.stderr
    assert full == (done.returncode != 0), done.stderr
    return full


def test_where_there_are_none(tmp_path: Path) -> None:
    assert not ProjectQuotas(tmp_path).are_enforced()
    assert not ProjectQuotas(tmp_path / "missing").are_enforced()
    assert not ProjectQuotas(Path("/proc")).are_enforced()


def test_limits_hold_each_for_itself(limited: Path) -> None:
    quotas = ProjectQuotas(limited)
    assert quotas.are_enforced()
    places = [limited / name for name in ("a", "b", "c")]
    for place in places:
        place.mkdir()
    quotas.limit(places[:2], 4 * MIB)
    quotas.limit(places[2:], 8 * MIB)
    assert quotas.usage(places[0]).limit_bytes == quotas.usage(places[1]).limit_bytes == 4 * MIB
    assert not is_full(places[0] / "file", 3)
    assert is_full(places[1] / "file", 3)  # they share one limit
    (places[2] / "below").mkdir()
    assert not is_full(places[2] / "below" / "file", 6)
    assert not is_full(limited / "outside", 20)
    quotas.limit(places[:2], 16 * MIB)
    assert quotas.usage(places[0]).limit_bytes == 16 * MIB
    assert not is_full(places[1] / "file", 8)


def test_a_project_in_use_is_not_given_out_again(limited: Path) -> None:
    first, second, third = (limited / name for name in "abc")
    for place in (first, second, third):
        place.mkdir()
    ProjectQuotas(limited).limit([first], MIB)
    fresh = ProjectQuotas(limited)  # as after a restart
    fresh.limit([second], 2 * MIB)
    assert fresh.usage(first).limit_bytes == MIB
    assert fresh.usage(second).limit_bytes == 2 * MIB
    fresh.lift(first)
    assert fresh.usage(first).limit_bytes == 0
    ProjectQuotas(limited).limit([third], 3 * MIB)  # the first's still has a directory
    assert fresh.usage(first).limit_bytes == 0
    fresh.lift(limited / "missing")


def test_an_overlay_is_limited_until_it_is_removed(limited: Path) -> None:
    (limited / "containers").mkdir()
    overlay = Overlay(limited)
    assert overlay.limits_sizes
    quotas = ProjectQuotas(limited)
    try:
        rootfs = overlay.mount(ID, [], size_bytes=4 * MIB)
        free = overlay.mount(OTHER, [])
        assert is_full(rootfs / "file", 6)
        assert not is_full(free / "file", 6)
        assert 0 < quotas.usage(overlay.upper_path(ID)).used_bytes <= 4 * MIB
        trio.run(overlay.unmount, ID)
        rootfs = overlay.mount(ID, [], size_bytes=4 * MIB)
        assert is_full(rootfs / "more", 6)
    finally:
        for container_id in (ID, OTHER):
            trio.run(overlay.remove, container_id)
    assert overlay.present() == set()


def test_a_container_is_limited(limited: Path) -> None:
    daemon = Daemon()
    daemon.data_root = limited / "data"
    try:
        daemon.start()
        image = daemon.import_busybox()
        script = "dd if=/dev/zero of=/file bs=1M count=20 2>/dev/null && echo wrote; stat -c %s /file"
        for size, whole in (("8m", False), ("64m", True)):
            made = steps.start(
                daemon.api, image, "sh", "-c", script, HostConfig={"StorageOpt": {"size": size}}
            )
            steps.wait_exit(daemon.api, made)
            logs = daemon.api("GET", f"/containers/{made}/logs", stdout=True).expect(200).body
            assert (b"wrote" in logs) is whole
            assert steps.inspect(daemon.api, made)["HostConfig"]["StorageOpt"] == {"size": size}
            daemon.api("DELETE", f"/containers/{made}").expect(204)
    finally:
        assert daemon.close() == []


def test_a_container_on_a_file_system_without_quotas(daemon: Daemon, image: str) -> None:
    if ProjectQuotas(daemon.data_root).are_enforced():
        skip_for_lack_of("a temporary directory without project quotas")
    for options, message in (
        ({"size": "1G"}, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
        ({"size": "lots"}, "invalid size: 'lots'"),
        ({"colour": "red"}, "Unknown option colour"),
    ):
        body = {"Image": image, "HostConfig": {"StorageOpt": options}}
        answer = daemon.api("POST", "/containers/create", json_body=body).expect(400)
        assert answer.message == message
