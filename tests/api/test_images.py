"""Images over the API: through raw HTTP, docker-py and the docker CLI, on a real daemon."""

import gzip
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker as docker_py
import pytest
import zstandard

from tests.api import steps
from tests.conftest import DockerCli
from tests.support import schema
from tests.support.archives import (
    Item,
    directory,
    docker_archive,
    image_config,
    legacy_archive,
    make_tar,
    oci_layout,
    sha256,
    symlink,
)
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.rawhttp import Answer, Api

LOW = make_tar([directory("etc"), Item("etc/low", b"low"), Item("etc/both", b"low")])
HIGH = make_tar([Item("etc/.wh.both"), Item("etc/high", b"high")])
OTHER = make_tar([Item("other", b"x" * 100)])


@pytest.fixture(autouse=True)
def _no_images(daemon: Daemon) -> Iterator[None]:
    """Leave no image behind: after that no layer and no blob may be left either."""
    yield
    daemon.remove_containers()
    for image in daemon.api("GET", "/images/json", all=True).json:
        daemon.api("DELETE", f"/images/{image['Id']}", force=True).expect(200)
    assert files(daemon) == set()


def files(daemon: Daemon) -> set[str]:
    """Layers, blobs and unfinished work on the disk."""
    root = daemon.data_root
    return {
        str(path.relative_to(root))
        for folder in ("layers", "blobs/sha256", "tmp")
        for path in (root / folder).iterdir()
    }


def import_tar(api: Api, archive: bytes, **query: object) -> str:
    """Import; returns the image's id."""
    answer = post_tar(api, "/images/create", archive, fromSrc="-", **query).expect(200)
    status: str = json.loads(answer.body)["status"]
    return status


def post_tar(api: Api, path: str, archive: bytes, **query: object) -> Answer:
    return api("POST", path, body=archive, headers={"Content-Type": "application/x-tar"}, **query)


def load(api: Api, archive: bytes, **query: object) -> list[dict[str, object]]:
    """Load; returns the lines of progress."""
    answer = post_tar(api, "/images/load", archive, **query).expect(200)
    return [json.loads(line) for line in answer.body.splitlines()]


def events_since(api: Api, begin: float) -> list[tuple[str, str, dict[str, str]]]:
    lines = api(
        "GET", "/events", since=f"{begin:.9f}", until=f"{time.time():.9f}", filters={"type": ["image"]}
    ).body.splitlines()
    told = [json.loads(line) for line in lines]
    return [(event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]) for event in told]


# --- import -------------------------------------------------------------------------------------------------


def test_import_makes_an_image_with_changes(api: Api) -> None:
    begin = time.time()
    image_id = import_tar(
        api, LOW, repo="made", tag="here", message="by hand", changes='CMD ["x"]\nENV A=1\nLABEL k=v',
        platform="linux/arm64/v8",
    )  # fmt: skip
    shown = api("GET", "/images/made:here/json").expect(200).json
    schema.check_answer("GET", "/images/made/json", 200, shown)
    assert shown["Id"] == image_id
    assert shown["RepoTags"] == ["made:here"]
    assert (shown["Os"], shown["Architecture"], shown["Variant"]) == ("linux", "arm64", "v8")
    assert shown["Comment"] == "by hand"
    assert shown["Config"]["Cmd"] == ["x"]
    assert shown["Config"]["Env"] == ["A=1"]
    assert shown["RootFS"]["Layers"] == [sha256(LOW)]
    assert shown["Size"] == 6
    attributes = {"k": "v", "name": "made:here"}
    assert events_since(api, begin) == [
        ("tag", image_id, attributes),
        ("import", image_id, {**attributes, "name": image_id}),
    ]


def test_import_without_a_name_is_dangling(api: Api) -> None:
    image_id = import_tar(api, OTHER)
    (listed,) = api("GET", "/images/json", filters={"dangling": ["true"]}).json
    assert (listed["Id"], listed["RepoTags"]) == (image_id, [])


def test_import_takes_compressed_archives(api: Api) -> None:
    for archive in (gzip.compress(LOW), zstandard.compress(LOW)):
        image_id = import_tar(api, archive)
        assert api("GET", f"/images/{image_id}/json").json["RootFS"]["Layers"] == [sha256(LOW)]


