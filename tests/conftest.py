"""Fixtures of all tests: private daemons, an image to run, and the clients that talk to them.

``daemon`` is shared by a module's tests and must be left without containers by each of them (``clean`` sees
to it); ``make_daemon`` gives a test daemons of its own. When a daemon is closed, what its containers left
behind (mounts, links, namespaces, packet filter elements, cgroups, processes, files) fails the run; so does
what is left of the run as a whole (``tests.leaks``).
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import docker as docker_py
import pytest

from tests import alone, leaks, strictness
from tests.strictness import skip_for_lack_of
from tests.support import whose
from tests.support.daemon import Daemon, run_cli
from tests.support.rawhttp import Api

DockerCli = Callable[..., "CompletedProcess[bytes]"]


def pytest_configure(config: pytest.Config) -> None:
    for plugin in (strictness, alone, leaks):
        plugin.pytest_configure(config)


def find_docker_cli() -> str:
    """Where the docker CLI is; without it the test is skipped."""
    program = shutil.which("docker")
    if program is None:
        skip_for_lack_of("the docker CLI")
    return program


def _needs_root() -> None:
    if os.geteuid() != 0:
        skip_for_lack_of("root")


def _close(daemon: Daemon) -> None:
    leftovers = daemon.close()
    assert not leftovers, "left behind by containers that are removed:\n" + "\n".join(leftovers)


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heeded() -> None:
    """A shell starts what it puts into the background with interrupts ignored, and that is inherited: tests
    interrupt clients.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def temporary_directories_are_known(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The run's end asks for mounts and processes in them."""
    whose.register(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A running ``proad``, private to the module."""
    _needs_root()
    started = Daemon()
    try:
        yield started.start()
    finally:
        _close(started)


@pytest.fixture
def make_daemon() -> Iterator[Callable[..., Daemon]]:
    """Make daemons that are the test's own: ``make_daemon("--log-level", "debug")``; not yet started."""
    _needs_root()
    made: list[Daemon] = []

    def make(*arguments: str) -> Daemon:
        made.append(Daemon(*arguments))
        return made[-1]

    yield make
    for each in reversed(made):
        _close(each)


@pytest.fixture(scope="module")
def image(daemon: Daemon) -> str:
    """The name of an image with busybox, present in ``daemon``."""
    return daemon.import_busybox()


@pytest.fixture
def clean(daemon: Daemon) -> Iterator[None]:
    """Remove the test's containers after it."""
    yield
    daemon.remove_containers()


@pytest.fixture
def api(daemon: Daemon, clean: None) -> Api:
    """The raw API of ``daemon``."""
    return daemon.api


@pytest.fixture
def docker(daemon: Daemon, clean: None, tmp_path: Path) -> DockerCli:
    """Run the unmodified docker CLI against ``daemon``: ``docker("run", "--rm", image, "true")``."""
    program = find_docker_cli()

    def run(
        *arguments: str, input: bytes | None = None, timeout_s: float = 60.0
    ) -> "CompletedProcess[bytes]":
        env = {
            "DOCKER_HOST": daemon.url,
            "DOCKER_CONFIG": str(tmp_path / "docker-config"),
            "DOCKER_CLI_HINTS": "false",
        }
        return run_cli([program, *arguments], env, input=input, timeout_s=timeout_s)

    return run


@pytest.fixture
def docker_client(daemon: Daemon, clean: None) -> Iterator[docker_py.DockerClient]:
    """docker-py, connected to ``daemon``."""
    client = docker_py.DockerClient(base_url=daemon.url, version="auto")
    yield client
    client.close()
