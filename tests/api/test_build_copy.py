"""COPY and ADD: what ends up where, and how it looks there. The same Dockerfiles built by Docker's own
builder have the same files.
"""

import gzip
from collections.abc import Iterator

import pytest

from tests.support.contexts import Content, File, Link, build, files_of, pack, text_of
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api


@pytest.fixture(autouse=True)
def nothing_is_left(daemon: Daemon, image: str, clean: None) -> Iterator[None]:
    yield
    assert list((daemon.data_root / "tmp").iterdir()) == []


FILES: dict[str, Content] = {
    "a": "aaa", "b": File(b"bbb", mode=0o640), "suid": File(b"s", mode=0o4755),
    "dir/x": File(b"x", mode=0o755), "dir/sub/y": "y", "dir/l": Link("x"),
    "dir/hard": Link("dir/x", hard=True), "la": Link("a"), "ldir": Link("dir"), "st/[x].txt": "br",
}  # fmt: skip


def copied(
    api: Api, *instructions: str, files: dict[str, Content] = FILES, base: str = "busybox"
) -> set[str]:
    """The paths that are in the image and not in its base."""
    told = build(api, "\n".join([f"FROM {base}", *instructions]), files, t="copied")
    assert told.image_id
    return files_of(api, "copied").keys() - files_of(api, "busybox").keys()


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("COPY a /x", "x"),
        ("COPY a /x/", "x x/a"),
        ("COPY a b /x/", "x x/a x/b"),
        ("COPY dir /x", "x x/hard x/l x/sub x/sub/y x/x"),
        ("COPY dir/ /x/y/", "x x/y x/y/hard x/y/l x/y/sub x/y/sub/y x/y/x"),
        ("COPY dir/sub dir/x /x/", "x x/y x/x"),
        ("COPY dir/* /x/", "x x/hard x/l x/y x/x"),
        ("COPY l? /x/", "x x/la"),
        ("COPY la /x", "x"),
        ("COPY ldir/ /x", "x x/hard x/l x/sub x/sub/y x/x"),
        ("COPY st/[[]x].txt /x/", "x x/[x].txt"),
        ("COPY a /tmp", "tmp/a"),
        ("COPY a /etc/passwd/", ""),
        ('COPY ["a", "/with space/"]', "with space/a|with space"),
        ("ADD a dir /x/", "x x/a x/hard x/l x/sub x/sub/y x/x"),
        ("WORKDIR /w\nCOPY a .", "w w/a"),
        ("WORKDIR /w\nCOPY a b sub/", "w w/sub w/sub/a w/sub/b"),
    ],
)
def test_places(api: Api, instruction: str, expected: str) -> None:
    if not expected:
        assert "not a directory" in build(api, f"FROM busybox\n{instruction}\n", FILES).error
        return
    names = expected.split("|") if "|" in expected else expected.split()
    assert copied(api, instruction) == set(names)


def test_what_it_looks_like(api: Api) -> None:
    copied(
        api, "COPY dir /d", "COPY suid b /f/", "COPY la /link", "COPY --chown=user:extra dir /owned",
        "COPY --chown=7 a /new/deep/a", "COPY --chown=user suid /own/",
    )  # fmt: skip
    files = files_of(api, "copied")
    assert files["d/l"].issym()
    assert files["d/x"].islnk() or files["d/hard"].islnk()
    assert files["d/x"].mode & 0o7777 == 0o755
    assert files["f/suid"].mode & 0o7777 == 0o755, "a new owner costs the setuid bit, as with Docker"
    assert files["f/b"].mode & 0o7777 == 0o640
    assert files["link"].isreg()
    owners = {path: (entry.uid, entry.gid) for path, entry in files.items()}
    assert owners["owned"] == owners["owned/sub/y"] == owners["owned/l"] == (1000, 2000)
    assert owners["new"] == owners["new/deep"] == owners["new/deep/a"] == (7, 7)
    assert owners["own"] == owners["own/suid"] == (1000, 1000)
    assert files["d/sub/y"].mtime == 1_600_000_000


