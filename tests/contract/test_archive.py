"""The unpacking helper against real archives: what it writes, what it refuses, what it leaves behind."""

import bz2
import gzip
import io
import lzma
import os
import stat
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import zstandard

from proad.host.archive import MAX_LAYER_ENTRIES, UnpackedLayer, Unpacker
from proad.model import errors
from tests.strictness import skip_for_lack_of
from tests.support.archives import Item, directory, hardlink, make_tar, sha256, symlink

HONEST = [
    directory("etc"),
    Item("etc/hostname", b"proa\n", mode=0o640, uid=12, gid=34),
    directory("bin", mode=0o1777),
    Item("bin/tool", b"#!/bin/sh\n" * 1000, mode=0o4755),
    hardlink("bin/same", "bin/tool"),
    symlink("bin/sh", "/bin/tool"),
    symlink("dangling", "../../../nowhere"),
    Item("run/pipe", type=tarfile.FIFOTYPE),
    Item("dev/null", type=tarfile.CHRTYPE, device=(1, 3), mode=0o666),
    Item("ünï/" + "long/" * 60 + "name", b"deep"),
]


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        skip_for_lack_of("root")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "below" / "target"
    path.mkdir(parents=True)
    return path


def unpack(
    archive: bytes, target: Path, keep_as: Path | None = None, unpacker: Unpacker | None = None
) -> UnpackedLayer:
    async def work() -> UnpackedLayer:
        source = os.memfd_create("archive")
        try:
            with open(os.dup(source), "wb") as file:
                file.write(archive)
            os.lseek(source, 0, os.SEEK_SET)
            with trio.fail_after(60):
                return await (unpacker or Unpacker()).layer(source, target, keep_as=keep_as)
        finally:
            os.close(source)

    return trio.run(work)


def tree(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_writes_everything_as_it_is_said(target: Path, form: int) -> None:
    archive = make_tar(HONEST, form)
    layer = unpack(archive, target)
    assert layer.diff_id == sha256(archive)
    assert layer.size_bytes == 5 + 10_000 + 4 + len("/bin/tool") + len("../../../nowhere")
    hostname = (target / "etc/hostname").stat()
    assert (hostname.st_uid, hostname.st_gid, stat.S_IMODE(hostname.st_mode)) == (12, 34, 0o640)
    assert hostname.st_mtime == 1_700_000_000
    assert stat.S_IMODE((target / "bin/tool").stat().st_mode) == 0o4755
    assert (target / "bin/tool").stat().st_ino == (target / "bin/same").stat().st_ino
    assert os.readlink(target / "bin/sh") == "/bin/tool"
    assert os.readlink(target / "dangling") == "../../../nowhere"
    assert stat.S_ISFIFO((target / "run/pipe").stat().st_mode)
    null = (target / "dev/null").stat()
    assert stat.S_ISCHR(null.st_mode)
    assert null.st_rdev == os.makedev(1, 3)
    assert (target / ("ünï/" + "long/" * 60 + "name")).read_bytes() == b"deep"
    assert (target / "bin").stat().st_mtime == 1_700_000_000


@pytest.mark.parametrize(
    ("compress", "kept"),
    [
        (lambda data: data, True),
        (gzip.compress, True),
        (lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]), True),
        (zstandard.compress, True),
        (bz2.compress, False),
        (lzma.compress, False),
    ],
    ids=["plain", "gzip", "gzip in parts", "zstd", "bzip2", "xz"],
)
def test_takes_every_compression_and_keeps_the_blob(
    target: Path, tmp_path: Path, compress: "type[bytes]", kept: bool
) -> None:
    archive = make_tar(HONEST)
    packed = compress(archive)
    layer = unpack(packed, target, keep_as=tmp_path / "blob")
    assert layer.diff_id == sha256(archive)
    blob = (tmp_path / "blob").read_bytes()
    assert blob == (packed if kept else archive)
    assert layer.blob_digest == sha256(blob)
    assert layer.blob_size_bytes == len(blob)
    assert (target / "etc/hostname").read_bytes() == b"proa\n"


def test_turns_whiteouts_into_those_of_overlayfs(target: Path) -> None:
    unpack(
        make_tar(
            [
                directory("etc"),
                Item("etc/.wh.passwd"),
                directory("opt"),
                Item("opt/.wh..wh..opq"),
                Item("opt/new", b"x"),
                Item(".wh.srv"),
                directory("srv"),
                Item("kept", b"here"),
                Item(".wh.kept"),
                Item(".wh..wh.plnk"),
            ]
        ),
        target,
    )
    whiteout = (target / "etc/passwd").lstat()
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0
    assert os.getxattr(target / "opt", "trusted.overlay.opaque") == b"y"
    # What comes after a whiteout of its own name replaces what is below; what came before it stays.
    assert os.getxattr(target / "srv", "trusted.overlay.opaque") == b"y"
    assert (target / "kept").read_bytes() == b"here"
    assert not any(".wh." in name for name in tree(target))