@pytest.mark.parametrize(
    ("archive", "query", "status", "text"),
    [
        (make_tar([Item("../x")]), {}, 400, "leads out"),
        (b"nonsense" * 200, {}, 400, "not a tar archive"),
        (LOW, {"repo": "Upper"}, 400, "must be lowercase"),
        (LOW, {"repo": "a", "tag": "b c"}, 400, "invalid tag"),
        (LOW, {"changes": "RUN x"}, 400, "run is not a valid change command"),
        (LOW, {"platform": "windows/amd64"}, 400, "not supported"),
        (LOW, {"platform": "a/b/c/d"}, 400, "invalid OS"),
        (LOW, {"fromSrc": "http://127.0.0.1:1/x.tar"}, 500, "connection refused"),
        (LOW, {"fromSrc": ""}, 400, "fromSrc"),
        (b"", {"fromImage": "scratch"}, 403, "'scratch' is a reserved name"),
        (b"", {"fromImage": "UPPER"}, 400, "must be lowercase"),
    ],
)
def test_import_refuses(
    api: Api, daemon: Daemon, archive: bytes, query: dict[str, str], status: int, text: str
) -> None:
    answer = post_tar(api, "/images/create", archive, **{"fromSrc": "-", **query})
    assert answer.status == status
    assert text in answer.json["message"]
    assert files(daemon) == set()


