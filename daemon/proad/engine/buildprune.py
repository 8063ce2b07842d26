"""Trio-flavoured. Pruning the build cache: images of builds that have no name and that nobody needs.

The classic builder has no cache but its images. What a build went through stays as long as its last image
does; when that has lost its name to a later build's, all of it can go.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from proad.engine.imagelisting import created_ns, prune_predicate, shared_sizes
from proad.engine.images import Images
from proad.model import errors
from proad.model.filters import Filters
from proad.model.image import Image
from proad.store.db import Store

FILTERS = frozenset({"until", "unused-for", "label", "label!"})


@dataclass(frozen=True)
class BuildPruned:
    """The ids of images that went, and the bytes that came free."""

    deleted: Sequence[str]
    space_bytes: int


async def prune_built(store: Store, images: Images, filters: Filters, *, kept_bytes: int) -> BuildPruned:
    """Remove what is left of builds, the oldest first, until no more than ``kept_bytes`` of it are there.
    Event ``prune`` of the builder.

    Raises:
        errors.InvalidParameter: an unknown filter, or a value that it cannot have.
    """
    for name in filters:
        if name not in FILTERS:
            raise errors.InvalidParameter(f"invalid filter '{name}'")
    renamed = {"until" if name == "unused-for" else name: values for name, values in filters.items()}
    matches, _ = prune_predicate(renamed)
    deleted: list[str] = []
    sizes = shared_sizes(store.images.values()).sizes
    layers: set[str] = set()
    for image in sorted(_unnamed(store, images), key=created_ns):
        if image.id not in store.images or not matches(image):
            continue
        if kept_bytes and _bytes_of(_unnamed(store, images)) <= kept_bytes:
            break
        try:
            removed = await images.remove(image.id)
        except errors.Conflict:  # something needs it, or was made of it
            continue
        gone = [item.deleted for item in removed if item.deleted]
        deleted += [name for name in gone if name not in sizes]
        layers.update(name for name in gone if name in sizes)
    space_bytes = sum(sizes[chain_id] for chain_id in layers)
    with store.transaction(durable=False) as tx:
        tx.emit("builder", "prune", "", {"reclaimed": str(space_bytes)})
    return BuildPruned(tuple(deleted), space_bytes)


def _unnamed(store: Store, images: Images) -> list[Image]:
    return [
        image
        for image in store.images.values()
        if image.built_with is not None and not images.names(image.id)
    ]


def _bytes_of(images: Sequence[Image]) -> int:
    return sum(shared_sizes(images).sizes.values())
