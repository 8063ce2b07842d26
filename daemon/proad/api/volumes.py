"""asyncio-flavoured. Volume routes: parse, call, show."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from proad.api import params
from proad.api.server import VERSION, call, json_response, read_body, roles_of
from proad.engine.volumes import VolumeUsage
from proad.model import errors, filters, gojson
from proad.model.hostconfig import Empty, api_name
from proad.model.volume import Volume

Json = dict[str, Any]


class VolumeCreateRequest(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """The body of ``POST /volumes/create``."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}
    cluster_volume_spec: Empty | None = None


def routes() -> list[web.RouteDef]:
    return [
        web.get("/volumes", get_volumes),
        web.post("/volumes/create", post_create),
        web.post("/volumes/prune", post_prune),
        web.get("/volumes/{name:.+}", get_volume),
        web.put("/volumes/{name:.+}", put_volume),
        web.delete("/volumes/{name:.+}", delete_volume),
    ]


async def get_volumes(request: web.Request) -> web.StreamResponse:
    volumes = roles_of(request).volumes
    listed = volumes.list(filters.parse(request.query.get("filters", "")))
    shown = [show(volume, volumes.mountpoint(volume)) for volume in listed]
    return json_response({"Volumes": shown, "Warnings": []})


async def get_volume(request: web.Request) -> web.StreamResponse:
    volumes = roles_of(request).volumes
    volume = volumes.find(request.match_info["name"])
    return json_response(show(volume, volumes.mountpoint(volume)))


async def post_create(request: web.Request) -> web.StreamResponse:
    volumes = roles_of(request).volumes
    params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
    wanted = gojson.convert(gojson.parse_object(await read_body(request)), VolumeCreateRequest)
    if wanted.cluster_volume_spec is not None:
        raise errors.InvalidParameter("ClusterVolumeSpec: cluster volumes are not supported by this engine")
    volume = await call(
        request,
        volumes.create,
        wanted.name,
        driver=wanted.driver,
        options=wanted.driver_opts,
        labels=wanted.labels,
    )
    return json_response(show(volume, volumes.mountpoint(volume)), 201)


async def put_volume(request: web.Request) -> web.StreamResponse:
    raise errors.Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


async def delete_volume(request: web.Request) -> web.StreamResponse:
    force = params.boolean(request.query, "force")
    await call(request, roles_of(request).volumes.remove, request.match_info["name"], force=force)
    return web.Response(status=204)


async def post_prune(request: web.Request) -> web.StreamResponse:
    wanted = filters.parse(request.query.get("filters", ""))
    if request[VERSION] < (1, 42):
        # Older clients mean named volumes too and have no word for it.
        wanted["all"] = ["true"]
    report = await call(request, roles_of(request).volumes.prune, wanted)
    return json_response({"VolumesDeleted": report.deleted, "SpaceReclaimed": report.space_bytes})


def show(volume: Volume, mountpoint: Path, usage: VolumeUsage | None = None) -> Json:
    """Return a volume in the API's form, with ``UsageData`` where it was measured."""
    shown: Json = {
        "CreatedAt": datetime.fromtimestamp(volume.created_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": str(mountpoint),
        "Name": volume.name,
        "Options": volume.options,
        "Scope": volume.scope,
    }
    if usage is not None:
        shown["UsageData"] = {"Size": usage.size_bytes, "RefCount": usage.references}
    return shown
