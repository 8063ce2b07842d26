"""What a container wrote, read from a real overlay: as changes, as a layer, and all its files as a tar."""

import os
import random
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from proad.host import mounts
from proad.host.archive import UnpackedLayer, Unpacker
from proad.host.overlay import Overlay
from proad.host.snapshot import Files, Packed, Snapshots, Unread
from proad.model import errors
from tests.api.steps import until
from tests.strictness import skip_for_lack_of
from tests.support.treefacts import Facts, differences, tar_facts, tree_facts

ID = "c" * 64
BASE, NEXT, NEW = (f"sha256:{digit * 64}" for digit in "123")
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


class Container:
    """Two layers with a container on top, whose files the test changes through ``rootfs``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.overlay = Overlay(path)
        self.snapshots = Snapshots(path / "tmp")
        (path / "tmp").mkdir()
        for chain_id, fill in ((BASE, _fill_base), (NEXT, _fill_next)):
            layer = self.overlay.layer_path(chain_id)
            layer.mkdir(parents=True)
            fill(layer)
        self.rootfs = self.overlay.mount(ID, [BASE, NEXT])

    def files(self) -> Files:
        upper = self.overlay.upper_path(ID)
        return Files(
            lower=self.overlay.layer_paths([BASE, NEXT]),
            upper=upper if upper.exists() else None,
            rootfs=self.rootfs if self.overlay.is_mounted(ID) else None,
        )

    def changes(self) -> list[str]:
        async def work() -> list[str]:
            with trio.fail_after(60):
                found = await self.snapshots.changes(self.files())
            return [f"{change.kind} {change.path}" for change in found]

        return trio.run(work)

    def whole(self) -> bytes:
        """All files as a tar, once from the mount and once without: they must not differ."""

        async def work() -> bytes:
            memory = os.memfd_create("archive")
            try:
                with trio.fail_after(60):
                    async with self.snapshots.whole(self.files(), memory) as packing:
                        await packing.finished()
                return os.pread(memory, os.fstat(memory).st_size, 0)
            finally:
                os.close(memory)

        archive = trio.run(work)
        if self.overlay.is_mounted(ID):
            trio.run(self.overlay.unmount, ID)
            assert differences(tar_facts(archive), tar_facts(self.whole())) == []
            self.overlay.mount(ID, [BASE, NEXT])
        return archive

    def commit(self) -> tuple[UnpackedLayer, Packed]:
        """Make the layer ``NEW`` of what was written."""

        async def work() -> tuple[UnpackedLayer, Packed]:
            reading, writing = os.pipe()
            try:
                target = self.overlay.layer_path(NEW)
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir(parents=True)
                with trio.fail_after(60):
                    async with self.snapshots.layer(self.files(), writing) as packing:
                        os.close(writing)
                        layer = await Unpacker().layer(reading, target, any_device=True)
                        return layer, await packing.finished()
            finally:
                os.close(reading)

        return trio.run(work)

    def stacked(self) -> Facts:
        """All layers with the new one on top, as a container made of them would see them."""
        place = self.path / "stacked"
        place.mkdir(exist_ok=True)
        self.overlay.mount_read_only(place, [BASE, NEXT, NEW])
        try:
            return tree_facts(place)
        finally:
            mounts.unmount_now(place)

    def assert_round_trip(self) -> None:
        before = tree_facts(self.rootfs)
        self.commit()
        assert differences(before, self.stacked()) == []


def _fill_base(layer: Path) -> None:
    for name in ("etc", "usr", "usr/lib", "usr/share", "usr/share/doc", "home", "gone"):
        (layer / name).mkdir()
    (layer / "etc/passwd").write_text("root\n")
    (layer / "etc/link").symlink_to("passwd")
    (layer / "usr/lib/a").write_text("a")
    os.link(layer / "usr/lib/a", layer / "usr/lib/b")
    for name in ("one", "two", "three"):
        (layer / "usr/share/doc" / name).write_text(name)
    (layer / "gone/file").write_text("hidden by the next layer")


def _fill_next(layer: Path) -> None:
    os.mknod(layer / "gone", stat.S_IFCHR, 0)
    (layer / "usr").mkdir()
    (layer / "usr/share").mkdir()
    (layer / "usr/share/next").write_text("next")


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    if os.geteuid() != 0:
        skip_for_lack_of("root")
    open_before = len(os.listdir("/proc/self/fd"))
    made = Container(tmp_path)
    yield made
    trio.run(made.overlay.unmount, ID)
    assert mounts.mounts_below(tmp_path) == []
    # A thread closes what an unmount leaves open.
    until(lambda: len(os.listdir("/proc/self/fd")) <= open_before)


def test_nothing_written_is_no_change_and_no_entry(container: Container) -> None:
    assert container.changes() == []
    assert container.commit()[1] == Packed(0)
    container.assert_round_trip()


def test_a_container_that_never_ran_has_its_layers_only(container: Container) -> None:
    trio.run(container.overlay.unmount, ID)
    shutil.rmtree(container.overlay.upper_path(ID))
    assert container.changes() == []
    assert "usr/share/next" in tar_facts(container.whole())
    assert container.commit()[1].entries == 0


def test_what_was_added_changed_and_deleted(container: Container) -> None:
    root = container.rootfs
    (root / "new").mkdir()
    (root / "new/file").write_text("x")
    (root / "etc/passwd").write_text("more\n")
    (root / "usr/share/doc/one").unlink()
    (root / "usr/share/doc/two").chmod(0o600)
    (root / "home").chmod(0o700)
    assert container.changes() == [
        "C /etc", "C /etc/passwd", "C /home", "A /new", "A /new/file", "C /usr", "C /usr/share",
        "C /usr/share/doc", "D /usr/share/doc/one", "C /usr/share/doc/two",
    ]  # fmt: skip
    container.assert_round_trip()


def test_what_came_and_went_is_no_change(container: Container) -> None:
    root = container.rootfs
    (root / "etc/x").touch()
    (root / "etc/x").unlink()
    (root / "home").rmdir()
    (root / "home").mkdir()
    assert container.changes() == []
    container.assert_round_trip()


def test_a_directory_in_the_place_of_another_hides_it(container: Container) -> None:
    doc = container.rootfs / "usr/share/doc"
    shutil.rmtree(doc)
    doc.mkdir()
    (doc / "two").write_text("anew")
    (doc / "four").touch()
    assert container.changes() == [
        "C /usr", "C /usr/share", "C /usr/share/doc", "A /usr/share/doc/four", "D /usr/share/doc/one",
        "D /usr/share/doc/three", "C /usr/share/doc/two",
    ]  # fmt: skip
    container.assert_round_trip()


def test_other_kinds_in_the_place_of_others(container: Container) -> None:
    root = container.rootfs
    shutil.rmtree(root / "usr/share")
    (root / "usr/share").write_text("a file where a directory was")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").mkdir()
    (root / "etc/passwd/inside").touch()
    (root / "etc/link").unlink()
    os.mkfifo(root / "etc/link")
    (root / "gone").mkdir()
    assert container.changes() == [
        "C /etc", "C /etc/link", "C /etc/passwd", "A /etc/passwd/inside", "A /gone", "C /usr", "C /usr/share",
    ]  # fmt: skip
    container.assert_round_trip()
    assert not (container.overlay.layer_path(NEW) / "gone").is_mount()


def test_layers_have_no_more_whiteouts_than_they_need(container: Container) -> None:
    root = container.rootfs
    (root / "new").mkdir()
    (root / "new/x").touch()
    (root / "new/x").unlink()
    (root / "gone").mkdir()
    container.commit()
    layer = container.overlay.layer_path(NEW)
    for name in ("new", "gone"):
        assert (layer / name).is_dir()
        assert os.listxattr(layer / name) == []
        assert os.listdir(layer / name) == []


def test_everything_a_file_can_be(container: Container) -> None:
    root = container.rootfs
    for number, name in enumerate(["plain", "cap", "ünïcödé", "new\nline", os.fsdecode(b"\xff\xfe")]):
        (root / name).write_bytes(bytes([number]) * (number * 1000))
        os.chown(root / name, 1000 + number, 2**21 + number)
        os.utime(root / name, ns=(0, 1_600_000_000_123_456_789 + number))
    (root / "plain").chmod(0o6755)
    os.setxattr(root / "cap", "security.capability", CAPABILITY)
    os.setxattr(root / "cap", "user.note", b"\x00binary\xff")
    os.setxattr(root / "home", "user.of", b"a directory")
    os.link(root / "plain", root / "home/same")
    os.link(root / "plain", root / "again")
    os.link(root / "usr/lib/b", root / "usr/lib/c")
    (root / "dangling").symlink_to("../../nowhere/" + "long/" * 100)
    os.lchown(root / "dangling", 7, 8)
    os.mkfifo(root / "pipe", 0o640)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "disk", 0o600 | stat.S_IFBLK, os.makedev(8, 1))
    os.mknod(root / "socket", 0o600 | stat.S_IFSOCK)
    before = tree_facts(root)
    del before["socket"]  # no archive can hold one
    container.commit()
    assert differences(before, container.stacked()) == []
    told = tar_facts(container.whole())
    assert told["again"]["type"] == b"0"
    assert told["home/same"]["link"] == told["plain"]["link"] == "again"
    assert "socket" not in told


def test_capabilities_alone_are_a_change(container: Container) -> None:
    file = container.rootfs / "usr/lib/a"
    times = file.stat().st_mtime_ns
    os.setxattr(file, "security.capability", CAPABILITY)
    os.utime(file, ns=(times, times))
    assert container.changes() == ["C /usr", "C /usr/lib", "C /usr/lib/a"]


def test_holes_stay_holes(container: Container) -> None:
    with (container.rootfs / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 30)
        file.write(b"middle")
        file.truncate(3 << 30)
    (container.rootfs / "hole").touch()
    os.truncate(container.rootfs / "hole", 1 << 30)
    assert len(container.whole()) < 1 << 20
    layer, _ = container.commit()
    assert layer.size_bytes == 4 << 30
    copied = container.overlay.layer_path(NEW) / "sparse"
    assert copied.stat().st_blocks < 1000
    with copied.open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(1 << 30)
        assert file.read(7) == b"middle\0"
    assert copied.stat().st_size == 3 << 30


def test_what_the_engine_makes_is_not_the_containers(container: Container) -> None:
    root = container.rootfs
    (root / ".dockerenv").touch()
    for name in ("dev", "proc", "sys", "sys/fs", "sys/fs/cgroup"):
        (root / name).mkdir()
    for name in ("etc/hosts", "etc/hostname", "etc/resolv.conf"):
        (root / name).touch()
    (root / "sbin").mkdir()
    (root / "sbin/docker-init").touch()
    assert container.changes() == []
    assert container.commit()[1].entries == 0
    (root / "etc/hosts").write_text("own")
    (root / "sbin/tool").touch()
    assert container.changes() == ["C /etc", "A /etc/hosts", "A /sbin", "A /sbin/tool"]
    container.commit()
    layer = container.overlay.layer_path(NEW)
    assert sorted(path.name for path in layer.rglob("*")) == ["etc", "hosts", "sbin", "tool"]


def test_names_that_mean_whiteouts_are_left_out(container: Container) -> None:
    root = container.rootfs
    (root / "etc/.wh.passwd").touch()
    (root / "usr/.wh..wh..opq").touch()
    (root / ".wh.dir").mkdir()
    (root / ".wh.dir/x").touch()
    _, packed = container.commit()
    assert packed.left_out == (".wh.dir", "etc/.wh.passwd", "usr/.wh..wh..opq")
    stacked = container.stacked()
    assert {"etc/passwd", "usr/lib/a", "usr/share/next"} <= stacked.keys()
    assert "etc/.wh.passwd" in tar_facts(container.whole())


def test_deeper_than_archives_can_be(container: Container) -> None:
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(container.rootfs)
        for _ in range(600):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.fchdir(before)
        os.close(before)
    with pytest.raises(errors.InvalidParameter, match="deeper than 512"):
        container.commit()
    with pytest.raises(errors.InvalidParameter):
        container.whole()


def test_paths_longer_than_archives_can_be(container: Container) -> None:
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(container.rootfs)
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
    finally:
        os.fchdir(before)
        os.close(before)
    with pytest.raises(errors.InvalidParameter, match="too long"):
        container.changes()


def test_a_missing_layer_is_an_error(container: Container) -> None:
    trio.run(container.overlay.unmount, ID)
    shutil.rmtree(container.overlay.layer_path(BASE))
    with pytest.raises(errors.System, match="No such file"):
        container.changes()


def test_a_reader_that_goes_away_ends_the_helper(container: Container) -> None:
    (container.rootfs / "big").write_bytes(os.urandom(4 << 20))

    async def work() -> None:
        reading, writing = os.pipe()
        with trio.fail_after(30):
            async with container.snapshots.whole(container.files(), writing) as packing:
                os.close(writing)
                os.read(reading, 1000)
                os.close(reading)
                with pytest.raises(Unread):
                    await packing.finished()

    trio.run(work)


def test_a_cancelled_reading_leaves_nothing(container: Container) -> None:
    (container.rootfs / "big").write_bytes(os.urandom(4 << 20))

    async def work() -> None:
        reading, writing = os.pipe()
        with trio.fail_after(30):
            async with container.snapshots.whole(container.files(), writing):
                await trio.lowlevel.wait_readable(reading)
        os.close(writing)
        while os.read(reading, 1 << 20):
            pass
        os.close(reading)

    trio.run(work)


def test_changing_meanwhile_breaks_nothing(container: Container, tmp_path: Path) -> None:
    """Names that come, go and change their kind while they are read; what is outside is never read."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("of the host")
    stop = tmp_path / "stop"
    child = os.fork()
    if not child:
        with suppress(BaseException):
            _swap_until(stop, container.rootfs, secret)
        os._exit(0)
    try:
        for _ in range(15):
            assert not [name for name in tar_facts(_whole_while_mounted(container)) if "key" in name]
            assert not [line for line in container.changes() if "key" in line]
    finally:
        stop.touch()
        os.waitpid(child, 0)


