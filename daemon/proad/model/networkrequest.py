"""Sync, pure. The bodies that make networks, and that connect and disconnect containers.

What comes out is valid in itself, whatever API version it came in by; what depends on other networks and on
this host is checked where it is known. The wording is Docker's where Docker refuses too (moby:
``daemon/network.go``, ``libnetwork/controller.go``, ``api/types/network``).
"""

from ipaddress import IPv6Network, ip_address, ip_network

import msgspec
from msgspec.structs import replace

from proad.model import errors, gojson
from proad.model.endpointcheck import is_user_defined
from proad.model.ipam import AnyNetwork
from proad.model.network import EndpointSettings, Network, Pool
from proad.model.networkoptions import ENABLE_IPV4, ENABLE_IPV6, check_options, enabled_families

ApiVersion = tuple[int, int]

DEFAULT_DRIVER = "bridge"
CONFIG_ONLY_DRIVER = "null"
"""That of networks which others are made from, whichever they ask for."""
SINGLE_SUBNET_DRIVERS = ("bridge",)
NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
    "to swarm and try again."
)
_CHECKED_DRIVERS = ("bridge", "macvlan", "ipvlan")
_GATEWAY_NAMES = ("DefaultGatewayIPv4", "DefaultGatewayIPv6")
_LINK_LOCAL = ip_network("fe80::/64")
"""Every interface has it: Docker takes this one whole, and then cannot tell whose an address is."""
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A network as asked for. ``pools`` all have a subnet, and are of a family that the network has.

    One with ``config_from`` has only what :func:`configured` adds of the network that it names.
    """

    name: str
    driver: str = DEFAULT_DRIVER
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    pools: tuple[Pool, ...] = ()
    ipam_driver: str = "default"
    ipam_options: dict[str, str] = {}
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    config_only: bool = False
    config_from: str = ""
    warnings: tuple[str, ...] = ()


class _Subnet(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One entry of ``IPAM.Config``."""

    subnet: str = ""
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}


