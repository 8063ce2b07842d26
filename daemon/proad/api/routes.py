"""Sync, pure. All routes of the API in the order in which they are tried."""

from aiohttp import web

from proad.api.archives import routes as archive_routes
from proad.api.build import routes as build_routes
from proad.api.containers import routes as container_routes
from proad.api.diskusage import routes as disk_usage_routes
from proad.api.events import routes as event_routes
from proad.api.exec import routes as exec_routes
from proad.api.exports import routes as export_routes
from proad.api.images import routes as image_routes
from proad.api.imagesaving import routes as saving_routes
from proad.api.networks import routes as network_routes
from proad.api.registries import routes as registry_routes
from proad.api.stats import routes as stats_routes
from proad.api.streams import routes as stream_routes
from proad.api.system import routes as system_routes
from proad.api.unbuilt import routes as unbuilt_routes
from proad.api.volumes import routes as volume_routes


def all_routes() -> list[web.RouteDef]:
    """Return every module's routes; what is known but not built comes last, so that built ones win."""
    return [
        *system_routes(),
        *disk_usage_routes(),
        *event_routes(),
        *container_routes(),
        *stream_routes(),
        *archive_routes(),
        *export_routes(),
        *exec_routes(),
        *stats_routes(),
        *saving_routes(),
        *registry_routes(),
        *image_routes(),
        *build_routes(),
        *volume_routes(),
        *network_routes(),
        *unbuilt_routes(),
    ]
