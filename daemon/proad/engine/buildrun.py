"""Trio-flavoured. RUN: a container of one step, from its creation to the image that it leaves.

    created (and marked: it is a build's) -> started -> its output told -> ended -> what it wrote is the layer
        -> removed, while the next step begins

A container of a build that dies with the daemon is removed at the next start of one: the mark says so. What a
step wrote is not copied: its directory becomes the layer's.
"""

import socket
from contextlib import suppress

import structlog
import trio
from msgspec.structs import replace

from proad.engine.buildoutput import BuildOutput, StepOutput
from proad.engine.create import Creator
from proad.engine.locks import Locks
from proad.engine.lookup import find_container
from proad.engine.remove import Remover
from proad.engine.start import Starter
from proad.engine.stepimages import Step, StepImages
from proad.engine.streams import Streams
from proad.engine.waiting import Waiter, Waiters, WaitResult
from proad.host.overlay import Overlay
from proad.model import errors
from proad.model.container import Container
from proad.model.createrequest import CreateRequest
from proad.model.hostconfig import ContainerConfig, HostConfig
from proad.model.image import Image
from proad.store.db import Store

PACKET_BYTES = 64 << 10
PACKETS_A_TURN = 64
_STDERR = 3
"""What a packet of the monitor's begins with; see ``engine.streams``."""
API_VERSION = (1, 51)

log = structlog.get_logger(__name__)


class StepFailed(errors.ProaError):
    """A step's command ended with another code than 0."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BuildRuns:
    """Runs the containers of builds."""

    def __init__(
        self,
        store: Store,
        creator: Creator,
        starter: Starter,
        remover: Remover,
        streams: Streams,
        waiters: Waiters,
        locks: Locks,
        overlay: Overlay,
    ) -> None:
        self._store = store
        self._locks = locks
        self._overlay = overlay
        self._creator = creator
        self._starter = starter
        self._remover = remover
        self._streams = streams
        self._waiters = waiters

    async def create(
        self, config: ContainerConfig, host_config: HostConfig, output: BuildOutput
    ) -> Container:
        """Create a step's container, and say so.

        Raises:
            errors.ProaError: it cannot be created.
        """
        request = CreateRequest(config=config, host_config=host_config)
        created = await self._creator.create(None, request, for_build=True)
        for warning in created.warnings:
            output.say(f" ---> [Warning] {warning}\n")
        output.say(f" ---> Running in {created.id[:12]}\n")
        return find_container(self._store, created.id)

    async def run(self, container: Container, output: BuildOutput) -> None:
        """Start a container, tell its output, and return when it has ended.

        Raises:
            StepFailed: it ended with another code than 0.
            errors.ProaError: it cannot be started.
        """
        waiter = self._waiters.add(container.id, "next-exit")
        try:
            result = await self._run(container, StepOutput(output), waiter)
        finally:
            self._waiters.discard(container.id, waiter)
        if result.exit_code:
            command = " ".join(container.config.cmd or ())
            raise StepFailed(
                f"The command '{command}' returned a non-zero code: {result.exit_code}", result.exit_code
            )

    async def _run(self, container: Container, step: StepOutput, waiter: Waiter) -> WaitResult:
        """Start it; returns when it has ended and the last of its output is told."""
        follower = _Follower(step)
        self._streams.live(container, lambda: follower)
        self._streams.tell(container, "attach")
        failure: errors.ProaError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follower.read)
                try:
                    await self._starter.start(container.id, host_config=None, api_version=API_VERSION)
                    result = await waiter.result()
                except errors.ProaError as error:  # caught here, for a nursery would put it into a group
                    failure = error
                    nursery.cancel_scope.cancel()
        finally:
            self._streams.forget(container.id, follower)
            follower.close()
        if failure is not None:
            raise failure
        return result

    async def image_of(
        self, container: Container, step: Step, images: StepImages, *, may_take: bool
    ) -> Image:
        """Make the image of what a step's container wrote. With ``may_take`` its files are the image's then,
        and all that can be done with it is to remove it.

        Raises:
            errors.NotFound: somebody has removed the container.
            errors.InvalidParameter, errors.System: as :meth:`StepImages.make_of`.
        """
        async with self._locks.of(container.id):
            find_container(self._store, container.id)
            upper = self._overlay.upper_path(container.id)
            # Somebody may be reading its files just now, or have started it once more.
            may_take = may_take and not self._overlay.is_mounted(container.id)
            return await images.make_of(step, upper, may_take=may_take, by_container=True)

    def release(self, container_id: str) -> None:
        """The build leaves the container to its user: it is one as any other from now on."""
        container = self._store.containers.get(container_id)
        if container is not None:
            with self._store.transaction() as tx:
                tx.put_container(replace(container, of_build=False))

    async def remove(self, container_id: str) -> None:
        """Remove a step's container, whatever it does; one that has gone is fine.

        Raises:
            errors.ProaError: it resists.
        """
        with suppress(errors.NotFound):
            await self._remover.remove(container_id, force=True, volumes=True)

    async def recover(self) -> None:
        """Remove the containers of builds that an earlier daemon did not finish."""
        for container in list(self._store.containers.values()):
            if container.of_build:
                log.warning("removing the container of a build that was cut in half", container=container.id)
                try:
                    await self.remove(container.id)
                except errors.ProaError as error:
                    log.error("container not removed", container=container.id, error=error.message)


class _Follower:
    """Reads a run's output on behalf of the build. (``engine.streams.Live``)"""

    def __init__(self, step: StepOutput) -> None:
        self._step = step
        self._connected = trio.Event()
        self._connection: socket.socket | None = None
        self._buffer = memoryview(bytearray(PACKET_BYTES))

    def connect(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connected.set()

    def finish(self) -> None:
        """The run is over, its last output in the socket already."""
        self._connected.set()

    async def read(self) -> None:
        """Tell what comes until the monitor has closed its end."""
        await self._connected.wait()
        while self._connection is not None and self._read_some():
            await self._step.room()
            await trio.lowlevel.wait_readable(self._connection)
        self._step.end()

    def _read_some(self) -> bool:
        """Tell what is there, up to a turn's worth; False at the end."""
        assert self._connection is not None
        pieces: list[bytes] = []
        stream, ended = 0, False
        for _ in range(PACKETS_A_TURN):
            try:
                size = self._connection.recv_into(self._buffer)
            except BlockingIOError:
                break
            except ConnectionError:
                size = 0
            if size == 0:
                ended = True
                break
            if pieces and self._buffer[0] != stream:
                self._tell(stream, b"".join(pieces))
                pieces.clear()
            stream = self._buffer[0]
            pieces.append(bytes(self._buffer[1:size]))
        self._tell(stream, b"".join(pieces))
        return not ended

    def _tell(self, stream: int, data: bytes) -> None:
        if data:
            (self._step.stderr if stream == _STDERR else self._step.stdout)(data)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
