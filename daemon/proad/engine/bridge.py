"""Trio-flavoured. The default bridge: made or adopted, and the host's settings for it."""

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv4Network

import structlog

from proad.config import Config
from proad.host import netlink, sysctls
from proad.model import errors
from proad.model.ipam import choose_subnet
from proad.model.network import mac_of

log = structlog.get_logger(__name__)


class DefaultBridge:
    """The bridge that the configuration names; ``gateway`` is its address once it is open.

    Where the configuration wants none, it is the one that an earlier daemon here may have made.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._name = config.bridge if config.has_bridge else config.own_bridge
        self._gateway: IPv4Interface | None = None
        self._reserved: set[IPv4Network] = set()

    @property
    def name(self) -> str:
        return self._name

    @property
    def gateway(self) -> IPv4Interface:
        assert self._gateway is not None, "open() comes first"
        return self._gateway

    @property
    def subnet(self) -> IPv4Network:
        return self.gateway.network

    def open(self, former: Iterable[IPv4Interface], reserved: Iterable[str] = ()) -> None:
        """Make the bridge be there, up, with its address; one that is there keeps its ports.

        The address is ``--bip``, else the bridge's present one, else one of ``former`` (those that running
        containers have in their routes) or the first of the pools that overlaps none of the host's routes and
        none of the subnets ``reserved`` for other networks.

        Raises:
            errors.ProaError: something else has the name, the address cannot be a bridge's, no pool is
            free, or the
                kernel refused.
        """
        self._reserved = {IPv4Network(subnet) for subnet in reserved if ":" not in subnet}
        link = netlink.find_link(self._name)
        if link is None:
            gateway = self._asked() or self._free(former)
            netlink.create_bridge(self._name, [gateway], mac_of(gateway.ip), self._config.mtu)
            log.info("bridge created", bridge=self._name, address=str(gateway))
        elif link.kind != "bridge":
            raise errors.Unavailable(
                f"--bridge {self._name}: there is an interface of that name that is no bridge"
            )
        else:
            gateway = self._adopt(link, former)
        self._gateway = gateway
        sysctls.set_up_bridge(self._name)

    def remove(self) -> None:
        """Delete it, as a daemon does that shall have none; one that is not there is no error.

        Raises:
            errors.System: the kernel refused.
        """
        link = netlink.find_link(self._name)
        if link is not None and link.kind == "bridge":
            netlink.delete_links([self._name])
            log.info("bridge removed", bridge=self._name)

    def _adopt(self, link: netlink.Link, former: Iterable[IPv4Interface]) -> IPv4Interface:
        addresses = [address for address in link.addresses if isinstance(address, IPv4Interface)]
        present = addresses[0] if addresses else None
        asked = self._asked()
        if asked is not None and present is not None and asked not in addresses and self._has_ports():
            log.warning(
                "bridge keeps its address while it has containers", address=str(present), asked=str(asked)
            )
            asked = present
        gateway = asked or present or self._free(former)
        if gateway in addresses:
            netlink.configure_bridge(self._name)
        else:
            netlink.configure_bridge(self._name, add=[gateway], drop=addresses)
        return gateway

    def _asked(self) -> IPv4Interface | None:
        if not self._config.bip:
            return None
        gateway = IPv4Interface(self._config.bip)
        subnet = gateway.network
        if subnet.prefixlen > 30 or gateway.ip in (subnet.network_address, subnet.broadcast_address):
            raise errors.InvalidParameter(
                f"--bip {gateway}: a bridge needs a host's address with a prefix up to /30"
            )
        return gateway

    def _free(self, former: Iterable[IPv4Interface]) -> IPv4Interface:
        routed = {network for network in netlink.taken_networks() if isinstance(network, IPv4Network)}
        taken = routed | self._reserved
        for gateway in former:
            if not any(gateway.network.overlaps(network) for network in taken):
                return gateway
        return choose_subnet([(pool.base, pool.size) for pool in self._config.default_address_pools], taken)

    def _has_ports(self) -> bool:
        return bool(netlink.ports_of(self._name))
