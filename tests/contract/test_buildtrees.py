"""What builds do to trees, by the helper process itself: what was written becomes a layer as it is, and
nothing leads out of where it belongs.
"""

import io
import os
import stat
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from proad.host import mounts
from proad.host.archive import Unpacker
from proad.host.buildtrees import BuildTrees, CopyRules, Found, PackedLayer, Target, Tree, Wanted
from proad.host.helpers import Helpers
from proad.host.overlay import Overlay
from proad.model import errors
from tests.support.contexts import Content, File, Link, pack
from tests.support.treefacts import Facts, differences, tree_facts

T = TypeVar("T")
Work = Callable[[BuildTrees], Awaitable[T]]


class Place:
    """A layer, somewhere to write on top of it, and a context beside them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("tmp", "layer", "upper", "work", "context"):
            (path / name).mkdir()
        self.layer, self.upper, self.context = path / "layer", path / "upper", path / "context"
        self.target = Target([self.layer], self.upper, path / "work")
        self.tree = Tree("context", directory=self.context)

    def run(self, work: Work[T]) -> T:
        failure: errors.ProaError | None = None
        results: list[T] = []

        async def main() -> None:
            nonlocal failure
            options = Overlay(self.path).fixed_options
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    try:
                        results.append(await work(BuildTrees(Helpers(nursery), self.path / "tmp", options)))
                    except errors.ProaError as error:
                        failure = error
                    nursery.cancel_scope.cancel()

        trio.run(main)
        if failure is not None:
            raise failure
        return results[0]

    def unpack(self, archive: bytes) -> None:
        async def work(trees: BuildTrees) -> None:
            source = os.memfd_create("archive")
            try:
                with io.FileIO(source, "wb", closefd=False) as file:
                    file.write(archive)
                os.lseek(source, 0, os.SEEK_SET)
                await trees.unpack_context(source, self.context)
            finally:
                os.close(source)

        self.run(work)

    def find(self, *paths: str) -> list[Found]:
        return self.run(lambda trees: trees.find([self.tree], [Wanted("context", path) for path in paths]))

    def copy(
        self, source: str, destination: str, *, owner: str | None = "0:0", extract: bool = False
    ) -> None:
        found = self.find(source)
        rules = CopyRules(destination, owner, extract)
        self.run(lambda trees: trees.copy([self.tree], found, self.target, rules))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    assert not mounts.mounts_below(tmp_path)


def test_what_was_written_is_the_layer(place: Place) -> None:
    """As the layer's blob gives it anywhere else."""
    layer, overlay = place.layer, place.path / "mounted"
    for name in ("gone", "kept", "replaced", "etc"):
        (layer / name).mkdir()
    (layer / "gone/f").write_text("f")
    (layer / "kept/f").write_text("f")
    (layer / "replaced/old").write_text("old")
    overlay.mkdir()
    options = f"lowerdir={layer},upperdir={place.upper},workdir={place.path / 'work'}"
    mounts.mount("overlay", overlay, "overlay", 0, options + Overlay(place.path).fixed_options)
    try:
        for path in ("gone/f", "replaced/old"):
            (overlay / path).unlink()
        for path in ("gone", "replaced"):
            (overlay / path).rmdir()
        (overlay / "replaced").mkdir(mode=0o700)
        (overlay / "replaced/new").write_text("new")
        os.link(overlay / "replaced/new", overlay / "hard")
        os.chown(overlay / "hard", 3, 4)
        (overlay / "kept/f").chmod(0o4711)
        (overlay / "link").symlink_to("/nowhere")
        os.mknod(overlay / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mkfifo(overlay / "fifo")
        os.mknod(overlay / "socket", stat.S_IFSOCK | 0o600)
        (overlay / ".wh.name").write_text("means something else in a layer")
        for trace in (".dockerenv", "etc/hosts"):
            (overlay / trace).touch()
        os.setxattr(overlay / "hard", "user.test", b"value")
        with (overlay / "sparse").open("wb") as file:
            file.truncate(1 << 20)
            file.seek(1 << 19)
            file.write(b"x")
    finally:
        mounts.unmount_now(overlay)
    blob, unpacked = place.path / "blob", place.path / "unpacked"
    unpacked.mkdir()
    packed = _pack(place, [layer], "blob", clean=True)
    source = os.open(blob, os.O_RDONLY)
    read = trio.run(lambda: Unpacker().layer(source, unpacked, any_device=True))
    os.close(source)
    assert (read.diff_id, read.size_bytes) == (packed.diff_id, packed.size_bytes)
    assert packed.blob_size_bytes == blob.stat().st_size
    assert differences(_facts(unpacked), _facts(place.upper)) == []
    opaque = "trusted.overlay.opaque"
    assert os.getxattr(place.upper / "replaced", opaque) == os.getxattr(unpacked / "replaced", opaque) == b"y"
    assert not {".wh.name", "socket", ".dockerenv"} & {path.name for path in place.upper.iterdir()}


def _facts(top: Path) -> Facts:
    """Of all but the times of whiteouts, which mean nothing."""
    facts = tree_facts(top)
    for told in facts.values():
        if told.get("device") == 0 and told["mode"].startswith("0o2"):
            del told["mtime_ns"]
    return facts


def test_what_is_kept_is_not_touched(place: Place) -> None:
    (place.upper / ".dockerenv").touch()
    (place.upper / "f").write_text("f")
    _pack(place, [place.layer], "blob", clean=False)
    assert {path.name for path in place.upper.iterdir()} == {".dockerenv", "f"}
    (place.upper / "f").unlink()
    assert _pack(place, [], "empty", clean=True).entries == 0


def _pack(place: Place, layers: list[Path], name: str, *, clean: bool) -> PackedLayer:
    blob = place.path / name
    return place.run(lambda trees: trees.pack(layers, place.upper, blob, clean=clean, by_container=True))


HOSTILE: list[dict[str, Content]] = [
    {"../out": "x"},
    {"a/../../out": "x"},
    {"d": Link(".."), "d/../out": "x"},
    {"d": Link("/"), "d/out": "x"},
    {"d": Link("../.."), "d/out": "x"},
    {"f": Link("../out"), "f/x": "x"},
    {"h": Link("../../etc/passwd", hard=True)},
]


@pytest.mark.parametrize("files", HOSTILE, ids=lambda files: " ".join(files))
def test_contexts_stay_where_they_are(place: Place, files: dict[str, Content]) -> None:
    before = set(place.path.iterdir())
    with suppress(errors.InvalidParameter):
        place.unpack(pack(files))
    assert set(place.path.iterdir()) == before
    assert not Path("/out").exists()


def test_contexts_have_no_devices(place: Place) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("disk")
        entry.type, entry.devmajor, entry.devminor = tarfile.BLKTYPE, 8, 0
        archive.addfile(entry)
    with pytest.raises(errors.InvalidParameter, match='"disk" is a device'):
        place.unpack(buffer.getvalue())


def test_links_of_the_context_end_inside(place: Place) -> None:
    place.unpack(
        pack({"secret": Link("/etc/passwd"), "up": Link("../../.."), "loop": Link("loop"), "f": "f"})
    )
    for path in ("secret", "up/etc/passwd", "nothing"):
        with pytest.raises(errors.NotFound):
            place.find(path)
    with pytest.raises(errors.InvalidParameter, match="symbolic links"):
        place.find("loop")
    (found,) = place.find("up/f")
    assert found.hash.startswith("file:")


def test_links_of_the_image_end_inside(place: Place) -> None:
    outside = place.path / "outside"
    outside.mkdir()
    (place.layer / "abs").symlink_to(outside)
    (place.layer / "up").symlink_to("../../../../../../tmp")
    (place.context / "f").write_text("f")
    place.copy("f", "/abs/f")
    place.copy("f", "/up/f")
    assert list(outside.iterdir()) == []
    assert (place.upper / str(outside)[1:] / "f").read_text() == "f"
    assert (place.upper / "tmp/f").read_text() == "f"
    archive = pack({"l": Link("/abs"), "l/f": "x", "abs2": Link(str(outside)), "abs2/g": "x"})
    (place.context / "t.tar").write_bytes(archive)
    with suppress(errors.InvalidParameter):
        place.copy("t.tar", "/there/", extract=True)
    assert list(outside.iterdir()) == []


def test_hashes_know_content_and_not_times(place: Place) -> None:
    def hashes() -> list[str]:
        return [found.hash for found in place.find("d", "f", "*")]

    (place.context / "d").mkdir()
    (place.context / "d/x").write_text("x")
    (place.context / "f").write_text("f")
    before = hashes()
    os.utime(place.context / "f", (1, 1))
    os.utime(place.context / "d/x", (1, 1))
    assert hashes() == before
    (place.context / "f").chmod(0o600)
    assert hashes()[0] == before[0]
    assert hashes()[1] != before[1]
    (place.context / "d/x").write_text("y")
    assert hashes()[0] != before[0]


def test_many_files(place: Place) -> None:
    """More than what fits into a packet between daemon and helper."""
    place.unpack(pack({f"{number:05}-{'long' * 20}": File(b"x") for number in range(5_000)}))
    assert len(place.find("*")) == 5_000
    place.copy("*", "/all/")
    assert len(list((place.upper / "all").iterdir())) == 5_000
