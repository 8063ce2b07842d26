"""Sync, pure. The text of a container's ``/etc/hosts``, ``/etc/resolv.conf`` and ``/etc/hostname``.

Sources: hosts(5), resolv.conf(5), and Docker's documentation of ``--add-host`` and ``--dns``.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from proad.model import errors

HOST_GATEWAY = "host-gateway"
"""Stands for the address at which a container reaches its host, in ``--add-host name:host-gateway``."""

FALLBACK_NAMESERVERS = ("8.8.8.8", "8.8.4.4")
RESOLVED_STUB = "127.0.0.53"

_LOCAL_HOSTS = (
    ("127.0.0.1", ("localhost",)),
    ("::1", ("localhost", "ip6-localhost", "ip6-loopback")),
    ("fe00::", ("ip6-localnet",)),
    ("ff00::", ("ip6-mcastprefix",)),
    ("ff02::1", ("ip6-allnodes",)),
    ("ff02::2", ("ip6-allrouters",)),
)

HostRecord = tuple[str, Sequence[str]]
"""An address and the names it has."""


def hosts_text(
    *,
    addresses: Sequence[str] = (),
    hostname: str = "",
    domainname: str = "",
    extra: Iterable[HostRecord] = (),
    links: Iterable[HostRecord] = (),
) -> str:
    """Return ``/etc/hosts`` of a container with a network namespace of its own.

    ``addresses`` are its own, none where it has no interface but ``lo``: then its name is not there, as with
    Docker.
    """
    own = [(address, own_names(hostname, domainname)) for address in addresses if hostname]
    return _lines([*_LOCAL_HOSTS, *extra, *links, *own])


def host_hosts_text(host_text: str, extra: Iterable[HostRecord] = ()) -> str:
    """Return ``/etc/hosts`` of a container in the host's network namespace: the host's and what was added."""
    head = host_text if not host_text or host_text.endswith("\n") else host_text + "\n"
    return head + _lines(extra)


def own_names(hostname: str, domainname: str) -> tuple[str, ...]:
    """Return the names of a container's own address: the full one first, as ``hostname -f`` wants it."""
    if domainname:
        return f"{hostname}.{domainname}", hostname
    if "." in hostname:
        return hostname, hostname.partition(".")[0]
    return (hostname,)


def with_own_addresses(
    text: str, addresses: Sequence[str], *, hostname: str, domainname: str, extra: Iterable[str] = ()
) -> str:
    """Return a living hosts file in which the container itself is at ``addresses``, and nowhere else.

    Lines as :func:`hosts_text` writes them for its own names come and go; all others are somebody else's, and
    so are those that ``--add-host`` asked for (``extra``), whatever host they name.
    """
    if not hostname:
        return text
    names = own_names(hostname, domainname)
    kept = {*addresses, *(split_extra_host(entry)[1] for entry in extra)}
    own = re.compile(rf"^([^\s#]+)\t{re.escape(' '.join(names))}\n", re.MULTILINE)
    text = own.sub(lambda line: line[0] if line[1] in kept else "", text)
    present = {line[1] for line in own.finditer(text)}
    if text and not text.endswith("\n"):
        text += "\n"
    return text + _lines((address, names) for address in addresses if address not in present)


def with_host_at(text: str, own: str, *, name: str, address: str) -> str:
    """Return a hosts file in which the host that is first of all called ``name`` has another address.

    The line of the container's own address ``own`` is not touched, whatever its names are.
    """

    def moved(line: re.Match[str]) -> str:
        return line[0] if line[1] == own else f"{address}{line[2]}"

    return _line_of(name).sub(moved, text)


def without_host(text: str, own: str, *, name: str) -> str:
    """Return a hosts file without the host that is first of all called ``name``; see :func:`with_host_at`."""
    return _line_of(name).sub(lambda line: line[0] if line[1] == own else "", text)


def _line_of(name: str) -> re.Pattern[str]:
    """Matches lines as :func:`hosts_text` writes them; what else is in the file is somebody's own."""
    return re.compile(rf"^([^\s#]+)(\t{re.escape(name)}(?: [^\n]*)?\n)", re.MULTILINE)


def _lines(records: Iterable[HostRecord]) -> str:
    return "".join(f"{address}\t{' '.join(names)}\n" for address, names in records)


def extra_hosts(entries: Iterable[str], host_gateway: str) -> list[HostRecord]:
    """Return what ``--add-host`` asks for: ``name:address`` or ``name=address``, in order.

    Raises:
        errors.InvalidParameter: an entry has another form, or ``host-gateway`` where there is no gateway.
    """
    records: list[HostRecord] = []
    for entry in entries:
        name, address = split_extra_host(entry)
        if address == HOST_GATEWAY:
            if not host_gateway:
                raise errors.InvalidParameter(
                    "unable to derive the IP value for host-gateway: the container is on no bridge"
                )
            address = host_gateway
        records.append((address, (name,)))
    return records