class _Ipam(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    driver: str = ""
    options: dict[str, str] = {}
    config: tuple[_Subnet, ...] = ()


class _ConfigFrom(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    network: str = ""


class _CreateBody(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The body of ``POST /networks/create``; ``CheckDuplicate`` of old is always so."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: _ConfigFrom | None = None
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    ipam: _Ipam | None = msgspec.field(default=None, name="IPAM")
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class _ConnectBody(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    container: str = ""
    endpoint_config: EndpointSettings | None = None


class _DisconnectBody(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    container: str = ""
    force: bool = False


# --- create ---------------------------------------------------------------------------------------------


def parse_network_request(body: bytes, api_version: ApiVersion) -> NetworkRequest:
    """Read the body of ``POST /networks/create``.

    Raises:
        errors.InvalidParameter: it is not JSON, a field has the wrong type or is out of range, two contradict
            each other, or one is not honoured by this engine; says which.
        errors.Forbidden: the name is a predefined network's, or it asks for what only a swarm has.
        errors.NotFound: there is no such IPAM driver.
    """
    asked = gojson.convert(gojson.parse_object(body), _CreateBody)
    if not asked.name.strip():
        raise errors.InvalidParameter(f"invalid name: {asked.name}")
    if not is_user_defined(asked.name):
        raise errors.Forbidden(f"operation is not permitted on predefined {asked.name} network ")
    _refuse_configurations(asked)
    _refuse_swarm(asked)
    if api_version < (1, 48):
        asked = replace(asked, enable_ipv4=None)
    ipv4, ipv6, options = _families(asked)
    ipam = asked.ipam or _Ipam()
    if ipam.driver not in ("", "default"):
        raise errors.NotFound(
            f'could not find plugin {ipam.driver} in v1 plugin registry: plugin "{ipam.driver}" not found'
        )
    pools, warnings = _pools(ipam.config, ipv4=ipv4, ipv6=ipv6)
    request = NetworkRequest(
        name=asked.name,
        driver=CONFIG_ONLY_DRIVER if asked.config_only else asked.driver or DEFAULT_DRIVER,
        internal=asked.internal,
        attachable=asked.attachable,
        ipv4=ipv4,
        ipv6=ipv6,
        pools=pools,
        ipam_options=ipam.options,
        options=options,
        labels=asked.labels,
        config_only=asked.config_only,
        config_from=asked.config_from.network if asked.config_from is not None else "",
        warnings=tuple(warnings),
    )
    return request if request.config_from else _checked(request)


def configured(request: NetworkRequest, config: Network) -> NetworkRequest:
    """The request with all that the network it is to be made from has.

    Raises:
        errors.ProaError: the driver cannot have that, in the words of :func:`parse_network_request`.
    """
    return _checked(
        replace(
            request,
            ipv4=config.ipv4,
            ipv6=config.ipv6,
            pools=config.asked_pools,
            ipam_driver=config.ipam_driver,
            ipam_options=config.ipam_options,
            options=config.options,
            labels=config.labels,
        )
    )


def _checked(request: NetworkRequest) -> NetworkRequest:
    """The request, if its driver can have it, with warnings."""
    if request.driver not in _CHECKED_DRIVERS:
        return request
    _check_pools_of(request.driver, request.pools)
    warnings = check_options(request.driver, request.options, ipv6=request.ipv6, internal=request.internal)
    return replace(request, warnings=(*request.warnings, *warnings))


def _refuse_configurations(asked: _CreateBody) -> None:
    """Refuse what networks that others are made from, and those that are made from them, cannot have.

    Raises:
        errors.Forbidden: says what.
    """
    if asked.config_only and (asked.ingress or asked.internal or asked.attachable or asked.scope):
        raise errors.Forbidden(
            "configuration network can only contain network specific fields. Network operator fields like "
            "[ ingress | internal | attachable | scope ] are not supported."
        )
    if asked.config_from is None or not asked.config_from.network:
        return
    if asked.config_only:
        raise errors.Forbidden("a configuration network cannot depend on another configuration network")
    ipam = asked.ipam or _Ipam()
    if (
        ipam.driver not in ("", "default")
        or asked.enable_ipv4 is False
        or asked.enable_ipv6
        or asked.labels
        or ipam.options
        or ipam.config
    ):
        raise errors.Forbidden(
            "user-specified configurations are not supported if the network depends on a configuration "
            "network"
        )
    if asked.options:
        raise errors.Forbidden(
            "network driver options are not supported if the network depends on a configuration network"
        )


def _refuse_swarm(asked: _CreateBody) -> None:
    """Refuse what needs a swarm."""
    if asked.driver == "overlay":
        raise errors.Forbidden(NOT_A_MANAGER)
    if asked.ingress:
        raise errors.Forbidden("Ingress network can only be global scope network")
    if asked.scope == "swarm":
        raise errors.Forbidden("cannot create a swarm scoped network when swarm is not active")
    if asked.scope not in ("", "local"):
        raise errors.InvalidParameter(f"invalid scope: {asked.scope}")


def _families(asked: _CreateBody) -> tuple[bool, bool, dict[str, str]]:
    """Whether the network has IPv4 and IPv6, and its options without those that say so against the fields."""
    by_option = enabled_families(asked.options)
    options = dict(asked.options)
    if asked.enable_ipv4 is not None:
        options.pop(ENABLE_IPV4, None)
    if asked.enable_ipv6 is not None:
        options.pop(ENABLE_IPV6, None)
    wishes = ((asked.enable_ipv4, by_option[0], True), (asked.enable_ipv6, by_option[1], False))
    ipv4, ipv6 = (
        field if field is not None else option if option is not None else default
        for field, option, default in wishes
    )
    if not (ipv4 or ipv6):
        raise errors.InvalidParameter("IPv4 or IPv6 must be enabled")
    return ipv4, ipv6, options


# --- subnets --------------------------------------------------------------------------------------------


def _pools(asked: tuple[_Subnet, ...], *, ipv4: bool, ipv6: bool) -> tuple[tuple[Pool, ...], list[str]]:
    """The pools of the families that the network has, checked, and warnings about the others."""
    pools: list[Pool] = []
    problems: list[str] = []
    warnings: list[str] = []
    for wish in asked:
        subnet = _network(wish.subnet)
        if subnet is None:
            problems.append(f"invalid subnet {wish.subnet}: invalid CIDR block notation")
        elif not (ipv4 if subnet.version == 4 else ipv6):
            warnings.append(f"subnet {wish.subnet} is not used: the network has no IPv{subnet.version}")
        else:
            problems += _problems(wish, subnet)
            pools.append(
                Pool(
                    subnet=wish.subnet,
                    ip_range=wish.ip_range,
                    gateway=wish.gateway,
                    auxiliary=wish.auxiliary_addresses,
                )
            )
    if problems:
        raise errors.InvalidParameter("invalid network config:\n" + "\n".join(problems))
    return tuple(_canonical(pool) for pool in pools), warnings


def _problems(wish: _Subnet, subnet: AnyNetwork) -> list[str]:
    """What is wrong with one subnet, its range and its addresses."""
    found = []
    if not _is_canonical(wish.subnet, subnet):
        found.append(f"invalid subnet {wish.subnet}: it should be {subnet}")
    if wish.ip_range:
        found += _range_problems(wish.ip_range, subnet)
    for what, address in (
        (f"gateway {wish.gateway}", wish.gateway),
        *((f"auxiliary address {name}", text) for name, text in wish.auxiliary_addresses.items()),
    ):
        if address and (problem := address_problem(address, subnet)):
            found.append(f"invalid {what}: {problem}")
    found += [
        f"auxiliary address {name} is not supported by this engine"
        for name in wish.auxiliary_addresses
        if name in _GATEWAY_NAMES
    ]
    return found


def _range_problems(text: str, subnet: AnyNetwork) -> list[str]:
    ip_range = _network(text)
    if ip_range is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    if ip_range.version != subnet.version:
        return [f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"]
    found = []
    if ip_range.prefixlen < subnet.prefixlen:
        found.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}")
    if not _is_canonical(text, ip_range):
        found.append(f"invalid ip-range {text}: it should be {ip_range}")
    if not subnet.overlaps(ip_range):
        found.append(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")
    return found


def address_problem(text: str, subnet: AnyNetwork) -> str:
    """Why an address cannot be one of a subnet; empty where it can."""
    try:
        address = ip_address(text)
    except ValueError:
        return "invalid address"
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    if address not in subnet:
        return f"parent subnet {subnet} doesn't contain this address"
    return ""


def _check_pools_of(driver: str, pools: tuple[Pool, ...]) -> None:
    subnets = [ip_network(pool.subnet) for pool in pools]
    for version in (4, 6):
        if driver in SINGLE_SUBNET_DRIVERS and sum(net.version == version for net in subnets) > 1:
            raise errors.Forbidden(f"{driver} driver doesn't support multiple subnets")
    for subnet in subnets:
        if subnet.is_multicast:
            raise errors.InvalidParameter(f"multicast subnet '{subnet}' is not allowed")
        if subnet.version == 6 and subnet.prefixlen and subnet.overlaps(_LINK_LOCAL):
            raise errors.InvalidParameter(f"'{subnet}' clashes with the Link-Local prefix 'fe80::/64'")
        if isinstance(subnet, IPv6Network) and subnet.network_address.ipv4_mapped is not None:
            raise errors.InvalidParameter(f"'{subnet}' is not a valid IPv6 subnet")
        if any(
            subnet.version == own.version and subnet.overlaps(own) for own in _LOOPBACK if subnet.prefixlen
        ):
            raise errors.InvalidParameter(f"loopback subnet '{subnet}' is not allowed")
        if subnet.prefixlen == 0:
            raise errors.InvalidParameter(f"ipv{subnet.version} pool is empty")


def _network(text: str) -> AnyNetwork | None:
    address, slash, length = text.partition("/")
    if not (slash and length.isascii() and length.isdecimal() and "%" not in address):
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _is_canonical(text: str, network: AnyNetwork) -> bool:
    return ip_address(text.partition("/")[0]) == network.network_address


def _canonical(pool: Pool) -> Pool:
    """The same in one way of writing: IPv6 has many."""
    return replace(
        pool,
        subnet=str(ip_network(pool.subnet)),
        ip_range=str(ip_network(pool.ip_range)) if pool.ip_range else "",
        gateway=str(ip_address(pool.gateway)) if pool.gateway else "",
        auxiliary={name: str(ip_address(text)) for name, text in pool.auxiliary.items() if text},
    )


# --- connect, disconnect --------------------------------------------------------------------------------


def parse_connect(body: bytes) -> tuple[str, EndpointSettings]:
    """Read the body of ``POST /networks/{id}/connect``: the container, and what is asked of the attachment.

    Raises:
        errors.InvalidParameter: it is not JSON, a field has the wrong type, or no container is named.
    """
    asked = gojson.convert(gojson.parse_object(body), _ConnectBody)
    return _named(asked.container), asked.endpoint_config or EndpointSettings()


def parse_disconnect(body: bytes) -> tuple[str, bool]:
    """Read the body of ``POST /networks/{id}/disconnect``: the container, and whether to force it.

    Raises:
        errors.InvalidParameter: it is not JSON, a field has the wrong type, or no container is named.
    """
    asked = gojson.convert(gojson.parse_object(body), _DisconnectBody)
    return _named(asked.container), asked.force


def _named(container: str) -> str:
    if not container:
        raise errors.InvalidParameter('invalid name or ID supplied: ""')
    return container
