"""The unmodified docker CLI and docker-py against the daemon: what their users do first."""

import json
import time
from typing import Any

import docker as docker_py
import pytest
from docker import errors as docker_errors

from tests.conftest import DockerCli
from tests.support.daemon import Daemon


def test_docker_run_prints_and_returns_the_exit_code(docker: DockerCli, image: str) -> None:
    done = docker("run", "--rm", image, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_docker_run_takes_input(docker: DockerCli, image: str) -> None:
    done = docker("run", "--rm", "-i", image, "cat", input=b"hello\n" * 1000)
    assert (done.stdout, done.returncode) == (b"hello\n" * 1000, 0)


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/etc/passwd", 126)])
def test_docker_run_of_what_cannot_run(docker: DockerCli, image: str, command: str, code: int) -> None:
    done = docker("run", "--rm", image, command)
    assert done.returncode == code, done.stderr


def test_docker_run_of_an_unknown_image(docker: DockerCli, image: str) -> None:
    done = docker("run", "--rm", "--pull", "never", "nosuch")
    assert done.returncode == 125
    assert b"No such image: nosuch:latest" in done.stderr


def test_docker_ps_logs_stop_rm(docker: DockerCli, image: str) -> None:
    made = docker("run", "-d", "--name", "web", "-p", "80", image, "sh", "-c", "echo up; sleep 1000")
    identity = made.stdout.decode().strip()
    assert (len(identity), made.returncode) == (64, 0), made.stderr
    shown = docker("ps", "--no-trunc", "--format", "{{json .}}")
    [line] = shown.stdout.splitlines()
    row = json.loads(line)
    assert (row["ID"], row["Names"], row["State"]) == (identity, "web", "running")
    assert "->80/tcp" in row["Ports"]
    assert docker("logs", "web").stdout == b"up\n"
    assert docker("port", "web").returncode == 0
    assert docker("stop", "-t", "0", "web").returncode == 0
    assert docker("inspect", "-f", "{{.State.Status}}", "web").stdout == b"exited\n"
    assert docker("rm", "web").stdout == b"web\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("info",),
        ("version",),
        ("images",),
        ("volume", "ls"),
        ("network", "ls"),
        ("system", "df"),
        ("ps", "-as"),
    ],
)
def test_docker_shows(docker: DockerCli, image: str, arguments: tuple[str, ...]) -> None:
    done = docker(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_docker_info_has_no_errors(docker: DockerCli, image: str) -> None:
    info = json.loads(docker("info", "--format", "{{json .}}").stdout)
    assert not info.get("ServerErrors")


def test_docker_events(docker: DockerCli, image: str) -> None:
    docker("create", "--name", "noted", image)
    until = str(int(time.time()) + 1)
    done = docker(
        "events", "--since", "1h", "--until", until, "-f", "container=noted", "--format", "{{json .}}"
    )
    assert json.loads(done.stdout.splitlines()[0])["Action"] == "create"


def test_docker_wait_and_top(docker: DockerCli, image: str) -> None:
    docker("run", "-d", "--name", "sleeper", image, "sleep", "1000")
    assert b"sleep 1000" in docker("top", "sleeper").stdout
    docker("kill", "sleeper")
    assert docker("wait", "sleeper").stdout == b"137\n"


# --- docker-py --------------------------------------------------------------------------------------------


def test_docker_py_quick_start(docker_client: docker_py.DockerClient, image: str) -> None:
    assert docker_client.containers.run(image, "echo hello", remove=True) == b"hello\n"
    container = docker_client.containers.run(image, "sh -c 'echo one; sleep 1000'", detach=True, name="py")
    assert docker_client.containers.list() == [container]
    container.reload()
    assert container.status == "running"
    assert container.attrs["Config"]["Image"] == image
    assert container.logs() == b"one\n"
    assert [process[-1] for process in container.top()["Processes"]][-1] == "sleep 1000"
    container.pause()
    container.unpause()
    container.rename("python")
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.remove()
    assert docker_client.containers.list(all=True) == []


def test_docker_py_errors(docker_client: docker_py.DockerClient, image: str) -> None:
    with pytest.raises(docker_errors.NotFound, match="No such container"):
        docker_client.containers.get("nosuch")
    with pytest.raises(docker_errors.ImageNotFound):
        docker_client.images.get("nosuch")
    with pytest.raises(docker_errors.ContainerError) as caught:
        docker_client.containers.run(image, "false", remove=True)
    assert caught.value.exit_status == 1


def test_docker_py_streams_logs_and_events(
    docker_client: docker_py.DockerClient, image: str, daemon: Daemon
) -> None:
    events: Any = docker_client.events(decode=True)
    container = docker_client.containers.run(image, "sh -c 'echo a; sleep 0.2; echo b'", detach=True)
    assert b"".join(container.logs(stream=True, follow=True)) == b"a\nb\n"
    seen = [next(events)["Action"] for _ in range(3)]
    events.close()
    assert seen == ["create", "connect", "start"]
    assert docker_client.version()["ApiVersion"] == "1.51"
    assert docker_client.ping() is True
    assert docker_client.df()["LayersSize"] > 0