def split_extra_host(entry: str) -> tuple[str, str]:
    """Return name and address of one ``--add-host`` entry; the address may be ``host-gateway``.

    Raises:
        errors.InvalidParameter: it has another form.
    """
    name, separator, address = entry.partition("=" if "=" in entry else ":")
    address = address.removeprefix("[").removesuffix("]")
    if not separator or not name or not address or re.search(r"\s", entry):
        raise errors.InvalidParameter(f'bad format for add-host: "{entry}"')
    if address != HOST_GATEWAY:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise errors.InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
    return name, address


def hostname_text(hostname: str) -> str:
    return f"{hostname}\n"


# --- resolv.conf ----------------------------------------------------------------------------------------


def uses_resolved_stub(host_text: str) -> bool:
    """Whether the host's only nameserver is the stub of systemd-resolved, which no container can reach.

    Then ``/run/systemd/resolve/resolv.conf`` has the servers that the stub itself asks.
    """
    return _values(host_text, "nameserver") == [RESOLVED_STUB]


def resolv_text(
    host_text: str,
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    shares_host_network: bool = False,
) -> str:
    """Return ``/etc/resolv.conf``: what was asked for, and for the rest what the host has.

    Servers that only the host can reach (on loopback, and of IPv6 for containers without it) are left out;
    where none remains, public ones stand in. A search domain ``.`` means that there is none. A container in
    the host's network namespace gets the host's servers as they are.
    """
    servers = list(dns) or _values(host_text, "nameserver")
    if not shares_host_network and not dns:
        servers = [server for server in servers if _is_reachable(server)] or list(FALLBACK_NAMESERVERS)
    domains = list(search) or _search(host_text)
    lines = [f"nameserver {server}" for server in servers]
    if domains and domains != ["."]:
        lines.append(f"search {' '.join(domains)}")
    if wishes := list(options) or [word for line in _values(host_text, "options") for word in line.split()]:
        lines.append(f"options {' '.join(wishes)}")
    return "".join(f"{line}\n" for line in lines)


def _values(text: str, keyword: str) -> list[str]:
    found = []
    for line in text.splitlines():
        words = line.split(None, 1)
        if len(words) == 2 and words[0] == keyword:
            found.append(words[1].strip())
    return found


def _search(text: str) -> list[str]:
    """The last line of ``search`` or ``domain`` wins (resolv.conf(5))."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in ("search", "domain"):
            found = words[1:]
    return found


def _is_reachable(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback


def nameservers(text: str) -> list[str]:
    """Return the servers of a ``resolv.conf``, in order, those alone that are addresses."""
    return [server for server in _values(text, "nameserver") if _is_address(server)]


# --- the resolver of networks with names ----------------------------------------------------------------

RESOLVER_ADDRESS = "127.0.0.11"
"""Where the daemon's resolver answers inside a container."""

_REPLACED = "# replaced: "
_ADDED = "# added: options "
_NDOTS = "ndots:0"


def with_resolver(text: str) -> str:
    """Return a ``resolv.conf`` that asks the daemon's resolver, which asks the servers that stood there.

    A name without a dot is looked up as it is first, unless there is another wish about that (``ndots``).
    What was there before stays as comments, for :func:`without_resolver`. A file that asks the resolver
    already is returned as it is.
    """
    if RESOLVER_ADDRESS in _values(text, "nameserver"):
        return text
    lines = [f"nameserver {RESOLVER_ADDRESS}"]
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["nameserver"]:
            lines.append(_REPLACED + line)
        elif words[:1] == ["options"]:
            options += [word for word in words[1:] if not _is_bad_ndots(word)]
        else:
            lines.append(line)
    if not any(word.startswith("ndots:") for word in options):
        options.append(_NDOTS)
        lines.append(_ADDED + _NDOTS)
    lines.append(f"options {' '.join(options)}")
    return "".join(f"{line}\n" for line in lines)


def without_resolver(text: str) -> str:
    """Undo :func:`with_resolver`, and leave alone what the container has changed since."""
    if RESOLVER_ADDRESS not in _values(text, "nameserver") or _REPLACED not in text:
        return text
    lines = []
    added = f"{_ADDED}{_NDOTS}\n" in text
    for line in text.splitlines():
        words = line.split()
        if words == ["nameserver", RESOLVER_ADDRESS] or line == _ADDED + _NDOTS:
            continue
        if line.startswith(_REPLACED):
            lines.append(line.removeprefix(_REPLACED))
        elif words[:1] == ["options"] and added:
            if left := [word for word in words[1:] if word != _NDOTS]:
                lines.append(f"options {' '.join(left)}")
        else:
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def _is_bad_ndots(option: str) -> bool:
    """Whether an option would be one of ``ndots`` but for its number."""
    name, _, number = option.partition(":")
    return name == "ndots" and not number.isdecimal()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
