"""What requests say of mounts, and what becomes of it: Docker's grammar, rules and wording."""

from typing import Any

import pytest

from proad.model import errors
from proad.model.hostconfig import (
    BindOptions,
    ContainerConfig,
    Empty,
    HostConfig,
    ImageOptions,
    MountRequest,
    TmpfsOptions,
    VolumeDriver,
    VolumeOptions,
)
from proad.model.mountparse import PlannedMount, convert_tmpfs_options, parse_volumes_from, plan_mounts
from proad.model.mounts import MountPoint, SpecMount, bind_mount, by_depth, rootfs_propagation, tmpfs_mount

DATA_ROOT = "/var/lib/proa"


def plan(volumes: tuple[str, ...] = (), inherited: Any = (), **host_config: Any) -> list[PlannedMount]:
    config = ContainerConfig(volumes={path: Empty() for path in volumes})
    return plan_mounts(config, HostConfig(**host_config), inherited, DATA_ROOT)


def one(**host_config: Any) -> PlannedMount:
    (planned,) = plan(**host_config)
    return planned


def refusal(**host_config: Any) -> str:
    with pytest.raises(errors.InvalidParameter) as raised:
        plan(**host_config)
    return raised.value.message


# --- Binds ------------------------------------------------------------------------------------------------


def test_a_bind_of_a_host_path() -> None:
    point = one(binds=("/srv//data/:/data/:ro,z",)).point
    assert (point.type, point.source, point.destination) == ("bind", "/srv/data", "/data")
    assert (point.read_write, point.mode, point.propagation) == (False, "ro,z", "rprivate")
    assert point.create_source


def test_a_bind_of_a_volume() -> None:
    planned = one(binds=("cache:/var/cache",), volume_driver="local")
    assert planned.wish is not None
    assert (planned.wish.name, planned.wish.driver) == ("cache", "local")
    assert (planned.point.type, planned.point.mode, planned.point.anonymous) == ("volume", "z", False)


def test_a_bind_of_a_destination_alone_is_an_anonymous_volume() -> None:
    planned = one(binds=("/data",))
    assert planned.wish is not None
    assert planned.wish.name == ""
    assert planned.point.anonymous


@pytest.mark.parametrize(
    ("mode", "attribute", "value"),
    [
        ("rslave", "propagation", "rslave"),
        ("ro,shared", "propagation", "shared"),
        ("rw", "read_write", True),
        ("ro", "read_write", False),
        ("cached", "read_write", True),
    ],
)
def test_modes_of_a_bind(mode: str, attribute: str, value: object) -> None:
    assert getattr(one(binds=(f"/a:/b:{mode}",)).point, attribute) == value


def test_nocopy_of_a_volume() -> None:
    assert one(binds=("v1:/b:nocopy",)).point.no_copy
    assert not one(binds=("v1:/b:copy",)).point.no_copy


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        ("", "invalid volume specification: ''"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        ("/a:/b:rx", "invalid mode: rx"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:z,Z", "invalid mode: z,Z"),
        ("/a:/b:shared,slave", "invalid mode: shared,slave"),
        (
            "/a:b",
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\": "
            "invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'",
        ),
        (
            "/a:/x/..",
            "invalid volume specification: '/a:/x/..': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'",
        ),
        (
            "/a:/b:nocopy",
            "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": "
            "field VolumeOptions must not be specified",
        ),
        (
            "vol:/b:rshared",
            "invalid volume specification: 'vol:/b:rshared': invalid mount config for type \"volume\": "
            "field BindOptions must not be specified",
        ),
    ],
)
def test_refused_binds(bind: str, text: str) -> None:
    assert refusal(binds=(bind,)) == text


# --- Mounts -----------------------------------------------------------------------------------------------


def test_a_mount_of_a_host_path_must_have_its_source() -> None:
    planned = one(mounts=(MountRequest(type="bind", source="/a", target="/b", read_only=True),))
    assert planned.is_source_required
    assert not planned.point.create_source
    assert not planned.point.read_write
    assert planned.point.mode == ""


def test_bind_options() -> None:
    options = BindOptions(
        propagation="rslave", create_mountpoint=True, non_recursive=True, read_only_non_recursive=True
    )
    planned = one(mounts=(MountRequest(type="bind", source="/a", target="/b", bind_options=options),))
    point = planned.point
    assert not planned.is_source_required
    assert point.create_source
    assert point.non_recursive
    assert point.read_only_non_recursive
    assert point.propagation == "rslave"


def test_volume_options() -> None:
    options = VolumeOptions(
        no_copy=True,
        labels={"a": "b"},
        subpath="x/y",
        driver_config=VolumeDriver(name="local", options={"type": "tmpfs", "device": "tmpfs"}),
    )
    planned = one(mounts=(MountRequest(type="volume", source="v1", target="/b", volume_options=options),))
    assert planned.wish is not None
    assert planned.wish.labels == {"a": "b"}
    assert planned.wish.options == {"type": "tmpfs", "device": "tmpfs"}
    assert (planned.point.subpath, planned.point.no_copy) == ("x/y", True)


