"""asyncio-flavoured. Building images: the request read, the build run for as long as its client is there, its
lines passed on.
"""

import asyncio
import io
from collections.abc import Awaitable

from aiohttp import web

from proad.api import params
from proad.api.buildrequest import parse_build
from proad.api.progress import encode_line
from proad.api.server import VERSION, call_while_connected, json_response, lingering, roles_of
from proad.api.upload import feed
from proad.engine.build import BuildRequest
from proad.engine.buildoutput import BuildOutput
from proad.engine.buildrun import StepFailed
from proad.model import errors, filters

AUX_SINCE = (1, 30)


def routes() -> list[web.RouteDef]:
    return [
        web.post("/build", post_build),
        web.post("/build/cancel", post_cancel),
        web.post("/build/prune", post_prune),
    ]


async def post_build(request: web.Request) -> web.StreamResponse:
    """Build. As from Docker, what fails after the first line is told in the stream, after a 200."""
    asked = parse_build(request, request[VERSION])
    news = asyncio.Event()
    quiet = params.boolean(request.query, "q")
    output = BuildOutput(news.set, quiet=quiet, with_aux=request[VERSION] >= AUX_SINCE)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    building = asyncio.ensure_future(_build(request, asked, output))
    building.add_done_callback(lambda _: news.set())
    async with lingering(request):
        await _tell(request, response, building, output, news)
    building.result()  # what failed before anything was said is an error of its own
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


async def _tell(
    request: web.Request,
    response: web.StreamResponse,
    building: asyncio.Future[None],
    output: BuildOutput,
    news: asyncio.Event,
) -> None:
    """Pass on what the build says, until it is over; it ends with its client."""
    try:
        while True:
            await news.wait()
            news.clear()
            is_over = building.done()
            if lines := output.take():
                if not response.prepared:
                    await response.prepare(request)
                await response.write(b"".join(map(encode_line, lines)))
            if is_over:
                break
    finally:
        building.cancel()
        await asyncio.gather(building, return_exceptions=True)


async def _build(request: web.Request, asked: BuildRequest, output: BuildOutput) -> None:
    builder = roles_of(request).builder

    def work(context: io.FileIO) -> Awaitable[str]:
        return call_while_connected(request, builder.build, asked, context, output)

    try:
        image_id = await feed(request, work)
    except errors.ProaError as error:
        if not output.has_begun:
            raise
        output.fail(error.message, error.exit_code if isinstance(error, StepFailed) else None)
    else:
        output.conclude(image_id)


async def post_cancel(request: web.Request) -> web.StreamResponse:
    build_id = request.query.get("id", "")
    if not build_id:
        raise errors.InvalidParameter("build ID not provided")
    roles_of(request).builder.cancel(build_id)
    return web.Response()


async def post_prune(request: web.Request) -> web.StreamResponse:
    query = request.query
    wanted = filters.parse(query.get("filters", ""))
    kept_bytes = params.integer(query, "keep-storage", minimum=0, maximum=2**63 - 1) or 0
    reserved = params.integer(query, "reserved-space", minimum=0, maximum=2**63 - 1) or 0
    pruned = await call_while_connected(
        request,
        roles_of(request).builder.prune,
        wanted,
        kept_bytes=max(kept_bytes, reserved),
    )
    return json_response({"CachesDeleted": list(pruned.deleted), "SpaceReclaimed": pruned.space_bytes})
