"""Trio-flavoured. One layer from a registry into the store: downloaded, hashed and unpacked in one pipeline.

The registry's bytes go through a pipe to the helper that unpacks them in its jail; only small pieces of them
are ever in the daemon's memory. Layer and blob get their places only when the helper has told the digests of
the blob and of the plain tar (the diff ID), and both are those that manifest and configuration name.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from proad.engine.imagegarbage import Garbage
from proad.engine.imagekeeping import make_directory
from proad.engine.lookup import is_blob_of_layer
from proad.engine.piping import piped
from proad.engine.transfers import Tell, Transfers
from proad.host.archive import UnpackedLayer, Unpacker
from proad.host.blobs import BlobStore, LayerInfo
from proad.host.registry import Repository
from proad.model import errors, progress
from proad.model.registrywire import NotVerified
from proad.store.db import Store


@dataclass(frozen=True)
class WantedLayer:
    """A layer of an image: what it is called in the store, and the blob that it comes as.

    ``urls`` are where a foreign layer is.
    """

    chain_id: str
    diff_id: str
    digest: str
    size_bytes: int
    urls: Sequence[str] = field(default_factory=tuple)

    @property
    def shown_id(self) -> str:
        return self.digest.removeprefix("sha256:")[:12]


class LayerFetcher:
    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        unpacker: Unpacker,
        garbage: Garbage,
        nursery: trio.Nursery,
        *,
        max_concurrent: int,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._unpacker = unpacker
        self._garbage = garbage
        self._transfers: Transfers[int] = Transfers(nursery)
        self._slots = trio.CapacityLimiter(max_concurrent)
        self._locks: dict[str, trio.Lock] = {}
        self._lock_users: Counter[str] = Counter()

    def present(self, layer: WantedLayer) -> LayerInfo | None:
        """The layer, if both it and its blob are there, and belong together whatever a manifest says."""
        known = self._blobs.layer(layer.chain_id)
        if self._blobs.blob_size(layer.digest) != layer.size_bytes:
            return None
        return known if is_blob_of_layer(self._store, layer.digest, layer.diff_id) else None

    async def fetch(self, layer: WantedLayer, repository: Repository, tell: Tell) -> int:
        """Have a layer and its blob in the store; returns the size of its files in bytes.

        The caller keeps both pinned from before the call. Fetched once, however many want it.

        Raises:
            RegistryError: it cannot be had, or is not what its digest says.
            errors.InvalidParameter: it cannot be unpacked.
            errors.System: the disk is full.
        """

        async def work(say: Tell) -> int:
            return await self._fetch(layer, repository, say)

        return await self._transfers.share((layer.chain_id, layer.digest), work, tell)

    async def _fetch(self, layer: WantedLayer, repository: Repository, say: Tell) -> int:
        say(progress.update(layer.shown_id, "Pulling fs layer"))
        with self._garbage.pinned((layer.chain_id, layer.digest)):
            # The same blob may be a layer twice, in one image or in two.
            async with self._alone(layer.digest):
                if known := self.present(layer):
                    say(progress.update(layer.shown_id, "Already exists"))
                    return known.size_bytes
                if self._slots.available_tokens < 1:
                    say(progress.update(layer.shown_id, "Waiting"))
                async with self._slots, self._blobs.workspace() as work:
                    size_bytes = await self._bring(layer, repository, work, say)
        say(progress.update(layer.shown_id, "Pull complete"))
        return size_bytes

    async def _bring(self, layer: WantedLayer, repository: Repository, work: Path, say: Tell) -> int:
        tree, told = make_directory(work / "tree"), _LayerProgress(layer, say)
        if self._blobs.blob_size(layer.digest) == layer.size_bytes:
            unpacked = await self._unpack_blob(layer, tree, told)
        else:
            unpacked = await self._download(layer, repository, tree, work / "blob", told)
            _check_blob(layer, unpacked)
        if unpacked.diff_id != layer.diff_id:
            raise errors.System("layers from manifest don't match image configuration")
        if (work / "blob").exists():
            self._blobs.place_blob(work / "blob", layer.digest)
        info = LayerInfo(chain_id=layer.chain_id, diff_id=layer.diff_id, size_bytes=unpacked.size_bytes)
        await self._blobs.place_layer(tree, info)
        return unpacked.size_bytes

    async def _unpack_blob(self, layer: WantedLayer, tree: Path, told: "_LayerProgress") -> UnpackedLayer:
        told.is_here()
        source = os.open(self._blobs.blob_path(layer.digest), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return await self._unpacker.layer(source, tree, sync=False, progress=told.extracted)
        finally:
            os.close(source)

    async def _download(
        self, layer: WantedLayer, repository: Repository, tree: Path, blob: Path, told: "_LayerProgress"
    ) -> UnpackedLayer:
        async def pour(sink: int) -> None:
            await repository.fetch(
                layer.digest, layer.size_bytes, sink, urls=layer.urls, progress=told.downloaded
            )
            told.is_here()

        async def unpack(source: int) -> UnpackedLayer:
            return await self._unpacker.layer(source, tree, keep_as=blob, sync=False, progress=told.extracted)

        return await piped(pour, unpack)

    @asynccontextmanager
    async def _alone(self, digest: str) -> AsyncIterator[None]:
        """Hold a blob's lock."""
        lock = self._locks.setdefault(digest, trio.Lock())
        self._lock_users[digest] += 1
        try:
            async with lock:
                yield
        finally:
            self._lock_users[digest] -= 1
            if not self._lock_users[digest]:
                del self._lock_users[digest], self._locks[digest]


class _LayerProgress:
    """Tells of one layer, in the order of Docker's words although all of it is one pipeline."""

    def __init__(self, layer: WantedLayer, say: Tell) -> None:
        self._layer = layer
        self._say = say
        self._is_here = False

    def downloaded(self, current: int) -> None:
        self._say(progress.progress(self._layer.shown_id, "Downloading", current, self._layer.size_bytes))

    def is_here(self) -> None:
        self._is_here = True
        for action in ("Verifying Checksum", "Download complete"):
            self._say(progress.update(self._layer.shown_id, action))
        self.extracted(0)

    def extracted(self, current: int) -> None:
        if self._is_here:
            self._say(progress.progress(self._layer.shown_id, "Extracting", current, self._layer.size_bytes))


def _check_blob(layer: WantedLayer, unpacked: UnpackedLayer) -> None:
    """Whether what came is what the manifest names."""
    if (unpacked.blob_digest, unpacked.blob_size_bytes) != (layer.digest, layer.size_bytes):
        raise NotVerified(f"filesystem layer verification failed for digest {layer.digest}")
