"""Sync, blocking. Kernel settings of networking, in the network namespace of the calling thread (sysctl(8)).

Those of one interface go with it. Forwarding is the host's, and stays: others may have come to rely on it.
"""

from pathlib import Path

from proad.model import errors

IPV4 = Path("/proc/sys/net/ipv4")
IPV6 = Path("/proc/sys/net/ipv6")
FORWARDING = {4: IPV4 / "ip_forward", 6: IPV6 / "conf/all/forwarding"}


def put(setting: Path, value: str) -> bool:
    """Write a setting that has another value; returns whether it had. One the kernel lacks needs none.

    Raises:
        errors.Unavailable: it may not be written here.
    """
    try:
        if setting.read_text().strip() == value:
            return False
        setting.write_text(value)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise errors.Unavailable(f"cannot set {setting} to {value}: {error.strerror}") from error
    return True


def forwards(version: int) -> bool:
    """Whether the host forwards packets of IPv4, or of IPv6, between its networks; true where it cannot tell:
    it has none of that version then.
    """
    try:
        return FORWARDING[version].read_text().strip() != "0"
    except FileNotFoundError:
        return True


def switch_on_forwarding(version: int) -> None:
    """Have the host forward packets between its networks.

    Raises:
        errors.Unavailable: the setting may not be written here.
    """
    put(FORWARDING[version], "1")


def heed_routers_while_forwarding(interface: str) -> None:
    """Have an interface that takes a router's advertisements do so on a host that is a router itself, too.

    Raises:
        errors.Unavailable: the setting may not be written here.
    """
    put(IPV6 / "conf" / interface / "accept_ra", "2")


def set_up_bridge(bridge: str) -> None:
    """What a bridge with containers needs.

    Raises:
        errors.Unavailable: a setting may not be written here.
    """
    # Without it the kernel drops what 127.0.0.1 sends to a container by a published port.
    put(IPV4 / "conf" / bridge / "route_localnet", "1")
    # A container could announce itself to the host as a router (CVE-2020-13401).
    put(IPV6 / "conf" / bridge / "accept_ra", "0")


def set_up_bridge_ipv6(bridge: str) -> None:
    """Let a bridge have IPv6.

    It does not ask around for the address that IPv6 gives it by itself: until that is done, the host could
    not ask for the neighbour whom a packet from elsewhere is for.

    Raises:
        errors.Unavailable: a setting may not be written here.
    """
    for name, value in (("accept_dad", "0"), ("disable_ipv6", "0")):
        put(IPV6 / "conf" / bridge / name, value)


def switch_ipv6_off(bridge: str) -> None:
    """Let a bridge have no address of IPv6, not even the one that IPv6 gives it by itself.

    Raises:
        errors.Unavailable: the setting may not be written here.
    """
    put(IPV6 / "conf" / bridge / "disable_ipv6", "1")


def set_up_container_ipv6(interface: str) -> None:
    """Let an interface of a namespace, which ``netns`` made without, have IPv6.

    It takes nobody for a router, and does not ask around whether somebody else has the address that IPv6
    gives it by itself: that goes to every port of the bridge, and the address comes from its MAC address.

    Raises:
        errors.Unavailable: a setting may not be written here.
    """
    conf = IPV6 / "conf" / interface
    for name, value in (("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")):
        put(conf / name, value)
