"""Trio-flavoured. A host that gets a bridge becomes a router, but not between the networks it had before.

Forwarding is switched on for the whole host: its neighbours on one network could go by it to those on
another, which nobody asked for. So the packet filter drops what goes from one of the links that were there
before to another, unless somebody has translated its address. Links that others make later, for virtual
machines or tunnels, are theirs to decide on; hardware that is plugged in later is not. Docker has the policy
of iptables' chain FORWARD drop what it did not forward before.
"""

import json
from pathlib import Path

import structlog

from proad.config import Config
from proad.host import netlink, sysctls
from proad.host.firewall import Firewall
from proad.store.db import Store

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SETTING = "unrouted_links"

log = structlog.get_logger(__name__)


class HostRouting:
    """Switches forwarding on, and remembers until the next boot what it is not meant for."""

    def __init__(self, config: Config, store: Store, firewall: Firewall) -> None:
        self._config = config
        self._store = store
        self._firewall = firewall
        self._apart: dict[int, frozenset[str]] = {}
        """The links that are kept apart, by the version of IP."""

    @property
    def keeps_apart(self) -> bool:
        """Whether there are links that the packet filter keeps apart, whatever bridges there are."""
        return bool(self._apart)

    def open(self) -> None:
        """At boot: know what an earlier daemon has switched on."""
        recorded = json.loads(self._store.setting(_SETTING) or "{}")
        if recorded.get("boot_id") == boot_id() and not self._config.ip_forward_no_drop:
            self._apart = {int(version): frozenset(links) for version, links in recorded["links"].items()}
        self._firewall.keep_apart(self._apart)

    def switch_on(self, *, ipv6: bool) -> None:
        """Have the host forward, if it does not yet; the packet filter has its tables by now.

        Raises:
            errors.Unavailable: a setting may not be written here.
            errors.System: the packet filter refused.
        """
        for version in (4, 6) if ipv6 else (4,):
            if sysctls.forwards(version):
                continue
            links = frozenset() if self._config.ip_forward_no_drop else frozenset(netlink.host_links())
            if links:
                self._record({**self._apart, version: links})
            if version == 6:  # else the kernel forgets the host's own way out
                for interface in netlink.advertised_routers():
                    sysctls.heed_routers_while_forwarding(interface)
            sysctls.switch_on_forwarding(version)
            log.warning(
                "switched on: this host forwards packets between its networks now",
                setting=".".join(sysctls.FORWARDING[version].parts[3:]),
                but_not_between=sorted(links),
            )

    def renew(self) -> None:
        """Take hardware in that was plugged in since.

        Raises:
            errors.System: the kernel refused.
        """
        if not self._apart:
            return
        hardware = {name for name, kind in netlink.host_links().items() if not kind}
        apart = {version: links | hardware for version, links in self._apart.items()}
        if apart != self._apart:
            self._record(apart)

    def _record(self, apart: dict[int, frozenset[str]]) -> None:
        links = {str(version): sorted(names) for version, names in apart.items()}
        with self._store.transaction() as tx:
            tx.put_setting(_SETTING, json.dumps({"boot_id": boot_id(), "links": links}))
        self._apart = apart
        self._firewall.keep_apart(apart)


def boot_id() -> str:
    """What changes with each boot of the host."""
    return BOOT_ID.read_text().strip()