def _whole_while_mounted(container: Container) -> bytes:
    async def work() -> bytes:
        memory = os.memfd_create("archive")
        async with container.snapshots.whole(container.files(), memory) as packing:
            await packing.finished()
        content = os.pread(memory, os.fstat(memory).st_size, 0)
        os.close(memory)
        return content

    return trio.run(work)


def _swap_until(stop: Path, root: Path, secret: Path) -> None:
    """A directory that is a symlink to the host's every other moment, and files that grow and shrink."""
    (root / "real").mkdir()
    (root / "real/inside").write_text("x" * 100_000)
    while not stop.exists():
        (root / "real").rename(root / "away")
        (root / "real").symlink_to(secret)
        os.truncate(root / "away/inside", random.randrange(200_000))
        (root / "real").unlink()
        (root / "away").rename(root / "real")
        (root / "fleeting").touch()
        (root / "fleeting").unlink()
        os.mkfifo(root / "fleeting")
        (root / "fleeting").unlink()


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_written_comes_back(container: Container, seed: int) -> None:
    """Some hundred random deeds, committed: the layers with the new one on top are what the container saw."""
    chance = random.Random(seed)
    for _ in range(250):
        with suppress(OSError):
            chance.choice(_DEEDS)(container.rootfs, chance)
    container.assert_round_trip()
    told = container.changes()
    assert len(set(told)) == len(told)


