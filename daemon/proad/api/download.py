"""asyncio-flavoured. What a helper process writes, as the body of an answer: from a pipe, in chunks.

An export has gigabytes; it reaches the client without passing from one event loop to the other.
"""

import asyncio
import fcntl
import io
import os
from collections.abc import Awaitable, Callable

from aiohttp import web

PIPE_BYTES = 1 << 20
READ_BYTES = 1 << 17
"""What a unix socket takes at once, so that nothing is copied into a buffer to wait there."""


async def pour(
    request: web.Request, work: Callable[[io.FileIO], Awaitable[None]], media_type: str
) -> web.StreamResponse:
    """Answer with what ``work`` has written into the pipe that it is given, and closes.

    The header waits for the first byte, so that what fails before that is an error of its own; what fails
    later breaks the answer off without its end. Where the client goes away, ``work`` is cancelled.

    Raises:
        Whatever ``work`` raises.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(writing, True)
    _enlarge(writing)
    response = web.StreamResponse(headers={"Content-Type": media_type})
    with io.FileIO(reading, "rb") as pipe:
        working = asyncio.ensure_future(work(io.FileIO(writing, "wb")))
        try:
            while chunk := await _read(pipe):
                if not response.prepared:
                    await response.prepare(request)
                await response.write(chunk)
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


async def _read(pipe: io.FileIO) -> bytes:
    """What the pipe holds; nothing at its end."""
    while (data := pipe.read(READ_BYTES)) is None:
        await _readable(pipe.fileno())
    return data


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _enlarge(pipe: int) -> None:
    """Fewer and larger turns; a kernel that grants no larger pipe leaves it as it is."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except PermissionError:
        return
