"""asyncio-flavoured. Lines of progress as the body of an answer, each sent as soon as it is told."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from proad.model import errors
from proad.model.progress import Line, failure

MAX_WAITING_LINES = 1000
"""Of a client that reads too slowly; beyond that it misses how far things were, but never what happened."""

Report = Callable[[Line], None]


async def stream_progress(
    request: web.Request,
    work: Callable[[Report], Awaitable[object]],
    *,
    tells_all_failures: bool = False,
) -> web.StreamResponse:
    """Answer with the lines that ``work`` reports. What fails before the first is an error of its own, unless
    the stream ``tells_all_failures``; what fails later is the last line. Where the client goes away, ``work``
    is cancelled.

    Raises:
        errors.ProaError: what ``work`` raises before it reports anything.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    lines: asyncio.Queue[Line | None] = asyncio.Queue()

    def report(line: Line) -> None:
        if lines.qsize() < MAX_WAITING_LINES or "progress" not in line:
            lines.put_nowait(line)

    async def run() -> None:
        try:
            await work(report)
        finally:
            lines.put_nowait(None)

    working = asyncio.ensure_future(run())
    try:
        while (line := await lines.get()) is not None:
            if not response.prepared:
                await response.prepare(request)
            await response.write(encode_line(line))
        try:
            await working
        except errors.ProaError as error:
            if not response.prepared:
                if not tells_all_failures:
                    raise
                await response.prepare(request)
            await response.write(encode_line(failure(error.message)))
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


def encode_line(line: Line) -> bytes:
    return msgspec.json.encode(line) + b"\r\n"
