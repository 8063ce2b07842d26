"""asyncio-flavoured. The HTTP front: one application, the seam down to the engine, and the one error table.

A handler parses its request, makes one :func:`call`, and returns what ``wire`` makes of the result. It raises
the errors of ``model.errors`` and knows no status code but its own success. Each module of routes has a
function ``routes() -> list[web.RouteDef]`` whose paths bear no version prefix; ``request[VERSION]`` is the
version asked for.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import msgspec
import structlog
import trio_asyncio
from aiohttp import web

import proad
from proad.api import hijack, httplog, listen
from proad.api.hub import Hub
from proad.api.router import MAX_VERSION, MIN_VERSION, ApiVersion, Router, show_version, split_version
from proad.api.summaries import Summaries
from proad.config import Config
from proad.engine.roles import Roles
from proad.model import errors

P = ParamSpec("P")
T = TypeVar("T")

ROLES = web.AppKey("roles", Roles)
OPERATIONS: web.AppKey[set[asyncio.Future[Any]]] = web.AppKey("operations", set)
"""What the engine is doing for requests at this moment; a drain waits for it."""
LINGERING: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("lingering", set)
"""Handlers that may last for ever (events, followed logs, waits); a drain ends them at once."""
SUMMARIES = web.AppKey("summaries", Summaries)
EVENT_HUB = web.AppKey("event_hub", Hub)
VERSION: web.RequestKey[ApiVersion] = web.RequestKey("version", tuple)
REQUEST_ID = web.RequestKey("request_id", str)
STARTED = web.RequestKey("started", bool)

MAX_BODY_BYTES = 16 << 20
"""Of bodies that are read whole. Streams (image import and load, attach) are not bound by it."""
SERVER_HEADERS = {
    "Api-Version": show_version(MAX_VERSION),
    "Ostype": "linux",
    "Server": f"proa/{proad.__version__} (linux)",
}

log = structlog.get_logger(__name__)


# --- the seam ---------------------------------------------------------------------------------------------


async def call(
    request: web.BaseRequest, op: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run the Trio-flavoured ``op(*args, **kwargs)`` and return its result; the only way down to the engine.

    The operation goes on to its end when the client hangs up. A crossing costs about 50 µs: make one per
    request, never one per chunk or event. Functions of the engine that are plain ``def`` are called without
    it.

    Raises:
        Whatever ``op`` raises; an ExceptionGroup of one is unwrapped.
    """
    future: asyncio.Future[T] = asyncio.ensure_future(trio_asyncio.trio_as_aio(op)(*args, **kwargs))
    operations = request.config_dict[OPERATIONS] if isinstance(request, web.Request) else None
    if operations is not None:
        operations.add(future)
        future.add_done_callback(operations.discard)
    try:
        return await asyncio.shield(future)
    except BaseExceptionGroup as group:
        raise unwrap(group) from group


