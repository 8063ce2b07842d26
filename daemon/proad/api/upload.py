"""asyncio-flavoured. A request's body for a helper process: poured into a pipe here, read by the helper
there.

The body of an import or a load has gigabytes; it reaches the helper through the kernel, without passing
from one event loop to the other.
"""

import asyncio
import fcntl
import io
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from proad.model import errors

T = TypeVar("T")

PIPE_BYTES = 1 << 20


async def feed(request: web.Request, work: Callable[[io.FileIO], Awaitable[T]]) -> T:
    """Run ``work`` on the reading end of a pipe that the body goes into; ``work`` closes what it is given.

    The pipe comes to its end only when the whole body has. Where the client goes away before that, ``work``
    is cancelled, so that half an archive is never taken for one.

    Raises:
        errors.InvalidParameter: the body broke off.
        Whatever ``work`` raises; what is left of the body is then of no interest.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    _enlarge(writing)
    os.set_blocking(writing, False)
    pipe = io.FileIO(writing, "wb")
    pouring = asyncio.ensure_future(_pour(request, pipe))
    working = asyncio.ensure_future(work(io.FileIO(reading, "rb")))
    try:
        await asyncio.wait({pouring, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and pouring.exception() is not None:
            working.cancel()
            raise errors.InvalidParameter(f"the request body broke off: {pouring.exception()}")
        return await working
    finally:
        for task in (pouring, working):
            task.cancel()
        await asyncio.gather(pouring, working, return_exceptions=True)
        pipe.close()


async def _pour(request: web.Request, pipe: io.FileIO) -> None:
    """Write the body into the pipe and close it; one that broke off leaves it open."""
    async for chunk in request.content.iter_any():
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(pipe.fileno(), view) :]
            except BlockingIOError:
                await _writable(pipe.fileno())
            except BrokenPipeError:  # the helper has seen enough, and says why
                return
    pipe.close()


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _enlarge(pipe: int) -> None:
    """Fewer and larger turns; a kernel that grants no larger pipe leaves it as it is."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except PermissionError:
        return
