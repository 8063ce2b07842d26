"""Trio-flavoured. Which layers and blobs somebody needs, and the removal of all others.

Nothing counts references: what is needed is read off the records of images and containers whenever
something may have become garbage, so no crash can leave a count wrong. Work in progress pins what it is
about to need.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proad.host.blobs import BlobStore
from proad.store.db import Store


@dataclass(frozen=True)
class Swept:
    """The chain IDs of layers that went, and the bytes of those layers' files and of blobs."""

    layers: Collection[str]
    space_bytes: int


class Garbage:
    def __init__(self, store: Store, blobs: BlobStore) -> None:
        self._store = store
        self._blobs = blobs
        self._pins: Counter[str] = Counter()
        self._held: Counter[str] = Counter()

    @contextmanager
    def pinned(self, names: Iterable[str]) -> Iterator[None]:
        """Keep layers (by chain ID) and blobs (by digest) for as long as the block runs."""
        held = tuple(names)
        self._pins.update(held)
        try:
            yield
        finally:
            self._pins.subtract(held)
            self._pins = +self._pins

    @contextmanager
    def holding(self, image_id: str) -> Iterator[None]:
        """Keep an image from being removed for as long as the block runs: a build goes on from it."""
        self._held[image_id] += 1
        try:
            yield
        finally:
            self._held[image_id] -= 1
            self._held = +self._held

    def is_held(self, image_id: str) -> bool:
        return image_id in self._held

    def unneeded_layers(self) -> set[str]:
        """Chain IDs of layers that are there and belong to no image, no container and no work in progress."""
        needed = set(self._pins)
        for image in self._store.images.values():
            needed.update(image.chain_ids)
        for container in self._store.containers.values():
            needed.update(container.layers, *(point.layers for point in container.mounts))
        return self._blobs.layers() - needed

    def unneeded_blobs(self) -> set[str]:
        needed = set(self._pins)
        for image in self._store.images.values():
            needed.update((image.id, image.manifest_digest, *image.layer_blobs))
        return self._blobs.blobs() - needed

    async def sweep(self) -> Swept:
        """Remove what nobody needs; returns what that was.

        Raises:
            errors.System: something cannot be deleted; it is out of the store all the same.
        """
        layers, blobs = self.unneeded_layers(), self.unneeded_blobs()
        space_bytes = sum(self._blobs.blob_size(digest) or 0 for digest in blobs)
        space_bytes += sum(info.size_bytes for info in map(self._blobs.layer, layers) if info)
        for digest in blobs:
            self._blobs.remove_blob(digest)
        await self._blobs.remove_layers(layers)
        return Swept(layers, space_bytes)
