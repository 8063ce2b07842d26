"""Trio-flavoured. Removing the images that nobody needs, by Docker's rules for which those are."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from proad.engine.imagelisting import prune_predicate
from proad.engine.imageremoval import ImageRemoval, RemovedImage
from proad.model import errors
from proad.model.filters import Filters
from proad.model.image import Image
from proad.store.db import Store


@dataclass(frozen=True)
class ImagePrune:
    """``space_bytes`` counts the unpacked layers and the blobs that went."""

    removed: Sequence[RemovedImage] = ()
    space_bytes: int = 0


class ImagePruning:
    def __init__(self, store: Store, removal: ImageRemoval) -> None:
        self._store = store
        self._removal = removal
        self._is_pruning = False

    async def prune(self, filters: Filters) -> ImagePrune:
        """See :meth:`proad.engine.images.Images.prune`."""
        if self._is_pruning:
            raise errors.Conflict("a prune operation is already running")
        self._is_pruning = True
        removed: deque[RemovedImage] = deque()
        space_bytes = 0
        try:
            for image in self._candidates(filters):
                names = self._removal.names(image.id)
                for ref in [name.familiar for name in names] or [image.id]:
                    try:
                        done = await self._removal.remove(image, ref, force=False, prune=True)
                    except errors.Conflict:  # used by a container
                        continue
                    removed += done.items
                    space_bytes += done.space_bytes
        finally:
            self._is_pruning = False
        with self._store.transaction() as tx:
            tx.emit("image", "prune", "", {"reclaimed": str(space_bytes)})
        return ImagePrune(tuple(removed), space_bytes)

    def _candidates(self, filters: Filters) -> list[Image]:
        """Images without tags, or all; those without a name that others were made from go with those."""
        matches, only_dangling = prune_predicate(filters)
        parents = {image.parent_id for image in self._store.images.values()}
        found = []
        for image in self._store.images.values():
            names = self._removal.names(image.id)
            if image.id in parents and (only_dangling or not names):
                continue
            if matches(image) and not (only_dangling and any(name.tag for name in names)):
                found.append(image)
        return found
