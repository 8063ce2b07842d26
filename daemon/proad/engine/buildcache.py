"""Trio-flavoured. The build cache: an image that a step made before, of the same parent with the same
configuration.

There is no cache beside the images. A step is found again among the children of the image that it starts
from, by the configuration that it ran with: the command is part of that, and for COPY and ADD it bears the
hash of what is copied. Once a step is not found, nothing of its stage is looked for any more. Rules of moby
(builder/dockerfile/imageprobe.go, image/cache).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

import msgspec
from msgspec.structs import replace

from proad.engine.imagelisting import created_ns
from proad.engine.stepimages import StepImages, empty_image
from proad.model.image import History, Image, ImageConfig, chain_ids
from proad.store.db import Store


class BuildCache(Protocol):
    """What one stage of a build asks."""

    async def find(self, parent: Image | None, built_with: ImageConfig) -> Image | None:
        """The image that the step would make; None if it has to be made."""


class NoCache:
    """``nocache``: every step is done."""

    async def find(self, parent: Image | None, built_with: ImageConfig) -> Image | None:
        return None


class LocalCache:
    """Images that builds of this engine made."""

    def __init__(self, store: Store, architecture: str) -> None:
        self._store = store
        self._architecture = architecture
        self._missed = False

    async def find(self, parent: Image | None, built_with: ImageConfig) -> Image | None:
        if self._missed:
            return None
        found = find_child(self._store, parent, built_with, self._architecture)
        self._missed = found is None
        return found


class SourcesCache:
    """``cachefrom``: only what certain images were made of, wherever those came from.

    Of an image that was not built here nothing is known but its history: a step is found by its command, and
    the images between the base and that one are made again, of its layers.
    """

    def __init__(
        self,
        store: Store,
        steps: StepImages,
        sources: Sequence[Image],
        architecture: str,
        held: ExitStack,
    ) -> None:
        self._store = store
        self._steps = steps
        self._sources = list(sources)
        self._held = held
        self._architecture = architecture
        self._missed = False

    async def find(self, parent: Image | None, built_with: ImageConfig) -> Image | None:
        if self._missed:
            return None
        found = self._local(parent, built_with) or await self._of_sources(parent, built_with)
        self._missed = found is None
        return found

    def _local(self, parent: Image | None, built_with: ImageConfig) -> Image | None:
        found = find_child(self._store, parent, built_with, self._architecture)
        trusted = found is not None and any(self._is_made_of(source, found) for source in self._sources)
        return found if trusted else None

    def _is_made_of(self, image: Image, ancestor: Image) -> bool:
        current: Image | None = image
        while current is not None:
            if current.parent_id == ancestor.id:
                return True
            current = self._store.images.get(current.parent_id)
        return False

    async def _of_sources(self, parent: Image | None, built_with: ImageConfig) -> Image | None:
        base = parent or empty_image()
        done = len(base.history)
        command = " ".join(built_with.cmd or ())
        for source in self._sources:
            if not _continues(source, base) or source.history[done].created_by != command:
                continue
            if len(source.history) == done + 1:
                return self._with_parent(source, base)
            self._sources = [source]  # a stage goes on with the image that it began with
            return await self._restore(source, base, built_with)
        return None

    def _with_parent(self, image: Image, base: Image) -> Image:
        if base.id and not image.parent_id:
            image = replace(image, parent_id=base.id)
            with self._store.transaction() as tx:
                tx.put_image(image)
        return image

    async def _restore(self, source: Image, base: Image, built_with: ImageConfig) -> Image:
        """Make the image that the source went through after one step more than the base has."""
        made = source.history[len(base.history)]
        layers = len(base.diff_ids) + (not made.empty_layer)
        diff_ids = source.diff_ids[:layers]
        image = replace(
            empty_image(),
            architecture=source.architecture,
            os=source.os,
            variant=source.variant,
            created=made.created or "",
            author=source.author,
            config=built_with,
            diff_ids=diff_ids,
            chain_ids=chain_ids(diff_ids),
            layer_sizes=source.layer_sizes[:layers],
            history=(*base.history, made),
            parent_id=base.id,
            built_with=built_with,
        )
        with self._steps.kept(source):
            return await self._steps.keep(image, source.layer_blobs[:layers], self._held)


def find_child(
    store: Store, parent: Image | None, built_with: ImageConfig, architecture: str
) -> Image | None:
    """The child of an image that a build made with this configuration, the latest if there are several."""
    parent_id = parent.id if parent is not None else ""
    wanted = _comparable(built_with)
    found = [
        image
        for image in store.images.values()
        if image.parent_id == parent_id
        and image.built_with is not None
        and image.architecture == architecture
        and _comparable(image.built_with) == wanted
    ]
    return max(found, key=created_ns, default=None)


def _comparable(config: ImageConfig) -> ImageConfig:
    """None and empty are one to the cache, as to Go."""
    lists = {name: getattr(config, name) or () for name in ("entrypoint", "cmd", "on_build", "shell")}
    return msgspec.structs.replace(config, **lists)


def _continues(image: Image, base: Image) -> bool:
    """Whether an image was made of one with this history and these layers, by at least one step more."""
    steps, layers = len(base.history), len(base.diff_ids)
    if not image.history or len(image.history) <= steps or len(image.diff_ids) < layers:
        return False
    same: tuple[History, ...] = image.history[:steps]
    return same == base.history and image.diff_ids[:layers] == base.diff_ids
