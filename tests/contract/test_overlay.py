"""Root filesystems of containers on a real overlayfs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from proad.host import mounts
from proad.host.overlay import MAX_LAYERS, Overlay
from proad.model import errors
from tests.strictness import skip_for_lack_of

ID = "c" * 64


@pytest.fixture
def data_root(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        skip_for_lack_of("root")
    open_before = len(os.listdir("/proc/self/fd"))
    yield tmp_path
    left = mounts.mounts_below(tmp_path)
    trio.run(mounts.unmount_tree, tmp_path)
    assert left == []
    assert len(os.listdir("/proc/self/fd")) <= open_before


@pytest.fixture
def overlay(data_root: Path) -> Overlay:
    return Overlay(data_root)


def make_layers(overlay: Overlay, count: int) -> list[str]:
    """Layers of one file each, and of one file that each of them overwrites."""
    chain_ids = [f"sha256:{number:064x}" for number in range(count)]
    for number, chain_id in enumerate(chain_ids):
        directory = overlay.layer_path(chain_id)
        directory.mkdir(parents=True)
        (directory / f"only-{number}").touch()
        (directory / "top").write_text(str(number))
    return chain_ids


@pytest.mark.parametrize("count", [0, 1, 2, 30, 60, MAX_LAYERS])
def test_layers_lie_on_each_other(overlay: Overlay, count: int) -> None:
    layers = make_layers(overlay, count)
    rootfs = overlay.mount(ID, layers)
    assert rootfs == overlay.rootfs_path(ID)
    assert overlay.is_mounted(ID)
    assert overlay.mounted() == {ID}
    names = {f"only-{number}" for number in range(count)} | ({"top"} if count else set())
    assert set(os.listdir(rootfs)) == names
    if count:
        assert (rootfs / "top").read_text() == str(count - 1)
    trio.run(overlay.unmount, ID)
    assert not overlay.is_mounted(ID)
    assert overlay.mounted() == set()


def test_more_layers_than_docker_takes(overlay: Overlay) -> None:
    with pytest.raises(errors.System, match="max depth exceeded"):
        overlay.mount(ID, make_layers(overlay, MAX_LAYERS + 1))
    assert overlay.present() == set()


@pytest.mark.parametrize("name", ["a,b", "a:b", "a\\b", 'a"b c', "a,lowerdir=b"])
def test_a_data_root_of_any_name(data_root: Path, name: str) -> None:
    overlay = Overlay(data_root / name)
    layers = make_layers(overlay, 3)
    rootfs = overlay.mount(ID, layers)
    assert (rootfs / "top").read_text() == "2"
    (rootfs / "written").touch()
    assert os.listdir(overlay.upper_path(ID)) == ["written"]
    trio.run(overlay.remove, ID)


def test_writes_go_to_the_container_and_survive_an_unmount(overlay: Overlay) -> None:
    layers = make_layers(overlay, 2)
    rootfs = overlay.mount(ID, layers)
    (rootfs / "top").write_bytes(b"x" * 1000)
    (rootfs / "only-0").unlink()
    trio.run(overlay.unmount, ID)
    assert trio.run(overlay.size_rw, ID) == 1000
    rootfs = overlay.mount(ID, layers)
    assert (rootfs / "top").read_bytes() == b"x" * 1000
    assert not (rootfs / "only-0").exists()
    assert (overlay.layer_path(layers[1]) / "top").read_text() == "1"
    trio.run(overlay.remove, ID)
    assert overlay.present() == set()


def test_mounting_and_unmounting_twice(overlay: Overlay, data_root: Path) -> None:
    layers = make_layers(overlay, 2)
    overlay.mount(ID, layers)
    overlay.mount(ID, layers)
    assert len(mounts.mounts_below(data_root)) == 1
    trio.run(overlay.unmount, ID)
    trio.run(overlay.unmount, ID)
    trio.run(overlay.remove, ID)
    trio.run(overlay.remove, ID)
    trio.run(overlay.unmount, "never-there")


def test_a_layer_removed_by_hand_is_named(overlay: Overlay) -> None:
    layers = make_layers(overlay, 70)
    for number in (0, 69):
        gone = overlay.layer_path(layers[number])
        gone.rename(gone.with_name("elsewhere"))
        with pytest.raises(errors.System, match=str(gone)):
            overlay.mount(ID, layers)
        assert overlay.mounted() == set()
        gone.with_name("elsewhere").rename(gone)
    trio.run(overlay.remove, ID)


def test_removal_unmounts_and_spares_layers_and_volumes(overlay: Overlay, tmp_path: Path) -> None:
    layers = make_layers(overlay, 1)
    rootfs = overlay.mount(ID, layers)
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "precious").touch()
    (rootfs / "data").mkdir()
    mounts.bind(volume, rootfs / "data")
    (rootfs / "link").symlink_to(volume)
    mounts.unmount_now(rootfs / "data")
    trio.run(overlay.remove, ID)
    assert (volume / "precious").exists()
    assert (overlay.layer_path(layers[0]) / "top").exists()


def test_many_containers_share_layers(overlay: Overlay) -> None:
    layers = make_layers(overlay, 3)
    ids = {f"{number:064x}" for number in range(20)}
    for container_id in ids:
        (overlay.mount(container_id, layers) / "own").write_text(container_id)
    assert overlay.mounted() == ids

    async def remove_all() -> None:
        async with trio.open_nursery() as nursery:
            for container_id in ids:
                nursery.start_soon(overlay.remove, container_id)

    trio.run(remove_all)
    assert overlay.mounted() == set()
    assert overlay.present() == set()


def test_one_that_is_held_stays_mounted_through_ends_and_starts(overlay: Overlay) -> None:
    layers = make_layers(overlay, 2)

    async def scenario() -> None:
        async with overlay.held(ID, layers) as rootfs:
            assert (rootfs / "top").exists()
            assert overlay.mounted() == set(), "no run needs it, so nobody has to free it"
            overlay.mount(ID, layers)  # a run begins
            assert overlay.mounted() == {ID}
            async with overlay.held(ID, layers):
                await overlay.unmount(ID)  # and ends
                assert overlay.is_mounted(ID)
            assert overlay.is_mounted(ID)
            overlay.mount(ID, layers)  # another begins
        assert overlay.is_mounted(ID), "it is the run's"
        await overlay.unmount(ID)
        async with overlay.held(ID, layers):
            assert overlay.is_mounted(ID)
        assert not overlay.is_mounted(ID)

    trio.run(scenario)


def test_a_removal_ends_the_holders_and_waits_for_them(overlay: Overlay) -> None:
    layers = make_layers(overlay, 1)
    ended: list[str] = []

    async def hold(task_status: trio.TaskStatus[None]) -> None:
        try:
            async with overlay.held(ID, layers):
                task_status.started()
                await trio.sleep_forever()
        except errors.Conflict:
            ended.append("holder")

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(hold)
            await nursery.start(hold)
            await overlay.remove(ID)
            assert ended == ["holder", "holder"]
        assert not overlay.container_path(ID).exists()

    trio.run(scenario)
