"""Paths of a container, looked up from the host: they end inside whatever symlinks say."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from proad.host.pathlookup import Lookup

Look = Callable[..., Lookup]


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("inside")
    (root / "real" / "data").mkdir(parents=True)
    for name, target in {
        "up": "../../../../../../etc/passwd",
        "absolute": "/etc/passwd",
        "outside": str(tmp_path / "outside"),
        "alias": "real",
        "loop": "loop",
        "gone": "etc/../nowhere/at/all",
        "magic": "/proc/self/root",
    }.items():
        (root / name).symlink_to(target)
    (tmp_path / "outside").write_text("a secret of the host")
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_text("of the volume")
    (tmp_path / "volume" / "back").symlink_to("../etc/passwd")
    return root


@pytest.fixture
def look(rootfs: Path) -> Iterator[Look]:
    opened: list[Lookup] = []

    def make(mounts: Mapping[str, str] | None = None) -> Lookup:
        opened.append(Lookup(rootfs, mounts or {}))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_symlinks_stay_inside(look: Look) -> None:
    lookup = look()
    for name in ("up", "absolute"):
        found = lookup.find(f"/{name}", directory=False)
        assert stat.S_ISLNK(found.status.st_mode)
        assert found.link_target == "/etc/passwd"
    assert lookup.find("/alias/data", directory=False).status.st_mode
    assert lookup.find("/gone", directory=False).link_target == "/nowhere/at/all"
    outside = lookup.find("/outside", directory=False)
    assert outside.link_target.endswith("/outside")
    with pytest.raises(NotADirectoryError):
        lookup.find("/up", directory=True)
    for path in ("/outside/x", "/magic/etc"):
        with pytest.raises(FileNotFoundError):
            lookup.find(path, directory=False)
    with pytest.raises(OSError, match="too many links"):
        lookup.find("/loop", directory=False)


def test_mounts_take_the_place_of_what_is_below(look: Look, tmp_path: Path) -> None:
    volume = str(tmp_path / "volume")
    lookup = look({"/alias/data": volume, "/etc/extra": f"{volume}/file"})
    assert lookup.find("/real/data/file", directory=False).status.st_size == len("of the volume")
    assert lookup.find("/alias/data/file", directory=False).status.st_size == len("of the volume")
    assert lookup.find("/etc/extra", directory=False).status.st_size == len("of the volume")
    back = lookup.find("/real/data/back", directory=False)
    assert back.link_target == "/real/etc/passwd"


def test_it_leaves_no_descriptor_open(look: Look) -> None:
    lookup = look()
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/up", "/etc/passwd", "/gone", "/nope", "/loop", "/etc/passwd/x"):
        for directory in (False, True):
            try:
                lookup.find(path, directory=directory)
            except OSError:
                continue
    # Fewer, if a thread has meanwhile closed what an earlier test left to it.
    assert len(os.listdir("/proc/self/fd")) <= before
