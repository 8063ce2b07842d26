"""asyncio-flavoured. What the API knows and this engine does not have: each such route says so clearly."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from proad.model import errors

_NOT_BUILT: dict[str, tuple[tuple[str, str], ...]] = {
    "BuildKit": (
        ("POST", "/session"),
        ("POST", "/grpc"),
    ),
    "plugins": (
        ("GET", "/plugins/privileges"),
        ("POST", "/plugins/pull"),
        ("POST", "/plugins/create"),
    ),
}

_SWARM_PATHS = ("swarm", "nodes", "services", "tasks", "secrets", "configs")
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
    "to swarm and try again."
)


def routes() -> list[web.RouteDef]:
    """Routes that are known and not built; they come after all others."""
    found = [
        web.RouteDef(method, path, _refuse(feature, f"{method} {path}"), {})
        for feature, paths in _NOT_BUILT.items()
        for method, path in paths
    ]
    for first in _SWARM_PATHS:
        for method in _METHODS:
            found.append(web.RouteDef(method, f"/{first}", refuse_swarm, {}))
            found.append(web.RouteDef(method, f"/{first}/{{rest:.*}}", refuse_swarm, {}))
    found += [
        web.RouteDef("GET", "/plugins", get_plugins, {}),
        web.RouteDef("GET", "/plugins/{name:.+}/json", refuse_plugin, {}),
        web.RouteDef("DELETE", "/plugins/{name:.+}", refuse_plugin, {}),
    ]
    for verb in ("enable", "disable", "upgrade", "push", "set"):
        found.append(web.RouteDef("POST", f"/plugins/{{name:.+}}/{verb}", refuse_plugin, {}))
    return found


def _refuse(feature: str, route: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        raise errors.NotImplemented(f"{route}: this engine does not have {feature} yet")

    return refuse


async def refuse_swarm(_request: web.Request) -> web.StreamResponse:
    """A plain node of Docker answers all of these alike."""
    raise errors.Unavailable(NOT_A_MANAGER)


async def get_plugins(_request: web.Request) -> web.StreamResponse:
    return web.json_response([])


async def refuse_plugin(request: web.Request) -> web.StreamResponse:
    raise errors.NotFound(f'plugin "{request.match_info["name"]}" not found')
