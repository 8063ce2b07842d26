"""Fixtures of the tests of networking: whole containers, whole networks, other hosts.

They speak to the engine by its API and its clients alone, so ``ENGINE=unix:///path/to/docker.sock`` runs them
against another one, where they know what is Docker's and what is only ours (``ours``).
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DockerCli, _close, _needs_root
from tests.strictness import skip_for_lack_of
from tests.support.daemon import Daemon, Engine
from tests.support.images import getent_tar
from tests.support.nethosts import Hosts
from tests.support.peer import named_engine

SLEEPER = ("sleep", "1000")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Engine]:
    """A running ``proad``, private to the module; or the engine that the environment names."""
    _needs_root()
    if peer := named_engine():
        yield peer
        return
    started = Daemon()
    try:
        yield started.start()
    finally:
        _close(started)


@pytest.fixture
def ours(daemon: Engine) -> Daemon:
    """The daemon, where it is proad."""
    if not isinstance(daemon, Daemon):
        skip_for_lack_of("proad")
    return daemon


@pytest.fixture(scope="module")
def image(daemon: Engine) -> str:
    """The name of an image with busybox, and with the C library's ``getent``."""
    return daemon.import_tar(getent_tar(), "getent:latest")


@pytest.fixture
def clean(daemon: Engine) -> Iterator[None]:
    """Remove the test's containers and networks after it, and what an interrupted run has left before it."""
    daemon.remove_containers()
    daemon.remove_networks()
    yield
    daemon.remove_containers()
    daemon.remove_networks()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Other hosts, each on a link of its own."""
    with Hosts() as made:
        yield made


class Container:
    """A running container, as told when it was started."""

    def __init__(self, docker: DockerCli, name: str) -> None:
        self._docker = docker
        self.name = name

    def inspect(self) -> Any:
        [found] = json.loads(succeed(self._docker("inspect", "--type", "container", self.name)))
        return found

    @cached_property
    def id(self) -> str:
        return str(self.inspect()["Id"])

    @property
    def netns(self) -> Path:
        """The namespace that it is in now."""
        return Path(f"/proc/{self.inspect()['State']['Pid']}/ns/net")

    def is_healthy(self) -> bool:
        return bool(self.inspect()["State"]["Health"]["Status"] == "healthy")

    def endpoint(self, network: str = "bridge") -> Any:
        return self.inspect()["NetworkSettings"]["Networks"][network]

    def address(self, network: str = "bridge") -> str:
        return str(self.endpoint(network)["IPAddress"])

    def address6(self, network: str) -> str:
        return str(self.endpoint(network)["GlobalIPv6Address"])

    def port(self, inside: str, family: str = "0.0.0.0") -> int:
        """The host's port that leads to one of its own ("80/tcp")."""
        bindings = self.inspect()["NetworkSettings"]["Ports"][inside]
        return int(next(each["HostPort"] for each in bindings if each["HostIp"] == family))

    def execute(self, *argv: str) -> "subprocess.CompletedProcess[bytes]":
        return self._docker("exec", self.name, *argv)

    def say(self, *argv: str) -> str:
        """What a command in it prints; it must succeed."""
        return succeed(self.execute(*argv))

    def look_up(self, name: str) -> set[str]:
        """The IPv4 addresses that a name has in there, by the C library; empty for none."""
        return self._look_up("ahostsv4", name)

    def look_up6(self, name: str) -> set[str]:
        return {found for found in self._look_up("ahostsv6", name) if not found.startswith("::ffff:")}

    def _look_up(self, database: str, name: str) -> set[str]:
        done = self.execute("getent", database, name)
        assert done.returncode in (0, 2), done.stderr
        return {line.split()[0] for line in done.stdout.decode().splitlines()}

    def interfaces(self) -> set[str]:
        return set(self.say("ls", "/sys/class/net").split()) - {"lo"}


def succeed(done: "subprocess.CompletedProcess[bytes]") -> str:
    """What a command printed, without the last newline; fails if it failed."""
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().rstrip("\n")


class Net:
    """Networks and containers by the docker CLI, in one word each."""

    def __init__(self, docker: DockerCli, image: str) -> None:
        self.docker = docker
        self.image = image

    def network(self, name: str, *flags: str) -> str:
        """Create a network; returns its name."""
        succeed(self.docker("network", "create", *flags, name))
        return name

    def run(self, name: str, *flags: str, command: Sequence[str] = SLEEPER) -> Container:
        """Run a container in the background."""
        succeed(self.docker("run", "-d", "--name", name, "--stop-timeout", "0", *flags, self.image, *command))
        return Container(self.docker, name)

    def inspect(self, network: str) -> Any:
        [found] = json.loads(succeed(self.docker("network", "inspect", network)))
        return found

    def connect(self, network: str, container: Container, *flags: str) -> None:
        succeed(self.docker("network", "connect", *flags, network, container.name))

    def disconnect(self, network: str, container: Container, *flags: str) -> None:
        succeed(self.docker("network", "disconnect", *flags, network, container.name))


@pytest.fixture
def net(docker: DockerCli, image: str) -> Net:
    return Net(docker, image)


@pytest.fixture
def refused(docker: DockerCli) -> Callable[..., str]:
    """Run the docker CLI, see it fail, and return what it complains of."""

    def run(*arguments: str, code: int = 1) -> str:
        done = docker(*arguments)
        assert done.returncode == code, done.stdout
        return done.stderr.decode()

    return run
