"""Sync, blocking. The daemon's own packet filter: address translation, isolation, and no false senders.

Two nftables tables of one name, one of family ``inet`` and one of family ``bridge``, hold constant rules and
the sets that these look up (``nftrules``); nobody else's rules are touched. What comes and goes is elements
of the sets (``filterelements``), and each change is one transaction of the kernel.

    firewall = Firewall("proa")
    firewall.open([BridgeRules(...)])                       # what is published goes on all the time
    firewall.reconcile(ports, published)                    # once it is known what there shall be
    firewall.admit(Port(...), published_of(...))            # a container starts
    firewall.dismiss("veth0123456789a", published_of(...))  # it is gone
    firewall.restore()                                      # somebody has flushed it

Rules go through libnftables in the process, elements through messages of their own.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from proad.host.filterelements import (
    BridgeRules,
    Link,
    Opened,
    Port,
    Published,
    Source,
    Target,
    of_bridge,
    of_link,
    of_links_apart,
    of_loopback6,
    of_opened,
    of_port,
    of_published,
    opened_of,
    published_in,
    published_of,
)
from proad.host.libnftables import Nftables
from proad.host.netlinksocket import NetlinkFailed
from proad.host.nftelements import Element, ElementWriter
from proad.host.nftmessages import BRIDGE, FAMILY_NAMES, INET
from proad.host.nftrules import BRIDGE_SETS, SETS_OF, commands, marks_of
from proad.model import errors

__all__ = [
    "BridgeRules",
    "Firewall",
    "Link",
    "Opened",
    "Port",
    "Published",
    "Source",
    "Target",
    "opened_of",
    "published_of",
]

_HANDS_TO_IP6TABLES = Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables")

_CLOSED = -1
"""The generation of tables that are not there, or not known."""

Elements = dict[tuple[str, bytes], Element]
"""By their places: there is one element of a place, or none."""


class Firewall:
    """The tables, and a mirror of what their sets shall hold.

    Use by one thread at a time. Methods raise :exc:`errors.System` where the kernel refuses a change; none of
    it has been carried out then. One that it refuses because somebody has changed the tables is tried again
    once they are as they were.
    """

    def __init__(self, table: str) -> None:
        """Open libnftables; nothing is changed.

        Raises:
            errors.Unavailable: the library is not installed.
        """
        self._nft = Nftables()
        self._writer = ElementWriter(table)
        self._table = table
        self._families = [INET, BRIDGE]
        self._bridges: dict[str, BridgeRules] = {}
        self._links_apart: Mapping[int, Iterable[str]] = {}
        self._elements: Elements = {}
        self._of_ports: dict[str, list[Element]] = {}
        self._published: dict[Source, Target] = {}
        self._generation = _CLOSED

    @property
    def published(self) -> Published:
        return self._published

    @property
    def port_ids(self) -> set[int]:
        """What the kernel calls the sockets that changes of ours come from."""
        return {self._writer.port_id, *self._nft.port_ids}

    def open(self, bridges: Iterable[BridgeRules]) -> None:
        """Make the tables be there with their rules and ``bridges``, and read what else they hold.

        Tables that have these rules are left alone; otherwise they are exchanged in a transaction that
        does not touch the sets, so published ports answer all the time.
        """
        self._bridges = {rules.bridge: rules for rules in bridges}
        if self._is_untouched():
            present = self._elements
        else:
            self._write_rules()
            present = self._read()
            self._published = published_in(present.values())
            self._of_ports = {}
        self._elements = {
            place: element for place, element in present.items() if element.set_name not in BRIDGE_SETS
        }
        self._elements.update(_by_place(self._of_host()))
        self._write_differences(present)

    def keep_apart(self, links: Mapping[int, Collection[str]]) -> None:
        """Forward nothing from one of the host's ``links`` to another; they are given by the version of IP.

        Where there are no tables yet, that begins with them.
        """
        former = list(self._of_links())
        self._links_apart = dict(links)
        if self._generation != _CLOSED:
            self._exchange(former, self._of_links())

    def set_bridge(self, rules: BridgeRules) -> None:
        """Add a network's bridge, or change what is known of it; with the first one the tables come.

        Raises:
            errors.Unavailable: the kernel cannot keep the bridge's containers apart.
        """
        if not rules.icc and BRIDGE not in self._families:
            raise errors.Unavailable("this kernel has no nftables for bridges, which a network without "
                                     "communication between its containers needs")  # fmt: skip
        if self._generation == _CLOSED:
            self.open([rules])
            return
        former = self._bridges.get(rules.bridge)
        self._exchange(of_bridge(former) if former else (), of_bridge(rules))
        self._bridges[rules.bridge] = rules

    def drop_bridge(self, bridge: str) -> None:
        """Forget a bridge; one that is not known is no error. With the last one the tables go, where no links
        are kept apart.
        """
        if (rules := self._bridges.get(bridge)) is None:
            return
        if len(self._bridges) == 1 and not self._links_apart:
            self.delete()
        else:
            self._exchange(of_bridge(rules), ())
            del self._bridges[bridge]

    def admit(self, port: Port | None, published: Published) -> None:
        """Know an endpoint, and publish ports; a leftover of the same host address and port is replaced."""
        elements = [of_published(source, target) for source, target in published.items()]
        if port is None:
            self._exchange((), elements)
        else:
            of_this = list(self._of_port(port))
            self._exchange(self._of_ports.get(port.host_interface, ()), [*of_this, *elements])
            self._of_ports[port.host_interface] = of_this
        self._published.update(published)

    def dismiss(self, host_interface: str | None, published: Published) -> None:
        """Forget an endpoint, and withdraw ports; what is not there, or leads elsewhere by now, is no error
        and stays."""
        present = {
            source: target for source, target in published.items() if self._published.get(source) == target
        }
        elements = [of_published(source, target) for source, target in present.items()]
        self._exchange([*self._of_ports.get(host_interface or "", ()), *elements], ())
        self._of_ports.pop(host_interface or "", None)
        for source in present:
            del self._published[source]

    def allow(self, links: Iterable[Link]) -> None:
        """Let endpoints that are kept apart talk to each other."""
        self._exchange((), chain.from_iterable(map(of_link, links)))

    def disallow(self, links: Iterable[Link]) -> None:
        """Take back what :meth:`allow` gave; what is not there is no error."""
        self._exchange(chain.from_iterable(map(of_link, links)), ())

    def reconcile(
        self, ports: Mapping[str, Port], published: Published, links: Iterable[Link] = ()
    ) -> tuple[int, int]:
        """Make the sets, as :meth:`open` read them, be what there shall be; what is right is not touched.

        ``ports`` are by their host interfaces. Returns how many elements were removed and added.
        """
        of_ports = {name: list(self._of_port(port)) for name, port in ports.items()}
        wanted = _by_place(
            [
                *self._of_host(),
                *(element for elements in of_ports.values() for element in elements),
                *(of_published(source, target) for source, target in published.items()),
                *chain.from_iterable(map(of_link, links)),
            ]
        )
        stale = [element for place, element in self._elements.items() if wanted.get(place) != element]
        missing = [element for place, element in wanted.items() if self._elements.get(place) != element]
        self._exchange(stale, missing)
        self._of_ports, self._published = of_ports, dict(published)
        return len(stale), len(missing)

    def restore(self) -> bool:
        """Put right what somebody has done to the tables; returns whether anything was wrong."""
        if self._is_untouched():
            return False
        written = self._write_rules()
        return self._write_differences(self._read()) or written

    def delete(self) -> None:
        """Delete the tables; those that are not there are no error."""
        for family in (INET, BRIDGE):
            self._delete_table(FAMILY_NAMES[family])
        self._bridges, self._elements, self._of_ports, self._published = {}, {}, {}, {}
        self._generation = _CLOSED

    # --- the kernel -------------------------------------------------------------------------------------

    def _of_host(self) -> Iterator[Element]:
        """What belongs to no endpoint: the bridges, other links, and ::1 where it can be published on.

        The kernel drops a packet to ::1 that comes from a bridge, and where bridges hand packets to iptables,
        an answer that is on its way back to ::1 is one before its time. The client had better be refused, and
        try 127.0.0.1, than wait.
        """
        if not _HANDS_TO_IP6TABLES.exists() or _HANDS_TO_IP6TABLES.read_text().strip() == "0":
            yield of_loopback6()
        yield from self._of_links()
        for rules in self._bridges.values():
            yield from of_bridge(rules)

    def _of_links(self) -> Iterator[Element]:
        for version, links in self._links_apart.items():
            yield from of_links_apart(version, links)

    def _of_port(self, port: Port) -> Iterator[Element]:
        yield from map(of_opened, port.opened)
        if BRIDGE in self._families:
            rules = self._bridges.get(port.bridge)
            yield from of_port(port, apart=rules is not None and not rules.icc)

    def _exchange(self, old: Iterable[Element], new: Iterable[Element]) -> None:
        """Take ``old`` elements away and add ``new`` ones, as far as they are, or are not, there."""
        added = _by_place(new)
        removed = {
            place: element
            for place, element in _by_place(old).items()
            if self._elements.get(place) == element and added.get(place) != element
        }
        for place, element in list(added.items()):
            if (present := self._elements.get(place)) == element:
                del added[place]
            elif present is not None:
                removed[place] = present
        try:
            self._commit(removed.values(), added.values())
        except NetlinkFailed:
            if not self.restore():
                raise
            self._commit(removed.values(), added.values())
        for place in removed:
            del self._elements[place]
        self._elements.update(added)

    def _commit(self, removed: Collection[Element], added: Collection[Element]) -> None:
        if removed or added:
            self._writer.exchange(removed, added)
            self._generation += 1

    def _is_untouched(self) -> bool:
        """Whether all that has happened to the host's tables, since we read ours, are our own transactions.

        The mirror is right then, and reading again, some 20 us for each element, is saved.
        """
        return self._writer.generation() == self._generation

    def _read(self) -> Elements:
        self._generation = self._writer.generation()
        sets = [(family, name) for family in self._families for name in SETS_OF[family]]
        return _by_place(self._writer.read(sets))

    def _write_differences(self, present: Elements) -> bool:
        wrong = [element for place, element in present.items() if self._elements.get(place) != element]
        missing = [element for place, element in self._elements.items() if present.get(place) != element]
        self._commit(wrong, missing)
        return bool(wrong or missing)

    def _write_rules(self) -> bool:
        """Write the rules where there are others, by our mark on them; someone may have flushed a chain."""
        amiss = [
            family
            for family in self._families
            if sorted(self._writer.comments(family)) != sorted(marks_of(family))
        ]
        for family in amiss:
            self._write_table(family)
        return bool(amiss)

    def _write_table(self, family: int) -> None:
        rules = commands(self._table, family)
        try:
            self._nft.run(rules)
        except errors.System:
            # A table of another make, which cannot be changed into this one, or no such family here.
            where = f"{FAMILY_NAMES[family]} {self._table}"
            try:
                self._nft.run(f"add table {where}\ndelete table {where}\n{rules}")
            except errors.System:
                if family == INET:
                    raise
                self._families = [INET]

    def _delete_table(self, family: str) -> None:
        where = f"{family} {self._table}"
        self._nft.run(f"add table {where}\ndelete table {where}\n")


def _by_place(elements: Iterable[Element]) -> Elements:
    return {element.place: element for element in elements}