def test_sets_attributes_that_mean_the_same_everywhere(target: Path) -> None:
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    pax = {
        "SCHILY.xattr.user.note": "hello",
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.redirect": "/../../etc",
        "SCHILY.xattr.security.selinux": "system_u:object_r:bin_t:s0",
    }
    unpack(make_tar([Item("ping", b"x", pax=pax)]), target)
    assert os.getxattr(target / "ping", "user.note") == b"hello"
    assert os.getxattr(target / "ping", "security.capability") == capability
    assert set(os.listxattr(target / "ping")) == {"user.note", "security.capability"}


def test_later_entries_replace_earlier_ones(target: Path) -> None:
    unpack(
        make_tar(
            [
                Item("a", b"1"),
                Item("a", b"2"),
                Item("d/x", b"1"),
                Item("d", b"now a file"),
                symlink("l", "/nowhere"),
                Item("l", b"now a file"),
                Item("f", b"1"),
                directory("f"),
                Item("f/y", b"1"),
            ]
        ),
        target,
    )
    assert (target / "a").read_bytes() == b"2"
    assert (target / "d").read_bytes() == b"now a file"
    assert (target / "l").read_bytes() == b"now a file"
    assert not (target / "l").is_symlink()
    assert (target / "f/y").read_bytes() == b"1"


def test_follows_links_of_the_layer_inside_of_it(target: Path) -> None:
    unpack(make_tar([directory("usr/lib"), symlink("lib", "/usr/lib"), Item("lib/libc.so", b"x")]), target)
    assert (target / "usr/lib/libc.so").read_bytes() == b"x"


@pytest.mark.parametrize("flavour", ["gnu", "0.0", "0.1", "1.0"])
def test_reads_sparse_files_of_gnu_tar(target: Path, tmp_path: Path, flavour: str) -> None:
    original = tmp_path / "sparse"
    with original.open("wb") as file:
        for offset in range(0, 40 << 20, 1 << 20):
            file.seek(offset)
            file.write(b"data at %d" % offset)
        file.truncate(50 << 20)
    form = ["--format=gnu"] if flavour == "gnu" else ["--format=posix", f"--sparse-version={flavour}"]
    packed = subprocess.run(
        ["tar", "-C", tmp_path, "--sparse", *form, "-cf", "-", "sparse"], capture_output=True, check=True
    ).stdout
    assert len(packed) < 10 << 20
    unpack(packed, target)
    assert (target / "sparse").read_bytes() == original.read_bytes()
    assert (target / "sparse").stat().st_blocks * 512 < 10 << 20


