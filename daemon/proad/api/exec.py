"""asyncio-flavoured. Exec routes: create, start, resize, inspect."""

from aiohttp import web

from proad.api import params
from proad.api.clients import HijackedClient
from proad.api.execstreams import ExecSession
from proad.api.hijack import Hijacked, hijackable, take_over
from proad.api.server import VERSION, call, json_response, lingering, read_body, roles_of
from proad.api.streams import MULTIPLEXED, MULTIPLEXED_SINCE, RAW
from proad.api.wire import Json
from proad.engine.exec import Execs
from proad.engine.exectable import ExecEntry
from proad.model.exec import ExecStart, ExecStatus, parse_exec_create, parse_exec_start
from proad.model.stdstreams import parse_detach_keys


def routes() -> list[web.RouteDef]:
    return [
        web.post("/containers/{name:.+}/exec", post_create),
        web.post("/exec/{id}/start", post_start),
        web.post("/exec/{id}/resize", post_resize),
        web.get("/exec/{id}/json", get_exec),
    ]


async def post_create(request: web.Request) -> web.StreamResponse:
    params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
    config = parse_exec_create(await read_body(request), request[VERSION])
    create = roles_of(request).execs.create
    exec_id = await call(request, create, request.match_info["name"], config)
    return json_response({"Id": exec_id}, 201)


async def post_start(request: web.Request) -> web.StreamResponse:
    """Start; unless detached, the connection becomes the command's streams, both ways."""
    execs, exec_id = roles_of(request).execs, request.match_info["id"]
    with hijackable(request):
        params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
        asked = parse_exec_start(await read_body(request), request[VERSION])
        entry = execs.find_startable(exec_id)
        if asked.detach:
            await call(request, execs.start, exec_id, console_size=asked.console_size, live=None)
            return web.Response(status=200)
        await _serve(request, execs, entry, asked)
    return Hijacked()


async def _serve(request: web.Request, execs: Execs, entry: ExecEntry, asked: ExecStart) -> None:
    """Run the command with the client on its streams, to the end of the connection."""
    config = entry.config
    client = HijackedClient()
    session = ExecSession(
        client,
        takes_input=config.attach_stdin,
        multiplexed=not asked.tty,
        detach_keys=parse_detach_keys(config.detach_keys) if config.tty else None,
        on_detach=lambda: execs.tell_detach(entry),
    )
    client.attachment = session
    async with lingering(request):
        try:
            with take_over(request, client, _head(request, asked)):
                await session.start(
                    call(request, execs.start, entry.id, console_size=asked.console_size, live=session)
                )
                if not (config.attach_stdin or config.attach_stdout or config.attach_stderr):
                    session.end()
                await client.ended
        finally:
            session.lost()


def _head(request: web.Request, asked: ExecStart) -> bytes:
    if "Upgrade" not in request.headers:
        return f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n".encode()
    framed = not asked.tty and request[VERSION] >= MULTIPLEXED_SINCE
    return (
        f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {MULTIPLEXED if framed else RAW}\r\n"
        "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    ).encode()


async def post_resize(request: web.Request) -> web.StreamResponse:
    height = params.required_integer(request.query, "h", minimum=0, maximum=65535)
    width = params.required_integer(request.query, "w", minimum=0, maximum=65535)
    await call(request, roles_of(request).execs.resize, request.match_info["id"], height, width)
    return web.Response(status=200)


async def get_exec(request: web.Request) -> web.StreamResponse:
    return json_response(_inspect(roles_of(request).execs.find(request.match_info["id"])))


def _inspect(entry: ExecEntry) -> Json:
    config = entry.config
    return {
        "ID": entry.id,
        "Running": entry.status is ExecStatus.RUNNING,
        "ExitCode": entry.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": config.cmd[0],
            "arguments": list(config.cmd[1:]),
            "privileged": config.privileged,
            **({"user": config.user} if config.user else {}),
        },
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,
        "ContainerID": entry.container_id,
        "DetachKeys": config.detach_keys,
        "Pid": entry.pid,
    }
