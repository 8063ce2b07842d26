"""Headers of tar streams: what is written is what our reader, Python's and GNU tar's read."""

import io
import tarfile

import pytest

from proad.host.tarstream import Entry, TarReader
from proad.host.tarwriter import END, header, padding

PLAIN = Entry("etc/passwd", "file", size=5, mode=0o640, uid=1, gid=2, mtime_ns=1_700_000_000 * 10**9)

ENTRIES = [
    PLAIN,
    Entry("etc", "directory", size=0, mode=0o1777, uid=0, gid=0, mtime_ns=0),
    Entry("bin/sh", "symlink", size=0, mode=0o777, uid=0, gid=0, mtime_ns=1, link="/bin/busybox"),
    Entry("bin/ln", "link", size=0, mode=0o4755, uid=0, gid=0, mtime_ns=0, link="bin/sh"),
    Entry("run/pipe", "fifo", size=0, mode=0o600, uid=0, gid=0, mtime_ns=0),
    Entry("dev/null", "char", size=0, mode=0o666, uid=0, gid=0, mtime_ns=0, major=1, minor=3),
    Entry("dev/sda", "block", size=0, mode=0o660, uid=0, gid=6, mtime_ns=0, major=8, minor=1048575),
    Entry("n" * 100, "file", size=0, mode=0, uid=0, gid=0, mtime_ns=0),
    Entry("n" * 101, "file", size=0, mode=0, uid=0, gid=0, mtime_ns=0),
    Entry("d/" * 500 + "deep", "file", size=0, mode=0o644, uid=0, gid=0, mtime_ns=0),
    Entry("ünï/cödé", "directory", size=0, mode=0o755, uid=0, gid=0, mtime_ns=0),
    Entry("not utf-8 \udcff", "file", size=0, mode=0o644, uid=0, gid=0, mtime_ns=0),
    Entry("l", "symlink", size=0, mode=0o777, uid=0, gid=0, mtime_ns=0, link="t" * 300),
    Entry("owner", "file", size=0, mode=0o644, uid=2**21, gid=2**32 - 2, mtime_ns=0),
    Entry("fraction", "file", size=0, mode=0o644, uid=0, gid=0, mtime_ns=1_700_000_000_000_000_120),
    Entry("a", "file", size=0, mode=0o644, uid=0, gid=0, mtime_ns=0, xattrs={
        "security.capability": b"\x01\x00\x00\x02\x00 \x00\x00", "user.empty": b"", "user.text": b"a=b\n",
    }),
]  # fmt: skip


def write(*entries: Entry, data: bytes = b"") -> bytes:
    return b"".join(header(entry) + data + padding(len(data)) for entry in entries) + END


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind} {entry.name[:12]}")
def test_our_reader_reads_it_back(entry: Entry) -> None:
    data = b"x" * entry.size
    (read,) = TarReader(io.BytesIO(write(entry, data=data)))
    if entry.kind == "directory":
        assert read.name == f"{entry.name}/"
        read.name = entry.name
    assert read == entry


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind} {entry.name[:12]}")
def test_pythons_reader_reads_it(entry: Entry) -> None:
    with tarfile.open(
        fileobj=io.BytesIO(write(entry, data=b"x" * entry.size)), errors="surrogateescape"
    ) as tar:
        (read,) = tar.getmembers()
    assert (read.name, read.mode, read.uid, read.gid) == (entry.name, entry.mode, entry.uid, entry.gid)
    assert (read.size, read.linkname) == (entry.size, entry.link)
    assert round(read.mtime * 10**9) == pytest.approx(entry.mtime_ns, abs=500)


def test_blocks_are_whole() -> None:
    assert len(write(*ENTRIES[1:])) % 512 == 0


@pytest.mark.parametrize("length", [*range(80, 120), *range(985, 1010), 9990])
def test_a_record_counts_its_own_digits(length: int) -> None:
    entry = Entry("a", "file", size=0, mode=0, uid=0, gid=0, mtime_ns=0, xattrs={"user.x": b"v" * length})
    (read,) = TarReader(io.BytesIO(write(entry)))
    assert read.xattrs == entry.xattrs


def test_times_before_the_epoch_are_said() -> None:
    entry = Entry("a", "file", size=0, mode=0, uid=0, gid=0, mtime_ns=-1_500_000_000)
    with tarfile.open(fileobj=io.BytesIO(write(entry))) as tar:
        assert tar.getmembers()[0].mtime == -1.5


def test_holes_are_said_and_not_written() -> None:
    extents = [(0, 3), (1 << 40, 4)]
    entry = Entry(
        "s" * 120, "file", size=(1 << 40) + 10, mode=0o644, uid=0, gid=0, mtime_ns=0, extents=extents
    )
    archive = write(entry, data=b"abcdefg")
    assert len(archive) < 8192
    reader = TarReader(io.BytesIO(archive))
    read = next(reader)
    assert (read.name, read.size, read.extents) == (entry.name, entry.size, extents)
    assert b"".join(reader.data()) == b"abcdefg"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.getmembers()[0]
        assert (member.name, member.size) == (entry.name, entry.size)
        content = tar.extractfile(member)
        assert content is not None
        assert content.read(5) == b"abc\0\0"


def test_a_file_of_holes_alone() -> None:
    entry = Entry("s", "file", size=1 << 33, mode=0o644, uid=0, gid=0, mtime_ns=0, extents=[])
    (read,) = TarReader(io.BytesIO(write(entry)))
    assert (read.size, read.extents) == (1 << 33, [])


def test_sizes_beyond_octal() -> None:
    entry = Entry("big", "file", size=1 << 40, mode=0o644, uid=0, gid=0, mtime_ns=0)
    assert next(TarReader(io.BytesIO(header(entry)))).size == 1 << 40