def test_tmpfs_options() -> None:
    options = TmpfsOptions(size_bytes=64 << 20, mode=0o1777, options=(("exec",),))
    request = MountRequest(type="tmpfs", target="/t", read_only=True, tmpfs_options=options)
    point = one(mounts=(request,)).point
    assert point.tmpfs_options == "ro,mode=1777,size=64m,exec"
    assert tmpfs_mount("/t", point.tmpfs_options).options == (
        "nosuid", "nodev", "rprivate", "ro", "mode=1777", "size=64m", "exec",
    )  # fmt: skip


@pytest.mark.parametrize(("size", "shown"), [(1 << 30, "1g"), (3 << 20, "3m"), (1024, "1k"), (1000, "1000")])
def test_tmpfs_sizes(size: int, shown: str) -> None:
    assert convert_tmpfs_options(TmpfsOptions(size_bytes=size), read_only=False) == f"size={shown}"


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (MountRequest(type="bind", source="/a"), 'type "bind": field Target must not be empty'),
        (MountRequest(type="bind", target="/b"), 'type "bind": field Source must not be empty'),
        (
            MountRequest(type="bind", source="a", target="/b"),
            "type \"bind\": invalid mount path: 'a' mount path must be absolute",
        ),
        (
            MountRequest(type="bind", source="/a", target="/b", bind_options=BindOptions(propagation="x")),
            'type "bind": invalid propagation mode: x',
        ),
        (
            MountRequest(type="bind", source="/a", target="/b", volume_options=VolumeOptions()),
            'type "bind": field VolumeOptions must not be specified',
        ),
        (
            MountRequest(type="volume", source="v1", target="/b", bind_options=BindOptions()),
            'type "volume": field BindOptions must not be specified',
        ),
        (
            MountRequest(type="volume", target="/b", read_only=True),
            'type "volume": must not set ReadOnly mode when using anonymous volumes',
        ),
        (
            MountRequest(type="volume", target="/b", volume_options=VolumeOptions(subpath="x")),
            'type "volume": must not set Subpath when using anonymous volumes',
        ),
        (
            MountRequest(
                type="volume", source="v1", target="/b", volume_options=VolumeOptions(subpath="a/../../x")
            ),
            'type "volume": subpath must be a relative path within the volume',
        ),
        (
            MountRequest(type="volume", source="v1", target="/b", volume_options=VolumeOptions(subpath="/x")),
            'type "volume": subpath must be a relative path within the volume',
        ),
        (
            MountRequest(type="tmpfs", source="x", target="/b"),
            'type "tmpfs": field Source must not be specified',
        ),
        (
            MountRequest(type="tmpfs", target="/b", tmpfs_options=TmpfsOptions(options=(("suid",),))),
            'type "tmpfs": invalid option: suid',
        ),
        (MountRequest(type="", target="/b"), 'type "": mount type unknown'),
        (MountRequest(type="disk", target="/b"), 'type "disk": mount type unknown'),
        (
            MountRequest(type="cluster", source="x", target="/b"),
            'type "cluster": mounts of type cluster are not supported by this engine',
        ),
        (MountRequest(type="image", target="/b"), 'type "image": field Source must not be empty'),
        (
            MountRequest(type="image", source="x", target="/b", volume_options=VolumeOptions(no_copy=True)),
            'type "image": field VolumeOptions must not be specified',
        ),
        (
            MountRequest(type="image", source="x", target="/b", image_options=ImageOptions(subpath="../x")),
            'type "image": subpath must be a relative path within the volume',
        ),
        (
            MountRequest(type="volume", source="v1", target="/b", image_options=ImageOptions(subpath="x")),
            'type "volume": field ImageOptions must not be specified',
        ),
    ],
)
def test_refused_mounts(request_: MountRequest, text: str) -> None:
    assert refusal(mounts=(request_,)) == f"invalid mount config for {text}"


# --- together ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host_config",
    [
        {"binds": ("/a:/x", "/b:/x/")},
        {"binds": ("/a:/x",), "mounts": (MountRequest(type="bind", source="/b", target="/x"),)},
        {"binds": ("/a:/x",), "tmpfs": {"/x": ""}},
    ],
)
def test_a_destination_is_named_once(host_config: dict[str, Any]) -> None:
    assert refusal(**host_config) == "Duplicate mount point: /x"


@pytest.mark.parametrize("read_only", [False, True])
def test_images_are_mounted_for_reading(read_only: bool) -> None:
    options = ImageOptions(subpath="etc")
    request = MountRequest(
        type="image", source="tools:1", target="/b/", read_only=read_only, image_options=options
    )
    [planned] = plan(mounts=(request,))
    assert planned.point == MountPoint(
        type="image", destination="/b", name="tools:1", read_write=False, subpath="etc"
    )