HOSTILE: dict[str, tuple[Sequence[Item], str]] = {
    "parent": ([Item("../escape", b"x")], r'entry "\.\./escape" leads out'),
    "hidden parent": ([Item("a/../../escape", b"x")], "leads out"),
    "absolute": ([Item("/tmp/proa-escape", b"x")], "absolute name"),
    "link outside": (
        [symlink("out", "/etc"), Item("out/proa-escape", b"x")],
        "passes through the symbolic link",
    ),
    "link up": (
        [symlink("up", "../../../../../../tmp"), Item("up/proa-escape", b"x")],
        "passes through the symbolic link",
    ),
    "link in a row": (
        [symlink("a", "b"), symlink("b", "/etc"), Item("a/proa-escape", b"x")],
        "passes through the symbolic link",
    ),
    "hard link up": ([hardlink("passwd", "../../../../etc/passwd")], "leads out"),
    "hard link outside": ([hardlink("passwd", "/etc/passwd")], "no file of the layer"),
    "hard link through a link": (
        [symlink("out", "/etc"), hardlink("passwd", "out/passwd")],
        "passes through the symbolic link",
    ),
    "hard link to itself": ([hardlink("self", "self")], "no file of the layer"),
    "disk": ([Item("sda", type=tarfile.BLKTYPE, device=(8, 0))], "block device 8:0"),
    "memory": ([Item("dev/mem", type=tarfile.CHRTYPE, device=(1, 1))], "char device 1:1"),
    "forged whiteout": ([Item("gone", type=tarfile.CHRTYPE, device=(0, 0))], "char device 0:0"),
    "whiteout of the parent": ([Item("a/.wh...", b"")], "whiteout of a parent"),
    "whiteout of itself": ([Item("a/.wh..", b"")], "whiteout of a parent"),
    "whiteout of nothing": ([Item("a/.wh.", b"")], "whiteout of a parent"),
    "whiteout through a link": (
        [symlink("out", "/etc"), Item("out/.wh.passwd")],
        "passes through the symbolic link",
    ),
    "opaque through a link": (
        [symlink("out", "/etc"), Item("out/.wh..wh..opq")],
        "passes through the symbolic link",
    ),
    "below a file": ([Item("file", b"x"), Item("file/below", b"x")], "no directory"),
    "owner": ([Item("file", b"x", uid=2**40)], "impossible owner"),
    "deep": ([Item("d/" * 600 + "x", b"")], "too long"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_refuses_what_is_hostile_and_writes_nothing_outside(target: Path, tmp_path: Path, kind: str) -> None:
    items, text = HOSTILE[kind]
    outside = {path: path.stat().st_mtime_ns for path in (Path("/etc"), Path("/tmp/.."), Path("/etc/passwd"))}
    with pytest.raises(errors.InvalidParameter, match=text):
        unpack(make_tar([directory("first"), *items]), target)
    assert not Path("/tmp/proa-escape").exists()
    assert {path: path.stat().st_mtime_ns for path in outside} == outside
    assert tree(tmp_path) - {f"below/target/{name}" for name in tree(target)} == {"below", "below/target"}


def sparse_bomb() -> bytes:
    """A file of 8 EiB in one block of data, in the format that needs no map."""
    pax = {"GNU.sparse.size": str(2**63 - 1), "GNU.sparse.map": "0,512", "GNU.sparse.numblocks": "1"}
    return make_tar([Item("bomb", b"x" * 512, pax=pax)])


BROKEN = {
    "sparse bomb": (sparse_bomb(), "larger than"),
    "text": (b"I am no archive, but I am long enough to look like one." * 20, "not a tar archive"),
    "cut": (make_tar([Item("a", b"x" * 5000)])[:3000], "unexpected end"),
    "cut gzip": (gzip.compress(make_tar([Item("a", os.urandom(5000))]))[:3000], "end"),
    "broken gzip": (b"\x1f\x8b\x08\x00" + b"nonsense" * 100, "cannot unpack"),
    "broken zstd": (b"\x28\xb5\x2f\xfd" + b"nonsense" * 100, "cannot unpack"),
    "broken xz": (b"\xfd7zXZ\x00" + b"nonsense" * 100, "cannot unpack"),
    "huge header": (
        make_tar([Item("a", pax={"comment": "x" * (2 << 20)})]),
        "too large",
    ),
    "size without data": (
        make_tar([Item("a", pax={"size": str(2**62)})]),
        "larger than",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_says_what_is_broken(target: Path, kind: str) -> None:
    archive, text = BROKEN[kind]
    with pytest.raises(errors.InvalidParameter, match=text):
        unpack(archive, target)


def test_decompression_bomb_ends_where_the_disk_would(tmp_path: Path) -> None:
    """On a file system of 8 MB, 200 MB of zeros in a few hundred bytes are refused without filling it."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "proa-test", small], check=True)
    try:
        bomb = gzip.compress(make_tar([Item("zeros", bytes(200 << 20))]))
        with pytest.raises(errors.InvalidParameter, match="larger than"):
            unpack(bomb, small)
        assert os.statvfs(small).f_bfree * os.statvfs(small).f_bsize > 7 << 20
    finally:
        subprocess.run(["umount", small], check=True)


def test_million_entries_end_in_a_clear_error(target: Path) -> None:
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb", compresslevel=1) as packed:
        one = make_tar([directory("x")])[:512]
        for _ in range(1000):
            packed.write(one * 1000)
    assert MAX_LAYER_ENTRIES < 1_000_000
    with pytest.raises(errors.InvalidParameter, match="more than 100000 entries"):  # the same, in less time
        unpack(buffer.getvalue(), target, unpacker=Unpacker(max_layer_entries=100_000))


def test_limit_of_entries_is_exact(target: Path) -> None:
    archive = make_tar([Item(f"f{number}") for number in range(10)])
    assert unpack(archive, target, unpacker=Unpacker(max_layer_entries=10)).size_bytes == 0
    with pytest.raises(errors.InvalidParameter, match="more than 9 entries"):
        unpack(archive, target, unpacker=Unpacker(max_layer_entries=9))


def test_helper_is_in_jail(target: Path) -> None:
    """Seen from outside while it waits for its archive: another root, another mount namespace, few
    capabilities."""

    async def look() -> None:
        reading, writing = os.pipe()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unpack_quietly, reading)
            os.write(writing, make_tar([Item("first", b"x")])[:1024])
            with trio.fail_after(20):
                while not (target / "first").exists():
                    await trio.sleep(0.01)
            (pid,) = children_in_jail()
            mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
            status = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert len(mounts) == 1, mounts
            assert "nodev" in mounts[0]
            assert (
                int(status["CapEff"], 16) & ~(1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 21 | 1 << 27 | 1 << 31)
                == 0
            )
            assert status["NoNewPrivs"] == "1"
            os.close(writing)
        os.close(reading)

    async def unpack_quietly(source: int) -> None:
        await Unpacker().layer(source, target)

    def children_in_jail() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if b"proad.host.unpack" in command and str(target).encode() in command:
                    found.append(entry.name)
        return found

    trio.run(look)


def test_cancelled_unpacking_takes_the_helper_along(target: Path) -> None:
    async def work() -> None:
        reading, writing = os.pipe()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Unpacker().layer, reading, target)
            os.write(writing, make_tar([Item("first", b"x")])[:1024])
            with trio.fail_after(20):
                while not (target / "first").exists():
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        os.close(reading)
        with pytest.raises(BrokenPipeError):  # nobody reads any more: the helper is gone
            os.write(writing, b"x")
        os.close(writing)

    trio.run(work)