def test_body_that_breaks_off_makes_no_image(api: Api, daemon: Daemon) -> None:
    """What came is a whole archive; what was announced is more."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.sendall(
            b"POST /images/create?fromSrc=-&repo=half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            + LOW
        )
        steps.until(lambda: any(name.startswith("tmp/") for name in files(daemon)))
    steps.until(lambda: not files(daemon))
    assert api("GET", "/images/json").json == []


# --- load ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"]
)
@pytest.mark.parametrize("form", ["docker", "legacy", "oci"])
def test_load_takes_archives(api: Api, form: str, compress: "type[bytes]") -> None:
    begin = time.time()
    archives = {
        "docker": docker_archive([LOW, HIGH], ["two:1"], Cmd=["x"]),
        "legacy": legacy_archive([LOW, HIGH], ["two:1"], Cmd=["x"]),
        "oci": oci_layout([LOW, HIGH], "docker.io/library/two:1", Cmd=["x"]),
    }
    archive = archives[form]
    lines = load(api, compress(archive), quiet=False)
    assert lines[-1] == {"stream": "Loaded image: two:1\n"}
    progress = [line for line in lines if line.get("status") == "Loading layer"]
    assert {line["id"] for line in progress} == {sha256(LOW)[7:19], sha256(HIGH)[7:19]}
    for line in lines:
        schema.check(line, "CreateImageInfo") if "status" in line else None
    shown = api("GET", "/images/two:1/json").expect(200).json
    assert shown["Id"] == sha256(image_config([LOW, HIGH], Cmd=["x"]))
    assert shown["RootFS"]["Layers"] == [sha256(LOW), sha256(HIGH)]
    assert [action for action, *_ in events_since(api, begin)] == ["load"]


def test_loading_twice_changes_nothing(api: Api, daemon: Daemon) -> None:
    archive = docker_archive([LOW, HIGH], ["two:1"])
    load(api, archive)
    before = files(daemon)
    assert load(api, archive, quiet=False) == [{"stream": "Loaded image: two:1\n"}]
    assert files(daemon) == before


def test_load_without_names_tells_ids(api: Api) -> None:
    (line,) = load(api, docker_archive([LOW], []))
    assert line == {"stream": f"Loaded image ID: {sha256(image_config([LOW]))}\n"}


def test_load_takes_a_name_from_the_image_that_had_it(api: Api) -> None:
    load(api, docker_archive([LOW], ["x:1"]))
    first, second = load(api, docker_archive([OTHER], ["x:1"]))
    assert "already exists, renaming the old one" in str(first["stream"])
    assert second == {"stream": "Loaded image: x:1\n"}
    assert len(api("GET", "/images/json", filters={"dangling": ["true"]}).json) == 1


@pytest.mark.parametrize(
    ("archive", "text"),
    [
        (b"nonsense" * 200, "not a tar archive"),
        (make_tar([Item("x")]), "neither a manifest.json"),
        (make_tar([Item("../manifest.json", b"[]")]), "leads out"),
        (make_tar([Item("manifest.json", b"null")]), "cannot be null"),
        (make_tar([Item("manifest.json", b"[]")]), "holds no image"),
        (make_tar([Item("manifest.json", b'[{"Config": "../../etc/passwd"}]')]), "lacks the file"),
        (
            make_tar([symlink("c.json", "/etc/passwd"), Item("manifest.json", b'[{"Config": "c.json"}]')]),
            "lacks the file",
        ),
        (docker_archive([b"junk" * 1000], ["x:y"]), "not a tar archive"),
        (docker_archive([LOW, make_tar([Item("../x")])], ["x:y"]), "leads out"),
        (docker_archive([LOW], ["Upper:y"]), "must be lowercase"),
    ],
)  # fmt: skip
def test_load_tells_errors_in_the_stream_and_leaves_nothing(
    api: Api, daemon: Daemon, archive: bytes, text: str
) -> None:
    last = load(api, archive)[-1]
    assert text in str(last["error"])
    assert last["errorDetail"] == {"message": last["error"]}
    assert api("GET", "/images/json").json == []
    assert files(daemon) == set()


def test_load_checks_what_a_layer_is(api: Api) -> None:
    manifest = [{"Config": "c.json", "RepoTags": ["x:y"], "Layers": ["l.tar"]}]
    archive = make_tar(
        [
            Item("c.json", image_config([LOW])),
            Item("l.tar", OTHER),
            Item("manifest.json", json.dumps(manifest).encode()),
        ]
    )
    assert "invalid diffID for layer 0" in str(load(api, archive)[-1]["error"])


def test_load_checks_the_digests_of_a_layout(api: Api) -> None:
    archive = oci_layout([LOW], "docker.io/library/x:y").replace(b'"architecture"', b'"Architecture"')
    assert "has the digest" in str(load(api, archive)[-1]["error"])


def test_layers_are_shared_and_counted_once(api: Api, daemon: Daemon) -> None:
    load(api, docker_archive([LOW], ["one:1"]))
    load(api, docker_archive([LOW, HIGH], ["two:1"]))
    assert len(os.listdir(daemon.data_root / "layers")) == 2
    listed = api("GET", "/images/json", **{"shared-size": True}).json
    assert {item["RepoTags"][0]: item["SharedSize"] for item in listed} == {"one:1": 6, "two:1": 6}
    deleted = api("DELETE", "/images/two:1").expect(200).json
    assert [set(item) for item in deleted] == [{"Untagged"}, {"Deleted"}, {"Deleted"}]
    assert len(os.listdir(daemon.data_root / "layers")) == 1


def test_layer_removed_by_hand_comes_back_with_the_image(api: Api, daemon: Daemon) -> None:
    archive = docker_archive([LOW, HIGH], ["two:1"])
    load(api, archive)
    lowest = daemon.data_root / "layers" / sha256(LOW)[7:]
    subprocess.run(["rm", "-rf", lowest / "diff"], check=True)
    load(api, archive)
    assert (lowest / "diff/etc/low").read_bytes() == b"low"


# --- list, inspect, history ---------------------------------------------------------------------------------


def names(api: Api, **query: object) -> list[str]:
    listed = api("GET", "/images/json", **query).expect(200).json
    return [tag for item in listed for tag in item["RepoTags"]]


def test_list_filters(api: Api) -> None:
    load(api, docker_archive([LOW], ["old/one:1"], Labels={"k": "v", "x": ""}))
    import_tar(api, OTHER, repo="new", changes="LABEL k=w")
    import_tar(api, HIGH)
    assert names(api) == ["new:latest", "old/one:1"]
    assert len(api("GET", "/images/json").json) == 3
    assert names(api, filters={"reference": ["n*"]}) == ["new:latest"]
    assert names(api, filters={"reference": ["old/*:1"]}) == ["old/one:1"]
    assert names(api, filters={"label": ["k"]}) == ["new:latest", "old/one:1"]
    assert names(api, filters={"label": ["k=v", "x"]}) == ["old/one:1"]
    assert names(api, filters={"before": ["new"]}) == ["old/one:1"]
    assert names(api, filters={"since": ["old/one:1"]}) == ["new:latest"]
    assert names(api, filters={"until": ["2024-06-01"]}) == ["old/one:1"]
    assert names(api, filters={"dangling": ["false"]}) == ["new:latest", "old/one:1"]
    assert names(api, filters={"dangling": ["true"]}) == []
    assert names(api, version="v1.24", filter="new") == ["new:latest"]
    schema.check_answer("GET", "/images/json", 200, api("GET", "/images/json", manifests=True).json)
    (shown,) = api("GET", "/images/json", manifests=True, filters={"reference": ["new"]}).json
    assert shown["Manifests"][0]["Available"]


@pytest.mark.parametrize(
    ("filters", "status"),
    [
        ({"nonsense": ["x"]}, 400),
        ({"dangling": ["maybe"]}, 400),
        ({"before": ["missing"]}, 404),
        ({"until": ["x"]}, 400),
    ],
)
def test_list_refuses(api: Api, filters: dict[str, list[str]], status: int) -> None:
    assert api("GET", "/images/json", filters=filters).status == status


def test_images_are_found_by_all_their_names(api: Api) -> None:
    image_id = import_tar(api, OTHER, repo="found")
    bare = image_id.removeprefix("sha256:")
    for name in (
        "found",
        "found:latest",
        "docker.io/library/found",
        image_id,
        bare,
        bare[:12],
        f"sha256:{bare[:5]}",
    ):
        assert api("GET", f"/images/{name}/json").expect(200).json["Id"] == image_id
    for name, text in (
        ("found:other", "No such image: found:other"),
        ("missing", "No such image: missing:latest"),
    ):
        answer = api("GET", f"/images/{name}/json")
        assert (answer.status, answer.json["message"]) == (404, text)
    assert api("GET", "/images/Up_Per/json").status == 400


def test_older_versions_show_older_fields(api: Api) -> None:
    import_tar(api, OTHER, repo="x")
    old = api("GET", "/images/x/json", version="v1.43").json
    assert old["VirtualSize"] == old["Size"] == 100
    assert "ContainerConfig" in old
    assert "Hostname" in old["Config"]
    assert "Descriptor" not in old
    assert "VirtualSize" in api("GET", "/images/json", version="v1.43").json[0]
    new = api("GET", "/images/x/json").json
    assert "Descriptor" in new
    assert "ContainerConfig" in new  # docker-compose 1.29 asks for the newest version and needs it
    assert "Container" not in new


def test_history_counts_sizes_of_layers(api: Api) -> None:
    load(api, docker_archive([LOW, HIGH], ["two:1"]))
    layers = api("GET", "/images/two:1/history").expect(200).json
    schema.check_answer("GET", "/images/two:1/history", 200, layers)
    assert [(step["CreatedBy"], step["Size"]) for step in layers] == [("step 1", 4), ("step 0", 6)]
    assert layers[0]["Tags"] == ["two:1"]


def test_platform_that_does_not_match_is_not_found(api: Api) -> None:
    import_tar(api, OTHER, repo="x", platform="linux/s390x")
    wanted = json.dumps({"os": "linux", "architecture": "s390x"})
    assert api("GET", "/images/x/json", platform=wanted).status == 200
    answer = api("GET", "/images/x/json", platform='{"os": "linux", "architecture": "amd64"}')
    assert answer.status == 404
    assert "does not match the specified platform" in answer.json["message"]


# --- tag, remove, prune -------------------------------------------------------------------------------------


def test_tag_gives_one_more_name(api: Api) -> None:
    image_id = import_tar(api, OTHER, repo="x")
    begin = time.time()
    assert api("POST", "/images/x/tag", repo="localhost:5000/y", tag="2").status == 201
    assert names(api) == ["x:latest", "localhost:5000/y:2"]
    assert events_since(api, begin) == [("tag", image_id, {"name": "localhost:5000/y:2"})]
    assert api("POST", "/images/missing/tag", repo="y").status == 404
    assert api("POST", "/images/x/tag", repo="").status == 400
    assert api("POST", "/images/x/tag", repo="sha256").status == 400


def test_remove_takes_names_first(api: Api) -> None:
    image_id = import_tar(api, OTHER, repo="x")
    api("POST", "/images/x/tag", repo="y").expect(201)
    begin = time.time()
    assert api("DELETE", "/images/x").expect(200).json == [{"Untagged": "x:latest"}]
    gone = api("DELETE", "/images/y").expect(200).json
    schema.check_answer("DELETE", "/images/y", 200, gone)
    assert gone == [{"Untagged": "y:latest"}, {"Deleted": image_id}, {"Deleted": sha256(OTHER)}]
    assert [action for action, *_ in events_since(api, begin)] == ["untag", "untag", "delete"]
    assert api("DELETE", "/images/y").json["message"] == "No such image: y:latest"


def test_remove_by_id_asks_for_force_where_there_are_more_names(api: Api) -> None:
    image_id = import_tar(api, OTHER, repo="x")
    api("POST", "/images/x/tag", repo="y").expect(201)
    answer = api("DELETE", f"/images/{image_id}")
    assert answer.status == 409
    assert answer.json["message"] == (
        f"conflict: unable to delete {image_id[7:19]} (must be forced) - "
        "image is referenced in multiple repositories"
    )
    gone = api("DELETE", f"/images/{image_id[7:19]}", force=True).expect(200).json
    assert gone[:3] == [{"Untagged": "x:latest"}, {"Untagged": "y:latest"}, {"Deleted": image_id}]


def test_remove_of_what_containers_use(api: Api, daemon: Daemon) -> None:
    image_id = import_tar(api, busybox_tar(), repo="used", changes='CMD ["sleep", "1000"]')
    container = (
        api("POST", "/containers/create", json_body={"Image": "used", "StopSignal": "KILL"})
        .expect(201)
        .json["Id"]
    )
    short, used = image_id[7:19], container[:12]
    answer = api("DELETE", "/images/used")
    assert (answer.status, answer.json["message"]) == (
        409,
        f'conflict: unable to remove repository reference "used" (must force) - '
        f"container {used} is using its referenced image {short}",
    )
    answer = api("DELETE", f"/images/{image_id}")
    assert answer.json["message"] == (
        f"conflict: unable to delete {short} (must be forced) - "
        f"image is being used by stopped container {used}"
    )
    api("POST", f"/containers/{container}/start").expect(204)
    answer = api("DELETE", f"/images/{image_id}", force=True)
    assert (answer.status, answer.json["message"]) == (
        409,
        f"conflict: unable to delete {short} (cannot be forced) - "
        f"image is being used by running container {used}",
    )
    api("POST", f"/containers/{container}/kill").expect(204)
    api("POST", f"/containers/{container}/wait").expect(200)
    assert {"Deleted": image_id} in api("DELETE", f"/images/{image_id}", force=True).expect(200).json
    # The container still has its layers, and can be started.
    api("POST", f"/containers/{container}/start").expect(204)
    api("DELETE", f"/containers/{container}", force=True).expect(204)
    import_tar(api, OTHER, repo="last")
    api("DELETE", "/images/last").expect(200)
    assert files(daemon) == set()


def test_prune_removes_what_nobody_names_or_uses(api: Api, daemon: Daemon) -> None:
    import_tar(api, OTHER)
    import_tar(api, LOW, repo="named", changes="LABEL keep=yes")
    import_tar(api, busybox_tar(), repo="used")
    api("POST", "/containers/create", json_body={"Image": "used", "Cmd": ["true"]}).expect(201)
    begin, in_store = time.time(), stored_bytes(daemon)
    pruned = api("POST", "/images/prune").expect(200).json
    schema.check_answer("POST", "/images/prune", 200, pruned)
    assert pruned["SpaceReclaimed"] == in_store - stored_bytes(daemon) > 100
    assert [action for action, *_ in events_since(api, begin)] == ["delete", "prune"]
    assert names(api) == ["used:latest", "named:latest"]
    everything = {"dangling": ["false"]}
    kept = api("POST", "/images/prune", filters={**everything, "label!": ["keep=yes"]}).json
    assert not kept["ImagesDeleted"]
    assert api("POST", "/images/prune", filters={**everything, "until": ["1h"]}).json["SpaceReclaimed"] == 0
    in_store = stored_bytes(daemon)
    pruned = api("POST", "/images/prune", filters=everything).json
    assert pruned["SpaceReclaimed"] == in_store - stored_bytes(daemon) > 6
    assert names(api) == ["used:latest"]
    assert api("POST", "/images/prune", filters={"reference": ["x"]}).status == 400


def stored_bytes(daemon: Daemon) -> int:
    """Of the files of all layers, and of all blobs."""
    places = (daemon.data_root / "blobs", *(daemon.data_root / "layers").glob("*/diff"))
    return sum(path.lstat().st_size for place in places for path in place.rglob("*") if path.is_file())


# --- running what was loaded --------------------------------------------------------------------------------


def test_layers_lie_over_each_other_in_a_container(api: Api, docker: DockerCli) -> None:
    load(api, docker_archive([busybox_tar(), LOW, HIGH], ["stack:1"]))
    shown = docker("run", "--rm", "stack:1", "ls", "/etc")
    assert shown.returncode == 0, shown.stderr
    found = set(shown.stdout.split())
    assert {b"low", b"high"} <= found
    assert b"both" not in found


def test_docker_cli(docker: DockerCli, tmp_path: Path) -> None:
    (tmp_path / "root.tar.gz").write_bytes(gzip.compress(busybox_tar()))
    made = docker(
        "import",
        "--message",
        "hello",
        "--change",
        'CMD ["echo", "ran"]',
        str(tmp_path / "root.tar.gz"),
        "cli:1",
    )
    assert made.returncode == 0, made.stderr
    assert docker("run", "--rm", "cli:1").stdout == b"ran\n"
    assert docker("tag", "cli:1", "cli:2").returncode == 0
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert sorted(listed) == [b"cli:1", b"cli:2"]
    assert b"hello" in docker("history", "cli:1").stdout
    (tmp_path / "saved.tar").write_bytes(docker_archive([LOW, HIGH], ["loaded:1"]))
    assert docker("load", "-i", str(tmp_path / "saved.tar")).stdout == b"Loaded image: loaded:1\n"
    assert docker("load", input=oci_layout([LOW], "docker.io/library/loaded:2")).returncode == 0
    assert docker("load", "--platform", "linux/s390x", "-i", str(tmp_path / "saved.tar")).returncode != 0
    gone = docker("rmi", "cli:1", "cli:2", "loaded:1", "loaded:2")
    assert gone.returncode == 0, gone.stderr
    assert docker("rmi", "cli:1").stderr == b"Error response from daemon: No such image: cli:1\n"
    assert b"connect: connection refused" in docker("pull", "127.0.0.1:1/nobody/there").stderr


def test_docker_py(docker_client: docker_py.DockerClient) -> None:
    docker_client.api.import_image_from_data(
        busybox_tar(), repository="py", tag="1", changes=['CMD ["true"]']
    )
    (loaded,) = docker_client.images.load(docker_archive([LOW], ["py:2"]))
    assert loaded.tags == ["py:2"]
    assert loaded.tag("py", "3")
    assert docker_client.images.get("py:3").history()[0]["Tags"] == ["py:2", "py:3"]
    assert docker_client.containers.run("py:1", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker_py.errors.ImageNotFound):
        docker_client.images.get("py:4")
    with pytest.raises(docker_py.errors.ImageLoadError):
        list(docker_client.images.load(b"nonsense" * 200))
    docker_client.images.remove("py:3")
    docker_client.images.remove("py:2")
    assert docker_client.images.prune({"dangling": False})["SpaceReclaimed"] > 1_000_000


# --- many at once, and no room --------------------------------------------------------------------------


def test_same_image_loaded_and_removed_by_many_at_once(api: Api) -> None:
    """Whatever the order, an image that is there is there with all its layers, and no layer without one
    stays."""
    archive = docker_archive([LOW, HIGH, OTHER], ["many:1"])

    def work(number: int) -> Answer:
        if number % 3 == 2:
            return api("DELETE", "/images/many:1", force=True)
        return post_tar(api, "/images/load", archive)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(work, range(18)))
    assert all(answer.status in (200, 404) for answer in answers)
    assert not any(b"error" in answer.body for answer in answers if answer.status == 200)
    load(api, archive)
    shown = api("GET", "/images/many:1/json").json
    layers = [shown["GraphDriver"]["Data"]["UpperDir"], *shown["GraphDriver"]["Data"]["LowerDir"].split(":")]
    assert len(layers) == 3
    assert all(os.listdir(layer) for layer in layers)


def test_full_disk_is_told_and_leaves_nothing(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    daemon.data_root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "proa-test", daemon.data_root], check=True)
    try:
        daemon.start()
        big = make_tar([Item("big", os.urandom(3 << 20))])
        assert import_tar(daemon.api, LOW, repo="small")
        before = files(daemon)
        answer = post_tar(daemon.api, "/images/create", big, fromSrc="-")
        assert answer.status in (400, 500)
        assert "no space left on device" in answer.json["message"].lower()
        assert "error" in load(daemon.api, docker_archive([big], ["big:1"]))[-1]
        assert files(daemon) == before
        assert names(daemon.api) == ["small:latest"]
        daemon.api("DELETE", "/images/small").expect(200)
        daemon.stop()
    finally:
        subprocess.run(["umount", "--lazy", daemon.data_root], check=True)


# --- crashes ------------------------------------------------------------------------------------------------


def test_killed_in_the_middle_of_an_import_leaves_nothing(daemon: Daemon, api: Api) -> None:
    import_tar(api, OTHER, repo="kept")
    before = files(daemon)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.sendall(
            b"POST /images/create?fromSrc=-&repo=half HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"
            + busybox_tar()[:500_000]
        )
        steps.until(lambda: any(path.is_dir() and any(path.iterdir()) for path in work_in_progress(daemon)))
        daemon.kill()
    daemon.start()
    assert files(daemon) == before
    assert names(daemon.api) == ["kept:latest"]
    assert not helpers(daemon)


def work_in_progress(daemon: Daemon) -> list[Path]:
    return list((daemon.data_root / "tmp").glob("image-*/tree"))


def helpers(daemon: Daemon) -> list[str]:
    found = subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [line for line in found if "proad.host.unpack" in line and str(daemon.data_root) in line]


def test_images_survive_a_restart(daemon: Daemon, api: Api) -> None:
    load(api, docker_archive([LOW, HIGH], ["two:1"]))
    (daemon.data_root / "layers" / ("0" * 64) / "diff").mkdir(parents=True)  # a layer of nobody
    before = api("GET", "/images/two:1/json").json
    daemon.kill()
    daemon.start()
    assert api("GET", "/images/two:1/json").json == before
    assert not (daemon.data_root / "layers" / ("0" * 64)).exists()


def test_store_is_an_oci_layout(daemon: Daemon, api: Api) -> None:
    """Whoever reads OCI layouts finds the images by name, and everything they consist of."""
    image_id = import_tar(api, gzip.compress(LOW), repo="x")
    root = daemon.data_root
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (descriptor,) = json.loads((root / "index.json").read_bytes())["manifests"]
    assert descriptor["annotations"] == {"org.opencontainers.image.ref.name": "docker.io/library/x:latest"}
    manifest = json.loads(blob(root, descriptor))
    assert manifest["config"]["digest"] == image_id
    assert sha256(gzip.decompress(blob(root, manifest["layers"][0]))) == sha256(LOW)
    assert manifest["layers"][0]["mediaType"].endswith("+gzip")
    blob(root, manifest["config"])


def blob(root: Path, descriptor: dict[str, object]) -> bytes:
    content = (root / "blobs/sha256" / str(descriptor["digest"])[7:]).read_bytes()
    assert (sha256(content), len(content)) == (descriptor["digest"], descriptor["size"])
    return content
