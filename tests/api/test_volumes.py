"""Volumes and mounts as clients see them: the routes, and what containers find at their destinations."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
from docker.types import Mount

from proad.host import mounts
from tests.api import steps
from tests.conftest import DockerCli
from tests.strictness import skip_for_lack_of
from tests.support import schema
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api


@pytest.fixture(autouse=True)
def no_volumes_left(daemon: Daemon, clean: None) -> Iterator[None]:
    yield
    daemon.remove_containers()
    for volume in daemon.api("GET", "/volumes").expect(200).json["Volumes"]:
        daemon.api("DELETE", f"/volumes/{volume['Name']}").expect(204)


def output(api: Api, image: str, script: str, **host_config: object) -> str:
    """Run a script to its end and return what it printed, also as errors."""
    made = steps.start(api, image, "sh", "-c", f"({script}) 2>&1", Tty=True, HostConfig=host_config)
    steps.wait_exit(api, made)
    return api("GET", f"/containers/{made}/logs", stdout=True, stderr=True).expect(200).body.decode()


# --- routes -----------------------------------------------------------------------------------------------


def test_create_inspect_list_remove(api: Api, daemon: Daemon) -> None:
    made = api(
        "POST", "/volumes/create", json_body={"Name": "data", "Labels": {"a": "b"}}
    ).expect(201).json  # fmt: skip
    schema.check(made, "Volume")
    assert made["Name"] == "data"
    assert made["Mountpoint"] == f"{daemon.data_root}/volumes/data/_data"
    assert (made["Driver"], made["Scope"], made["Labels"]) == ("local", "local", {"a": "b"})
    assert api("POST", "/volumes/create", json_body={"Name": "data"}).expect(201).json == made
    assert api("GET", "/volumes/data").expect(200).json == made
    listed = api("GET", "/volumes").expect(200).json
    schema.check(listed, "VolumeListResponse")
    assert listed["Volumes"] == [made]
    assert api("GET", "/volumes", filters={"label": ["a=c"]}).expect(200).json["Volumes"] == []
    assert api("DELETE", "/volumes/data").expect(204).body == b""


def test_an_anonymous_volume(api: Api) -> None:
    made = api("POST", "/volumes/create", json_body={}).expect(201).json
    assert len(made["Name"]) == 64
    assert made["Labels"] == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"Name": "../x"}, 400, 'create ../x: "../x" includes invalid characters for a local volume name'),
        ({"Name": "x"}, 400, "volume name is too short"),
        ({"Name": "v1", "Driver": "rexray"}, 404, 'plugin "rexray" not found'),
        ({"Name": "v1", "DriverOpts": {"color": "red"}}, 400, 'create v1: invalid option: "color"'),
        ({"Name": 7}, 400, "Name"),
        ({"Name": "v1", "ClusterVolumeSpec": {}}, 400, "ClusterVolumeSpec"),
    ],
)
def test_refused_creates(api: Api, body: dict[str, Any], status: int, text: str) -> None:
    answer = api("POST", "/volumes/create", json_body=body).expect(status)
    assert text in answer.message


def test_what_is_not_there(api: Api) -> None:
    assert api("GET", "/volumes/nope").expect(404).message == "get nope: no such volume"
    assert api("DELETE", "/volumes/nope").expect(404).message == "get nope: no such volume"
    api("DELETE", "/volumes/nope", force=True).expect(204)
    assert (
        "swarm is unavailable"
        in api("PUT", "/volumes/nope", json_body={}, version="v1.51").expect(503).message
    )
    assert "invalid filter" in api("GET", "/volumes", filters={"color": ["red"]}).expect(400).message
    api("GET", "/volumes", filters="{").expect(400)


def test_prune_spares_named_volumes_from_1_42_on(api: Api) -> None:
    for name in ("data", ""):
        api("POST", "/volumes/create", json_body={"Name": name}).expect(201)
    pruned = api("POST", "/volumes/prune").expect(200).json
    assert [len(name) for name in pruned["VolumesDeleted"]] == [64]
    assert api("POST", "/volumes/prune", version="v1.41").expect(200).json["VolumesDeleted"] == ["data"]


def test_a_volume_in_use(api: Api, image: str) -> None:
    made = steps.create(api, image, HostConfig={"Binds": ["data:/data"]})
    answer = api("DELETE", "/volumes/data").expect(409)
    assert answer.message == f"remove data: volume is in use - [{made}]"
    assert api("GET", "/volumes", filters={"dangling": ["true"]}).expect(200).json["Volumes"] == []
    usage = api("GET", "/system/df", type="volume").expect(200).json["Volumes"]
    assert usage[0]["UsageData"] == {"Size": 0, "RefCount": 1}


def test_events(api: Api, image: str) -> None:
    made = steps.start(api, image, "true", HostConfig={"Binds": ["data:/data:ro"]})
    steps.wait_exit(api, made)
    api("DELETE", f"/containers/{made}", v=True).expect(204)
    api("DELETE", "/volumes/data").expect(204)
    lines = (
        api("GET", "/events", since="0", until=f"{time.time():.9f}", filters={"volume": ["data"]})
        .expect(200)
        .body
    )
    told = [json.loads(line) for line in lines.splitlines()]
    mine = told[-4:]
    assert [event["Action"] for event in mine] == ["create", "mount", "unmount", "destroy"]
    assert mine[1]["Actor"] == {
        "ID": "data",
        "Attributes": {
            "driver": "local",
            "container": made,
            "destination": "/data",
            "read/write": "false",
            "propagation": "",
        },
    }


# --- what containers find ---------------------------------------------------------------------------------


def test_data_outlives_containers(api: Api, image: str) -> None:
    output(api, image, "echo kept > /data/file", Binds=["data:/data"])
    assert output(api, image, "cat /data/file; touch /data/x", Binds=["data:/data:ro"]).splitlines() == [
        "kept",
        "touch: /data/x: Read-only file system",
    ]


def test_image_content_fills_a_new_volume(api: Api, image: str, daemon: Daemon) -> None:
    made = steps.create(api, image, HostConfig={"Binds": ["data:/bin"]}, Volumes={"/etc": {}})
    shown = steps.inspect(api, made)["Mounts"]
    assert {m["Destination"] for m in shown} == {"/bin", "/etc"}
    inside = Path(daemon.data_root / "volumes/data/_data")
    assert (inside / "busybox").stat().st_mode & 0o111
    assert not list(daemon.data_root.glob("volumes/*/_copy"))


def test_binds_and_tmpfs(api: Api, image: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    shown = output(
        api,
        image,
        "cat /b/file; touch /b/new; grep ' /t ' /proc/mounts; stat -c %a /t2; cat /one",
        Binds=[f"{tmp_path}:/b", f"{tmp_path}/file:/one:ro"],
        Tmpfs={"/t": "size=1m,exec"},
        Mounts=[{"Type": "tmpfs", "Target": "/t2", "TmpfsOptions": {"Mode": 0o700, "SizeBytes": 1 << 20}}],
    )
    lines = shown.splitlines()
    assert lines[0] == lines[3] == "from the host"
    assert "size=1024k" in lines[1]
    assert "noexec" not in lines[1]
    assert lines[2] == "700"
    assert (tmp_path / "new").exists()


def test_mounts_lie_on_each_other_whatever_their_order(api: Api, image: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    binds = [f"{tmp_path}/b:/x/y/z", f"{tmp_path}/a:/x"]
    assert output(api, image, "ls /x /x/y/z", Binds=binds).split() == ["/x:", "a", "y", "/x/y/z:", "b"]


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, "below Read-only"),
        ({"ReadOnlyNonRecursive": True}, "below written"),
        ({"ReadOnlyForceRecursive": True}, "below Read-only"),
        ({"NonRecursive": True}, "Read-only"),
    ],
)
def test_what_is_mounted_below_a_read_only_bind(
    api: Api, image: str, submount: Path, runtime: str, options: dict[str, bool], found: str
) -> None:
    if shutil.which(runtime) is None:
        skip_for_lack_of(runtime)
    mount = {"Type": "bind", "Source": str(submount.parent), "Target": "/m", "ReadOnly": True}
    script = "ls /m/sub; touch /m/sub/new && echo written"
    shown = output(api, image, script, Mounts=[{**mount, "BindOptions": options}], Runtime=runtime)
    for word in ("below", "Read-only", "written"):
        assert (word in shown) == (word in found.split()), shown


@pytest.fixture
def submount(tmp_path: Path) -> Iterator[Path]:
    """A file system mounted inside the directory that a container binds."""
    path = tmp_path / "source/sub"
    mounts.mount_tmpfs(path)
    (path / "below").touch()
    yield path
    assert mounts.unmount_now(path)


def test_volumes_from(api: Api, image: str) -> None:
    donor = steps.create(api, image, name="donor", Volumes={"/own": {}}, HostConfig={"Binds": ["data:/data"]})
    assert output(api, image, "touch /own/x /data/x; ls /own /data", VolumesFrom=["donor:ro"]).splitlines()[
        :2
    ] == [
        "touch: /own/x: Read-only file system",
        "touch: /data/x: Read-only file system",
    ]
    refused = {"Image": image, "HostConfig": {"VolumesFrom": ["nobody"]}}
    assert api("POST", "/containers/create", json_body=refused).expect(400).message == (
        "No such container: nobody"
    )
    api("DELETE", f"/containers/{donor}", v=True).expect(204)


def test_anonymous_volumes_go_with_auto_remove_and_rm_v(api: Api, image: str) -> None:
    kept = steps.create(api, image, Volumes={"/v": {}})
    api("DELETE", f"/containers/{kept}").expect(204)
    assert len(api("GET", "/volumes").json["Volumes"]) == 1
    gone = steps.create(api, image, Volumes={"/v": {}})
    api("DELETE", f"/containers/{gone}", v=True).expect(204)
    steps.start(api, image, "true", Volumes={"/v": {}}, HostConfig={"AutoRemove": True})
    steps.until(lambda: len(api("GET", "/volumes").json["Volumes"]) == 1)


def test_a_subpath(api: Api, image: str) -> None:
    output(api, image, "mkdir -p /data/in/side; echo deep > /data/in/side/file", Binds=["data:/data"])
    mount = {"Type": "volume", "Source": "data", "Target": "/s", "VolumeOptions": {"Subpath": "in/side"}}
    assert output(api, image, "cat /s/file", Mounts=[mount]).strip() == "deep"
    mount["VolumeOptions"] = {"Subpath": "nowhere"}
    made = steps.create(api, image, HostConfig={"Mounts": [mount]})
    assert "cannot access path" in api("POST", f"/containers/{made}/start").expect(400).message


def test_a_volume_with_options(api: Api, image: str, daemon: Daemon) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=3m,mode=1777"}
    api("POST", "/volumes/create", json_body={"Name": "ram", "DriverOpts": options}).expect(201)
    made = steps.start(api, image, HostConfig={"Binds": ["ram:/r"]})
    mounted = f"{daemon.data_root}/volumes/ram/_data"
    assert mounted in Path("/proc/mounts").read_text()
    daemon.kill()
    daemon.start()
    assert api("DELETE", "/volumes/ram").expect(409)
    assert mounted in Path("/proc/mounts").read_text()
    api("DELETE", f"/containers/{made}", force=True).expect(204)
    assert mounted not in Path("/proc/mounts").read_text()


@pytest.mark.parametrize(
    ("host_config", "text"),
    [
        ({"Binds": ["/a:/b:bad"]}, "invalid mode: bad"),
        ({"Binds": ["/a:/b", "/c:/b"]}, "Duplicate mount point: /b"),
        (
            {"Mounts": [{"Type": "bind", "Source": "/not/there", "Target": "/b"}]},
            'invalid mount config for type "bind": bind source path does not exist: /not/there',
        ),
        (
            {"Mounts": [{"Type": "volume", "Target": "/b", "ReadOnly": True}]},
            'invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes',
        ),
        ({"Tmpfs": {"/": ""}}, "invalid specification: destination can't be '/'"),
    ],
)
def test_refused_containers_leave_no_volume(
    api: Api, image: str, host_config: dict[str, Any], text: str
) -> None:
    body = {"Image": image, "Volumes": {"/v": {}}, "HostConfig": host_config}
    assert text in api("POST", "/containers/create", json_body=body).expect(400).message
    assert api("GET", "/volumes").expect(200).json["Volumes"] == []


def test_a_hostile_image_cannot_lead_a_mount_out(api: Api, image: str, tmp_path: Path) -> None:
    """A container that made its own destination a symlink to the host's files mounts nothing there."""
    victim = tmp_path / "victim"
    victim.mkdir()
    made = steps.start(
        api, image, "sh", "-c", f"ln -s {victim} /data", HostConfig={"Binds": ["data:/data/in"]}
    )
    steps.wait_exit(api, made)
    api("POST", f"/containers/{made}/start")
    steps.wait_exit(api, made)
    assert list(victim.iterdir()) == []


