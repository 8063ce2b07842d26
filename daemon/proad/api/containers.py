"""asyncio-flavoured. Container routes: parse, call, show. Attach and logs are streams and live in
``streams``."""

import time

import msgspec
from aiohttp import web

from proad.api import params, wire
from proad.api.server import (
    SUMMARIES,
    VERSION,
    call,
    call_while_connected,
    json_response,
    lingering,
    read_body,
    roles_of,
)
from proad.engine.listing import ListQuery
from proad.engine.roles import Roles
from proad.engine.waiting import WaitResult
from proad.model import createrequest, errors, filters
from proad.model.container import Container

MAX_STOP_TIMEOUT_S = 2**31 - 1
START_BODY_REMOVED = (
    "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
)


def routes() -> list[web.RouteDef]:
    return [
        web.get("/containers/json", get_containers),
        web.post("/containers/create", post_create),
        web.post("/containers/prune", post_prune),
        web.get("/containers/{name:.+}/json", get_container),
        web.get("/containers/{name:.+}/top", get_top),
        web.post("/containers/{name:.+}/start", post_start),
        web.post("/containers/{name:.+}/stop", post_stop),
        web.post("/containers/{name:.+}/restart", post_restart),
        web.post("/containers/{name:.+}/kill", post_kill),
        web.post("/containers/{name:.+}/pause", post_pause),
        web.post("/containers/{name:.+}/unpause", post_unpause),
        web.post("/containers/{name:.+}/wait", post_wait),
        web.post("/containers/{name:.+}/rename", post_rename),
        web.post("/containers/{name:.+}/update", post_update),
        web.post("/containers/{name:.+}/resize", post_resize),
        web.delete("/containers/{name:.+}", delete_container),
    ]


def _no_content() -> web.Response:
    return web.Response(status=204)


# --- reading ----------------------------------------------------------------------------------------------


async def get_containers(request: web.Request) -> web.StreamResponse:
    roles, query = roles_of(request), request.query
    listed = roles.containers.list(
        ListQuery(
            all=params.boolean(query, "all"),
            limit=max(params.integer(query, "limit") or 0, 0),
            filters=_list_filters(query),
        )
    )
    sizes = None
    if params.boolean(query, "size"):
        sizes = await call(request, measure, roles, listed)
    summaries, records = request.app[SUMMARIES], roles.containers.count()
    if len(summaries) > 2 * records + 64:
        summaries.forget_all_but(roles.containers.ids())
    body = summaries.encode(
        listed,
        now_ns=time.time_ns(),
        version=request[VERSION],
        network_ids=roles.networks.ids(),
        image_name=roles.containers.image_name,
        link_names=roles.containers.link_names(),
        sizes=sizes,
    )
    return web.Response(body=body, content_type="application/json")


def _list_filters(query: params.Query) -> dict[str, list[str]]:
    """The filters, with the two parameters that they replaced long ago."""
    wanted = filters.parse(query.get("filters", ""))
    for old in ("since", "before"):
        if query.get(old):
            wanted.setdefault(old, []).append(query[old])
    return wanted


async def measure(roles: Roles, containers: list[Container]) -> dict[str, tuple[int, int]]:
    """Trio-flavoured: sizes by id; a container that goes away meanwhile is left out."""
    sizes = {}
    for container in containers:
        try:
            sizes[container.id] = await roles.containers.sizes(container.id)
        except errors.NotFound:
            continue
    return sizes


async def get_container(request: web.Request) -> web.StreamResponse:
    roles, ref = roles_of(request), request.match_info["name"]
    with_sizes = params.boolean(request.query, "size")
    container = roles.containers.find(ref)
    sizes = await call(request, roles.containers.sizes, container.id) if with_sizes else None
    place = wire.Place(
        roles.config.data_root, roles.networks.ids(), roles.containers.name_of, roles.execs.ids_of
    )
    return json_response(wire.inspect(container, place, request[VERSION], sizes))


async def get_top(request: web.Request) -> web.StreamResponse:
    roles, ref = roles_of(request), request.match_info["name"]
    titles, processes = await call(request, roles.containers.top, ref, request.query.get("ps_args", "-ef"))
    return json_response({"Titles": titles, "Processes": processes})


# --- life -------------------------------------------------------------------------------------------------


async def post_create(request: web.Request) -> web.StreamResponse:
    roles = roles_of(request)
    params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
    wanted = createrequest.parse_create(await read_body(request), request[VERSION])
    if request[VERSION] >= (1, 41) and request.query.get("platform"):
        _check_platform(roles, wanted.config.image, request.query["platform"])
    created = await call(request, roles.creator.create, request.query.get("name") or None, wanted)
    return json_response({"Id": created.id, "Warnings": created.warnings}, 201)


def _check_platform(roles: Roles, ref: str, platform: str) -> None:
    """Refuse an image that was built for another platform than ``os[/architecture[/variant]]``."""
    image = roles.images.resolve(ref)
    asked = platform.lower().split("/")
    known = [image.os, image.architecture, image.variant]
    if not 1 <= len(asked) <= 3 or "" in asked:
        raise errors.InvalidParameter(
            f'"{platform}" is an invalid platform: want os[/architecture[/variant]]'
        )
    if len(asked) == 1 and asked[0] != image.os and asked[0] == image.architecture:
        return
    if asked != known[: len(asked)]:
        raise errors.NotFound(
            f"image with reference {ref} was found but its platform ({'/'.join(filter(None, known))}) "
            f"does not match the specified platform ({platform})"
        )


