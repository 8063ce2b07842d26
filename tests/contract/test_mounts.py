"""mount(2) and the kernel's list of mounts, for real, below a directory of the test's own."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from proad.host import mounts
from tests.strictness import skip_for_lack_of


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        skip_for_lack_of("root")
    yield tmp_path
    left = mounts.mounts_below(tmp_path)
    trio.run(mounts.unmount_tree, tmp_path)
    assert left == []


def test_a_tmpfs_for_shared_memory(place: Path) -> None:
    shm = place / "run/shm"
    mounts.mount_tmpfs(shm, "mode=1777,size=1048576")
    (entry,) = mounts.mounts_below(place)
    assert (entry.mountpoint, entry.fstype) == (str(shm), "tmpfs")
    assert os.statvfs(shm).f_frsize * os.statvfs(shm).f_blocks == 1 << 20
    assert shm.stat().st_mode & 0o7777 == 0o1777
    assert os.statvfs(shm).f_flag & (os.ST_NOSUID | os.ST_NOEXEC | os.ST_NODEV) == (
        os.ST_NOSUID | os.ST_NOEXEC | os.ST_NODEV
    )
    assert trio.run(mounts.unmount, shm)
    assert not trio.run(mounts.unmount, shm)
    assert not trio.run(mounts.unmount, place / "not/there")


def test_refusals_carry_the_call_and_the_reason(place: Path) -> None:
    with pytest.raises(mounts.MountFailed) as raised:
        mounts.mount("/not/there", place, "", mounts.MS_BIND, "x=y")
    assert raised.value.errno == errno.ENOENT
    assert raised.value.message == (
        f"mount /not/there:{place}, flags: 0x1000, data: x=y: no such file or directory"
    )
    with pytest.raises(mounts.MountFailed, match="no such device"):
        mounts.mount("none", place, "nosuchfs")


def test_a_read_only_bind(place: Path) -> None:
    source, target = place / "source", place / "target"
    source.mkdir()
    target.mkdir()
    mounts.mount_with_options(str(source), target, "none", "bind,ro,nosuid")
    with pytest.raises(OSError, match="Read-only"):
        (target / "x").touch()
    (source / "x").touch()
    assert os.statvfs(target).f_flag & os.ST_NOSUID
    assert mounts.unmount_now(target)


def test_a_bind_that_cannot_be_made_read_only_is_taken_back(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = mounts.mount

    def fail_on_remount(
        source: str, target: str | Path, fstype: str = "", flags: int = 0, data: str = ""
    ) -> None:
        if flags & mounts.MS_REMOUNT:
            raise mounts.MountFailed("no", errno.EPERM)
        real(source, target, fstype, flags, data)

    monkeypatch.setattr(mounts, "mount", fail_on_remount)
    with pytest.raises(mounts.MountFailed):
        mounts.mount_with_options(str(place), place, "", "bind,ro")
    assert mounts.mounts_below(place) == []


def test_unmounting_a_tree_deepest_first(place: Path) -> None:
    for name in ("a", "a/b", "a/b/c"):
        mounts.mount_tmpfs(place / name)
    mounts.mount_tmpfs(place / "a")  # on top of the others
    assert len(mounts.mounts_below(place)) == 4
    assert len(trio.run(mounts.unmount_tree, place)) == 4
    assert mounts.mounts_below(place) == []


def test_unmounting_does_not_follow_symlinks(place: Path) -> None:
    mounted, link = place / "mounted", place / "link"
    mounts.mount_tmpfs(mounted)
    link.symlink_to(mounted)
    assert not mounts.unmount_now(link)
    assert mounts.is_mounted(mounted)
    assert mounts.unmount_now(mounted)


def test_strange_names_in_the_list_of_mounts(place: Path) -> None:
    strange = place / "a b\tc\\d\ne"
    mounts.mount_tmpfs(strange)
    assert [e.mountpoint for e in mounts.mounts_below(place)] == [str(strange)]
    assert mounts.is_mounted(strange)
    assert mounts.unmount_now(strange)


def test_which_mount_a_path_is_on(place: Path) -> None:
    shared = place / "shared"
    mounts.mount_tmpfs(shared)
    mounts.mount("", shared, "", mounts.MS_SHARED)
    (shared / "deep/er").mkdir(parents=True)
    (place / "link").symlink_to(shared / "deep")
    found = mounts.mount_of(str(place / "link/er"))
    assert found.mountpoint == str(shared)
    assert found.is_shared
    assert not found.is_slave
    assert mounts.mount_of(str(place)).mountpoint != str(shared)
    assert mounts.unmount_now(shared)


@pytest.mark.parametrize(
    ("options", "flags", "propagation", "data"),
    [
        ("", 0, [], ""),
        ("defaults", 0, [], ""),
        ("ro,nosuid,nodev,noexec", 15, [], ""),
        ("ro,rw", 0, [], ""),
        ("bind,rslave", mounts.MS_BIND, [mounts.MS_SLAVE | mounts.MS_REC], ""),
        ("addr=10.0.0.1,nolock,soft", 0, [], "addr=10.0.0.1,nolock,soft"),
        ("size=64m,uid=1000,noexec", mounts.MS_NOEXEC, [], "size=64m,uid=1000"),
    ],
)
def test_parsing_options(options: str, flags: int, propagation: list[int], data: str) -> None:
    assert mounts.parse_options(options) == (flags, propagation, data)


def test_what_the_kernel_can_do() -> None:
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    assert mounts.has_recursive_read_only() == (release >= (5, 12))
