"""asyncio-flavoured. Network routes: parse, call, show."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from proad.api import params
from proad.api.server import VERSION, call, json_response, read_body, roles_of
from proad.engine.networks import Networks
from proad.model import errors, filters
from proad.model.container import Container
from proad.model.durations import format_rfc3339_ns
from proad.model.network import Endpoint, Network, Pool
from proad.model.networkrequest import parse_connect, parse_disconnect, parse_network_request

Json = dict[str, Any]

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")
SCOPES = ("local", "swarm", "global")


def routes() -> list[web.RouteDef]:
    return [
        web.get("/networks", get_networks),
        web.get("/networks/", get_networks),
        web.post("/networks/create", post_create),
        web.post("/networks/prune", post_prune),
        web.post("/networks/{id:.+}/connect", post_connect),
        web.post("/networks/{id:.+}/disconnect", post_disconnect),
        web.get("/networks/{id:.+}", get_network),
        web.delete("/networks/{id:.+}", delete_network),
    ]


async def get_networks(request: web.Request) -> web.StreamResponse:
    networks = roles_of(request).networks
    wanted = filters.parse(request.query.get("filters", ""), LIST_FILTERS)
    _check_filters(wanted)
    shows_members = request[VERSION] < (1, 28)
    return json_response(
        [
            show(network, networks.members(network) if shows_members else ())
            for network in networks.all()
            if _matches(wanted, network, networks)
        ]
    )


async def get_network(request: web.Request) -> web.StreamResponse:
    networks = roles_of(request).networks
    params.boolean(request.query, "verbose")  # adds what a swarm's services have on it
    scope = request.query.get("scope", "")
    network = networks.find(request.match_info["id"])
    if scope not in ("", "local"):
        raise errors.NotFound(f"network {request.match_info['id']} not found")
    return json_response(show(network, networks.members(network)))


async def post_create(request: web.Request) -> web.StreamResponse:
    params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
    wanted = parse_network_request(await read_body(request), request[VERSION])
    network_id, warnings = await call(request, roles_of(request).network_control.create, wanted)
    return json_response({"Id": network_id, "Warning": "\n".join(warnings)}, 201)


async def delete_network(request: web.Request) -> web.StreamResponse:
    await call(request, roles_of(request).network_control.remove, request.match_info["id"])
    return web.Response(status=204)


async def post_connect(request: web.Request) -> web.StreamResponse:
    params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
    container, wish = parse_connect(await read_body(request))
    await call(request, roles_of(request).connector.connect, request.match_info["id"], container, wish)
    return web.Response()


async def post_disconnect(request: web.Request) -> web.StreamResponse:
    params.require_json(request.headers.get("Content-Type", ""), request.can_read_body)
    container, force = parse_disconnect(await read_body(request))
    disconnect = roles_of(request).connector.disconnect
    await call(request, disconnect, request.match_info["id"], container, force=force)
    return web.Response()


async def post_prune(request: web.Request) -> web.StreamResponse:
    wanted = filters.parse(request.query.get("filters", ""), PRUNE_FILTERS)
    filters.parse_time_ns(wanted, "until")
    removed = await call(request, roles_of(request).network_control.prune, wanted)
    return json_response({"NetworksDeleted": removed})


# --- filters --------------------------------------------------------------------------------------------


def _check_filters(wanted: filters.Filters) -> None:
    """Refuse values that no network can have.

    Raises:
        errors.InvalidParameter: says which filter, and which value.
    """
    if wanted.get("dangling", ["true"]) not in (["1"], ["true"], ["0"], ["false"]):
        raise errors.InvalidParameter(
            'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
        )
    for name, known in (("type", ("custom", "builtin")), ("scope", SCOPES)):
        for value in wanted.get(name, ()):
            if value not in known:
                raise errors.InvalidParameter(f"invalid filter: '{name}'='{value}'")


def _matches(wanted: filters.Filters, network: Network, networks: Networks) -> bool:
    return (
        filters.match_exact(wanted, "driver", network.driver)
        and filters.match_pattern(wanted, "id", network.id)
        and filters.match_pattern(wanted, "name", network.name)
        and filters.match_exact(wanted, "scope", "local")
        and filters.match_exact(wanted, "type", "builtin" if network.is_predefined else "custom")
        and filters.match_labels(network.labels, wanted.get("label", ()))
        and filters.parse_boolean(wanted, "dangling") in (None, _dangles(network, networks))
    )


def _dangles(network: Network, networks: Networks) -> bool:
    """Whether nobody is on it; what is predefined never dangles."""
    return not network.is_predefined and next(networks.members(network), None) is None


# --- shapes ---------------------------------------------------------------------------------------------


def show(network: Network, members: Iterable[tuple[Container, Endpoint | None]] = ()) -> Json:
    """Return a network in the API's form; a list shows none of its members, as Docker's."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": format_rfc3339_ns(network.created_ns),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": network.ipam_driver,
            "Options": network.ipam_options,
            "Config": [_show_pool(pool) for pool in (*network.pools, *network.asked_pools)],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {container.id: _show_member(container, endpoint) for container, endpoint in members},
        "Options": network.options,
        "Labels": network.labels,
    }


def _show_pool(pool: Pool) -> Json:
    shown: Json = {"Subnet": pool.subnet}
    if pool.ip_range:
        shown["IPRange"] = pool.ip_range
    if pool.gateway:
        shown["Gateway"] = pool.gateway
    if pool.auxiliary:
        shown["AuxiliaryAddresses"] = pool.auxiliary
    return shown


def _show_member(container: Container, endpoint: Endpoint | None) -> Json:
    ipv4 = endpoint.ipv4_interface if endpoint else None
    ipv6 = endpoint.ipv6_interface if endpoint else None
    return {
        "Name": container.name,
        "EndpointID": endpoint.endpoint_id if endpoint else "",
        "MacAddress": endpoint.mac_address if endpoint else "",
        "IPv4Address": str(ipv4 or ""),
        "IPv6Address": str(ipv6 or ""),
    }
