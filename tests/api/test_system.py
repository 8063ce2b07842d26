"""Dialogues about the daemon itself: ping, version, info, disk usage, and what it does not have."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api import steps
from tests.support import schema
from tests.support.archives import Item, docker_archive, make_tar, oci_layout
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.rawhttp import Api

PING_HEADERS = {
    "Api-Version": "1.51",
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Content-Type": "text/plain; charset=utf-8",
}


@pytest.mark.parametrize("version", ["", "v1.51", "v1.22"])
def test_ping(api: Api, version: str) -> None:
    answer = api("GET", "/_ping", version=version).expect(200)
    assert answer.body == b"OK"
    assert {name: answer.headers[name] for name in PING_HEADERS} == PING_HEADERS


def test_ping_by_head_has_the_headers_and_no_body(api: Api) -> None:
    answer = api("HEAD", "/_ping", version="").expect(200)
    assert answer.body == b""
    assert {name: answer.headers[name] for name in PING_HEADERS} == PING_HEADERS


def test_version(api: Api) -> None:
    answer = api("GET", "/version").expect(200)
    schema.check_answer("GET", "/version", 200, answer.json)
    assert (answer.json["ApiVersion"], answer.json["MinAPIVersion"]) == ("1.51", "1.22")
    assert answer.json["KernelVersion"] == os.uname().release
    assert answer.json["Components"][0]["Name"] == "Engine"
    assert answer.json["Version"]


@pytest.mark.parametrize("version", ["1.21", "1.12", "0.9"])
def test_too_old_versions_are_refused(api: Api, version: str) -> None:
    assert api("GET", "/info", version=f"v{version}").expect(400).message == (
        f"client version {version} is too old. Minimum supported API version is 1.22, "
        "please upgrade your client to a newer version"
    )


def test_too_new_versions_are_refused(api: Api) -> None:
    assert api("GET", "/info", version="v1.52").expect(400).message == (
        "client version 1.52 is too new. Maximum supported API version is 1.51"
    )


def test_info_is_true(api: Api, daemon: Daemon, image: str) -> None:
    steps.create(api, image)
    running = steps.start(api, image)
    paused = steps.start(api, image)
    api("POST", f"/containers/{paused}/pause").expect(204)
    info = api("GET", "/info").expect(200).json
    schema.check_answer("GET", "/info", 200, info)
    assert (info["Containers"], info["ContainersRunning"]) == (3, 1)
    assert (info["ContainersPaused"], info["ContainersStopped"]) == (1, 1)
    assert info["Images"] == 1
    assert info["Name"] == socket.gethostname()
    assert info["DockerRootDir"] == str(daemon.data_root)
    assert info["NCPU"] == len(os.sched_getaffinity(0))
    assert info["MemTotal"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert info["Driver"] == "overlay2"
    assert info["CgroupVersion"] in ("1", "2")
    assert info["DefaultRuntime"] in info["Runtimes"]
    assert info["SystemTime"].startswith("20")
    api("DELETE", f"/containers/{running}", force=True).expect(204)


def test_info_keeps_its_id_across_restarts(make_daemon: Callable[..., Daemon]) -> None:
    private = make_daemon()
    private.start()
    before = private.api("GET", "/info").json["ID"]
    private.restart()
    assert private.api("GET", "/info").json["ID"] == before


def test_disk_usage(api: Api, image: str) -> None:
    made = steps.start(api, image, "sh", "-c", "head -c 100000 /dev/zero >/file")
    steps.wait_exit(api, made)
    usage = api("GET", "/system/df").expect(200).json
    schema.check_answer("GET", "/system/df", 200, usage)
    [container] = usage["Containers"]
    assert container["Id"] == made
    assert 100_000 <= container["SizeRw"] < 200_000
    assert usage["LayersSize"] > usage["Images"][0]["Size"] > 100_000


def test_disk_usage_is_what_du_says(make_daemon: Callable[..., Daemon]) -> None:
    """Layers and blobs once, however many images have them; volumes; what a container wrote."""
    daemon = make_daemon().start()
    api, headers = daemon.api, {"Content-Type": "application/x-tar"}
    base, top = (make_tar([Item(name, os.urandom(3 << 20))]) for name in ("base", "top"))
    for layers, tag in (([busybox_tar(), base], "base:1"), ([busybox_tar(), base, top], "top:1")):
        for archive in (
            oci_layout(layers, f"docker.io/library/{tag}"),
            docker_archive(layers, [f"again/{tag}"]),
        ):
            api("POST", "/images/load", body=archive, headers=headers).expect(200)
    made = steps.start(
        api, "top:1", "sh", "-c", "for f in /file /data/file; do head -c 2000000 /dev/urandom >$f; done",
        HostConfig={"Binds": ["data:/data"]},
    )  # fmt: skip
    steps.wait_exit(api, made)
    usage = api("GET", "/system/df").expect(200).json
    root = daemon.data_root
    assert usage["LayersSize"] == pytest.approx(du(root / "layers", root / "blobs"), rel=0.02)
    sizes = {item["RepoTags"][-1]: (item["Size"], item["SharedSize"]) for item in usage["Images"]}
    assert sizes["top:1"][0] - sizes["base:1"][0] == 3 << 20
    assert sizes["top:1"][1] == sizes["base:1"][1] == sizes["base:1"][0]
    [container], [volume] = usage["Containers"], usage["Volumes"]
    upper = steps.inspect(api, made)["GraphDriver"]["Data"]["UpperDir"]
    assert container["SizeRw"] == pytest.approx(du(upper), rel=0.02)
    assert container["SizeRootFs"] - container["SizeRw"] == sizes["top:1"][0]
    assert volume["UsageData"]["Size"] == pytest.approx(du(volume["Mountpoint"]), rel=0.02)
    api("DELETE", f"/containers/{made}").expect(204)
    pruned = api("POST", "/images/prune", filters={"dangling": ["false"]}).expect(200).json
    assert pruned["SpaceReclaimed"] == usage["LayersSize"]
    assert api("GET", "/system/df", type="image").json == {"LayersSize": 0, "Images": []}


def du(*paths: Path | str) -> int:
    """Bytes of the files below."""
    said = subprocess.run(["du", "-sbc", *paths], capture_output=True, text=True, check=True).stdout
    return int(said.splitlines()[-1].split()[0])


def test_disk_usage_of_some_kinds(api: Api) -> None:
    assert set(api("GET", "/system/df", type="volume").expect(200).json) == {"Volumes"}
    assert api("GET", "/system/df", type="nonsense").expect(400).message == "unknown object type: nonsense"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/nothing"), ("PUT", "/info"), ("POST", "/containers/json")]
)
def test_unknown_paths(api: Api, method: str, path: str) -> None:
    assert api(method, path).expect(404).json == {"message": "page not found"}


@pytest.mark.parametrize(
    "path", ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/nodes/x"]
)
def test_swarm_routes_answer_as_a_plain_node(api: Api, path: str) -> None:
    assert api("GET", path).expect(503).message.startswith("This node is not a swarm manager.")


def test_plugins(api: Api) -> None:
    assert api("GET", "/plugins").expect(200).json == []
    assert api("GET", "/plugins/some/where/json").expect(404).message == 'plugin "some/where" not found'
    assert api("POST", "/plugins/some/enable").expect(404).message == 'plugin "some" not found'


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/session"),
    ],
)  # fmt: skip
def test_known_routes_that_are_not_there_say_so(api: Api, method: str, path: str) -> None:
    answer = api(method, path).expect(501)
    assert "does not have" in answer.message
    assert answer.message.startswith(method)


def test_every_route_of_the_reference_is_known(api: Api) -> None:
    unknown = []
    for method, path in schema.routes():
        # A registry that is asked about an image is one that refuses connections.
        name = "127.0.0.1:1/nosuch" if path.startswith("/distribution") else "nosuch"
        answer = (
            api(method, path.replace("{id}", "nosuch").replace("{name}", name), timeout_s=5)
            if (path != "/events")
            else api("GET", "/events", until="1")
        )
        if answer.status == 404 and method != "HEAD" and answer.message == "page not found":
            unknown.append((method, path))
        assert answer.status != 500 or "connection refused" in answer.message, (method, path, answer.body)
    assert not unknown


def test_two_requests_on_one_connection(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(daemon.socket))
        for _ in range(2):
            raw.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_garbage_is_refused_and_the_daemon_goes_on(daemon: Daemon, api: Api) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(daemon.socket))
        raw.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.0 400")
    assert api("GET", "/_ping").status == 200
