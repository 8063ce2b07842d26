"""Trio-flavoured. Tasks for the warm helper process: handed over, talked to, and ended.

    async with helpers.task({"task": "pack", …}, stream) as task:
        said = await task.hear()                    # a JSON object of the task's process
        await task.tell(b"…")
        result = await task.result()

What the helper does, and why it stays warm, stands in ``helperserver``.
"""

import array
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from proad.host import process
from proad.host.helperchannel import MAX_PACKET_BYTES
from proad.model import errors

_MAX_TASK_BYTES = MAX_PACKET_BYTES
_END_S = 4.0
"""A task that is told to end has this long, then it is killed."""
_BOOT = (
    "import sys; sys.path[:] = sys.argv.pop().split(':'); from proad.host.helperserver import main; main()"
)

_Pair = tuple[socket.socket, socket.socket]


class HelperEnded(errors.System):
    """A task's process ended without saying how it went."""


class Task:
    """A task under way, in a process of its own."""

    def __init__(self, channel: trio.socket.SocketType) -> None:
        self._channel = channel
        self._pidfd = -1

    async def begin(self) -> bool:
        """Wait until the process is there; False if the server went away before it took the task."""
        packet, ancillary, _, _ = await self._channel.recvmsg(
            MAX_PACKET_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
        )
        for _, _, data in ancillary:
            self._pidfd = array.array("i", data)[0]
        return bool(packet)

    async def hear(self) -> dict[str, Any]:
        """What the process says next.

        Raises:
            errors.NotFound, errors.InvalidParameter, errors.System: it says that it cannot do the task.
            HelperEnded: it says nothing any more.
        """
        packet = await self._channel.recv(MAX_PACKET_BYTES)
        said: dict[str, Any] = json.loads(packet) if packet else {}
        if not said:
            raise HelperEnded("the helper process ended early")
        if "error" in said:
            raise _ERRORS[said["kind"]](said["error"])
        return said

    async def tell(self, data: bytes) -> None:
        """Send the process a packet, not empty.

        Raises:
            HelperEnded: it is gone.
        """
        try:
            await self._channel.send(data)
        except OSError as error:
            raise HelperEnded("the helper process ended early") from error

    async def result(self) -> Any:
        """What the task came to; raises as :meth:`hear`."""
        return (await self.hear())["result"]

    async def end(self) -> None:
        """See the process off: what is still at work is told to end, and killed if it does not."""
        self._channel.close()
        if self._pidfd < 0:
            return
        try:
            with trio.CancelScope(shield=True):
                for number in (signal.SIGTERM, signal.SIGKILL):
                    if not process.send_signal(self._pidfd, number):
                        return
                    with trio.move_on_after(_END_S):
                        await process.wait_pidfd(self._pidfd)
                        return
        finally:
            os.close(self._pidfd)


_ERRORS: dict[str, type[errors.ProaError]] = {
    "missing": errors.NotFound,
    "invalid": errors.InvalidParameter,
    "unread": HelperEnded,
    "system": errors.System,
}


class Helpers:
    """The warm helper, and the tasks it is given. ``nursery`` watches it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._server: socket.socket | None = None

    def warm(self) -> None:
        """See to it that the helper is there, or coming up: a task is to be expected.

        Raises:
            errors.System: it cannot be executed.
        """
        if self._server is not None:
            return
        ours, theirs = _pair()
        with theirs:
            argv = [sys.executable, "-I", "-S", "-c", _BOOT, str(os.getpid()), ":".join(sys.path)]
            try:
                child = process.spawn(argv, stdin=theirs.fileno(), stderr=2)
            except errors.System:
                ours.close()
                raise
        self._server = ours
        self._nursery.start_soon(self._watch, child, ours)

    async def _watch(self, child: process.Child, server: socket.socket) -> None:
        try:
            await child.wait()
        finally:
            self._forget(server)
            await process.end(child)

    def _forget(self, server: socket.socket) -> None:
        server.close()
        if self._server is server:
            self._server = None

    @asynccontextmanager
    async def task(self, task: Mapping[str, Any], stream: int) -> AsyncIterator[Task]:
        """Have a task done. ``stream`` goes to its process as well, and stays the caller's; the process ends
        with the block.

        Raises:
            errors.System: there is no helper to be had, or the task is too large to be told.
        """
        begun = await self._begin(json.dumps(task).encode(), stream)
        try:
            yield begun
        finally:
            await begun.end()

    async def _begin(self, packet: bytes, stream: int) -> Task:
        if len(packet) > _MAX_TASK_BYTES:
            raise errors.System("the task is too large for the helper process")
        for _ in range(2):  # a server that was about to leave takes a task along unheard
            self.warm()
            server = self._server
            assert server is not None
            ours, theirs = _pair()
            task = Task(trio.socket.from_stdlib_socket(ours))
            try:
                with theirs:
                    await _send(server, packet, (theirs.fileno(), stream))
                if await task.begin():
                    return task
            except (OSError, trio.ClosedResourceError):
                await task.end()
            except BaseException:
                await task.end()
                raise
            self._forget(server)
        raise HelperEnded("the helper process cannot be started")


async def _send(server: socket.socket, packet: bytes, descriptors: tuple[int, ...]) -> None:
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    while True:
        try:
            server.sendmsg([packet], passed, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(server)
        else:
            return


def _pair() -> _Pair:
    """A SOCK_SEQPACKET pair: our end does not block, theirs does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs
