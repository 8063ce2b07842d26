"""Volumes and the mounting of containers: the engine on a real store, real overlays and real mounts."""

import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from msgspec.structs import replace

from proad.config import Config
from proad.engine.mounting import Mounting
from proad.engine.volumes import Volumes
from proad.host import mounts
from proad.host.overlay import Overlay
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.hostconfig import (
    BindOptions,
    ContainerConfig,
    Empty,
    HostConfig,
    ImageOptions,
    MountRequest,
    VolumeDriver,
    VolumeOptions,
)
from proad.model.image import Image
from proad.model.mounts import SpecMount
from proad.model.volume import ANONYMOUS_LABEL
from proad.store.db import Store, open_store
from tests.strictness import skip_for_lack_of

T = TypeVar("T")
LAYER = "a" * 64
TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=1777"}


@dataclass
class Engine:
    """The parts under test, wired as the daemon does it."""

    config: Config
    store: Store
    volumes: Volumes = field(init=False)
    overlay: Overlay = field(init=False)
    mounting: Mounting = field(init=False)
    images: dict[str, Image] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget all that is only in memory."""
        self.volumes = Volumes(self.config, self.store)
        self.overlay = Overlay(self.config.data_root)
        self.mounting = Mounting(self.config, self.store, self.volumes, self.overlay, self.find_image)

    @property
    def image(self) -> Path:
        """The files of the only layer that containers here have."""
        return self.overlay.layer_path(LAYER)

    def find(self, ref: str) -> Container:
        try:
            return self.store.containers[ref]
        except KeyError:
            raise errors.NotFound(f"No such container: {ref}") from None

    def find_image(self, ref: str) -> Image:
        if ref not in self.images:
            raise errors.NotFound(f"No such image: {ref}")
        return self.images[ref]

    def draft(self, volumes: tuple[str, ...] = (), **host_config: Any) -> Container:
        self.made += 1
        return Container(
            id=f"{self.made:064x}",
            name=f"c{self.made}",
            created_ns=1,
            image_id="sha256:x",
            image_ref="image",
            layers=(LAYER,),
            config=ContainerConfig(volumes={path: Empty() for path in volumes}),
            host_config=HostConfig(**host_config),
        )

    def create(self, volumes: tuple[str, ...] = (), **host_config: Any) -> Container:
        draft = self.draft(volumes, **host_config)
        container = replace(draft, mounts=run(self.mounting.register, draft, self.find))
        self.put(container)
        self.mounting.settle(container.id)
        return container

    def put(self, container: Container) -> Container:
        with self.store.transaction() as tx:
            tx.put_container(container)
        return container

    def forget(self, container: Container) -> None:
        with self.store.transaction() as tx:
            tx.delete_container(container.id)

    def prepare(self, container: Container) -> list[SpecMount]:
        rootfs = self.overlay.mount(container.id, container.layers)
        try:
            return run(self.mounting.prepare, container, rootfs)
        finally:
            run(self.overlay.unmount, container.id)

    def release(self, container: Container) -> None:
        run(self.mounting.release, container)

    def data(self, name: str) -> Path:
        return self.config.data_root / "volumes" / name / "_data"

    def events(self) -> list[tuple[str, str]]:
        cursor = self.store.journal.cursor(0, None, lambda event: event.type == "volume", None)
        taken = [(event.action, event.actor_id) for event in cursor.take()]
        cursor.close()
        return taken


def run(op: Callable[..., Awaitable[T]], *args: object, **kwargs: object) -> T:
    async def main() -> T:
        return await op(*args, **kwargs)

    return trio.run(main)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    if os.geteuid() != 0:
        skip_for_lack_of("root")
    data_root, exec_root = tmp_path / "data", tmp_path / "exec"
    for directory in (data_root / "tmp", data_root / "volumes", exec_root):
        directory.mkdir(parents=True)
    store = open_store(data_root / "state.db", events_max_count=1000, events_max_age_s=3600)
    config = Config(hosts=(f"unix://{exec_root}/proa.sock",), data_root=data_root, exec_root=exec_root)
    made = Engine(config, store)
    made.image.mkdir(parents=True)
    yield made
    left = mounts.mounts_below(tmp_path)
    trio.run(mounts.unmount_tree, tmp_path)
    store.close()
    assert left == []
    assert os.listdir(data_root / "tmp") == []


# --- volumes ----------------------------------------------------------------------------------------------


def test_the_life_of_a_volume(engine: Engine) -> None:
    volume = run(engine.volumes.create, "data", labels={"a": "b"})
    assert engine.volumes.find("data") == volume
    assert engine.volumes.mountpoint(volume) == engine.data("data")
    assert stat.S_IMODE(engine.data("data").stat().st_mode) == 0o755
    (engine.data("data") / "file").touch()
    assert run(engine.volumes.create, "data", labels={"other": "labels"}) == volume
    run(engine.volumes.remove, "data")
    assert engine.store.volumes == {}
    assert not engine.data("data").parent.exists()
    assert engine.events() == [("create", "data"), ("destroy", "data")]


def test_what_is_not_there(engine: Engine) -> None:
    with pytest.raises(errors.NotFound) as raised:
        engine.volumes.find("data")
    assert raised.value.message == "get data: no such volume"
    with pytest.raises(errors.NotFound, match="get data: no such volume"):
        run(engine.volumes.remove, "data")
    run(engine.volumes.remove, "data", force=True)


def test_a_volume_without_a_name(engine: Engine) -> None:
    volume = run(engine.volumes.create)
    assert len(volume.name) == 64
    assert volume.anonymous
    assert volume.labels == {ANONYMOUS_LABEL: ""}


def test_a_volume_that_containers_refer_to_stays(engine: Engine) -> None:
    one = engine.create(binds=("data:/data",))
    two = engine.create(volumes_from=(one.id,))
    assert engine.volumes.references("data") == sorted([one.id, two.id])
    with pytest.raises(errors.Conflict) as raised:
        run(engine.volumes.remove, "data")
    assert raised.value.message == f"remove data: volume is in use - [{one.id}, {two.id}]"
    engine.forget(one)
    engine.forget(two)
    run(engine.volumes.remove, "data")


def test_pruning(engine: Engine) -> None:
    run(engine.volumes.create, "named")
    anonymous = run(engine.volumes.create)
    (engine.data(anonymous.name) / "file").write_bytes(b"x" * 5000)
    used = engine.create(("/v",)).mounts[0].name
    report = run(engine.volumes.prune, {})
    assert (report.deleted, report.space_bytes) == ([anonymous.name], 5000)
    assert run(engine.volumes.prune, {"all": ["true"]}).deleted == ["named"]
    assert set(engine.store.volumes) == {used}
    assert engine.events()[-1] == ("prune", "")


def test_usage(engine: Engine) -> None:
    engine.create(binds=("data:/data",))
    (engine.data("data") / "file").write_bytes(b"x" * 100)
    run(engine.volumes.create, "ram", options=TMPFS)
    (usage,) = run(engine.volumes.usage)
    assert (usage.volume.name, usage.size_bytes, usage.references) == ("data", 100, 1)


def test_a_volume_made_twice_at_once_is_made_once(engine: Engine) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(engine.volumes.create, "data")

    trio.run(main)
    assert engine.events() == [("create", "data")]


# --- options of the local driver --------------------------------------------------------------------------


def test_a_tmpfs_volume_is_mounted_from_first_use_to_last(engine: Engine) -> None:
    run(engine.volumes.create, "ram", options=TMPFS)
    one, two = engine.create(binds=("ram:/r",)), engine.create(binds=("ram:/r",))
    assert not mounts.is_mounted(engine.data("ram"))
    engine.prepare(one)
    engine.prepare(two)
    (entry,) = mounts.mounts_below(engine.data("ram"))
    assert entry.fstype == "tmpfs"
    (engine.data("ram") / "x").touch()
    engine.release(one)
    assert (engine.data("ram") / "x").exists()
    engine.release(two)
    assert not mounts.is_mounted(engine.data("ram"))
    engine.release(two)


def test_a_volume_that_is_a_host_directory(engine: Engine, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").write_text("host")
    request = MountRequest(
        type="volume",
        source="host-dir",
        target="/h",
        volume_options=VolumeOptions(
            driver_config=VolumeDriver(options={"type": "none", "o": "bind,ro", "device": str(there)})
        ),
    )
    container = engine.create(mounts=(request,))
    engine.prepare(container)
    assert (engine.data("host-dir") / "file").read_text() == "host"
    with pytest.raises(OSError, match="Read-only"):
        (engine.data("host-dir") / "new").touch()
    engine.release(container)
    engine.forget(container)
    run(engine.volumes.remove, "host-dir")
    assert (there / "file").read_text() == "host"


def test_options_that_cannot_be_mounted(engine: Engine) -> None:
    options = {"type": "none", "o": "bind", "device": "/not/there"}
    run(engine.volumes.create, "bad", options=options)
    with pytest.raises(errors.System) as raised:
        run(engine.volumes.mount, "bad", "user")
    path = engine.data("bad")
    assert raised.value.message == (
        f"error while mounting volume '{path}': failed to mount local volume: "
        f"mount /not/there:{path}, flags: 0x1000: no such file or directory"
    )
    assert engine.volumes.users("bad") == 0


def test_a_password_is_not_told(engine: Engine) -> None:
    options = {"type": "cifs", "o": "addr=127.0.0.1,password=hunter2,username=u", "device": "//127.0.0.1/s"}
    run(engine.volumes.create, "share", options=options)
    with pytest.raises(errors.System) as raised:
        run(engine.volumes.mount, "share", "user")
    assert "hunter2" not in raised.value.message
    assert "password=********" in raised.value.message


# --- create: initial content ------------------------------------------------------------------------------


def fill_image(engine: Engine) -> None:
    data = engine.image / "data"
    data.mkdir()
    (data / "sub").mkdir()
    (data / "sub/file").write_text("from the image")
    (data / "link").symlink_to("/etc/passwd")
    os.setxattr(data / "sub/file", "user.colour", b"red")
    os.chown(data, 1000, 1001)
    data.chmod(0o2750)


def test_initial_content(engine: Engine) -> None:
    fill_image(engine)
    container = engine.create(("/data",), binds=("named:/data/../data/sub",))
    anonymous, named = container.mounts
    content = engine.data(anonymous.name)
    status = content.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1000, 1001, 0o2750)
    assert (content / "sub/file").read_text() == "from the image"
    assert os.getxattr(content / "sub/file", "user.colour") == b"red"
    assert os.readlink(content / "link") == "/etc/passwd"
    assert named.destination == "/data/sub"
    assert os.listdir(engine.data("named")) == ["file"]
    assert not engine.volumes.staging(engine.volumes.find("named")).exists()
    assert engine.overlay.mounted() == set()


def test_content_is_copied_once_and_only_into_empty_volumes(engine: Engine) -> None:
    fill_image(engine)
    engine.create(binds=("data:/data",))
    (engine.data("data") / "sub/file").write_text("mine")
    (engine.data("data") / "link").unlink()
    engine.create(binds=("data:/data",))
    assert (engine.data("data") / "sub/file").read_text() == "mine"
    assert os.listdir(engine.data("data")) == ["sub"]


def test_nocopy(engine: Engine) -> None:
    fill_image(engine)
    engine.create(binds=("data:/data:nocopy",))
    assert os.listdir(engine.data("data")) == []


def test_volumes_of_another_container_are_not_filled(engine: Engine) -> None:
    first = engine.create(binds=("data:/data",))
    fill_image(engine)
    engine.create(volumes_from=(first.id,))
    assert os.listdir(engine.data("data")) == []


def test_content_goes_into_a_volume_with_options(engine: Engine) -> None:
    fill_image(engine)
    run(engine.volumes.create, "ram", options=TMPFS)
    container = engine.create(binds=("ram:/data",))
    assert not mounts.is_mounted(engine.data("ram"))
    assert os.listdir(engine.data("ram")) == []
    engine.prepare(container)
    engine.release(container)


def test_content_behind_a_hostile_symlink(engine: Engine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").touch()
    (engine.image / "data").symlink_to(outside)
    container = engine.create(("/data",))
    assert os.listdir(engine.data(container.mounts[0].name)) == []


def test_a_file_where_a_volume_shall_be(engine: Engine) -> None:
    (engine.image / "data").touch()
    with pytest.raises(errors.InvalidParameter, match="cannot mount volume over existing file, file exists"):
        engine.create(("/data",))
    assert engine.store.volumes == {}
    assert engine.overlay.mounted() == set()


def test_a_volume_too_small_for_its_content_stays_empty(engine: Engine) -> None:
    (engine.image / "data").mkdir()
    (engine.image / "data/big").write_bytes(os.urandom(2 << 20))
    run(engine.volumes.create, "ram", options=TMPFS)
    with pytest.raises(errors.System, match="failed to copy /big: No space left"):
        engine.create(binds=("ram:/data",))
    assert engine.overlay.mounted() == set()
    assert engine.volumes.references("ram") == []


def test_a_copy_cut_short_by_the_daemons_death_is_done_again(engine: Engine) -> None:
    fill_image(engine)
    volume = run(engine.volumes.create, "data")
    staging = engine.volumes.staging(volume)
    staging.mkdir()
    (staging / "half").touch()
    engine.restart()
    run(engine.volumes.recover)
    assert not staging.exists()
    engine.create(binds=("data:/data",))
    assert sorted(os.listdir(engine.data("data"))) == ["link", "sub"]


# --- create: what is refused leaves nothing ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("volumes", "host_config", "text"),
    [
        (
            ("/data",),
            {"mounts": (MountRequest(type="bind", source="/not/there", target="/b"),)},
            'invalid mount config for type "bind": bind source path does not exist: /not/there',
        ),
        (("/data",), {"volumes_from": ("nobody",)}, "No such container: nobody"),
        (("/data",), {"binds": ("a/b:/b",)}, 'create a/b: "a/b" includes invalid characters'),
        (
            (),
            {"binds": ("/data", "v1:/x"), "volume_driver": "rexray"},
            "error looking up volume plugin rexray",
        ),
    ],
)
def test_a_refused_create_leaves_no_anonymous_volume(
    engine: Engine, volumes: tuple[str, ...], host_config: dict[str, Any], text: str
) -> None:
    with pytest.raises((errors.InvalidParameter, errors.NotFound)) as raised:
        engine.create(volumes, **host_config)
    assert text in raised.value.message
    assert engine.store.volumes == {}


def test_a_volume_is_held_while_its_container_is_created(engine: Engine) -> None:
    draft = engine.draft(binds=("data:/data",))
    points = run(engine.mounting.register, draft, engine.find)
    with pytest.raises(errors.Conflict, match=f"volume is in use - .{draft.id}"):
        run(engine.volumes.remove, "data")
    assert run(engine.volumes.prune, {"all": ["1"]}).deleted == []
    run(engine.mounting.unregister, replace(draft, mounts=points))
    run(engine.volumes.remove, "data")


def test_anonymous_volumes_go_with_their_last_container(engine: Engine) -> None:
    one = engine.create(("/data",), binds=("named:/n",))
    two = engine.create(volumes_from=(one.id,))
    engine.forget(one)
    run(engine.volumes.remove_anonymous, one)
    assert len(engine.store.volumes) == 2
    engine.forget(two)
    run(engine.volumes.remove_anonymous, two)
    assert set(engine.store.volumes) == {"named"}


# --- start ------------------------------------------------------------------------------------------------


def test_mounts_of_a_run(engine: Engine, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    container = engine.create(
        ("/v/deep/er",),
        binds=(f"{source}:/v:ro", "named:/v/deep"),
        tmpfs={"/t": "size=1m"},
        mounts=(MountRequest(type="tmpfs", target="/t2", read_only=True),),
    )
    ready = engine.prepare(container)
    assert [m.destination for m in ready] == ["/t2", "/v", "/t", "/v/deep", "/v/deep/er"]
    by_destination = {m.destination: m for m in ready}
    assert by_destination["/v"] == SpecMount("/v", "bind", str(source), ("rbind", "rro", "rprivate"))
    assert by_destination["/v/deep"].source == str(engine.data("named"))
    assert by_destination["/t"].type == "tmpfs"
    assert "size=1m" in by_destination["/t"].options
    assert "ro" in by_destination["/t2"].options
    engine.release(container)
    actions = [action for action, _ in engine.events()]
    assert actions == ["create", "create", "mount", "mount", "unmount", "unmount"]
    engine.release(container)
    assert len(engine.events()) == 6


def test_a_read_only_file(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    container = engine.create(binds=(f"{tmp_path}/file:/file:ro",))
    assert engine.prepare(container)[0].options == ("rbind", "ro", "rprivate")


def test_missing_sources(engine: Engine, tmp_path: Path) -> None:
    made = tmp_path / "to/be/made"
    container = engine.create(binds=(f"{made}:/b",))
    engine.prepare(container)
    assert made.is_dir()
    gone = tmp_path / "gone"
    gone.mkdir()
    container = engine.create(mounts=(MountRequest(type="bind", source=str(gone), target="/b"),))
    gone.rmdir()
    with pytest.raises(errors.InvalidParameter) as raised:
        engine.prepare(container)
    assert raised.value.message == (
        f'invalid mount config for type "bind": bind source path does not exist: {gone}'
    )
    options = BindOptions(create_mountpoint=True)
    container = engine.create(
        mounts=(MountRequest(type="bind", source=str(gone), target="/b", bind_options=options),)
    )
    engine.prepare(container)
    assert gone.is_dir()


def test_the_daemons_socket_is_never_made_a_directory(engine: Engine) -> None:
    container = engine.create(binds=(f"{engine.config.exec_root}/proa.sock:/docker.sock",))
    with pytest.raises(errors.Conflict, match="the daemon's own socket"):
        engine.prepare(container)


def test_a_failure_in_the_middle_takes_back_the_rest(engine: Engine, tmp_path: Path) -> None:
    run(engine.volumes.create, "ram", options=TMPFS)
    gone = tmp_path / "gone"
    gone.mkdir()
    container = engine.create(
        binds=("ram:/a",), mounts=(MountRequest(type="bind", source=str(gone), target="/z"),)
    )
    gone.rmdir()
    with pytest.raises(errors.InvalidParameter):
        engine.prepare(container)
    assert not mounts.is_mounted(engine.data("ram"))
    assert ("mount", "ram") not in engine.events()


def test_propagation_is_checked_against_the_host(engine: Engine, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    mounts.mount_tmpfs(shared)
    try:
        container = engine.create(binds=(f"{shared}:/s:rshared",))
        mounts.mount("", shared, "", mounts.MS_PRIVATE)
        with pytest.raises(errors.InvalidParameter) as raised:
            engine.prepare(container)
        assert raised.value.message == (f"path {shared} is mounted on {shared} but it is not a shared mount")
        mounts.mount("", shared, "", mounts.MS_SHARED)
        assert engine.prepare(container)[0].options == ("rbind", "rshared")
        engine.release(container)
    finally:
        mounts.unmount_now(shared)


def test_a_bind_of_everything_falls_back_where_nothing_propagates(engine: Engine) -> None:
    container = engine.create(binds=("/:/host",))
    assert container.mounts[0].propagation == "rslave"
    expected = "rslave" if mounts.mount_of("/").is_shared or mounts.mount_of("/").is_slave else "rprivate"
    assert engine.prepare(container)[0].options == ("rbind", expected)


# --- subpaths ---------------------------------------------------------------------------------------------


def subpath(path: str) -> tuple[MountRequest, ...]:
    options = VolumeOptions(subpath=path)
    return (MountRequest(type="volume", source="data", target="/data", volume_options=options),)


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_subpath(engine: Engine, kind: str) -> None:
    run(engine.volumes.create, "data")
    (engine.data("data") / "in").mkdir()
    part = engine.data("data") / "in/side"
    if kind == "directory":
        part.mkdir()
        (part / "file").touch()
    else:
        part.write_text("content")
    container = engine.create(mounts=subpath("in/side"))
    (mount,) = engine.prepare(container)
    source = Path(mount.source)
    assert source.is_relative_to(engine.config.exec_root)
    part.rename(engine.data("data") / "moved")
    assert os.listdir(source) == ["file"] if kind == "directory" else source.read_text() == "content"
    engine.release(container)
    assert os.listdir(engine.config.exec_root / "stages") == []
    assert len(os.listdir(engine.data("data"))) == 2


def test_subpaths_that_lead_out(engine: Engine) -> None:
    run(engine.volumes.create, "data")
    (engine.data("data") / "out").symlink_to("../../..")
    (engine.data("data") / "absolute").symlink_to("/etc")
    for path, text in (
        ("out", "path concatenation escapes the base directory"),
        ("absolute", "path concatenation escapes the base directory"),
        ("out/etc", "path concatenation escapes the base directory"),
        ("nothing", "cannot access path"),
    ):
        options = VolumeOptions(subpath=path, no_copy=True)
        request = MountRequest(type="volume", source="data", target="/data", volume_options=options)
        container = engine.create(mounts=(request,))
        with pytest.raises(errors.InvalidParameter, match=text):
            engine.prepare(container)


# --- across restarts --------------------------------------------------------------------------------------


def test_a_restarted_daemon_knows_who_uses_what(engine: Engine) -> None:
    run(engine.volumes.create, "ram", options=TMPFS)
    run(engine.volumes.create, "data")
    (engine.data("data") / "part").mkdir()
    container = engine.create(binds=("ram:/r",), mounts=subpath("part"))
    engine.prepare(container)
    engine.put(replace(container, status=Status.RUNNING))
    engine.restart()
    run(engine.volumes.recover)
    assert mounts.is_mounted(engine.data("ram"))
    with pytest.raises(errors.Conflict):
        run(engine.volumes.remove, "ram")
    engine.release(container)
    assert mounts.mounts_below(engine.config.data_root) == []
    assert mounts.mounts_below(engine.config.exec_root) == []
    assert engine.events()[-1][0] == "unmount"


def test_a_restarted_daemon_frees_what_nobody_uses(engine: Engine) -> None:
    run(engine.volumes.create, "ram", options=TMPFS)
    run(engine.volumes.create, "data")
    (engine.data("data") / "part").mkdir()
    container = engine.create(binds=("ram:/r",), mounts=subpath("part"))
    engine.prepare(container)
    trash = engine.config.data_root / "tmp/volume-0123"
    (trash / "deep").mkdir(parents=True)
    engine.restart()
    run(engine.volumes.recover)
    run(engine.mounting.recover)
    assert mounts.mounts_below(engine.config.data_root) == []
    assert mounts.mounts_below(engine.config.exec_root) == []
    assert (engine.data("data") / "part").is_dir()
    assert not trash.exists()


# --- images -----------------------------------------------------------------------------------------------


def make_layer(engine: Engine, number: int, files: dict[str, str]) -> str:
    chain_id = f"sha256:{number:064x}"
    for name, content in files.items():
        path = engine.overlay.layer_path(chain_id) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return chain_id


def mounting_image(subpath: str = "") -> tuple[MountRequest, ...]:
    options = ImageOptions(subpath=subpath) if subpath else None
    return (MountRequest(type="image", source="tools", target="/t", image_options=options),)


@pytest.fixture
def tools(engine: Engine) -> Image:
    layers = (make_layer(engine, 1, {"a": "low", "in/b": "b"}), make_layer(engine, 2, {"a": "high"}))
    engine.images["tools"] = Image(id="sha256:tools", architecture="", os="linux", chain_ids=layers)
    return engine.images["tools"]


def test_an_image_is_mounted_for_reading(engine: Engine, tools: Image) -> None:
    container = engine.create(mounts=mounting_image())
    [point] = container.mounts
    assert (point.source, point.name, point.layers) == (tools.id, "tools", tools.chain_ids)
    [spec] = engine.prepare(container)
    assert "rro" in spec.options or "ro" in spec.options
    assert (Path(spec.source) / "a").read_text() == "high"
    assert (Path(spec.source) / "in/b").read_text() == "b"
    with pytest.raises(OSError, match="Read-only"):
        (Path(spec.source) / "a").write_text("changed")
    engine.release(container)
    engine.release(container)
    assert os.listdir(engine.config.exec_root / "stages") == []


@pytest.mark.parametrize("count", [0, 1, 100])
def test_an_image_may_have_few_layers_or_many(engine: Engine, count: int) -> None:
    layers = tuple(make_layer(engine, 100 + n, {f"f{n}": ""}) for n in range(count))
    engine.images["tools"] = Image(id="sha256:tools", architecture="", os="linux", chain_ids=layers)
    container = engine.create(mounts=mounting_image())
    [spec] = engine.prepare(container)
    assert len(os.listdir(spec.source)) == count
    engine.release(container)


def test_a_part_of_an_image(engine: Engine, tools: Image) -> None:
    container = engine.create(mounts=mounting_image("in/b"))
    [spec] = engine.prepare(container)
    assert Path(spec.source).read_text() == "b"
    engine.release(container)
    assert mounts.mounts_below(engine.config.exec_root) == []


@pytest.mark.parametrize(("path", "said"), [("out", "escapes"), ("nowhere", "cannot access path")])
def test_parts_that_an_image_does_not_have(engine: Engine, tools: Image, path: str, said: str) -> None:
    (engine.overlay.layer_path(tools.chain_ids[0]) / "out").symlink_to("/etc")
    container = engine.create(mounts=mounting_image(path))
    with pytest.raises(errors.InvalidParameter, match=said):
        engine.prepare(container)
    assert mounts.mounts_below(engine.config.exec_root) == []


def test_a_missing_image_and_a_missing_layer(engine: Engine, tools: Image) -> None:
    container = engine.create(mounts=mounting_image())
    engine.overlay.layer_path(tools.chain_ids[0]).rename(engine.config.data_root / "away")
    with pytest.raises(errors.System, match=r"layer directory .* does not exist"):
        engine.prepare(container)
    del engine.images["tools"]
    with pytest.raises(errors.NotFound, match="No such image: tools"):
        engine.create(mounts=mounting_image())


def test_an_image_mount_is_inherited_as_it_was(engine: Engine, tools: Image) -> None:
    holder = engine.create(mounts=mounting_image())
    engine.images["tools"] = replace(tools, id="sha256:other", chain_ids=())
    heir = engine.create(volumes_from=(holder.id,))
    assert heir.mounts[0].layers == tools.chain_ids


def test_a_new_daemon_unmounts_images_that_nobody_uses(engine: Engine, tools: Image) -> None:
    living, ended = (engine.create(mounts=mounting_image()) for _ in range(2))
    for container in (living, ended):
        engine.prepare(container)
    engine.put(replace(living, status=Status.RUNNING))
    engine.restart()
    run(engine.mounting.recover)
    assert os.listdir(engine.config.exec_root / "stages") == [living.id]
    engine.release(living)
