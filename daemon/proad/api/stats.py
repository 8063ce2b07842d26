"""asyncio-flavoured. Statistics of a container: one reading, or one a second until the client has enough."""

import asyncio

from aiohttp import web

from proad.api import params
from proad.api.server import VERSION, lingering, roles_of
from proad.engine.stats import Stats, Watch
from proad.model import errors
from proad.model.container import Container

ONE_SHOT_SINCE = (1, 41)
CONTENT_TYPE = "application/json"


def routes() -> list[web.RouteDef]:
    return [web.get("/containers/{name:.+}/stats", get_stats)]


async def get_stats(request: web.Request) -> web.StreamResponse:
    """``stream=0`` waits for two readings, so that the CPU's use can be told; ``one-shot=1`` does not."""
    stats, query = roles_of(request).stats, request.query
    container = stats.find(request.match_info["name"])
    stream = params.boolean(query, "stream", default=True)
    one_shot = request[VERSION] >= ONE_SHOT_SINCE and params.boolean(query, "one-shot")
    if stream and one_shot:
        raise errors.InvalidParameter("cannot have stream=true and one-shot=true")
    if stream:
        return await _stream(request, stats, container)
    line = stats.read(container) if one_shot else await _comparable(stats, container)
    return web.Response(body=line, content_type=CONTENT_TYPE)


async def _comparable(stats: Stats, container: Container) -> bytes:
    """The next reading that has another before it; an empty one as soon as the container does not run.

    The latest one tells of a time before the request where others watch the container already.
    """
    news = asyncio.Event()
    watch = stats.watch(container, news.set)
    try:
        while (latest := watch.latest) is not None:
            if not watch.is_running or (latest.is_comparable and news.is_set()):
                return latest.line
            news.clear()
            await news.wait()
    finally:
        watch.close()
    raise errors.NotFound(f"No such container: {container.id}")


async def _stream(request: web.Request, stats: Stats, container: Container) -> web.StreamResponse:
    news = asyncio.Event()
    watch = stats.watch(container, news.set)
    try:
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        async with lingering(request):
            await _send(response, watch, news)
        await response.write_eof()
    finally:
        watch.close()
    return response


async def _send(response: web.StreamResponse, watch: Watch, news: asyncio.Event) -> None:
    """Send readings until the container is removed; those that come while the client is busy are left out."""
    while (latest := watch.latest) is not None:
        news.clear()
        await response.write(latest.line)
        await news.wait()
