"""asyncio-flavoured. Routes that talk to registries, but for pulls: push, login, inspection, search."""

import msgspec
from aiohttp import web

from proad.api import params
from proad.api.progress import Report, stream_progress
from proad.api.pull import sent_credentials
from proad.api.server import call, call_while_connected, json_response, lingering, read_body, roles_of
from proad.engine.registries import DEFAULT_RESULTS, SEARCH_FILTERS
from proad.model import errors, filters
from proad.model.credentials import parse_auth_config
from proad.model.imagearchive import Platform
from proad.model.reference import Reference, parse_reference, parse_repository_tag


def routes() -> list[web.RouteDef]:
    return [
        web.post("/auth", post_auth),
        web.get("/images/search", get_search),
        web.post("/images/{name:.+}/push", post_push),
        web.get("/distribution/{name:.+}/json", get_distribution),
    ]


async def post_push(request: web.Request) -> web.StreamResponse:
    """Push one tag, or all of a repository where the request names none. As from Docker, failures are told in
    the stream."""
    pusher, credentials = roles_of(request).pusher, sent_credentials(request)
    name, tag = request.match_info["name"], request.query.get("tag", "")
    wanted: Reference | None = parse_repository_tag(name, tag) if tag else parse_reference(name)
    assert wanted is not None

    async def work(report: Report) -> object:
        return await call_while_connected(
            request, pusher.push, wanted, credentials=credentials, report=report
        )

    async with lingering(request):  # a shutdown ends it
        return await stream_progress(request, work)


async def post_auth(request: web.Request) -> web.StreamResponse:
    body = await read_body(request)
    params.require_json(request.headers.get("Content-Type", ""), bool(body))
    token = await call(request, roles_of(request).registry_queries.login, parse_auth_config(body))
    return json_response({"Status": "Login Succeeded", "IdentityToken": token})


async def get_distribution(request: web.Request) -> web.StreamResponse:
    wanted = parse_reference(request.match_info["name"])
    found = await call_while_connected(
        request, roles_of(request).registry_queries.distribution, wanted, sent_credentials(request)
    )
    return json_response(
        {
            "Descriptor": msgspec.to_builtins(found.descriptor),
            "Platforms": [_platform(platform) for platform in found.platforms],
        }
    )


def _platform(platform: Platform) -> dict[str, str]:
    shown = {"architecture": platform.architecture, "os": platform.os}
    return {**shown, "variant": platform.variant} if platform.variant else shown


async def get_search(request: web.Request) -> web.StreamResponse:
    query = request.query
    if not query.get("term"):
        raise errors.InvalidParameter('missing parameter "term"')
    limit = params.integer(query, "limit")
    found = await call_while_connected(
        request,
        roles_of(request).registry_queries.search,
        query["term"],
        DEFAULT_RESULTS if limit is None else limit,
        filters.parse(query.get("filters", ""), SEARCH_FILTERS),
        sent_credentials(request),
    )
    return json_response(
        [
            {
                "star_count": item.stars,
                "is_official": item.is_official,
                "name": item.name,
                "is_automated": False,
                "description": item.description,
            }
            for item in found
        ]
    )