async def call_while_connected(
    request: web.BaseRequest, op: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Like :func:`call`, for operations that only watch: cancelled when the client hangs up."""
    try:
        result: T = await trio_asyncio.trio_as_aio(op)(*args, **kwargs)
    except BaseExceptionGroup as group:
        raise unwrap(group) from group
    return result


def unwrap(error: BaseException) -> BaseException:
    """Return the one error inside nested groups of one, else ``error`` itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def roles_of(request: web.Request) -> Roles:
    return request.app[ROLES]


@asynccontextmanager
async def lingering(request: web.Request) -> AsyncIterator[None]:
    """Mark the handler as one that may last for ever: a drain cancels it instead of waiting for it."""
    task = asyncio.current_task()
    assert task is not None
    request.app[LINGERING].add(task)
    try:
        yield
    finally:
        request.app[LINGERING].discard(task)


# --- the one error table ----------------------------------------------------------------------------------

STATUS: dict[type[errors.ProaError], int] = {
    errors.InvalidParameter: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.NotImplemented: 501,
    errors.Unavailable: 503,
    errors.System: 500,
}


def status_of(error: BaseException) -> int:
    """Return the HTTP status for an error; 500 for all that is no :class:`errors.ProaError`."""
    if isinstance(error, errors.StartFailed):
        return 400 if error.exit_code in (126, 127) else 500
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_response(error: BaseException) -> web.Response:
    """Return the answer for an error, ``{"message": ...}``; no body with 304."""
    status = status_of(error)
    if status == 304:
        return web.Response(status=304)
    if isinstance(error, errors.ProaError):
        message = error.message
    else:
        message = f"internal error: {type(error).__name__}: {error}"
    return json_response({"message": message}, status)


def json_response(value: object, status: int = 200) -> web.Response:
    """Return ``value`` (anything msgspec encodes) as a JSON body, ended by a line feed as Docker's are."""
    return web.Response(
        body=msgspec.json.encode(value) + b"\n", status=status, content_type="application/json"
    )


async def read_body(request: web.Request) -> bytes:
    """Return the whole body.

    Raises:
        errors.InvalidParameter: it is longer than :data:`MAX_BODY_BYTES`, or broken.
    """
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise errors.InvalidParameter(f"request body is larger than {MAX_BODY_BYTES} bytes") from None
    except web.RequestPayloadError as error:
        raise errors.InvalidParameter(f"invalid request body: {error}") from error


# --- the application --------------------------------------------------------------------------------------


def make_app(roles: Roles) -> web.Application:
    """Return the application that serves all routes of all modules on ``roles``."""
    from proad.api.routes import all_routes  # handlers import the seam from here

    router = Router(all_routes())

    async def front(request: web.Request) -> web.StreamResponse:
        request_id = request.headers.get("X-Request-Id", "")[:64] or secrets.token_hex(8)
        request[REQUEST_ID] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            return await _answer(request, router)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[ROLES] = roles
    app[OPERATIONS] = set()
    app[LINGERING] = set()
    app[SUMMARIES] = Summaries()
    app.router.add_route("*", r"/{path:[\s\S]*}", front)  # a line feed too may stand in a path
    app.on_response_prepare.append(_add_headers)
    app.on_startup.append(_make_hub)
    app.on_shutdown.append(_end_lingering)
    return app


async def _answer(request: web.Request, router: Router) -> web.StreamResponse:
    """Find the handler, run it, and turn whatever it raises into an answer."""
    try:
        request[VERSION] = MAX_VERSION
        request[VERSION], path = split_version(request.path)
        route, parameters = router.resolve(request.method, path)
        request.match_info.clear()
        request.match_info.update(parameters)
        response: web.StreamResponse = await route.handler(request)
        return response
    except web.HTTPException as error:  # aiohttp's own, of an upgrade that is none
        return json_response({"message": error.text or error.reason}, error.status)
    except ConnectionError as error:
        if request.get(STARTED) or request.transport is None or request.transport.is_closing():
            raise  # the client's
        return _failed(request, error)  # one of the engine's own connections
    except errors.ProaError as error:
        return _failed(request, error)
    except Exception as error:  # noqa: BLE001  whatever a handler did not foresee is a 500, told and logged
        return _failed(request, unwrap(error))


def _failed(request: web.Request, error: BaseException) -> web.StreamResponse:
    if not isinstance(error, errors.ProaError):
        log.error("request crashed", method=request.method, path=request.path, exc_info=error)
    elif status_of(error) >= 500:
        log.warning("request failed", method=request.method, path=request.path, error=error.message)
    if request.get(STARTED):
        # The header is out: all that can still be said is that the stream did not end as it should.
        raise ConnectionAbortedError(f"{request.path} failed after its header was sent") from error
    return error_response(error)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    request[STARTED] = True
    response.headers.update(SERVER_HEADERS)


async def _make_hub(app: web.Application) -> None:
    app[EVENT_HUB] = Hub()


async def _end_lingering(app: web.Application) -> None:
    lingering_tasks = app[LINGERING]
    for task in list(lingering_tasks):
        task.cancel()


@asynccontextmanager
async def serve(
    app: web.Application, config: Config, inherited_fds: Sequence[int] = ()
) -> AsyncIterator[list[str]]:
    """Serve ``app`` on all of ``config.hosts`` and on listening sockets handed in; yields the addresses.

    On leaving, listening stops, whatever may last for ever is ended, and running operations get
    ``config.shutdown_timeout_s`` to finish. Each listener is described in ``listen``.

    Raises:
        errors.System: an address is in use or cannot be bound; nothing is left listening.
    """
    sockets = listen.open_all(config, inherited_fds)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        logger=httplog.AIOHTTP_LOGGER,
        # A handler ends with its client, so that nobody's waits pile up; operations are shielded by call().
        handler_cancellation=True,
        shutdown_timeout=config.shutdown_timeout_s,
        # Filters travel in the query: Go's server, that clients know, allows a megabyte of header.
        max_line_size=1 << 20,
        max_field_size=1 << 16,
    )
    loop = asyncio.get_running_loop()
    servers: list[asyncio.AbstractServer] = []
    try:
        await runner.setup()
        assert runner.server is not None
        for listener in sockets:
            protocol = hijack.front(runner.server)
            servers.append(await loop.create_server(protocol, sock=listener.socket, backlog=listen.BACKLOG))
        yield [listener.address for listener in sockets]
    finally:
        for server in servers:
            server.close()
        for listener in sockets:
            listener.unlink()
        await runner.cleanup()
        await _finish_operations(app, config.shutdown_timeout_s)


async def _finish_operations(app: web.Application, timeout_s: float) -> None:
    """Wait for operations whose clients are gone."""
    operations = app[OPERATIONS]
    if operations:
        _, unfinished = await asyncio.wait(set(operations), timeout=timeout_s)
        for future in unfinished:
            future.cancel()


__all__ = [
    "MAX_VERSION",
    "MIN_VERSION",
    "ROLES",
    "VERSION",
    "ApiVersion",
    "call",
    "call_while_connected",
    "error_response",
    "json_response",
    "lingering",
    "make_app",
    "read_body",
    "roles_of",
    "serve",
    "status_of",
]
