"""Dialogues about files of containers: what lies at a path, it as a tar, and tars unpacked there."""

import base64
import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from tests.api import steps
from tests.support import schema
from tests.support.archives import Item, directory, hardlink, make_tar, symlink
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

STATUS = "X-Docker-Container-Path-Stat"
TREE = (
    "mkdir -p /d/e; echo hi >/d/f; chmod 4755 /d/f; ln -s f /d/l; ln -s e /d/le; ln -s nowhere /d/gone;"
    "ln -s /etc /d/abs; mkfifo /d/p; ln /d/f /d/h; ln -s loop /loop; ln -s ../../../../etc/passwd /d/up"
)
GO_DIRECTORY, GO_SYMLINK, GO_FIFO, GO_SETUID = 1 << 31, 1 << 27, 1 << 25, 1 << 23


@pytest.fixture(params=["running", "stopped"])
def tree(request: pytest.FixtureRequest, api: Api, image: str) -> str:
    """A container with some files in ``/d``, running or not."""
    made = steps.start(api, image, "sh", "-c", f"{TREE}; touch /ready; sleep 1000", HostConfig=alone())
    steps.until(lambda: api("HEAD", f"/containers/{made}/archive", path="/ready").status == 200)
    if request.param == "stopped":
        api("POST", f"/containers/{made}/kill").expect(204)
        steps.wait_exit(api, made)
    return made


def alone(**fields: object) -> dict[str, object]:
    return {"NetworkMode": "none", **fields}


def status(api: Api, ref: str, path: str) -> Any:
    answer = api("HEAD", f"/containers/{ref}/archive", path=path).expect(200)
    return json.loads(base64.b64decode(answer.headers[STATUS]))