def test_from_another_stage_all_stays(api: Api) -> None:
    dockerfile = """
FROM busybox AS made
RUN mkdir -p /o/d && echo x >/o/d/f && chown 5:6 /o/d /o/d/f && chmod 4750 /o/d/f && ln -s d/f /o/l && \
    mkfifo /o/fifo && mknod /o/null c 1 3
FROM busybox
COPY --from=made /o /all
COPY --from=made /o/l /followed
COPY --from=made --chown=user /o/d /owned
"""
    build(api, dockerfile, t="copied")
    files = files_of(api, "copied")
    assert (files["all/d/f"].uid, files["all/d/f"].gid, files["all/d/f"].mode & 0o7777) == (5, 6, 0o4750)
    assert (files["followed"].uid, files["followed"].isreg()) == (5, True)
    assert (files["owned/f"].uid, files["owned/f"].mode & 0o7777) == (1000, 0o750)
    assert files["all"].uid == 0
    assert files["all/null"].ischr()
    assert files["all/fifo"].isfifo()


def test_over_what_is_there(api: Api) -> None:
    files: dict[str, Content] = {
        "f": "file", "tree/a/b": "ab", "tree/file/inner": "i", "tree/lnk/z": "z", "tree/plain": "p",
        "tree/sl": Link("nowhere"),
    }  # fmt: skip
    copied(
        api,
        "RUN mkdir -p /t/a /real /t/plain /t/sl; echo old >/t/file && ln -s /real /t/lnk && ln -s /real /to"
        " && ln -s real/deep /dangling && ln -s /real/target /flink && chmod 711 /t/a && chown 5:6 /t /t/a",
        "COPY tree /t",
        "COPY f /to/",
        "COPY f /dangling",
        "COPY f /flink",
        files=files,
    )
    found = files_of(api, "copied")
    assert found["t/file"].isdir(), "a directory takes the place of a file"
    assert found["t/lnk"].isdir(), "and of a symlink"
    assert found["t/plain"].isreg(), "a file takes the place of a directory"
    assert found["t/sl"].issym()
    assert found["t"].uid == 5, "what is there keeps its owner"
    assert (found["t/a"].uid, found["t/a"].mode & 0o777) == (0, 0o755), "but for what is copied over it"
    assert found["flink"].issym()
    assert {"real/f", "real/deep", "real/target"} <= found.keys(), (
        "the destination's own symlinks are followed"
    )


ARCHIVE = pack({
    "x": None, "x/f": File(b"tarred", mode=0o4755, uid=7, gid=8, mtime=1_400_000_001), "x/s": Link("f"),
    "lonely/q": File(b"q", uid=3),
})  # fmt: skip


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz", "zst"])
def test_archives_are_unpacked(api: Api, compression: str) -> None:
    if compression == "zst":
        import zstandard

        content = zstandard.compress(ARCHIVE)
    else:
        import bz2
        import lzma

        content = {"": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[compression](
            ARCHIVE
        )
    found = copied(api, "ADD --chown=user t /x/", "COPY t /c/", files={"t": content})
    assert found == {"x", "x/x", "x/x/f", "x/x/s", "x/lonely", "x/lonely/q", "c", "c/t"}
    file = files_of(api, "copied")["x/x/f"]
    assert (file.uid, file.gid, file.mode & 0o7777, file.mtime) == (7, 8, 0o4755, 1_400_000_001)


def test_what_is_no_archive_is_a_file(api: Api) -> None:
    files: dict[str, Content] = {
        "not.tar.gz": "plain", "text.gz": gzip.compress(b"hello"), "empty.tar": pack({}), "zero": "",
        "cut.tar.gz": gzip.compress(ARCHIVE)[:40],
    }  # fmt: skip
    names = {f"n/{name}" for name in files}
    assert copied(api, *(f"ADD {name} /n/" for name in files), files=files) == {"n", *names}


def test_a_broken_archive(api: Api) -> None:
    broken = gzip.compress(pack({"a": "a" * 100_000, "b": bytes(range(256)) * 1000}))[:-500]
    told = build(api, "FROM busybox\nADD t.tgz /x/\n", {"t.tgz": broken})
    assert told.error.startswith("failed to copy files: Error processing tar file")


def test_a_whole_root_filesystem(api: Api, daemon: Daemon) -> None:
    from tests.support.images import busybox_tar

    build(api, 'FROM scratch\nADD rootfs.tar /\nCMD ["sh"]\n', {"rootfs.tar": busybox_tar()}, t="root")
    assert files_of(api, "root").keys() == files_of(api, "busybox").keys()
    assert text_of(api, "root", "/etc/passwd") == text_of(api, "busybox", "/etc/passwd")
