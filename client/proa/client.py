"""Sync, blocking. The front of the Python API: `connect()` and the Client it returns.

    import proa

    with proa.connect() as client:
        print(client.run("busybox", ["echo", "hello"]).stdout)
        for container in client.containers.list(all=True):
            print(container["Id"], container["State"])

Answers are plain dictionaries with Docker's keys (`proa.types`); errors are in `proa.errors`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from proa.containers import Containers
from proa.execs import Execs
from proa.hosts import choose_host
from proa.images import Images
from proa.networks import Networks
from proa.output import collect
from proa.results import Completed
from proa.system import System
from proa.transport import Transport
from proa.volumes import Volumes

if TYPE_CHECKING:
    from proa.types import JSON

DEFAULT_TIMEOUT_S = 60.0


class Client:
    """A daemon to talk to. Not to be used by two threads at once; make a Client for each."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.containers = Containers(transport)
        self.execs = Execs(transport)
        self.images = Images(transport)
        self.networks = Networks(transport)
        self.volumes = Volumes(transport)
        self.system = System(transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        """The address in use."""
        return self._transport.host.text

    @property
    def api_version(self) -> str:
        """The API version agreed upon, such as "1.51" (asks the daemon on first use)."""
        major, minor = self._transport.version()
        return f"{major}.{minor}"

    def close(self) -> None:
        """Let go of the connection; the client may be used again all the same."""
        self._transport.close()

    def run(
        self,
        image: str,
        command: Sequence[str] | None = None,
        *,
        config: JSON | None = None,
        host_config: JSON | None = None,
        name: str | None = None,
        remove: bool = True,
    ) -> Completed:
        """Run a container to its end and return its exit code and what it wrote.

        `config` and `host_config` add Docker's settings (`config={"Env": ["A=1"]}`). The container is removed
        afterwards, whether it succeeded or not, unless `remove` is False.
        Raises NotFound (no such image) and what else `create` and `start` raise.
        """
        asked: JSON = {"Image": image, "AttachStdout": True, "AttachStderr": True}
        if command is not None:
            asked["Cmd"] = list(command)
        created = self.containers.create({**asked, **(config or {})}, host_config, name=name)
        try:
            attached = self.containers.attach(created.id)
            with attached.sock:
                waiter = self.containers.wait(created.id, "next-exit")
                try:
                    self.containers.start(created.id)
                except BaseException:
                    waiter.close()
                    raise
                stdout, stderr = collect(attached)
            return Completed(waiter.result(), stdout, stderr)
        finally:
            if remove:
                self.containers.remove(created.id, force=True, volumes=True)


def connect(
    host: str | None = None, timeout: float | None = DEFAULT_TIMEOUT_S, *, api_version: str | None = None
) -> Client:
    """A client for the daemon at `host`, or at PROA_HOST, DOCKER_HOST or unix:///run/proa/proa.sock.

    `timeout` is in seconds and bounds connecting and ordinary answers, not operations that take their time
    by nature (stop, wait, followed logs, uploads); None waits for ever. Nothing is sent until the first use.
    Raises BadHost when the address cannot be understood.
    """
    return Client(Transport(choose_host(host, os.environ), timeout, api_version))