def get(api: Api, ref: str, path: str) -> dict[str, tarfile.TarInfo]:
    answer = api("GET", f"/containers/{ref}/archive", path=path).expect(200)
    assert answer.headers["Content-Type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return {member.name: member for member in tar.getmembers()}


def content(api: Api, ref: str, path: str) -> bytes:
    """A file's content."""
    answer = api("GET", f"/containers/{ref}/archive", path=path).expect(200)
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        [member] = tar.getmembers()
        file = tar.extractfile(member)
        assert file is not None
        return file.read()


def put(api: Api, ref: str, path: str, *items: Item, **query: object) -> None:
    api("PUT", f"/containers/{ref}/archive", path=path, body=make_tar(items), **query).expect(200)


def refusal(api: Api, ref: str, path: str, *items: Item, status: int = 400, **query: object) -> str:
    answer = api("PUT", f"/containers/{ref}/archive", path=path, body=make_tar(items), **query).expect(status)
    schema.check_answer("PUT", f"/containers/{ref}/archive", status, answer.json)
    return answer.message


# --- what lies at a path ------------------------------------------------------------------------------------


def test_status_of_all_kinds(api: Api, tree: str) -> None:
    found = status(api, tree, "/d/f")
    assert found["name"] == "f"
    assert found["size"] == 3
    assert found["mode"] == GO_SETUID | 0o755
    assert found["linkTarget"] == ""
    assert found["mtime"].startswith("20")
    assert found["mtime"].endswith("Z")
    assert status(api, tree, "d/f") == found
    assert status(api, tree, "/d//e/../f") == found
    assert status(api, tree, "/d")["mode"] == GO_DIRECTORY | 0o755
    assert status(api, tree, "/d/p")["mode"] & GO_FIFO
    assert status(api, tree, "/tmp")["mode"] == GO_DIRECTORY | 1 << 20 | 0o777


def test_status_names_the_last_part_of_what_was_asked(api: Api, tree: str) -> None:
    names = {path: status(api, tree, path)["name"] for path in ("/d", "/d/", "/d/.", "/", "/.", "..")}
    assert names == {"/d": "d", "/d/": "d", "/d/.": ".", "/": "/", "/.": ".", "..": "/"}


def test_status_of_symlinks(api: Api, tree: str) -> None:
    targets = {"l": "/d/f", "le": "/d/e", "gone": "/d/nowhere", "abs": "/etc", "up": "/etc/passwd"}
    for name, target in targets.items():
        found = status(api, tree, f"/d/{name}")
        assert found["mode"] == GO_SYMLINK | 0o777
        assert found["linkTarget"] == target
    assert status(api, tree, "/d/le/")["mode"] & GO_DIRECTORY
    assert status(api, tree, "/d/abs/passwd")["size"] > 0


@pytest.mark.parametrize("path", ["/nope", "/d/nope/f", "/d/gone/"])
def test_nothing_there(api: Api, tree: str, path: str) -> None:
    api("HEAD", f"/containers/{tree}/archive", path=path).expect(404)
    answer = api("GET", f"/containers/{tree}/archive", path=path).expect(404)
    assert answer.message == f"Could not find the file {path} in container {tree}"
    schema.check_answer("GET", f"/containers/{tree}/archive", 404, answer.json)


@pytest.mark.parametrize("path", ["/d/f/", "/d/f/x", "/d/l/", "/d/f/.", "/loop", "/loop/x", "/" + "x" * 300])
def test_paths_that_go_nowhere(api: Api, tree: str, path: str) -> None:
    for method in ("HEAD", "GET"):
        api(method, f"/containers/{tree}/archive", path=path).expect(400)


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_bad_requests(api: Api, image: str, method: str) -> None:
    made = steps.create(api, image)
    assert api(method, f"/containers/{made}/archive").expect(400)
    assert api(method, f"/containers/{made}/archive", path="").expect(400)
    assert api(method, f"/containers/{made}/archive", path="/a\0b").expect(400)
    unknown = api(method, "/containers/nope/archive", path="/")
    assert unknown.status == 404
    if method != "HEAD":
        assert unknown.message == "No such container: nope"


# --- out ----------------------------------------------------------------------------------------------------


def test_a_file(api: Api, tree: str) -> None:
    assert content(api, tree, "/d/f") == b"hi\n"
    [(name, entry)] = get(api, tree, "/d/f").items()
    assert (name, entry.mode, entry.uid, entry.size) == ("f", 0o4755, 0, 3)
    answer = api("GET", f"/containers/{tree}/archive", path="/d/f").expect(200)
    assert json.loads(base64.b64decode(answer.headers[STATUS])) == status(api, tree, "/d/f")


def test_a_tree(api: Api, tree: str) -> None:
    names = ["", "/abs", "/e", "/f", "/gone", "/h", "/l", "/le", "/p", "/up"]
    for path, prefix in (("/d", "d"), ("/d/", "d"), ("/d/.", ".")):
        found = get(api, tree, path)
        assert list(found) == [prefix + name for name in names]
        assert found[f"{prefix}/h"].islnk()
        assert found[f"{prefix}/h"].linkname == f"{prefix}/f"
        assert found[f"{prefix}/abs"].linkname == "/etc"
        assert found[f"{prefix}/p"].isfifo()


def test_a_symlink_is_copied_as_such_unless_a_directory_is_meant(api: Api, tree: str) -> None:
    assert get(api, tree, "/d/le")["le"].issym()
    assert get(api, tree, "/d/abs")["abs"].linkname == "/etc"
    assert "abs/passwd" in get(api, tree, "/d/abs/")


def test_the_whole_root(api: Api, tree: str) -> None:
    found = get(api, tree, "/")
    assert "/bin/busybox" in found
    assert "/d/e" in found
    assert "/proc/1" not in found, "nothing but files of the container"


def test_compressed_for_those_who_can_take_it(api: Api, tree: str) -> None:
    for accepted, is_gzip in (
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("", False),
    ):
        headers = {"Accept-Encoding": accepted}
        answer = api("GET", f"/containers/{tree}/archive", path="/bin/busybox", headers=headers).expect(200)
        assert (answer.headers["Content-Encoding"] == "gzip") == is_gzip
        body = gzip.decompress(answer.body) if is_gzip else answer.body
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            assert tar.getmember("busybox").size > 100_000


def test_names_and_sizes_that_need_more_than_a_header(api: Api, image: str, tmp_path: Path) -> None:
    made = steps.create(api, image)
    long = "n" * 200
    put(api, made, "/", Item(f"deep/{long}/{long}", b"x" * 70_000, uid=3_000_000), Item("ümläut", b"1"))
    found = get(api, made, "/deep")
    assert found[f"deep/{long}/{long}"].size == 70_000
    assert found[f"deep/{long}/{long}"].uid == 3_000_000
    assert list(get(api, made, "/ümläut")) == ["ümläut"]
    assert status(api, made, "/ümläut")["name"] == "ümläut"


# --- in -----------------------------------------------------------------------------------------------------


def test_into_a_container(api: Api, tree: str) -> None:
    put(
        api, tree, "/d",
        directory("new", 0o750), Item("new/file", b"content", mode=0o640, uid=12, gid=34),
        symlink("new/link", "../../../../etc"), hardlink("new/same", "new/file"), Item("implied/a/b", b"!"),
    )  # fmt: skip
    found = get(api, tree, "/d/new")
    assert {name: entry.mode for name, entry in found.items() if not entry.issym()} == {
        "new": 0o750,
        "new/file": 0o640,
        "new/same": 0o640,
    }
    assert (found["new/file"].uid, found["new/file"].gid, found["new/file"].mtime) == (12, 34, 1_700_000_000)
    assert found["new"].mtime == 1_700_000_000
    assert found["new/link"].linkname == "../../../../etc"
    assert content(api, tree, "/d/implied/a/b") == b"!"


def test_what_was_put_is_seen_by_the_container_at_once_and_later(api: Api, image: str) -> None:
    script = "until [ -e /tmp/go ]; do sleep 0.02; done; cat /tmp/go"
    made = steps.start(api, image, "sh", "-c", script, HostConfig=alone())
    put(api, made, "/tmp", Item("go", b"went\n"))
    assert steps.wait_exit(api, made) == 0
    put(api, made, "/tmp", Item("go", b"went again\n"))
    api("POST", f"/containers/{made}/start").expect(204)
    steps.wait_exit(api, made)
    log = api("GET", f"/containers/{made}/logs", stdout=True).expect(200).body
    assert b"went\n" in log
    assert b"went again\n" in log


@pytest.mark.parametrize("compress", ["gzip", "bz2", "xz"])
def test_compressed_archives(api: Api, image: str, compress: str) -> None:
    import bz2
    import lzma

    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
    }
    made = steps.create(api, image)
    body = packers[compress](make_tar([Item("x", b"unpacked" * 10_000)]))
    api("PUT", f"/containers/{made}/archive", path="/tmp", body=body).expect(200)
    assert content(api, made, "/tmp/x") == b"unpacked" * 10_000
    api("PUT", f"/containers/{made}/archive", path="/tmp", body=body[: len(body) // 2]).expect(400)


def test_through_a_symlink_to_a_directory(api: Api, tree: str) -> None:
    put(api, tree, "/d/abs", Item("new", b"1"))
    assert content(api, tree, "/etc/new") == b"1"
    put(api, tree, "/", Item("d/abs/newer", b"2"))
    assert content(api, tree, "/etc/newer") == b"2"


def test_existing_files_are_replaced_and_never_written_through(api: Api, tree: str) -> None:
    put(api, tree, "/d", Item("l", b"now a file"))
    assert content(api, tree, "/d/l") == b"now a file"
    assert content(api, tree, "/d/f") == b"hi\n"
    put(api, tree, "/d", Item("f", b"other"))
    assert content(api, tree, "/d/h") == b"hi\n", "the other name keeps the file"


def test_directories_and_what_is_none(api: Api, tree: str) -> None:
    flags = {"noOverwriteDirNonDir": True}
    said = refusal(api, tree, "/d", Item("e", b"1"), **flags)
    assert said == 'cannot overwrite directory "/d/e" with non-directory "/d"'
    said = refusal(api, tree, "/d", directory("f"), **flags)
    assert said == 'cannot overwrite non-directory "/d/f" with directory "/d"'
    put(api, tree, "/d", Item("e", b"1"), directory("f"))
    assert content(api, tree, "/d/e") == b"1"
    assert status(api, tree, "/d/f")["mode"] & GO_DIRECTORY


def test_owners(api: Api, image: str) -> None:
    made = steps.create(api, image, User="user")
    put(api, made, "/tmp", Item("as-is", b"", uid=7, gid=8))
    put(api, made, "/tmp", Item("as-user", b"", uid=7, gid=8), copyUIDGID=True)
    found = get(api, made, "/tmp")
    assert (found["tmp/as-is"].uid, found["tmp/as-is"].gid) == (7, 8)
    assert (found["tmp/as-user"].uid, found["tmp/as-user"].gid) == (1000, 1000)
    nobody = steps.create(api, image, User="nobody-there")
    assert "unable to find user" in refusal(api, nobody, "/tmp", Item("x"), copyUIDGID=True)


def test_where_nothing_can_be_put(api: Api, tree: str) -> None:
    assert refusal(api, tree, "/nope", Item("x"), status=404) == (
        f"Could not find the file /nope in container {tree}"
    )
    assert refusal(api, tree, "/d/f", Item("x")) == "extraction point is not a directory"
    assert refusal(api, tree, "/d/f/", Item("x")) == "extraction point is not a directory"
    refusal(api, tree, "/loop", Item("x"))
    refusal(api, tree, "/d", Item("f/x"))


def test_names_that_climb(api: Api, tree: str) -> None:
    assert refusal(api, tree, "/d", Item("../../z", b"1")) == '"../../z" is outside of "/d"'
    assert 'invalid hardlink "/d/x"' in refusal(api, tree, "/d", hardlink("x", "../../etc/passwd"))
    put(api, tree, "/d", Item("/absolute", b"1"), Item("e/../inside", b"2"))
    assert content(api, tree, "/d/absolute") == b"1"
    assert content(api, tree, "/d/inside") == b"2"


@pytest.mark.parametrize("body", [b"garbage" * 200, b"\x1f\x8b" + b"x" * 200, b"BZh9" + b"x" * 200])
def test_what_is_no_archive(api: Api, image: str, body: bytes) -> None:
    made = steps.create(api, image)
    answer = api("PUT", f"/containers/{made}/archive", path="/tmp", body=body).expect(400)
    assert "Error processing tar file" in answer.message
    api("PUT", f"/containers/{made}/archive", path="/tmp", body=b"").expect(200)


def test_half_an_archive_leaves_no_half_file(api: Api, image: str) -> None:
    made = steps.create(api, image)
    body = make_tar([Item("whole", b"1"), Item("half", b"x" * 50_000)])[:20_000]
    answer = api("PUT", f"/containers/{made}/archive", path="/tmp", body=body).expect(400)
    assert "unexpected end of the archive" in answer.message
    assert list(get(api, made, "/tmp")) == ["tmp", "tmp/whole"]


# --- what is mounted ----------------------------------------------------------------------------------------


def test_volumes_and_binds(api: Api, image: str, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("by the host")
    file = tmp_path / "file"
    file.write_text("bound")
    binds = ["vv:/vol", "rr:/ro:ro", f"{tmp_path}:/bound", f"{file}:/etc/bound-file"]
    made = steps.create(api, image, HostConfig=alone(Binds=binds))
    try:
        for _ in ("created", "running"):
            put(api, made, "/vol", Item("x", b"in the volume"))
            put(api, made, "/bound", Item("taken", b"by the host"))
            assert content(api, made, "/vol/x") == b"in the volume"
            assert (tmp_path / "taken").read_text() == "by the host"
            assert content(api, made, "/bound/given") == b"by the host"
            assert content(api, made, "/etc/bound-file") == b"bound"
            assert status(api, made, "/etc/bound-file")["size"] == 5
            assert status(api, made, "/vol/x")["size"] == 13
            assert "/vol/x" in get(api, made, "/")
            assert refusal(api, made, "/ro", Item("x")) == "mounted volume is marked read-only"
            refusal(api, made, "/", Item("ro/x"))
            api("POST", f"/containers/{made}/start")
        other = steps.start(api, image, "cat", "/vol/x", HostConfig=alone(Binds=["vv:/vol"]))
        steps.wait_exit(api, other)
        assert b"in the volume" in api("GET", f"/containers/{other}/logs", stdout=True).body
    finally:
        for each in api("GET", "/containers/json", all=True).json:
            api("DELETE", f"/containers/{each['Id']}", force=True)
        for volume in ("vv", "rr"):
            api("DELETE", f"/volumes/{volume}", force=True).expect(204)


def test_mount_points_behind_symlinks(api: Api, image: str) -> None:
    first = steps.create(api, image)
    put(api, first, "/", directory("real"), symlink("alias", "real"))
    made_of = api("POST", "/commit", container=first, repo="aliased").expect(201).json["Id"]
    made = steps.create(api, "aliased", HostConfig=alone(Binds=["behind:/alias/data"]))
    try:
        put(api, made, "/alias/data", Item("x", b"1"))
        assert content(api, made, "/real/data/x") == b"1"
        assert status(api, made, "/real/data/x")["size"] == 1
        api("DELETE", f"/containers/{made}").expect(204)
        again = steps.create(api, image, HostConfig=alone(Binds=["behind:/v"]))
        assert content(api, again, "/v/x") == b"1"
        api("DELETE", f"/containers/{again}").expect(204)
    finally:
        api("DELETE", f"/containers/{made}", force=True)
        api("DELETE", f"/images/{made_of}", force=True)
        api("DELETE", "/volumes/behind", force=True)


def test_a_read_only_root(api: Api, image: str) -> None:
    config = alone(ReadonlyRootfs=True, Binds=["ww:/writable"])
    made = steps.create(api, image, HostConfig=config)
    try:
        assert refusal(api, made, "/tmp", Item("x")) == "container rootfs is marked read-only"
        put(api, made, "/writable", Item("x", b"1"), symlink("out", "/tmp"))
        assert "read-only" in refusal(api, made, "/writable", Item("out/x", b"1"))
        assert content(api, made, "/writable/x") == b"1"
        assert content(api, made, "/etc/passwd")
    finally:
        api("DELETE", f"/containers/{made}")
        api("DELETE", "/volumes/ww").expect(204)


def test_the_files_that_the_engine_makes(api: Api, image: str) -> None:
    made = steps.start(api, image, Hostname="called-so", HostConfig=alone())
    assert content(api, made, "/etc/hostname") == b"called-so\n"
    assert b"localhost" in content(api, made, "/etc/hosts")


# --- events, clients ----------------------------------------------------------------------------------------


def test_events(api: Api, image: str) -> None:
    made = steps.create(api, image, name="copied", HostConfig=alone(Binds=["ev:/vol"]))
    with api.stream("GET", "/events", filters={"volume": ["ev"], "event": ["unmount"]}) as unmounts:
        lines = unmounts.lines()
        get(api, made, "/vol")
        next(lines)  # the client has all before the volume is given back
        put(api, made, "/vol", Item("x"))
        next(lines)
        status(api, made, "/vol")
        next(lines)
    past = {"since": "0", "until": str(int(time.time()) + 1)}
    filters = {"container": [made], "type": ["container"]}
    told = api("GET", "/events", **past, filters=filters).expect(200).body.splitlines()
    actions = [json.loads(line)["Action"] for line in told]
    assert actions == ["create", "archive-path", "extract-to-dir"]
    mounts = api("GET", "/events", **past, filters={"volume": ["ev"]}).body.splitlines()
    of_volume = [json.loads(line)["Action"] for line in mounts]
    assert of_volume == ["create", *["mount", "unmount"] * 3]
    api("DELETE", f"/containers/{made}").expect(204)
    api("DELETE", "/volumes/ev").expect(204)


def test_docker_py(docker_client: docker_py.DockerClient, image: str) -> None:
    container = docker_client.containers.create(image, network_mode="none")
    assert container.put_archive("/tmp", make_tar([Item("x", b"by docker-py")]))
    pieces, told = container.get_archive("/tmp/x")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        file = tar.extractfile("x")
        assert file is not None
        assert file.read() == b"by docker-py"
    assert told["name"] == "x"
    pieces, _ = container.get_archive("/tmp/x", encode_stream=True)
    assert b"by docker-py" in b"".join(pieces)
    with pytest.raises(docker_py.errors.NotFound, match="Could not find the file /nope"):
        container.get_archive("/nope")


def test_a_connection_goes_on_after_a_refusal(daemon: Daemon, image: str, clean: None) -> None:
    from tests.support.rawhttp import UnixConnection

    made = steps.create(daemon.api, image)
    body = make_tar([Item("x", b"1" * 100_000)])
    connection = UnixConnection(daemon.socket)
    for path, wanted in (
        (f"/containers/{made}/archive?path=/tmp", 200),
        ("/containers/nope/archive?path=/", 404),
    ):
        for _ in range(3):
            connection.request("HEAD", f"/v1.51/containers/{made}/archive?path=/")
            assert connection.getresponse().read() == b""
            connection.request("PUT", f"/v1.51{path}", body=body)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == wanted
    connection.close()
