"""Dialogues about mounts of type image: the files of another image, read-only, inside a container."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.strictness import skip_for_older_docker
from tests.support import schema
from tests.support.archives import Item, docker_archive, make_tar
from tests.support.daemon import Daemon
from tests.support.rawhttp import Api

TOOLS = "tools:1"
LOW = make_tar([Item("greeting", b"low\n"), Item("gone", b""), Item("etc/motd", b"welcome\n")])
HIGH = make_tar([Item("greeting", b"high\n"), Item(".wh.gone", b"")])
TAR = {"Content-Type": "application/x-tar"}


def mounting(subpath: str = "", source: str = TOOLS) -> dict[str, Any]:
    """A HostConfig."""
    options = {"ImageOptions": {"Subpath": subpath}} if subpath else {}
    return {"Mounts": [{"Type": "image", "Source": source, "Target": "/tools", **options}]}


def load_tools(daemon: Daemon) -> str:
    """Load an image that holds files for others and nothing that runs; returns its id."""
    daemon.api("POST", "/images/load", body=docker_archive([LOW, HIGH], [TOOLS]), headers=TAR).expect(200)
    return str(daemon.api("GET", f"/images/{TOOLS}/json").expect(200).json["Id"])


@pytest.fixture
def tools(daemon: Daemon) -> Iterator[str]:
    yield load_tools(daemon)
    daemon.remove_containers()
    daemon.api("DELETE", f"/images/{TOOLS}", force=True)


def output(api: Api, image: str, script: str, host_config: dict[str, Any]) -> str:
    """Run a script to its end and return what it printed, also as errors."""
    made = steps.start(api, image, "sh", "-c", f"({script}) 2>&1", HostConfig=host_config, Tty=True)
    steps.wait_exit(api, made)
    text = api("GET", f"/containers/{made}/logs", stdout=True).expect(200).body.decode()
    return text.replace("\r", "")


def test_its_files_can_be_read_and_not_written(api: Api, image: str, tools: str) -> None:
    said = output(api, image, "cd /tools; cat greeting; ls -1; echo x >greeting; mkdir d", mounting())
    assert said.startswith("high\netc\ngreeting\n")
    assert said.count("Read-only file system") == 2
    assert output(api, image, "cat /tools/greeting", mounting()) == "high\n"


def test_a_part_of_it(api: Api, image: str, tools: str) -> None:
    assert output(api, image, "cat /tools/motd", mounting("etc")) == "welcome\n"
    assert output(api, image, "cat /tools", mounting("etc/motd")) == "welcome\n"
    made = steps.create(api, image, HostConfig=mounting("nowhere"))
    said = api("POST", f"/containers/{made}/start").expect(400).message
    assert "cannot access path" in said


def test_how_it_shows(api: Api, image: str, tools: str) -> None:
    made = steps.start(api, image, HostConfig=mounting("etc"))
    shown = steps.inspect(api, made)
    schema.check_answer("GET", f"/containers/{made}/json", 200, shown)
    assert shown["HostConfig"]["Mounts"] == mounting("etc")["Mounts"]
    assert shown["Mounts"] == [
        {
            "Type": "image",
            "Name": TOOLS,
            "Source": tools,
            "Destination": "/tools",
            "Mode": "",
            "RW": False,
            "Propagation": "",
        }
    ]


def test_an_image_that_is_mounted_is_in_use(api: Api, image: str, tools: str) -> None:
    made = steps.start(api, image, HostConfig=mounting())
    refused = api("DELETE", f"/images/{tools}", force=True).expect(409)
    assert f"image is being used by running container {made[:12]}" in refused.message
    api("POST", "/images/prune", filters={"dangling": ["false"]}).expect(200)
    [listed] = [each for each in api("GET", "/system/df").expect(200).json["Images"] if each["Id"] == tools]
    assert listed["Containers"] == 1
    api("POST", f"/containers/{made}/kill").expect(204)
    refused = api("DELETE", f"/images/{tools}").expect(409)
    assert f"image is being used by stopped container {made[:12]}" in refused.message
    api("DELETE", f"/images/{tools}", force=True).expect(200)
    api("POST", f"/containers/{made}/start").expect(204)  # its layers are kept for it
    api("DELETE", f"/containers/{made}", force=True).expect(204)


def test_an_image_that_is_not_there(api: Api, image: str) -> None:
    body = {"Image": image, "HostConfig": mounting(source="nobody")}
    assert (
        api("POST", "/containers/create", json_body=body).expect(404).message
        == "No such image: nobody:latest"
    )
    old = api("POST", "/containers/create", json_body=body, version="v1.47").expect(400)
    assert "needs API v1.48" in old.message


def test_the_docker_cli_mounts_an_image(docker: DockerCli, image: str, tools: str) -> None:
    skip_for_older_docker(28)
    mount = f"type=image,source={TOOLS},target=/tools"
    done = docker("run", "--rm", "--mount", mount, image, "cat", "/tools/etc/motd")
    assert (done.returncode, done.stdout) == (0, b"welcome\n"), done.stderr
    done = docker("run", "--rm", "--mount", f"{mount},image-subpath=etc", image, "cat", "/tools/motd")
    assert (done.returncode, done.stdout) == (0, b"welcome\n"), done.stderr


def test_a_new_daemon_leaves_it_mounted_while_its_container_lives(
    make_daemon: Callable[..., Daemon], image: str
) -> None:
    daemon = make_daemon()
    daemon.start().import_busybox(image)
    load_tools(daemon)
    made = steps.start(daemon.api, image, HostConfig=mounting())
    mounts = [path for path in daemon.leftovers() if "/stages/" in path]
    assert mounts
    daemon.kill()
    daemon.start()
    assert [path for path in daemon.leftovers() if "/stages/" in path] == mounts
    pid = steps.inspect(daemon.api, made)["State"]["Pid"]
    assert Path(f"/proc/{pid}/root/tools/greeting").read_text() == "high\n"
    daemon.api("POST", f"/containers/{made}/kill").expect(204)
    assert daemon.settle(made) == []
