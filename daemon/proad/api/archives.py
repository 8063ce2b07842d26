"""asyncio-flavoured. Files of containers: what lies at a path, it as a tar, and a tar unpacked below it."""

import io
import os
import re

from aiohttp import web

from proad.api import params
from proad.api.hijack import Hijacked, hijackable, take_body
from proad.api.server import SERVER_HEADERS, STARTED, call_while_connected, error_response, roles_of
from proad.api.upload import feed
from proad.engine.archives import Extraction, Upload
from proad.model import errors
from proad.model.pathstatus import HEADER, PathStatus

TAR = "application/x-tar"
_GZIP = re.compile(r"(?:^|,)\s*(?:x-)?gzip\s*(?:;\s*q=(?P<weight>[0-9.]+)\s*)?(?:,|$)", re.IGNORECASE)


def routes() -> list[web.RouteDef]:
    return [
        web.head("/containers/{name:.+}/archive", head_archive),
        web.RouteDef("GET", "/containers/{name:.+}/archive", get_archive, {}),
        web.put("/containers/{name:.+}/archive", put_archive),
    ]


def _path(request: web.Request) -> str:
    """The path that is asked for.

    Raises:
        errors.InvalidParameter: there is none, or no file could be called so.
    """
    path = request.query.get("path", "")
    if not path:
        raise errors.InvalidParameter('bad parameter: "path" cannot be empty')
    if "\0" in path:
        raise errors.InvalidParameter('bad parameter: "path" holds a NUL byte')
    return path


async def head_archive(request: web.Request) -> web.StreamResponse:
    archives, ref = roles_of(request).archives, request.match_info["name"]
    status = await call_while_connected(request, archives.status, ref, _path(request))
    return web.Response(headers={HEADER: status.header})


async def get_archive(request: web.Request) -> web.StreamResponse:
    """The archive. It has gigabytes: a helper process writes it to the client's socket, past both loops."""
    archives, ref, path = roles_of(request).archives, request.match_info["name"], _path(request)
    chunked = request.version >= (1, 1)
    gzip = _wants_gzip(request)

    def begin(status: PathStatus) -> bytes:
        request[STARTED] = True
        headers = {**SERVER_HEADERS, "Content-Type": TAR, HEADER: status.header, "Connection": "close"}
        if gzip:
            headers["Content-Encoding"] = "gzip"
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        lines = [f"HTTP/1.{1 if chunked else 0} 200 OK", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode()

    with _socket(request) as output:
        await call_while_connected(
            request, archives.pack, ref, path, output.fileno(), begin, chunked=chunked, gzip=gzip
        )
    return Hijacked()


def _wants_gzip(request: web.Request) -> bool:
    found = _GZIP.search(request.headers.get("Accept-Encoding", ""))
    return found is not None and (found["weight"] or "1").strip("0.") != ""


async def put_archive(request: web.Request) -> web.StreamResponse:
    """Unpack the archive in the body. A helper reads it from the client's socket where that can be."""
    archives, ref, path = roles_of(request).archives, request.match_info["name"], _path(request)
    how = Extraction(
        replaces=not params.boolean(request.query, "noOverwriteDirNonDir"),
        as_user=params.boolean(request.query, "copyUIDGID"),
    )

    async def work(archive: io.FileIO) -> None:
        with archive:
            await call_while_connected(request, archives.extract, ref, path, archive.fileno(), how)

    with hijackable(request):
        archives.check(ref)
        early = take_body(request)
        if early is None:
            await feed(request, work)
            return web.Response()
        upload = Upload(
            early, None if request.headers.get("Transfer-Encoding") else request.content_length or 0
        )
        try:
            with _socket(request) as source:
                await call_while_connected(request, archives.extract, ref, path, source.fileno(), how, upload)
            response = web.Response()
        except errors.ProaError as error:
            response = error_response(error)
        response.force_close()
        await response.prepare(request)
        await response.write_eof()
        request.protocol.force_close()  # aiohttp would wait for a body that was read already
    return response


def _socket(request: web.Request) -> io.FileIO:
    """The client's socket, under a descriptor of its own."""
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None:
        raise ConnectionResetError("the client has gone")
    return io.FileIO(os.dup(connection.fileno()), "r+b")
