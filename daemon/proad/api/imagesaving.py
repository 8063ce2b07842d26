"""asyncio-flavoured. Images as archives (``docker save``)."""

from collections.abc import Sequence

from aiohttp import web

from proad.api import filebody, params
from proad.api.server import VERSION, call, roles_of


def routes() -> list[web.RouteDef]:
    return [web.get("/images/get", get_images), web.get("/images/{name:.+}/get", get_image)]


async def get_images(request: web.Request) -> web.StreamResponse:
    return await _save(request, request.query.getall("names", []))


async def get_image(request: web.Request) -> web.StreamResponse:
    return await _save(request, [request.match_info["name"]])


async def _save(request: web.Request, names: Sequence[str]) -> web.StreamResponse:
    images = roles_of(request).images
    platform = params.platform(request.query) if request[VERSION] >= (1, 48) else None
    try:
        with images.saved(names, platform) as archive:
            return await filebody.send(request, archive.pieces, archive.size_bytes, "application/x-tar")
    finally:
        await call(request, images.sweep)  # what was removed meanwhile was still being read
