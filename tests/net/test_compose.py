"""Debian's docker-compose brings three services up and down: two networks, aliases, health, ports."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api import steps
from tests.conftest import DockerCli
from tests.net.conftest import Container, succeed
from tests.strictness import skip_for_lack_of
from tests.support.daemon import Engine, run_cli
from tests.support.nethosts import Hosts, connect

Compose = Callable[..., "subprocess.CompletedProcess[bytes]"]

PROJECT = """
version: "2.4"
services:
  proxy:
    image: {image}
    command: sh -c 'mkdir -p /www && echo front >/www/index.html && exec httpd -f -p 80 -h /www'
    stop_grace_period: 0s
    networks:
      front:
        aliases: [gate.example]
    ports:
      - "80"
      - "127.0.0.1::80"
    depends_on: [app]
  app:
    image: {image}
    command: sh -c 'mkdir -p /www && echo app >/www/index.html && exec httpd -f -p 8000 -h /www'
    stop_grace_period: 0s
    networks:
      front:
      back:
        ipv4_address: 10.212.5.77
    depends_on:
      db:
        condition: service_healthy
  db:
    image: {image}
    command: sh -c 'sleep 0.5; exec nc -ll -p 5432 -e echo data'
    stop_grace_period: 0s
    networks:
      back:
        aliases: [database, store]
    healthcheck:
      test: ["CMD", "nc", "-w", "2", "127.0.0.1", "5432"]
      interval: 200ms
      timeout: 5s
      retries: 100
networks:
  front:
  back:
    internal: true
    ipam:
      config:
        - subnet: 10.212.5.0/24
    labels:
      tier: data
"""


@pytest.fixture
def compose(daemon: Engine, clean: None, image: str, tmp_path: Path) -> Compose:
    """Run docker-compose in a directory with the project."""
    program = shutil.which("docker-compose")
    if program is None:
        skip_for_lack_of("docker-compose")
    project = tmp_path / "shop"
    project.mkdir()
    (project / "docker-compose.yml").write_text(PROJECT.format(image=image))
    # It is Debian's Python that runs it, with Debian's modules.
    env = {
        "DOCKER_HOST": daemon.url,
        "DOCKER_CONFIG": str(tmp_path),
        "COMPOSE_COMPATIBILITY": "1",  # the second version names containers as the first then
        "PYTHONPATH": "",
    }

    def run(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
        return run_cli(
            [
                program,
                "--project-directory",
                str(project),
                "-f",
                str(project / "docker-compose.yml"),
                *arguments,
            ],
            env,
        )

    return run


def networks(docker: DockerCli) -> list[str]:
    return succeed(docker("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}")).splitlines()


def say_hello(place: Path | None, address: str, port: int) -> str:
    with connect(place, "tcp", address, port) as asking:
        asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return asking.makefile(newline="").read().rpartition("\r\n\r\n")[2].strip()


def test_three_services_come_up_talk_and_go(compose: Compose, docker: DockerCli, hosts: Hosts) -> None:
    succeed(compose("up", "-d"))
    assert networks(docker) == ["shop_back", "shop_front"]
    proxy, app, db = (Container(docker, f"shop_{name}_1") for name in ("proxy", "app", "db"))
    assert db.is_healthy()
    assert proxy.say("wget", "-q", "-O", "-", "http://app:8000/") == "app"
    assert app.say("wget", "-q", "-O", "-", "http://gate.example/") == "front"
    assert app.interfaces() == {"eth0", "eth1"}
    assert app.address("shop_back") == "10.212.5.77"
    for name in ("db", "database", "store"):
        assert app.say("nc", "-w", "2", name, "5432") == "data"
    assert proxy.look_up("db") == set()
    visitor = hosts.add("visitor")
    assert say_hello(visitor.netns, visitor.router, proxy.port("80/tcp")) == "front"
    assert say_hello(None, "127.0.0.1", proxy.port("80/tcp", "127.0.0.1")) == "front"
    shown = succeed(compose("ps"))
    assert "(healthy)" in shown
    assert shown.count("Up ") == 3
    assert succeed(compose("exec", "-T", "app", "cat", "/www/index.html")) == "app"
    succeed(compose("down"))
    assert networks(docker) == []
    assert succeed(docker("ps", "-aq")) == ""


def test_services_scale_restart_and_are_made_anew(
    compose: Compose, docker: DockerCli, tmp_path: Path
) -> None:
    succeed(compose("up", "-d", "--scale", "db=3"))
    app = Container(docker, "shop_app_1")
    members = [Container(docker, f"shop_db_{number}") for number in (1, 2, 3)]
    assert app.look_up("db") == {member.address("shop_back") for member in members}
    succeed(compose("restart", "-t", "0", "app"))
    assert app.address("shop_back") == "10.212.5.77"
    assert len(app.look_up("database")) == 3
    succeed(compose("stop", "-t", "0"))
    succeed(compose("start"))
    for member in members:
        steps.until(member.is_healthy)
    assert app.say("nc", "-w", "2", "store", "5432") == "data"
    project = tmp_path / "shop" / "docker-compose.yml"
    project.write_text(project.read_text().replace("10.212.5.77", "10.212.5.78"))
    succeed(compose("up", "-d", "--scale", "db=1"))
    assert app.address("shop_back") == "10.212.5.78"
    assert app.look_up("db") == {members[0].address("shop_back")}
    succeed(compose("down", "--volumes", "--remove-orphans"))
    assert networks(docker) == []