# --- clients ----------------------------------------------------------------------------------------------


def test_docker_cli(docker: DockerCli, image: str) -> None:
    assert docker("volume", "create", "data").stdout == b"data\n"
    assert docker("run", "--rm", "-v", "data:/d", image, "sh", "-c", "echo hi > /d/f").returncode == 0
    assert docker("run", "--rm", "--mount", "src=data,dst=/d,ro", image, "cat", "/d/f").stdout == b"hi\n"
    missing = docker("run", "--rm", "--mount", "type=bind,src=/not/there,dst=/d", image, "true")
    assert missing.returncode == 125
    assert b"bind source path does not exist: /not/there" in missing.stderr
    assert docker("volume", "ls", "-q").stdout == b"data\n"
    assert docker("volume", "prune", "--all", "--force").stdout.startswith(b"Deleted Volumes:\ndata\n")


def test_docker_py(docker_client: docker_py.DockerClient, image: str) -> None:
    volume = docker_client.volumes.create("data", labels={"a": "b"})
    assert volume.attrs["Labels"] == {"a": "b"}
    mount = Mount("/d", "data", type="volume")
    docker_client.containers.run(image, ["sh", "-c", "echo hi > /d/f"], mounts=[mount], remove=True)
    read = docker_client.containers.run(
        image, ["cat", "/d/f"], volumes={"data": {"bind": "/d", "mode": "ro"}}, remove=True
    )
    assert read == b"hi\n"
    volume.remove()
    with pytest.raises(docker_py.errors.NotFound):
        docker_client.volumes.get("data")