def _place(root: Path, chance: random.Random) -> Path:
    """A path of few possible ones, so that deeds meet: what is there, or could be."""
    here = root
    for _ in range(chance.randrange(1, 4)):
        names = [entry.name for entry in here.iterdir()] if here.is_dir() and not here.is_symlink() else []
        here /= chance.choice([*names, *"xyz", "usr", "share"])
    return here


def _a_file(root: Path, chance: random.Random) -> None:
    _place(root, chance).write_bytes(chance.randbytes(chance.choice([0, 10, 70_000])))


def _a_directory(root: Path, chance: random.Random) -> None:
    _place(root, chance).mkdir()


def _a_removal(root: Path, chance: random.Random) -> None:
    place = _place(root, chance)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def _a_rename(root: Path, chance: random.Random) -> None:
    _place(root, chance).rename(_place(root, chance))


def _a_link(root: Path, chance: random.Random) -> None:
    os.link(_place(root, chance), _place(root, chance), follow_symlinks=False)


def _a_symlink(root: Path, chance: random.Random) -> None:
    _place(root, chance).symlink_to(chance.choice(["x", "../usr", "/etc/passwd"]))


def _a_mode(root: Path, chance: random.Random) -> None:
    place = _place(root, chance)
    os.chown(place, chance.randrange(5), 0, follow_symlinks=False)
    if not place.is_symlink():
        place.chmod(chance.choice([0o700, 0o4755, 0o1777]))


def _an_attribute(root: Path, chance: random.Random) -> None:
    os.setxattr(_place(root, chance), "user.note", chance.randbytes(8), follow_symlinks=False)


_DEEDS: list[Callable[[Path, random.Random], None]] = [
    _a_file, _a_file, _a_file, _a_directory, _a_directory, _a_removal, _a_rename, _a_rename, _a_link,
    _a_symlink, _a_mode, _an_attribute,
]  # fmt: skip
