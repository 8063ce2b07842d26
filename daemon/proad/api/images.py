"""asyncio-flavoured. Image routes: parse, call, show. Archives come in through ``upload``."""

import io
from collections.abc import Awaitable
from typing import Any

from aiohttp import web

from proad.api import imagewire, params
from proad.api.progress import Report, encode_line, stream_progress
from proad.api.pull import pull
from proad.api.server import VERSION, call, call_while_connected, json_response, roles_of
from proad.api.upload import feed
from proad.engine.imagelisting import ImageQuery
from proad.engine.images import Images
from proad.model import errors, filters, platforms
from proad.model.image import Image
from proad.model.imagearchive import Platform
from proad.model.reference import parse_reference, parse_repository_tag


def routes() -> list[web.RouteDef]:
    return [
        web.get("/images/json", get_images),
        web.post("/images/create", post_create),
        web.post("/images/load", post_load),
        web.post("/images/prune", post_prune),
        web.get("/images/{name:.+}/json", get_image),
        web.get("/images/{name:.+}/history", get_history),
        web.post("/images/{name:.+}/tag", post_tag),
        web.delete("/images/{name:.+}", delete_image),
    ]


# --- reading ------------------------------------------------------------------------------------------------


async def get_images(request: web.Request) -> web.StreamResponse:
    images, query, version = roles_of(request).images, request.query, request[VERSION]
    wanted = filters.parse(query.get("filters", ""))
    if version < (1, 25) and query.get("filter") and "reference" not in wanted:
        wanted["reference"] = [query["filter"]]  # the old name of it
    listed = images.list(
        ImageQuery(
            all=params.boolean(query, "all"),
            filters=wanted,
            shared_size=version >= (1, 42) and params.boolean(query, "shared-size"),
        )
    )
    with_manifests = version >= (1, 47) and params.boolean(query, "manifests")
    return json_response(
        [
            imagewire.summary(item, version, _manifests(images, item.image) if with_manifests else None)
            for item in listed
        ]
    )


async def get_image(request: web.Request) -> web.StreamResponse:
    images, query, version = roles_of(request).images, request.query, request[VERSION]
    with_manifests = version >= (1, 48) and params.boolean(query, "manifests")
    platform = params.platform(query) if version >= (1, 49) else None
    if with_manifests and platform:
        raise errors.InvalidParameter(
            "conflicting options: manifests and platform options cannot both be set"
        )
    image = _named(request, images, platform)
    manifests = _manifests(images, image) if with_manifests else None
    return json_response(
        imagewire.inspect(image, images.names(image.id), images.graph_data(image), version, manifests)
    )


async def get_history(request: web.Request) -> web.StreamResponse:
    images, version = roles_of(request).images, request[VERSION]
    platform = params.platform(request.query) if version >= (1, 48) else None
    lineage = images.lineage(_named(request, images, platform))
    return json_response(imagewire.history([(image, images.names(image.id)) for image in lineage]))


def _named(request: web.Request, images: Images, platform: Platform | None) -> Image:
    """The image of the path.

    Raises:
        errors.NotFound: there is none, or it is for another platform than the one asked for.
    """
    name = request.match_info["name"]
    image = images.resolve(name)
    if platform and not platform.matches(image.os, image.architecture, image.variant):
        raise errors.NotFound(
            f"image with reference {name} was found but its platform ({image.os}/{image.architecture}) "
            f"does not match the specified platform ({platforms.describe(platform)})"
        )
    return image


def _manifests(images: Images, image: Image) -> list[dict[str, Any]]:
    content = images.content(image)
    return [imagewire.manifest_summary(image, content.size_bytes, content.is_whole, content.containers)]


# --- coming in ----------------------------------------------------------------------------------------------


async def post_create(request: web.Request) -> web.StreamResponse:
    """Pull from a registry, or import a root filesystem's tar from the body."""
    images, query = roles_of(request).images, request.query
    if query.get("fromImage"):
        return await pull(request)
    source = query.get("fromSrc", "")
    if not source:
        raise errors.InvalidParameter('missing parameter "fromSrc"')
    reference = parse_repository_tag(query.get("repo", ""), query.get("tag", ""))
    platform = params.platform(query) if request[VERSION] >= (1, 32) else None
    message = query.get("message", "") or f"Imported from {source}"
    changes = query.getall("changes", [])

    async def work_from_url(report: Report) -> object:
        return await call_while_connected(
            request,
            roles_of(request).url_import.import_,
            source,
            reference=reference,
            message=message,
            changes=changes,
            platform=platform,
            report=report,
        )

    if source != "-":
        return await stream_progress(request, work_from_url)

    def work(archive: io.FileIO) -> Awaitable[Image]:
        return call_while_connected(
            request,
            images.import_,
            archive,
            reference=reference,
            message=message,
            changes=changes,
            platform=platform,
        )

    image = await feed(request, work)
    return web.Response(body=encode_line({"status": image.id}), content_type="application/json")


async def post_load(request: web.Request) -> web.StreamResponse:
    """Load images from an archive in the body. As from Docker, failures are told in the stream, after a
    200."""
    images, version = roles_of(request).images, request[VERSION]
    platform = params.platform(request.query) if version >= (1, 48) else None
    quiet = params.boolean(request.query, "quiet", True)

    async def work(report: Report) -> object:
        def load(archive: io.FileIO) -> Awaitable[object]:
            return call_while_connected(
                request, images.load, archive, quiet=quiet, platform=platform, report=report
            )

        return await feed(request, load)

    return await stream_progress(request, work, tells_all_failures=True)


# --- changing -----------------------------------------------------------------------------------------------


async def post_tag(request: web.Request) -> web.StreamResponse:
    query = request.query
    if not query.get("repo"):
        parse_reference("")  # says what is wrong with it
    reference = parse_repository_tag(query["repo"], query.get("tag", ""))
    assert reference is not None
    await call(request, roles_of(request).images.tag, request.match_info["name"], reference)
    return web.Response(status=201)


async def delete_image(request: web.Request) -> web.StreamResponse:
    query, name = request.query, request.match_info["name"]
    if not name.strip():
        raise errors.InvalidParameter("image name cannot be blank")
    if query.get("platforms"):
        raise errors.InvalidParameter("platforms: an image here is of one platform and is removed as a whole")
    removed = await call(
        request,
        roles_of(request).images.remove,
        name,
        force=params.boolean(query, "force"),
        no_prune=params.boolean(query, "noprune"),
    )
    return json_response(imagewire.removed(removed))


async def post_prune(request: web.Request) -> web.StreamResponse:
    wanted = filters.parse(request.query.get("filters", ""))
    pruned = await call(request, roles_of(request).images.prune, wanted)
    return json_response(
        {"ImagesDeleted": imagewire.removed(pruned.removed), "SpaceReclaimed": pruned.space_bytes}
    )
