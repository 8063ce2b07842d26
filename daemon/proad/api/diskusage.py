"""asyncio-flavoured. What images, containers and volumes take on disk (``docker system df``)."""

import time
from collections.abc import Collection

import msgspec
from aiohttp import web

from proad.api import imagewire, volumes
from proad.api.containers import measure
from proad.api.server import SUMMARIES, VERSION, call, json_response, roles_of
from proad.api.wire import ApiVersion, Json
from proad.engine.listing import ListQuery
from proad.engine.roles import Roles
from proad.model import errors

TYPES = ("container", "image", "volume", "build-cache")


def routes() -> list[web.RouteDef]:
    return [web.get("/system/df", get_disk_usage)]


async def get_disk_usage(request: web.Request) -> web.StreamResponse:
    """All of it, or from version 1.42 the kinds that ``type`` names; it may be given several times."""
    version, roles = request[VERSION], roles_of(request)
    wanted = request.query.getall("type", []) if version >= (1, 42) else []
    for kind in wanted:
        if kind not in TYPES:
            raise errors.InvalidParameter(f"unknown object type: {kind}")
    usage = await call(request, _measure, roles, frozenset(wanted or TYPES), version)
    if not wanted or "container" in wanted:
        listed = roles.containers.list(ListQuery(all=True))
        sizes = await call(request, measure, roles, listed)
        usage["Containers"] = msgspec.Raw(
            request.app[SUMMARIES].encode(
                [container for container in listed if container.id in sizes],
                now_ns=time.time_ns(),
                version=version,
                network_ids=roles.networks.ids(),
                image_name=roles.containers.image_name,
                link_names=roles.containers.link_names(),
                sizes=sizes,
            )
        )
    return json_response(usage)


async def _measure(roles: Roles, wanted: Collection[str], version: ApiVersion) -> Json:
    """Trio-flavoured: the answer but for its containers."""
    usage: Json = {}
    if "image" in wanted:
        images = await roles.images.usage()
        usage["LayersSize"] = images.layers_bytes
        usage["Images"] = [imagewire.summary(item, version, None) for item in images.summaries]
    if "volume" in wanted:
        usage["Volumes"] = [
            volumes.show(item.volume, roles.volumes.mountpoint(item.volume), item)
            for item in await roles.volumes.usage()
        ]
    if "build-cache" in wanted:
        usage["BuildCache"] = []
    return usage
