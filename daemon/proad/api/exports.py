"""asyncio-flavoured. What a container changed, its files as an archive, and an image of it."""

import io
from collections.abc import Awaitable

from aiohttp import web

from proad.api import params
from proad.api.download import pour
from proad.api.server import call, call_while_connected, json_response, read_body, roles_of
from proad.engine.commit import CommitRequest
from proad.model import createrequest, errors
from proad.model.reference import parse_repository_tag

_KINDS = {"C": 0, "A": 1, "D": 2}


def routes() -> list[web.RouteDef]:
    return [
        web.get("/containers/{name:.+}/changes", get_changes),
        web.get("/containers/{name:.+}/export", get_export),
        web.post("/commit", post_commit),
    ]


async def get_changes(request: web.Request) -> web.StreamResponse:
    """The list of changes; as from Docker, ``null`` where there are none."""
    changes = await call_while_connected(
        request, roles_of(request).exports.changes, request.match_info["name"]
    )
    return json_response([{"Path": change.path, "Kind": _KINDS[change.kind]} for change in changes] or None)


async def get_export(request: web.Request) -> web.StreamResponse:
    exports, ref = roles_of(request).exports, request.match_info["name"]

    def work(output: io.FileIO) -> Awaitable[None]:
        return call_while_connected(request, exports.export, ref, output)

    return await pour(request, work, "application/octet-stream")


async def post_commit(request: web.Request) -> web.StreamResponse:
    """Commit; the body may bring a configuration, which is laid over the container's own."""
    query, ref = request.query, request.query.get("container", "")
    params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
    body = await read_body(request) if request.can_read_body else b""
    if not ref:
        raise errors.InvalidParameter('invalid name or ID supplied: ""')
    wanted = CommitRequest(
        config=createrequest.parse_config(body),
        changes=query.getall("changes", []),
        reference=parse_repository_tag(query.get("repo", ""), query.get("tag", "")),
        author=query.get("author", ""),
        comment=query.get("comment", ""),
        pause=params.boolean(query, "pause", True) if query.get("pause") else True,
    )
    image_id = await call(request, roles_of(request).committer.commit, ref, wanted)
    return json_response({"Id": image_id}, 201)
