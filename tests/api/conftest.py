"""A registry, one that misbehaves in front of it, and daemons that are left without images."""

from collections.abc import Iterator

import pytest

from tests.api.pulls import files, platform_image
from tests.support.daemon import Daemon
from tests.support.registry import Registry, RemoteImage, make_index
from tests.support.rogue import Rogue


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    started = Registry()
    try:
        yield started.start()
    finally:
        started.close()


@pytest.fixture(scope="module")
def shared_rogue(registry: Registry) -> Iterator[Rogue]:
    started = Rogue(registry.port).start()
    yield started
    started.close()


@pytest.fixture
def rogue(shared_rogue: Rogue) -> Rogue:
    shared_rogue.behave()
    return shared_rogue


@pytest.fixture
def no_images(daemon: Daemon) -> Iterator[None]:
    """Leave no image behind: after that no layer, no blob and no unfinished work may be left either."""
    yield
    daemon.remove_containers()
    for image in daemon.api("GET", "/images/json", all=True).json:
        daemon.api("DELETE", f"/images/{image['Id']}", force=True).expect(200)
    assert files(daemon) == set()


@pytest.fixture(scope="module")
def multi(registry: Registry) -> RemoteImage:
    images = [
        platform_image("arm", variant="v6"), platform_image("arm", variant="v7"), platform_image("arm64"),
        platform_image("amd64"), platform_image("386"),
    ]  # fmt: skip
    for image, _ in images:
        registry.put("multi", "", image)
    index = make_index(images)
    registry.put("multi", "1", index)
    return index
