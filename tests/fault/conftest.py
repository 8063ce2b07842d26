"""A daemon that breaks on order, and a container that uses every step of a start."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.fault.nursery import Nursery
from tests.support.daemon import Daemon, Process

STEPS = (
    "monitor",
    "rootfs",
    "network",
    "links",
    "working directory",
    "environment",
    "ipc",
    "mounts",
    "spec",
    "hosts",
    "create",
    "attach",
    "start",
    "record",
)
UNDOS = ("run files", "monitor", "rootfs", "network", "shm", "mounts", "create", "attach")


class SabotagedDaemon(Daemon):
    """A ``proad`` whose next start breaks as ordered."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        super().__init__(*arguments)
        self._environ = {"SABOTAGE": str(self.order_path), **environ}
        self._nursery: Nursery | None = None

    @property
    def order_path(self) -> Path:
        return self.directory / "order"

    def spawn(self, log: BinaryIO) -> Process:
        if self._nursery is None:
            self._nursery = Nursery(self.directory)
        return self._nursery.fork(self.all_arguments(), log.fileno(), **self._environ)

    def own_pids(self) -> set[int]:
        return super().own_pids() | ({self._nursery.pid} if self._nursery else set())

    def close(self) -> list[str]:
        found = super().close()
        if self._nursery is not None:
            self._nursery.close()
        return found

    def order(self, how: str, when: str, step: str) -> None:
        self.order_path.write_text(f"{how} {when} {step}")

    def wait_for_death(self) -> None:
        assert self.process is not None
        self.process.wait(30)

    def create(self, **host_config: Any) -> str:
        """Create a container with something in every step; returns its id."""
        body = {
            "Image": "busybox:latest",
            "Cmd": ["sleep", "1000"],
            "WorkingDir": "/made/for/it",
            "Env": ["A=1"],
            "ExposedPorts": {"80/tcp": {}},
            "HostConfig": {
                "IpcMode": "shareable",
                "Binds": ["data:/data"],
                "Tmpfs": {"/scratch": ""},
                "PortBindings": {"80/tcp": [{"HostPort": ""}]},
                **host_config,
            },
        }
        return str(self.api("POST", "/containers/create", json_body=body).expect(201).json["Id"])

    def told(self, container_id: str) -> list[str]:
        """The actions told of a container so far, in order."""
        return [event["Action"] for event in events_of(self, container_id)]


def events_of(daemon: Daemon, actor_id: str) -> list[Any]:
    """The events told of a container, or a volume, so far."""
    answer = daemon.api("GET", "/events", since="0", until=f"{time.time():.9f}").expect(200)
    events = [json.loads(line) for line in answer.body.splitlines()]
    return [event for event in events if event["Actor"]["ID"] == actor_id]


@pytest.fixture(scope="module")
def sabotaged() -> Iterator[SabotagedDaemon]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    daemon = SabotagedDaemon()
    try:
        daemon.start()
        daemon.import_busybox()
        yield daemon
    finally:
        close(daemon)


def close(daemon: Daemon) -> None:
    leftovers = daemon.close()
    assert not leftovers, "left behind:\n" + "\n".join(leftovers)
