"""Trio-flavoured. Images on disk: an OCI image layout of blobs, and one directory for each unpacked layer.

    data root
    ├── oci-layout, index.json       so that other tools can read the images ("oci:/var/lib/proa:name")
    ├── blobs/sha256/<hex>           manifests, configurations, layers as they came
    ├── layers/<chain hex>/diff      what overlayfs mounts
    ├── layers/<chain hex>/layer.json    what is known of it: diff ID, size, blob
    └── tmp/image-*                  work in progress, and what is being deleted

Everything appears by a rename within the file system, so it is there whole or not at all, and disappears by
one. A crash leaves nothing but ``tmp/image-*``, which :meth:`BlobStore.prepare` removes. Format:
https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import trio

from proad.host import jail, process
from proad.model import errors
from proad.model.imagearchive import INDEX, Descriptor

REMOVE_TIMEOUT_S = 600.0
_PREFIX = "image-"
_OLD_RM = "/bin/rm"  # the one place where it is on merged and on old systems


class LayerInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What ``layer.json`` says of a layer; ``size_bytes`` is the sum of its files."""

    chain_id: str
    diff_id: str
    size_bytes: int


class BlobStore:
    """The directories of one data root; blobs, diff IDs and chain IDs are all named ``sha256:<hex>``."""

    def __init__(self, data_root: Path) -> None:
        self._root = data_root
        self._blobs = data_root / "blobs" / "sha256"
        self._layers = data_root / "layers"
        self._tmp = data_root / "tmp"

    async def prepare(self) -> None:
        """Make what is missing of the layout and remove what a crash left of unfinished work."""
        for directory in (self._blobs, self._layers, self._tmp):
            directory.mkdir(mode=0o710, parents=True, exist_ok=True)
        if not (self._root / "oci-layout").exists():
            self._write(self._root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        await self._delete([path for path in self._tmp.iterdir() if path.name.startswith(_PREFIX)])

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[Path]:
        """A directory for work in progress, on the same file system; gone, with all in it, at the end."""
        path = self._tmp / f"{_PREFIX}{secrets.token_hex(8)}"
        with _told_as("cannot make room for an image"):
            path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            with trio.CancelScope(shield=True):
                await self._delete([path])

    # --- layers -----------------------------------------------------------------------------------------

    def layer_path(self, chain_id: str) -> Path:
        """The directory that overlayfs takes as a lower one."""
        return self._layers / _hex(chain_id) / "diff"

    def layer(self, chain_id: str) -> LayerInfo | None:
        """What is known of an unpacked layer; None where it is not there, or only in part."""
        directory = self._layers / _hex(chain_id)
        try:
            info = msgspec.json.decode((directory / "layer.json").read_bytes(), type=LayerInfo)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return info if (directory / "diff").is_dir() else None

    def layers(self) -> set[str]:
        """The chain IDs of all layers that are there."""
        return {f"sha256:{entry.name}" for entry in os.scandir(self._layers)}

    async def place_layer(self, tree: Path, info: LayerInfo) -> None:
        """Make the unpacked directory ``tree`` the layer's; without effect where it is there already.

        Whoever then names it waits for :meth:`settle`.
        """
        directory = self._layers / _hex(info.chain_id)
        if directory.exists() and not self.layer(info.chain_id):  # some of it was removed by hand
            await self.remove_layers([info.chain_id])
        if self.layer(info.chain_id):
            return
        whole = tree.with_name(f"{tree.name}.layer")
        with _told_as(f"cannot keep layer {info.chain_id}"):
            whole.mkdir(mode=0o710)
            os.rename(tree, whole / "diff")
            self._write(whole / "layer.json", msgspec.json.encode(info))
            # Nothing awaited since the look above, so nobody has put the layer there meanwhile.
            os.rename(whole, directory)

    async def remove_layers(self, chain_ids: Iterable[str]) -> None:
        await self._remove([self._layers / _hex(chain_id) for chain_id in chain_ids])

    # --- blobs ------------------------------------------------------------------------------------------

    def blob_path(self, digest: str) -> Path:
        return self._blobs / _hex(digest)

    def blob_size(self, digest: str) -> int | None:
        """Bytes of a blob; None if it is not there."""
        try:
            return self.blob_path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def put_blob(self, content: bytes) -> str:
        """Keep a small blob; returns its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self.blob_path(digest).exists():
            self._write(self.blob_path(digest), content)
        return digest

    def read_blob(self, digest: str) -> bytes:
        """The content of a small blob: a configuration, a manifest.

        Raises:
            errors.System: it is not there.
        """
        try:
            return self.blob_path(digest).read_bytes()
        except FileNotFoundError:
            raise errors.System(
                f"the image store lacks blob {digest}; load or pull the image again"
            ) from None

    def place_blob(self, path: Path, digest: str) -> None:
        """Make the finished file ``path`` the blob of that digest."""
        with _told_as(f"cannot keep blob {digest}"):
            os.rename(path, self.blob_path(digest))

    def blobs(self) -> set[str]:
        return {f"sha256:{entry.name}" for entry in os.scandir(self._blobs)}

    def remove_blob(self, digest: str) -> None:
        self.blob_path(digest).unlink(missing_ok=True)

    def write_index(self, manifests: list[Descriptor]) -> None:
        """Rewrite ``index.json``: the manifests of all images, each under each of its names.

        It is not waited for until it is on the disk: it is made from the state, and anew whenever the daemon
        starts.
        """
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        self._write(self._root / "index.json", msgspec.json.encode(index), durable=False)

    async def measure(self) -> int:
        """Bytes of all layers' files and of all blobs."""
        return await trio.to_thread.run_sync(self._measure)

    def _measure(self) -> int:
        """Sync, blocking."""
        infos = (self.layer(chain_id) for chain_id in self.layers())
        sizes = (self.blob_size(digest) for digest in self.blobs())
        return sum(info.size_bytes for info in infos if info) + sum(size or 0 for size in sizes)

    async def settle(self) -> None:
        """Return when all that was placed survives a power cut."""
        with _told_as("cannot put an image on the disk"):
            await trio.to_thread.run_sync(jail.sync, str(self._root))

    # ----------------------------------------------------------------------------------------------------

    async def _remove(self, paths: Iterable[Path]) -> None:
        """Take paths out of the store at once, then delete what is in them."""
        moved = []
        for path in paths:
            gone = self._tmp / f"{_PREFIX}{secrets.token_hex(8)}"
            try:
                os.rename(path, gone)
            except FileNotFoundError:
                continue
            moved.append(gone)
        with trio.CancelScope(shield=True):
            await self._delete(moved)

    async def _delete(self, paths: list[Path]) -> None:
        """Delete whole trees; by a process, for a layer of many files would hold up the loop for seconds."""
        remaining = []
        for path in paths:
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                remaining.append(str(path))
        if remaining:
            done = await process.run([_OLD_RM, "-rf", "--", *remaining], timeout_s=REMOVE_TIMEOUT_S)
            if done.exit_code:
                raise errors.System(f"cannot delete {', '.join(remaining)}: {done.text}")

    def _write(self, path: Path, content: bytes, *, durable: bool = True) -> None:
        """Write a small file so that it is there whole or not at all; ``durable``: power cuts included."""
        unfinished = self._tmp / f"{_PREFIX}{secrets.token_hex(8)}"
        with _told_as(f"cannot write {path}"):
            try:
                with unfinished.open("xb") as file:
                    file.write(content)
                    if durable:
                        file.flush()
                        os.fsync(file.fileno())
                os.rename(unfinished, path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise


@contextmanager
def _told_as(what: str) -> Iterator[None]:
    """Tell the kernel's refusals as errors of the engine's."""
    try:
        yield
    except OSError as error:
        raise errors.System(f"{what}: {error.strerror}") from error


def _hex(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    if algorithm != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise errors.InvalidParameter(f"unsupported digest {digest!r}")
    return digits
