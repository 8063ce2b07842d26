"""asyncio-flavoured. Network routes: the predefined networks, read only; those of one's own are not built."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from proad.api import params
from proad.api.server import json_response, roles_of
from proad.model import errors, filters
from proad.model.container import Container
from proad.model.durations import format_rfc3339_ns
from proad.model.network import Endpoint, Network

Json = dict[str, Any]

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")
SCOPES = ("local", "swarm", "global")


def routes() -> list[web.RouteDef]:
    return [
        web.get("/networks", get_networks),
        web.get("/networks/", get_networks),
        web.post("/networks/prune", post_prune),
        web.get("/networks/{id}", get_network),
        web.delete("/networks/{id}", delete_network),
    ]


async def get_networks(request: web.Request) -> web.StreamResponse:
    networks = roles_of(request).networks
    wanted = filters.parse(request.query.get("filters", ""), LIST_FILTERS)
    return json_response([show(network) for network in networks.all() if _matches(wanted, network)])


async def get_network(request: web.Request) -> web.StreamResponse:
    networks = roles_of(request).networks
    params.boolean(request.query, "verbose")
    scope = request.query.get("scope", "")
    network = networks.find(request.match_info["id"])
    if scope not in ("", "local"):
        raise errors.NotFound(f"network {request.match_info['id']} not found")
    return json_response(show(network, networks.members(network)))


async def delete_network(request: web.Request) -> web.StreamResponse:
    network = roles_of(request).networks.find(request.match_info["id"])
    raise errors.Forbidden(f"{network.name} is a pre-defined network and cannot be removed")


async def post_prune(request: web.Request) -> web.StreamResponse:
    """Predefined networks are never pruned, and there are no others."""
    filters.parse(request.query.get("filters", ""), PRUNE_FILTERS)
    return json_response({"NetworksDeleted": []})


def _matches(wanted: filters.Filters, network: Network) -> bool:
    for kind in wanted.get("type", ()):
        if kind not in ("custom", "builtin"):
            raise errors.InvalidParameter(f"invalid filter: 'type'='{kind}'")
    for scope in wanted.get("scope", ()):
        if scope not in SCOPES:
            raise errors.InvalidParameter(f"invalid filter: 'scope'='{scope}'")
    return (
        filters.match_exact(wanted, "driver", network.driver)
        and filters.match_pattern(wanted, "id", network.id)
        and filters.match_pattern(wanted, "name", network.name)
        and filters.match_exact(wanted, "scope", "local")
        and filters.match_exact(wanted, "type", "builtin")
        and filters.match_labels({}, wanted.get("label", ()))
        and filters.parse_boolean(wanted, "dangling") is not True  # what is predefined never dangles
    )


def show(network: Network, members: Iterable[tuple[Container, Endpoint | None]] = ()) -> Json:
    """Return a network in the API's form; a list shows none of its members, as Docker's."""
    pools = [{"Subnet": network.subnet, "Gateway": network.gateway}] if network.subnet else []
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": format_rfc3339_ns(network.created_ns),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": {}, "Config": pools},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {container.id: _show_member(container, endpoint) for container, endpoint in members},
        "Options": network.options,
        "Labels": {},
    }


def _show_member(container: Container, endpoint: Endpoint | None) -> Json:
    return {
        "Name": container.name,
        "EndpointID": endpoint.endpoint_id if endpoint else "",
        "MacAddress": endpoint.mac_address if endpoint else "",
        "IPv4Address": f"{endpoint.address}/{endpoint.prefix_length}" if endpoint else "",
        "IPv6Address": "",
    }
