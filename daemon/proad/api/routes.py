"""Sync, pure. All routes of the API in the order in which they are tried."""

from aiohttp import web

from proad.api import containers, system, unbuilt


def all_routes() -> list[web.RouteDef]:
    """Return every module's routes; what is known but not built comes last, so that built ones win."""
    return [*system.routes(), *containers.routes(), *unbuilt.routes()]
