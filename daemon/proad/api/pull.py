"""asyncio-flavoured. ``POST /images/create?fromImage=``: what is to be pulled, by whom, and how it goes."""

import msgspec
from aiohttp import web

from proad.api.progress import Report, stream_progress
from proad.api.server import VERSION, call_while_connected, lingering, roles_of
from proad.model import errors
from proad.model.credentials import NOBODY, Credentials, parse_registry_auth
from proad.model.imagearchive import parse_platform
from proad.model.reference import Reference, is_digest, parse_reference, parse_repository_tag

RESERVED_NAME = "scratch"


async def pull(request: web.Request) -> web.StreamResponse:
    """Pull one image, or all tags of a repository where the request names none."""
    puller, query = roles_of(request).puller, request.query
    platform = parse_platform(query.get("platform", "")) if request[VERSION] >= (1, 32) else None
    wanted = wanted_reference(query["fromImage"], query.get("tag", ""))
    credentials = sent_credentials(request)
    verb = puller.pull if wanted.tag or wanted.digest else puller.pull_all

    async def work(report: Report) -> object:
        return await call_while_connected(
            request, verb, wanted, platform=platform, credentials=credentials, report=report
        )

    async with lingering(request):  # a shutdown ends it
        return await stream_progress(request, work)


def wanted_reference(image: str, tag: str) -> Reference:
    """The name that ``fromImage`` and ``tag`` give together; ``tag`` may be a digest.

    Raises:
        errors.InvalidParameter: it is none.
        errors.Forbidden: it is Docker's own.
    """
    reference = parse_reference(image.removesuffix(":"))
    if is_digest(tag):
        reference = msgspec.structs.replace(reference, tag="", digest=tag)
    elif tag:
        # Only its check is wanted of the digest's place; a name with a digest takes a tag as well.
        tagged = parse_repository_tag(reference.name, tag)
        assert tagged is not None
        reference = msgspec.structs.replace(reference, tag=tagged.tag)
    if reference.familiar_name == RESERVED_NAME:
        raise errors.Forbidden(f"'{RESERVED_NAME}' is a reserved name")
    return reference


def sent_credentials(request: web.Request) -> Credentials:
    """Who the client says it is; nobody where its header cannot be read, as with Docker."""
    try:
        return parse_registry_auth(request.headers.get("X-Registry-Auth", ""))
    except errors.InvalidParameter:
        return NOBODY
