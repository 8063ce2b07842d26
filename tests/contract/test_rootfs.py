"""Work inside hostile root filesystems and trees: nothing outside is read, made, copied or removed."""

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from proad.host import mounts
from proad.host.diskusage import measure_tree, measure_tree_now
from proad.host.rootfs import MAX_TEXT_BYTES, Rootfs
from proad.host.trees import copy_tree, empty_tree, open_directory, remove_own, remove_tree
from proad.model import errors
from tests.strictness import skip_for_lack_of


@pytest.fixture(autouse=True)
def needs_root() -> None:
    if os.geteuid() != 0:
        skip_for_lack_of("root")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the root filesystem that must stay as it is."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_text("secret")
    return directory


@pytest.fixture
def root(tmp_path: Path, outside: Path) -> Path:
    directory = tmp_path / "rootfs"
    (directory / "etc").mkdir(parents=True)
    (directory / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (directory / "absolute").symlink_to(outside)
    (directory / "relative").symlink_to("../../../../../../../.." + str(outside))
    (directory / "config").symlink_to("/etc")
    return directory


# --- Rootfs -----------------------------------------------------------------------------------------------


def test_reading(root: Path) -> None:
    with Rootfs(root) as inside:
        assert inside.read_text("/etc/passwd") == "root:x:0:0::/:/bin/sh\n"
        assert inside.read_text("/config/passwd") == "root:x:0:0::/:/bin/sh\n"
        assert inside.read_text("/../../etc/passwd") == "root:x:0:0::/:/bin/sh\n"
        assert inside.read_text("/etc/group") is None
        assert inside.read_text("/etc") is None
        assert inside.exists("/config/passwd")
        assert inside.is_directory("/config")
        assert not inside.is_directory("/etc/passwd")
        assert not inside.exists("/etc/passwd/x")


def test_symlinks_do_not_lead_out(root: Path) -> None:
    (root / "etc/group").symlink_to("../../outside/secret")
    with Rootfs(root) as inside:
        assert inside.read_text("/absolute/secret") is None
        assert inside.read_text("/relative/secret") is None
        assert inside.read_text("/etc/group") is None
        assert not inside.exists("/absolute")


def test_reading_never_waits_and_never_fills_memory(root: Path) -> None:
    os.mkfifo(root / "etc/fifo")
    os.mknod(root / "etc/zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    with (root / "etc/huge").open("wb") as file:
        file.truncate(MAX_TEXT_BYTES + 1)
    (root / "etc/loop").symlink_to("loop")
    with Rootfs(root) as inside:
        assert inside.read_text("/etc/fifo") is None
        assert inside.read_text("/etc/zero") is None
        assert inside.read_text("/etc/loop") is None
        with pytest.raises(errors.System, match="more than"):
            inside.read_text("/etc/huge")


def test_making_directories(root: Path) -> None:
    with Rootfs(root) as inside:
        inside.make_directory("/srv/app/data", uid=1000, gid=2000)
        inside.make_directory("/srv/app/data", uid=7, gid=7)
        inside.make_directory("config/conf.d/../other")
    made = (root / "srv/app").stat()
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (1000, 2000, 0o755)
    assert (root / "srv/app/data").stat().st_uid == 1000
    assert (root / "etc/other").is_dir()


@pytest.mark.parametrize("path", ["/absolute/made", "/relative/made", "/../outside/made", "/absolute"])
def test_directories_are_made_inside(root: Path, outside: Path, path: str) -> None:
    with Rootfs(root) as inside:
        inside.make_directory(path)
        assert inside.is_directory(path)
    assert os.listdir(outside) == ["secret"]


def test_directories_that_cannot_be_made(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    with Rootfs(root) as inside:
        with pytest.raises(errors.InvalidParameter) as raised:
            inside.make_directory("/etc/passwd/x")
        assert raised.value.message == "Cannot mkdir: /etc/passwd/x is not a directory"
        with pytest.raises(errors.InvalidParameter, match="too many levels"):
            inside.make_directory("/loop/x")


# --- trees ------------------------------------------------------------------------------------------------


def make_deep(directory: Path, levels: int) -> None:
    """Nest directories deeper than any path may be long."""
    at = open_directory(directory)
    for _ in range(levels):
        os.mkdir("a" * 20, dir_fd=at)
        below = os.open("a" * 20, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)


def test_removing_a_tree_spares_what_its_symlinks_point_to(root: Path, outside: Path) -> None:
    remove_tree(root)
    assert not root.exists()
    assert (outside / "secret").read_text() == "secret"
    remove_tree(root)


def test_removing_a_tree_deeper_than_any_path(tmp_path: Path) -> None:
    tree = tmp_path / "deep"
    tree.mkdir()
    make_deep(tree, 3000)
    open_before = len(os.listdir("/proc/self/fd"))
    assert measure_tree_now(tree).files == 1
    remove_tree(tree)
    assert not tree.exists()
    # Fewer, if a thread has meanwhile closed what an earlier test left to it.
    assert len(os.listdir("/proc/self/fd")) <= open_before


def test_removing_where_a_symlink_is(tmp_path: Path, outside: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(outside)
    remove_tree(link)
    assert not link.is_symlink()
    assert (outside / "secret").exists()


@pytest.fixture
def bound(root: Path, outside: Path) -> Iterator[Path]:
    """A forgotten mount in the tree."""
    target = root / "etc/volume"
    target.mkdir()
    mounts.bind(outside, target)
    yield target
    mounts.unmount_now(target)


def test_removing_stops_at_a_mount(root: Path, outside: Path, bound: Path) -> None:
    with pytest.raises(errors.System) as raised:
        remove_tree(root)
    assert raised.value.message == f"unable to remove {root}: etc/volume: is a mount point"
    assert (outside / "secret").read_text() == "secret"
    assert sorted(p.name for p in root.iterdir()) == ["etc"]
    mounts.unmount_now(bound)
    remove_tree(root)
    assert not root.exists()


def test_measuring(tmp_path: Path, bound: Path, root: Path) -> None:
    (root / "a").write_bytes(b"x" * 1000)
    os.link(root / "a", root / "b")
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    usage = measure_tree_now(root)
    passwd = (root / "etc/passwd").stat().st_size
    assert usage.apparent_bytes == 1000 + (1 << 20) + passwd
    assert usage.allocated_bytes < 1 << 20
    assert usage.files == 3
    assert measure_tree_now(tmp_path / "nothing").files == 0


def test_copying_keeps_everything(tmp_path: Path, outside: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    source.chmod(0o1777)
    os.chown(source, 5, 6)
    (source / "sub").mkdir(mode=0o500)
    (source / "sub/file").write_bytes(b"content")
    os.setxattr(source / "sub/file", "user.colour", b"red")
    os.setxattr(
        source / "sub/file", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000")
    )
    os.link(source / "sub/file", source / "linked")
    (source / "setuid").write_bytes(b"#!")
    os.chown(source / "setuid", 7, 8)
    (source / "setuid").chmod(0o6755)
    (source / "out").symlink_to(outside / "secret")
    os.lchown(source / "out", 9, 9)
    os.mkfifo(source / "fifo", 0o640)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with (source / "sparse").open("wb") as file:
        file.truncate(4 << 20)
        file.seek(2 << 20)
        file.write(b"middle")
    os.utime(source / "sub", ns=(1, 1_000_000_001))
    os.utime(source, ns=(2, 2_000_000_002))

    opened = open_directory(source), open_directory(target)
    copy_tree(*opened)
    for descriptor in opened:
        os.close(descriptor)

    for path in (".", "sub", "sub/file", "linked", "setuid", "out", "fifo", "null", "sparse"):
        before, after = os.lstat(source / path), os.lstat(target / path)
        for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_nlink", "st_rdev"):
            assert getattr(after, field) == getattr(before, field), (path, field)
    copied = target / "sub/file"
    assert copied.read_bytes() == b"content"
    assert os.getxattr(copied, "user.colour") == b"red"
    assert len(os.getxattr(copied, "security.capability")) == 20
    assert (target / "linked").stat().st_ino == copied.stat().st_ino
    assert os.readlink(target / "out") == str(outside / "secret")
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (target / "sparse").read_bytes() == (source / "sparse").read_bytes()


def test_copying_leaves_mounts_out(root: Path, bound: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    opened = open_directory(root), open_directory(target)
    copy_tree(*opened)
    assert (target / "etc/passwd").exists()
    assert not (target / "etc/volume").exists()
    empty_tree(opened[1])
    assert os.listdir(target) == []
    for descriptor in opened:
        os.close(descriptor)


def test_copying_to_a_full_disk_says_so(root: Path, tmp_path: Path) -> None:
    (root / "big").write_bytes(os.urandom(2 << 20))
    target = tmp_path / "small"
    mounts.mount_tmpfs(target, "size=1m")
    try:
        opened = open_directory(root), open_directory(target)
        with pytest.raises(errors.System, match="failed to copy /big: No space left"):
            copy_tree(*opened)
        for descriptor in opened:
            os.close(descriptor)
    finally:
        mounts.unmount_now(target)


def test_a_tree_that_changes_while_it_is_removed(tmp_path: Path) -> None:
    """A directory swapped for a symlink between the look and the step is not followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    tree = tmp_path / "tree"
    tree.mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                (tree / "d").mkdir()
                (tree / "d").rmdir()
                (tree / "d").symlink_to(outside)
                (tree / "d").unlink()

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for _ in range(300):
            with contextlib.suppress(errors.System):
                remove_tree(tree)
            tree.mkdir(exist_ok=True)
    finally:
        stop.set()
        racer.join()
    assert (outside / "secret").exists()


def test_measuring_off_the_loop(root: Path) -> None:
    assert trio.run(measure_tree, root).files == 1


def test_our_own_small_trees_are_removed_by_name(tmp_path: Path) -> None:
    tree = tmp_path / "run"
    (tree / "deep" / "deeper").mkdir(parents=True)
    (tree / "deep" / "file").write_text("x")
    (tree / "link").symlink_to(tmp_path)
    remove_own(tree)
    assert not tree.exists()
    assert tmp_path.exists()
    remove_own(tree)  # nothing there is fine
