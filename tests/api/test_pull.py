"""Pull over the API, with the docker CLI and docker-py, from a real registry on loopback."""

from collections.abc import Iterator

import pytest

from tests.conftest import DockerCli
from tests.support.archives import Item, directory, make_tar
from tests.support.daemon import Daemon
from tests.support.images import busybox_tar
from tests.support.registry import Registry, make_image

LOW = make_tar([directory("etc"), Item("etc/low", b"low" * 1000)])
HIGH = make_tar([Item("etc/high", b"high" * 1000)])


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    started = Registry()
    try:
        yield started.start()
    finally:
        started.close()


def test_docker_pulls_and_runs(daemon: Daemon, docker: DockerCli, registry: Registry) -> None:
    image = make_image([busybox_tar(), HIGH], Cmd=["cat", "/etc/high"])
    name = registry.put("first", "latest", image)
    pulled = docker("pull", name)
    assert pulled.returncode == 0, pulled.stderr
    shown = pulled.stdout.decode()
    assert f"Digest: {image.digest}" in shown
    assert f"Status: Downloaded newer image for {name}" in shown
    ran = docker("run", "--rm", name)
    assert ran.stdout == b"high" * 1000
    again = docker("pull", name)
    assert f"Status: Image is up to date for {name}" in again.stdout.decode()
