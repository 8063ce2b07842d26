"""Trio-flavoured. Which images a list or a prune means: Docker's filters as predicates. Never waits."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proad.engine.lookup import images_of
from proad.model import errors
from proad.model.durations import parse_timestamp_ns
from proad.model.filters import Filters, match_labels, parse_boolean, parse_time_ns
from proad.model.image import Image
from proad.model.reference import Reference, parse_reference
from proad.store.db import Store

LIST_FILTERS = frozenset({"before", "since", "reference", "label", "dangling", "until"})
PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})

Predicate = Callable[[Image], bool]


@dataclass(frozen=True)
class ImageQuery:
    """``all`` shows images that others were made from; the flags ask for what costs more to count."""

    all: bool = False
    filters: Filters = field(default_factory=dict)
    shared_size: bool = False
    containers: bool = False


@dataclass(frozen=True)
class ImageSummary:
    """One image of a list, with the names that the filters let through; -1 is "not counted"."""

    image: Image
    names: list[Reference]
    shared_bytes: int = -1
    containers: int = -1


@dataclass(frozen=True)
class LayerSizes:
    """By chain ID: bytes, and how many images have the layer."""

    sizes: dict[str, int]
    users: Counter[str]

    def shared_by(self, image: Image) -> int:
        """Bytes of the image's layers that other images have too."""
        return sum(self.sizes[chain_id] for chain_id in image.chain_ids if self.users[chain_id] > 1)


def list_images(store: Store, query: ImageQuery, resolve: Callable[[str], Image]) -> list[ImageSummary]:
    """See :meth:`proad.engine.images.Images.list`."""
    _check_names(query.filters, LIST_FILTERS)
    matches = _predicate(query.filters, resolve)
    dangling = parse_boolean(query.filters, "dangling")
    patterns = query.filters.get("reference", [])
    parents = {image.parent_id for image in store.images.values()}
    layers = shared_sizes(store.images.values())
    users = Counter(image_id for container in store.containers.values() for image_id in images_of(container))
    names_of = all_names(store)
    found = []
    for image in store.images.values():
        names = [
            name
            for name in names_of.get(image.id, [])
            if not patterns or any(name.matches(pattern) for pattern in patterns)
        ]
        if not matches(image) or (patterns and not names):
            continue
        if image.id in parents and (dangling or not (names or query.all)):
            continue
        if dangling and any(name.tag for name in names):
            continue
        if dangling is False and not names:  # Docker: with a digest for a name it is not dangling here
            continue
        found.append(
            ImageSummary(
                image,
                names,
                shared_bytes=layers.shared_by(image) if query.shared_size else -1,
                containers=users[image.id] if query.containers else -1,
            )
        )
    return sorted(found, key=lambda summary: (created_ns(summary.image), summary.image.id), reverse=True)


def prune_predicate(filters: Filters) -> tuple[Predicate, bool]:
    """Which images a prune means, and whether only those without a name (``dangling``, the default).

    Raises:
        errors.InvalidParameter: an unknown filter, or a value that it cannot have.
    """
    _check_names(filters, PRUNE_FILTERS)
    dangling = parse_boolean(filters, "dangling")
    parse_time_ns(filters, "until")  # one at most, other than for lists
    matches = _predicate(filters, _no_lookup)
    unwanted, by_age = filters.get("label!"), "until" in filters
    return (
        lambda image: (
            matches(image)
            and not (unwanted and match_labels(image.config.labels, unwanted))
            and not (by_age and not image.created)
        ),
        dangling is not False,
    )


def all_names(store: Store) -> dict[str, list[Reference]]:
    """By image id, the image's names: tags before digests, each sorted."""
    names: dict[str, list[Reference]] = {}
    for canonical, image_id in sorted(store.references.items(), key=lambda item: ("@" in item[0], item[0])):
        names.setdefault(image_id, []).append(parse_reference(canonical))
    return names


def shared_sizes(images: Iterable[Image]) -> LayerSizes:
    sizes: dict[str, int] = {}
    users: Counter[str] = Counter()
    for image in images:
        sizes.update(zip(image.chain_ids, image.layer_sizes, strict=True))
        users.update(image.chain_ids)
    return LayerSizes(sizes, users)


def created_ns(image: Image) -> int:
    """When the image says that it was made; 0 where it does not."""
    if not image.created:
        return 0
    try:
        return parse_timestamp_ns(image.created, now_ns=0)
    except errors.InvalidParameter:
        return 0


def _predicate(filters: Filters, resolve: Callable[[str], Image]) -> Predicate:
    before = [created_ns(resolve(ref)) for ref in filters.get("before", [])]
    since = [created_ns(resolve(ref)) for ref in filters.get("since", [])]
    labels = filters.get("label", [])
    before += [parse_timestamp_ns(value, now_ns=time.time_ns()) for value in filters.get("until", [])]
    earliest, latest = max(since, default=None), min(before, default=None)

    def matches(image: Image) -> bool:
        made_ns = created_ns(image)
        return (
            (latest is None or made_ns < latest)
            and (earliest is None or made_ns > earliest)
            and match_labels(image.config.labels, labels)
        )

    return matches


def _check_names(filters: Filters, known: frozenset[str]) -> None:
    for name in filters:
        if name not in known:
            raise errors.InvalidParameter(f"invalid filter '{name}'")


def _no_lookup(ref: str) -> Image:
    raise errors.InvalidParameter(f"invalid filter: {ref}")