async def post_start(request: web.Request) -> web.StreamResponse:
    """Start; below version 1.24 a body may bring the HostConfig, as clients of Docker 1.11 did."""
    roles, version = roles_of(request), request[VERSION]
    host_config = None
    body = await read_body(request) if request.can_read_body else b""
    if len(body.strip()) > len(b"{}") and body.strip() != b"null":
        if version >= (1, 24):
            raise errors.InvalidParameter(START_BODY_REMOVED)
        params.require_json(request.headers.get("Content-Type", ""), True)
        host_config = createrequest.parse_host_config(body)
    if request.query.get("checkpoint"):
        raise errors.NotImplemented("checkpoint: this engine does not have checkpoints")
    await call(
        request, roles.starter.start, request.match_info["name"], host_config=host_config, api_version=version
    )
    return _no_content()


def _stop_options(request: web.Request) -> tuple[str | None, int | None]:
    """The signal (API 1.42 and newer) and the timeout of a stop or restart; negative is "for ever"."""
    query = request.query
    signal = query.get("signal") if request[VERSION] >= (1, 42) else None
    return signal or None, params.integer(query, "t", maximum=MAX_STOP_TIMEOUT_S)


async def post_stop(request: web.Request) -> web.StreamResponse:
    signal, timeout_s = _stop_options(request)
    stop = roles_of(request).control.stop
    await call(request, stop, request.match_info["name"], signal=signal, timeout_s=timeout_s)
    return _no_content()


async def post_restart(request: web.Request) -> web.StreamResponse:
    signal, timeout_s = _stop_options(request)
    restart = roles_of(request).control.restart
    await call(request, restart, request.match_info["name"], signal=signal, timeout_s=timeout_s)
    return _no_content()


async def post_kill(request: web.Request) -> web.StreamResponse:
    kill = roles_of(request).control.kill
    await call(request, kill, request.match_info["name"], request.query.get("signal") or "SIGKILL")
    return _no_content()


async def post_pause(request: web.Request) -> web.StreamResponse:
    await call(request, roles_of(request).control.pause, request.match_info["name"])
    return _no_content()


async def post_unpause(request: web.Request) -> web.StreamResponse:
    await call(request, roles_of(request).control.unpause, request.match_info["name"])
    return _no_content()


async def post_wait(request: web.Request) -> web.StreamResponse:
    """Answer the header at once (from version 1.30), the exit code when there is one."""
    containers = roles_of(request).containers
    condition = "not-running"
    if request[VERSION] >= (1, 30):
        condition = request.query.get("condition") or condition
    container_id = containers.find(request.match_info["name"]).id
    waiter = await call(request, containers.wait, container_id, condition)
    response = web.StreamResponse()
    response.content_type = "application/json"
    if request[VERSION] >= (1, 30):
        await response.prepare(request)
    try:
        async with lingering(request):
            result = await call_while_connected(request, waiter.result)
    finally:
        containers.stop_waiting(container_id, waiter)
    if not response.prepared:
        await response.prepare(request)
    await response.write(msgspec.json.encode(_wait_body(result)) + b"\n")
    await response.write_eof()
    return response


def _wait_body(result: WaitResult) -> wire.Json:
    body: wire.Json = {"StatusCode": result.exit_code}
    if result.error:
        body["Error"] = {"Message": result.error}
    return body


# --- change -----------------------------------------------------------------------------------------------


async def post_rename(request: web.Request) -> web.StreamResponse:
    rename = roles_of(request).containers.rename
    await call(request, rename, request.match_info["name"], request.query.get("name", ""))
    return _no_content()


async def post_update(request: web.Request) -> web.StreamResponse:
    roles = roles_of(request)
    params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
    wanted = createrequest.parse_update(await read_body(request))
    if request[VERSION] >= (1, 42):
        wanted = msgspec.structs.replace(wanted, kernel_memory=0)
    if request[VERSION] < (1, 40):
        wanted = msgspec.structs.replace(wanted, pids_limit=None)
    warnings = await call(request, roles.containers.update, request.match_info["name"], wanted)
    return json_response({"Warnings": warnings})


async def post_resize(request: web.Request) -> web.StreamResponse:
    height = params.required_integer(request.query, "h", minimum=0, maximum=65535)
    width = params.required_integer(request.query, "w", minimum=0, maximum=65535)
    await call(request, roles_of(request).control.resize, request.match_info["name"], height, width)
    return web.Response(status=200)


async def delete_container(request: web.Request) -> web.StreamResponse:
    """Remove a container or, with ``link``, a link: ``holder/alias``."""
    query, remover, ref = request.query, roles_of(request).remover, request.match_info["name"]
    force, volumes = params.boolean(query, "force"), params.boolean(query, "v")
    if params.boolean(query, "link"):
        await call(request, remover.remove_link, ref)
    else:
        await call(request, remover.remove, ref, force=force, volumes=volumes)
    return _no_content()


async def post_prune(request: web.Request) -> web.StreamResponse:
    prune = roles_of(request).remover.prune
    report = await call(request, prune, filters.parse(request.query.get("filters", "")))
    return json_response({"ContainersDeleted": report.deleted, "SpaceReclaimed": report.space_bytes})