def test_image_volumes_give_way() -> None:
    planned = plan(
        ("/bound", "/inherited", "/hidden", "/own"),
        [("rw", (MountPoint(type="bind", source="/o", destination="/inherited"),))],
        binds=("/a:/bound",),
        tmpfs={"/hidden": ""},
    )
    by_destination = {p.point.destination: p for p in planned}
    assert set(by_destination) == {"/bound", "/inherited", "/own"}
    own = by_destination["/own"]
    assert own.point.anonymous
    assert own.point.mode == ""
    assert own.wish is not None


def test_volumes_from_gives_way_to_binds_and_takes_a_mode() -> None:
    others = (
        MountPoint(type="volume", name="v1", destination="/v", mode="z"),
        MountPoint(type="bind", source="/o", destination="/b", propagation="rslave"),
    )
    planned = plan((), [("ro", others)], binds=("/mine:/b",))
    points = {p.point.destination: p.point for p in planned}
    assert not points["/v"].read_write
    assert points["/v"].no_copy
    assert points["/b"].source == "/mine"


@pytest.mark.parametrize(
    ("spec", "parsed"), [("c1", ("c1", "rw")), ("c1:ro", ("c1", "ro")), ("c1:rw,z", ("c1", "rw,z"))]
)
def test_volumes_from_specifications(spec: str, parsed: tuple[str, str]) -> None:
    assert parse_volumes_from(spec) == parsed


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("", "volumes-from specification cannot be an empty string"),
        ("c1:x", "invalid mode: x"),
        ("c1:rshared", "invalid mode: rshared"),
        ("c1:nocopy", "invalid mode: nocopy"),
    ],
)
def test_refused_volumes_from(spec: str, text: str) -> None:
    with pytest.raises(errors.InvalidParameter) as raised:
        parse_volumes_from(spec)
    assert raised.value.message == text


@pytest.mark.parametrize("source", ["/", "/var/lib/proa", "/var/lib/proa/volumes/x", "/var"])
def test_binds_around_the_data_root_do_not_pin_its_mounts(source: str) -> None:
    assert one(binds=(f"{source}:/host",)).point.propagation == "rslave"
    assert one(binds=(f"{source}:/host:rshared",)).point.propagation == "rshared"
    assert refusal(binds=(f"{source}:/host:private",)).startswith(
        'invalid mount config: must use either propagation mode "rslave" or "rshared"'
    )


def test_a_path_that_only_begins_like_the_data_root_is_another() -> None:
    assert one(binds=("/var/lib/proa-other:/host",)).point.propagation == "rprivate"


@pytest.mark.parametrize(
    ("tmpfs", "text"),
    [
        ({"/": ""}, "invalid specification: destination can't be '/'"),
        ({"x": ""}, "invalid mount path: 'x' mount path must be absolute"),
        ({"/x": "size=1m,lowerdir=/etc"}, 'invalid tmpfs option "lowerdir=/etc"'),
        ({"/x": "bogus"}, 'invalid tmpfs option "bogus"'),
    ],
)
def test_refused_tmpfs(tmpfs: dict[str, str], text: str) -> None:
    assert refusal(tmpfs=tmpfs) == text


# --- mounts of the OCI config -----------------------------------------------------------------------------


def test_the_last_of_contradicting_tmpfs_options_wins() -> None:
    assert tmpfs_mount("/t", "").options == ("noexec", "nosuid", "nodev", "rprivate")
    assert tmpfs_mount("/t", "exec,size=1m,size=2m").options == (
        "nosuid", "nodev", "rprivate", "exec", "size=2m",
    )  # fmt: skip
    assert tmpfs_mount("/t", "defaults,rw,ro,shared").options == ("noexec", "nosuid", "nodev", "ro", "shared")


def test_options_of_binds() -> None:
    point = MountPoint(type="bind", source="/a", destination="/b")
    assert bind_mount(point, "/a").options == ("rbind", "rprivate")
    read_only = MountPoint(type="bind", destination="/b", read_write=False, propagation="rslave")
    assert bind_mount(read_only, "/a").options == ("rbind", "rro", "rslave")
    open_below = MountPoint(type="bind", destination="/b", read_write=False, read_only_non_recursive=True)
    assert bind_mount(open_below, "/a").options == ("rbind", "ro", "rprivate")
    alone = MountPoint(type="bind", destination="/b", read_write=False, non_recursive=True)
    assert bind_mount(alone, "/a").options == ("bind", "ro", "private")


def test_mounts_are_sorted_by_depth() -> None:
    mounts = [SpecMount(d, "bind", "/s") for d in ("/a/b/c", "/z", "/a/b", "/a", "/a/bb/c")]
    assert [m.destination for m in by_depth(mounts)] == ["/z", "/a", "/a/b", "/a/b/c", "/a/bb/c"]


def test_propagation_that_the_root_needs() -> None:
    def mounts(*options: str) -> list[SpecMount]:
        return [SpecMount(f"/{option}", "bind", "/s", ("rbind", option)) for option in options]

    assert rootfs_propagation(mounts("rprivate")) == ""
    assert rootfs_propagation(mounts("rprivate", "rslave")) == "rslave"
    assert rootfs_propagation(mounts("rslave", "rshared")) == "shared"
