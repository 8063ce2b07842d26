"""Trio-flavoured. Which containers a list or a prune means: Docker's filters as predicates. Never waits."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proad.engine.lookup import find_container
from proad.model import errors
from proad.model.container import Container, Status
from proad.model.filters import parse_time_ns
from proad.model.health import HealthStatus
from proad.store.db import Store

Filters = Mapping[str, Sequence[str]]
Predicate = Callable[[Container], bool]

RUNNING = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})
"""What a list shows without ``all``; a restarting container counts as running, as with Docker."""


@dataclass(frozen=True)
class ListQuery:
    """``all`` shows stopped ones as well; ``limit`` > 0 the latest so many, stopped ones included."""

    all: bool = False
    limit: int = 0
    filters: Filters = field(default_factory=dict)


def list_containers(
    store: Store, query: ListQuery, images_named: Callable[[str], set[str]]
) -> list[Container]:
    """The containers that ``query`` means, the latest made first.

    ``images_named`` gives the ids of the image that an ``ancestor`` filter names and of the images made from
    it.

    Raises:
        errors.InvalidParameter: an unknown filter or a value that it cannot have.
        errors.NotFound: ``before`` or ``since`` names no container.
    """
    predicates = [
        _predicate(name, tuple(values), store, images_named) for name, values in query.filters.items()
    ]
    show_stopped = query.all or query.limit > 0 or "status" in query.filters
    found = sorted(
        (
            c
            for c in store.containers.values()
            if (show_stopped or shown_status(c) in RUNNING) and all(p(c) for p in predicates)
        ),
        key=lambda c: c.created_ns,
        reverse=True,
    )
    return found[: query.limit] if query.limit > 0 else found


def prune_predicate(filters: Filters) -> Predicate:
    """Which stopped containers a prune means: filters ``until``, ``label`` and ``label!``.

    Raises:
        errors.InvalidParameter: an unknown filter or a value that it cannot have.
    """
    predicates = [_prune_filter(name, values) for name, values in filters.items()]
    return lambda c: all(p(c) for p in predicates)


def _prune_filter(name: str, values: Sequence[str]) -> Predicate:
    match name:
        case "until":
            limit_ns = parse_time_ns({name: values}, name)
            return lambda c: limit_ns is None or c.created_ns < limit_ns
        case "label":
            return lambda c: _has_labels(c, values)
        case "label!":
            return lambda c: not any(_has_labels(c, [value]) for value in values)
        case _:
            raise errors.InvalidParameter(f"invalid filter '{name}'")


def shown_status(container: Container) -> Status:
    """The status as the API tells it: a start under way shows what the container was before."""
    if container.status is Status.STARTING:
        return Status.EXITED if container.has_been_started else Status.CREATED
    return container.status


def _predicate(
    name: str, values: tuple[str, ...], store: Store, images_named: Callable[[str], set[str]]
) -> Predicate:
    match name:
        case "name":
            patterns = [_regex(name, v.removeprefix("/") if not v.startswith("/^") else v) for v in values]
            return lambda c: any(p.search(c.name) or p.search("/" + c.name) for p in patterns)
        case "id":
            patterns = [_regex(name, v) for v in values]
            return lambda c: any(c.id.startswith(v) for v in values) or any(p.search(c.id) for p in patterns)
        case "label":
            return lambda c: _has_labels(c, values)
        case "status":
            return _by_status(values)
        case "exited":
            codes = {_integer(name, v) for v in values}
            return lambda c: shown_status(c) not in RUNNING and c.has_been_started and c.exit_code in codes
        case "before":
            before = min(find_container(store, v).created_ns for v in values)
            return lambda c: c.created_ns < before
        case "since":
            since = max(find_container(store, v).created_ns for v in values)
            return lambda c: c.created_ns > since
        case "ancestor":
            images = set().union(*(images_named(v) for v in values))
            return lambda c: c.image_id in images
        case "volume":
            return lambda c: any(v in (m.name, m.destination) for m in c.mounts for v in values)
        case "network":
            return lambda c: any(_on_network(c, v) for v in values)
        case "publish":
            ports = _ports(name, values)
            return lambda c: not ports.isdisjoint(c.host_config.port_bindings)
        case "expose":
            ports = _ports(name, values)
            return lambda c: not ports.isdisjoint(c.config.exposed_ports)
        case "health":
            if bad := set(values) - set(HealthStatus):
                raise errors.InvalidParameter(
                    f"invalid value for health ({bad.pop()}): must be one of {', '.join(HealthStatus)}"
                )
            return lambda c: c.health_status in values
        case "is-task":
            asked = [_boolean(name, v) for v in values]
            tasks_only = all(asked)  # there are no tasks without swarm
            return lambda c: not tasks_only
        case "isolation":
            return lambda c: True
        case _:
            raise errors.InvalidParameter(f"invalid filter '{name}'")


def _by_status(values: Iterable[str]) -> Predicate:
    known = {s.value for s in Status} - {Status.STARTING.value}
    for value in values:
        if value not in known:
            raise errors.InvalidParameter(f"invalid filter 'status={value}'")
    return lambda c: shown_status(c).value in values


def _has_labels(container: Container, wanted: Sequence[str]) -> bool:
    labels = container.config.labels
    for item in wanted:
        key, equals, value = item.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def _on_network(container: Container, ref: str) -> bool:
    endpoints = container.run.endpoints if container.run and container.status.has_process else ()
    if any(endpoint.network == ref or endpoint.network_id.startswith(ref) for endpoint in endpoints):
        return True
    mode = container.host_config.network_mode
    return ref in container.networks or ref == ("bridge" if mode in ("", "default") else mode)


def _ports(name: str, values: Iterable[str]) -> set[str]:
    """``80``, ``80/udp`` or ``8000-8010/tcp`` as the set of ``port/protocol``."""
    ports = set()
    for value in values:
        span, _, protocol = value.partition("/")
        first, _, last = span.partition("-")
        low = _integer(name, first)
        high = _integer(name, last) if last else low
        if not 0 < low <= high <= 65535 or protocol not in ("", "tcp", "udp", "sctp"):
            raise errors.InvalidParameter(f"invalid filter '{name}={value}'")
        ports |= {f"{port}/{protocol or 'tcp'}" for port in range(low, high + 1)}
    return ports


def _integer(name: str, value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,10}", value):
        raise errors.InvalidParameter(f"invalid filter '{name}={value}'")
    return int(value)


def _boolean(name: str, value: str) -> bool:
    if value.lower() in ("1", "true", "t"):
        return True
    if value.lower() in ("0", "false", "f"):
        return False
    raise errors.InvalidParameter(f"invalid filter '{name}={value}'")


def _regex(name: str, value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error as error:
        raise errors.InvalidParameter(f"invalid filter '{name}={value}': {error}") from error
