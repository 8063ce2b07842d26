"""Changes, export and commit over the API: raw HTTP, the docker CLI, docker-py, on a real daemon."""

import io
import json
import os
import signal
import socket
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.support import schema
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api
from tests.support.treefacts import tar_facts

DEEDS = (
    "mkdir /new && echo hi >/new/file && rm /bin/ls && chmod 700 /home && rm -r /var && mkdir /var && "
    "touch /root/x && rm /root/x && ln /etc/group /etc/same"
)
CHANGED = [
    "C /bin", "D /bin/ls", "C /etc", "A /etc/same", "C /home", "A /new", "A /new/file",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_new_images(daemon: Daemon, image: str) -> Iterator[None]:
    """Leave no image but the first one, no layer without one, and no work in progress."""
    kept = {entry["Id"] for entry in daemon.api("GET", "/images/json", all=True).json}
    yield
    daemon.remove_containers()
    for entry in daemon.api("GET", "/images/json", all=True).json:
        if entry["Id"] not in kept:
            daemon.api("DELETE", f"/images/{entry['Id']}", force=True)
    assert len(list((daemon.data_root / "layers").iterdir())) == 1
    assert len(list((daemon.data_root / "blobs/sha256").iterdir())) == 3
    assert list((daemon.data_root / "tmp").iterdir()) == []


def ran(api: Api, image: str, script: str = DEEDS, **fields: object) -> str:
    """A container that has run the script to its end."""
    made = steps.start(api, image, "sh", "-c", script, **fields)
    assert steps.wait_exit(api, made) == 0
    return made


def changes(api: Api, ref: str) -> list[str]:
    listed = api("GET", f"/containers/{ref}/changes").expect(200).json or []
    return [f"{'CAD'[change['Kind']]} {change['Path']}" for change in listed]


def commit(api: Api, ref: str, body: object = None, **query: object) -> Any:
    """Commit, and return the image as inspected."""
    made = api("POST", "/commit", container=ref, json_body=body, **query).expect(201).json
    schema.check(made, "IDResponse")
    return api("GET", f"/images/{made['Id']}/json").expect(200).json


def told(api: Api, since: float) -> list[str]:
    """Actions since then."""
    answer = api("GET", "/events", since=f"{since:.9f}", until=f"{time.time():.9f}").expect(200)
    return [json.loads(line)["Action"] for line in answer.body.splitlines()]


# --- changes ------------------------------------------------------------------------------------------------


def test_changes(api: Api, image: str) -> None:
    made = ran(api, image)
    assert changes(api, made) == CHANGED
    schema.check_answer(
        "GET", f"/containers/{made}/changes", 200, api("GET", f"/containers/{made}/changes").json
    )


def test_changes_while_it_runs(api: Api, image: str) -> None:
    made = steps.start(api, image, "sh", "-c", f"{DEEDS}; echo done; sleep 1000")
    steps.until(lambda: b"done" in api("GET", f"/containers/{made}/logs", stdout=True).body)
    assert changes(api, made) == CHANGED


def test_no_changes_are_null(api: Api, image: str) -> None:
    made = steps.create(api, image)
    assert api("GET", f"/containers/{made}/changes").expect(200).body == b"null\n"
    api("POST", f"/containers/{made}/start").expect(204)
    assert api("GET", f"/containers/{made}/changes").expect(200).body == b"null\n"
    api("POST", f"/containers/{made}/kill").expect(204)
    assert api("GET", f"/containers/{made}/changes").expect(200).body == b"null\n"


def test_an_init_is_no_change(api: Api, daemon: Daemon, image: str) -> None:
    if not daemon.api("GET", "/info").json.get("InitBinary"):
        pytest.skip("needs docker-init, tini or catatonit")
    made = ran(api, image, "true", HostConfig={"Init": True})
    assert changes(api, made) == []


def test_what_is_mounted_is_not_its_own(api: Api, image: str) -> None:
    made = ran(
        api, image, "echo x >/data/in-volume; echo y >/scratch/in-tmpfs; echo z >/own",
        HostConfig={"Mounts": [{"Type": "volume", "Target": "/data"}], "Tmpfs": {"/scratch": ""}},
    )  # fmt: skip
    assert changes(api, made) == ["A /data", "A /own", "A /scratch"]
    names = set(tar_facts(api("GET", f"/containers/{made}/export").expect(200).body))
    assert {"data", "own", "scratch"} <= names
    assert not {"data/in-volume", "scratch/in-tmpfs"} & names


def test_a_privileged_container_without_host_traces(api: Api, image: str) -> None:
    made = ran(api, image, "true", HostConfig={"Privileged": True, "NetworkMode": "host"})
    assert changes(api, made) == []


# --- export -------------------------------------------------------------------------------------------------


def test_export(api: Api, image: str) -> None:
    made = ran(api, image)
    since = time.time()
    answer = api("GET", f"/containers/{made}/export").expect(200)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    told_names = tar_facts(answer.body)
    assert told_names["new/file"]["size"] == 3
    assert told_names["home"]["mode"] == "0o700"
    assert told_names["etc/same"]["link"] == "etc/group"
    assert "bin/ls" not in told_names
    assert told(api, since) == ["export"]


def test_an_exported_tree_imports_again(api: Api, daemon: Daemon, image: str) -> None:
    made = steps.create(api, image)
    archive = api("GET", f"/containers/{made}/export").expect(200).body
    tar = {"Content-Type": "application/x-tar"}
    api("POST", "/images/create", body=archive, headers=tar, fromSrc="-", repo="again").expect(200)
    other = steps.create(api, "again")
    again = api("GET", f"/containers/{other}/export").expect(200).body
    assert tar_facts(again) == tar_facts(archive)


def test_a_client_that_leaves_ends_the_export(api: Api, daemon: Daemon, image: str) -> None:
    made = ran(api, image, "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null")
    since = time.time()
    with api.stream("GET", f"/containers/{made}/export"):
        steps.until(lambda: helpers(daemon))
    steps.until(lambda: not helpers(daemon))
    assert told(api, since) == []


def helpers(daemon: Daemon, module: str = "snapshothelper") -> list[int]:
    """Pids of the daemon's helper processes of a kind."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            text = path.read_bytes().decode(errors="replace")
            if f"proad.host.{module}" in text and str(daemon.data_root) in text:
                found.append(int(path.parent.name))
    return found


def test_a_container_removed_meanwhile_breaks_the_export_off(api: Api, daemon: Daemon, image: str) -> None:
    made = ran(api, image, "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null")
    with api.stream("GET", f"/containers/{made}/export") as export:
        api("DELETE", f"/containers/{made}").expect(204)
        with pytest.raises(Exception, match=r"IncompleteRead|reset|closed"):
            export.read()
    assert api("GET", "/_ping", version="").status == 200


# --- commit -------------------------------------------------------------------------------------------------


def test_commit(api: Api, image: str) -> None:
    made = ran(api, image)
    since = time.time()
    base = api("GET", f"/images/{image}/json").json
    new = commit(api, made, repo="made", tag="v1", author="me", comment="so it is")
    assert new["RepoTags"] == ["made:v1"]
    assert (new["Author"], new["Comment"], new["Parent"]) == ("me", "so it is", base["Id"])
    assert new["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    group = len("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")  # copied up once, by its second name
    assert new["Size"] == base["Size"] + len("hi\n") + group
    assert new["Config"]["Cmd"] == ["sh", "-c", DEEDS]
    schema.check(new, "ImageInspect")
    first, second = api("GET", "/images/made:v1/history").expect(200).json
    assert (first["Id"], first["Tags"], first["Comment"]) == (new["Id"], ["made:v1"], "so it is")
    assert first["CreatedBy"] == f"sh -c {DEEDS}"
    assert (second["Id"], second["Tags"]) == (base["Id"], [image])
    assert told(api, since) == ["tag", "commit"]
    looked = ran(api, "made:v1", "test ! -e /bin/ls && cat /new/file && test /etc/group -ef /etc/same")
    assert changes(api, looked) == []


def test_what_a_committed_image_shows_is_what_the_container_saw(api: Api, image: str) -> None:
    made = ran(
        api, image, f"{DEEDS}; mknod /null c 1 3; mkfifo /pipe; chown 5:6 /pipe; rm -r /usr; mkdir /usr"
    )
    commit(api, made, repo="copy")
    copy = steps.create(api, "copy")
    exported = [tar_facts(api("GET", f"/containers/{ref}/export").expect(200).body) for ref in (made, copy)]
    own = {".dockerenv", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"}
    assert {path: facts for path, facts in exported[0].items() if path not in own} == exported[1]


def test_nothing_written_makes_no_layer(api: Api, image: str) -> None:
    made = ran(api, image, "true")
    base = api("GET", f"/images/{image}/json").json
    new = commit(api, made)
    assert new["RootFS"] == base["RootFS"]
    assert new["Id"] != base["Id"]
    assert api("GET", f"/images/{new['Id']}/history").json[0]["Size"] == 0


def test_commits_stack(api: Api, image: str) -> None:
    ref = image
    for number in range(4):
        made = ran(api, ref, f"echo {number} >/n{number}; rm -f /n{number - 2}")
        ref = commit(api, made)["Id"]
    assert len(api("GET", f"/images/{ref}/json").json["RootFS"]["Layers"]) == 5
    names = tar_facts(api("GET", f"/containers/{steps.create(api, ref)}/export").body)
    assert {name for name in names if name[0] == "n"} == {"n2", "n3"}


def test_config_and_changes(api: Api, image: str) -> None:
    made = steps.create(
        api, image, "sleep", "1", Env=["A=container", "B=container"], Labels={"kept": "1"}, User="user",
        WorkingDir="/tmp", ExposedPorts={"80/tcp": {}},
    )  # fmt: skip
    new = commit(
        api, made, {"Env": ["A=request"], "ExposedPorts": {"81/tcp": {}}, "Labels": {"more": "2"}},
        changes='CMD ["changed"]\nENV C="$A and more"\nVOLUME /data\nUSER nobody',
    )["Config"]  # fmt: skip
    assert sorted(new["Env"]) == ["A=request", "B=container", "C=request and more"]
    assert (new["Cmd"], new["User"], new["WorkingDir"]) == (["changed"], "nobody", "/tmp")
    assert new["ExposedPorts"] == {"80/tcp": {}, "81/tcp": {}}
    assert new["Labels"] == {"kept": "1", "more": "2"}
    assert new["Volumes"] == {"/data": {}}


def test_without_a_body_the_containers_config_is_taken(api: Api, image: str) -> None:
    made = steps.create(
        api, image, "sleep", "1", Entrypoint=["/bin/sh"], StopSignal="SIGINT", Env=["A=1"],
        Healthcheck={"Test": ["CMD", "true"], "Retries": 3},
    )  # fmt: skip
    empty: dict[str, object] = {}
    for body in (None, empty):
        config = commit(api, made, body)["Config"]
        assert (config["Entrypoint"], config["Cmd"]) == (["/bin/sh"], ["sleep", "1"])
        assert (config["StopSignal"], config["Env"]) == ("SIGINT", ["A=1"])
        assert config["Healthcheck"] == {"Test": ["CMD", "true"], "Retries": 3}
    assert api("POST", "/commit", container=made, body=b"null", headers=JSON).status == 201


JSON = {"Content-Type": "application/json"}


def test_a_running_container_is_paused_for_a_moment(api: Api, image: str) -> None:
    made = steps.start(api, image)
    since = time.time()
    commit(api, made, repo="r")
    assert told(api, since) == ["pause", "unpause", "tag", "commit"]
    assert steps.status(api, made) == "running"
    since = time.time()
    commit(api, made, pause=False)
    assert told(api, since) == ["commit"]


def test_a_paused_container_stays_paused(api: Api, image: str) -> None:
    made = steps.start(api, image)
    api("POST", f"/containers/{made}/pause").expect(204)
    commit(api, made)
    assert steps.status(api, made) == "paused"
    api("POST", f"/containers/{made}/unpause").expect(204)


@pytest.mark.parametrize("pause", [True, False])
def test_a_failed_commit_leaves_it_running(api: Api, daemon: Daemon, image: str, pause: bool) -> None:
    deep = "i=0; while [ $i -lt 600 ]; do mkdir d; cd d; i=$((i+1)); done"
    made = steps.start(api, image, "sh", "-c", f"{deep}; echo done; sleep 1000")
    steps.until(lambda: b"done" in api("GET", f"/containers/{made}/logs", stdout=True).body)
    answer = api("POST", "/commit", container=made, pause=pause).expect(400)
    assert "deeper than" in answer.message
    assert steps.status(api, made) == "running"


def test_triggers_of_a_build_are_not_handed_down(api: Api, image: str) -> None:
    first = commit(api, steps.create(api, image), repo="first", changes="ONBUILD RUN x")
    assert first["Config"]["OnBuild"] == ["RUN x"]
    assert not commit(api, steps.create(api, "first"))["Config"]["OnBuild"]


@pytest.mark.parametrize("module", ["snapshothelper", "unpack"])
def test_a_helper_that_is_killed(api: Api, daemon: Daemon, image: str, module: str) -> None:
    """The commit fails and says so, nothing stays of it, and the container goes on."""
    script = "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null; echo done; sleep 1000"
    made = steps.start(api, image, "sh", "-c", script)
    steps.until(lambda: b"done" in api("GET", f"/containers/{made}/logs", stdout=True).body)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api, "POST", "/commit", container=made)
        steps.until(lambda: helpers(daemon, module))
        for pid in helpers(daemon, module):
            os.kill(pid, signal.SIGKILL)
        assert "the helper ended early" in answer.result().expect(500).message
    assert steps.status(api, made) == "running"
    assert len(list((daemon.data_root / "layers").iterdir())) == 1


BAD_COMMITS = [
    ({}, 400, 'invalid name or ID supplied: ""'),
    ({"container": "nope"}, 404, "No such container: nope"),
    ({"container": "here", "repo": "Upper"}, 400, "must be lowercase"),
    ({"container": "here", "repo": "a", "tag": "b/c"}, 400, "invalid tag format"),
    ({"container": "here", "repo": "a@sha256:" + "0" * 64}, 400, "digest"),
    ({"container": "here", "changes": "FROM x"}, 400, "from is not a valid change command"),
    ({"container": "here", "changes": "EXPOSE 99999"}, 400, "containerPort"),
    ({"container": "here", "pause": "perhaps"}, 400, "pause"),
]


@pytest.mark.parametrize(("query", "status", "message"), BAD_COMMITS)
def test_bad_commits(api: Api, image: str, query: dict[str, object], status: int, message: str) -> None:
    steps.create(api, image, name="here")
    assert message in api("POST", "/commit", **query).expect(status).message
    assert len(api("GET", "/images/json", all=True).json) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"Cmd": 7}', b'{"Env": [1]}', b'{"Labels": []}'])
def test_bad_bodies(api: Api, image: str, body: bytes) -> None:
    steps.create(api, image, name="here")
    api("POST", "/commit", container="here", body=body, headers=JSON).expect(400)
    api("POST", "/commit", container="here", body=b"{}", headers={"Content-Type": "text/plain"}).expect(400)


@pytest.mark.parametrize("verb", ["changes", "export"])
def test_unknown_containers(api: Api, verb: str) -> None:
    assert api("GET", f"/containers/nope/{verb}").expect(404).message == "No such container: nope"


def test_a_body_that_breaks_off_commits_nothing(api: Api, daemon: Daemon, image: str) -> None:
    steps.create(api, image, name="here")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.sendall(
            b"POST /v1.51/commit?container=here HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 1000\r\n\r\n{"Cmd":'
        )
    api("GET", "/_ping", version="").expect(200)
    assert len(api("GET", "/images/json", all=True).json) == 1


def test_an_image_removed_by_force_cannot_be_built_upon(api: Api, daemon: Daemon, image: str) -> None:
    first = ran(api, image, "echo 1 >/one")
    base = commit(api, first, repo="base")["Id"]
    made = ran(api, "base", "echo 2 >/two")
    api("DELETE", "/images/base", force=True).expect(200)
    assert base in api("POST", "/commit", container=made).expect(404).message
    assert changes(api, made) == ["A /two"]
    assert "one" in tar_facts(api("GET", f"/containers/{made}/export").body)
    daemon.remove_containers()
    commit(api, steps.create(api, image), repo="spare")
    api("DELETE", "/images/spare").expect(200)  # with it goes what only the containers had held


def test_a_parent_cannot_be_removed_before_its_child(api: Api, image: str) -> None:
    base = commit(api, ran(api, image, "echo 1 >/one"))["Id"]
    child = commit(api, ran(api, base, "echo 2 >/two"), repo="child")["Id"]
    for entry in api("GET", "/containers/json", all=True).json:
        api("DELETE", f"/containers/{entry['Id']}").expect(204)
    assert "dependent child images" in api("DELETE", f"/images/{base}").expect(409).message
    gone = api("DELETE", "/images/child").expect(200).json
    assert {"Deleted": child} in gone


def test_many_commits_at_once(api: Api, daemon: Daemon, image: str) -> None:
    made = steps.start(api, image, "sh", "-c", "echo x >/x; echo done; sleep 1000")
    steps.until(lambda: b"done" in api("GET", f"/containers/{made}/logs", stdout=True).body)
    with ThreadPoolExecutor(6) as pool:
        new = list(pool.map(lambda n: commit(api, made, repo=f"r{n}"), range(6)))
    assert len({image["Id"] for image in new}) == 6
    assert steps.status(api, made) == "running"


# --- clients ------------------------------------------------------------------------------------------------


def test_the_docker_cli(docker: DockerCli, image: str) -> None:
    assert docker("run", "--name", "one", "--network", "none", image, "sh", "-c", DEEDS).returncode == 0
    said = docker("diff", "one")
    assert (said.returncode, said.stdout.decode().splitlines()) == (0, CHANGED)
    exported = docker("export", "one").stdout
    assert tar_facts(exported)["new/file"]["size"] == 3
    made = docker("commit", "-a", "me", "-m", "why", "-c", 'CMD ["cat", "/new/file"]', "one", "made:1")
    assert made.returncode == 0
    assert made.stdout.startswith(b"sha256:")
    assert docker("run", "--rm", "--network", "none", "made:1").stdout == b"hi\n"
    assert docker("import", "-", "flat", input=exported).returncode == 0
    assert docker("run", "--rm", "--network", "none", "flat", "cat", "/new/file").stdout == b"hi\n"
    unknown = docker("commit", "nope")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        b"Error response from daemon: No such container: nope\n",
    )


def test_docker_py(docker_client: docker_py.DockerClient, image: str) -> None:
    made = docker_client.containers.create(image, ["sh", "-c", DEEDS], network_mode="none")
    assert made.diff() is None
    made.start()
    made.wait()
    assert [f"{'CAD'[change['Kind']]} {change['Path']}" for change in made.diff()] == CHANGED
    archive = b"".join(made.export())
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getmember("new/file").size == 3
    new = made.commit("made", "py", message="m", author="a", changes="ENV X=1", conf={"Cmd": ["true"]})
    assert new.tags == ["made:py"]
    assert new.attrs["Config"]["Cmd"] == ["true"]
    assert new.attrs["Config"]["Env"] == ["X=1"]
    made.remove()
