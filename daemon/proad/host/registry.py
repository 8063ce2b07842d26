"""Trio-flavoured. Registries: what pulls, pushes and logins ask of them.

    registries = Registries(hosts)
    nursery.start_soon(registries.run)                 # closes the connections at the end
    repository = registries.repository(reference, credentials)
    manifest = await repository.manifest("latest")
    await repository.fetch(descriptor, sink)           # a whole blob into a pipe

Inside, all of it is asyncio (the ``registry…`` files beside this one); each method here crosses once,
however much is asked of the registry for it. Errors are those of ``model/registrywire.py``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
import trio_asyncio

from proad.host.download import Downloaded, DownloadProgress, download_file
from proad.host.registryaccount import login, search
from proad.host.registryblobs import fetch_blob
from proad.host.registryclient import PULL, PUSH, FetchedManifest, RepositoryClient
from proad.host.registryhosts import RegistryHosts
from proad.host.registryhttp import MAX_JSON_BYTES, Connections, Timeouts
from proad.host.registryretry import Retries
from proad.host.registryupload import Uploads
from proad.host.sink import Progress
from proad.model.credentials import Credentials
from proad.model.imagearchive import Descriptor
from proad.model.reference import Reference

_DEFAULT_TIMEOUTS = Timeouts()


class Repository:
    """One repository as somebody sees it. It holds nothing that must be closed."""

    def __init__(self, connections: Connections, client: RepositoryClient, stall_s: float) -> None:
        self._connections = connections
        self._client = client
        self._uploads = Uploads(client, stall_s)

    async def resolve(self, name: str) -> Descriptor:
        """What a tag or a digest stands for."""
        found: Descriptor = await trio_asyncio.aio_as_trio(self._client.resolve)(name)
        return found

    async def manifest(self, name: str) -> FetchedManifest:
        """The manifest, or the index, of a tag or a digest; checked against the digest."""
        found: FetchedManifest = await trio_asyncio.aio_as_trio(self._client.manifest)(name)
        return found

    async def tags(self) -> list[str]:
        found: list[str] = await trio_asyncio.aio_as_trio(self._client.tags)()
        return found

    async def blob(self, digest: str) -> bytes:
        """A small blob, such as a configuration; checked against the digest."""
        content: bytes = await trio_asyncio.aio_as_trio(self._client.blob)(digest, MAX_JSON_BYTES)
        return content

    async def fetch(
        self, digest: str, size_bytes: int, sink: int, *, urls: Sequence[str] = (), progress: Progress | None
    ) -> None:
        """Write a whole blob to a pipe; whoever reads it must check the digest."""
        await trio_asyncio.aio_as_trio(fetch_blob)(
            self._client, self._connections, digest, size_bytes, urls, sink, progress
        )

    async def has_blob(self, digest: str) -> bool:
        there: bool = await trio_asyncio.aio_as_trio(self._uploads.has_blob)(digest)
        return there

    async def mount(self, digest: str, source_path: str) -> bool:
        """Have a blob of another repository of the same registry; False where that cannot be."""
        mounted: bool = await trio_asyncio.aio_as_trio(self._uploads.mount)(digest, source_path)
        return mounted

    async def upload(self, digest: str, path: Path, *, progress: Progress | None = None) -> None:
        """Send the file ``path``, which has that digest."""
        await trio_asyncio.aio_as_trio(self._uploads.upload)(digest, path, progress)

    async def put_manifest(self, name: str, content: bytes, media_type: str) -> None:
        """Make ``content`` the manifest of a tag, or of its own digest."""
        await trio_asyncio.aio_as_trio(self._uploads.put_manifest)(name, content, media_type)


class Registries:
    """The way to all registries."""

    def __init__(
        self,
        hosts: RegistryHosts,
        *,
        retries: Retries,
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
    ) -> None:
        self._connections = Connections(hosts, timeouts)
        self._retries = retries
        self._stall_s = timeouts.stall_s

    async def run(self) -> None:
        """Keep connections until cancelled, then close them."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio_asyncio.aio_as_trio(self._connections.close)()

    def repository(
        self, reference: Reference, credentials: Credentials, *, to_push: bool = False
    ) -> Repository:
        """The repository of a reference, without asking anything yet."""
        actions = PUSH if to_push else PULL
        client = RepositoryClient(self._connections, self._retries, reference, credentials, actions)
        return Repository(self._connections, client, self._stall_s)

    async def takes_foreign_layers(self, domain: str) -> bool:
        """Whether layers that are not for everybody to hand on may be pushed to a registry."""
        return await trio.to_thread.run_sync(self._connections.hosts.takes_foreign_layers, domain)

    async def login(self, credentials: Credentials) -> str:
        """Ask a registry whether it knows somebody; returns an identity token, or an empty text.

        Raises:
            errors.Unauthorized: it does not.
            errors.InvalidParameter: the address is none.
        """
        token: str = await trio_asyncio.aio_as_trio(login)(self._connections, credentials)
        return token

    async def search(
        self, domain: str, term: str, limit: int, credentials: Credentials
    ) -> list[dict[str, Any]]:
        """What the index of a registry finds, as it says it.

        Raises:
            errors.Unauthorized: it wants to know who asks.
        """
        found: list[dict[str, Any]] = await trio_asyncio.aio_as_trio(search)(
            self._connections, domain, term, limit, credentials
        )
        return found

    async def download(
        self, url: str, sink: int, *, max_bytes: int, progress: DownloadProgress | None = None
    ) -> Downloaded:
        """Write the file at a URL, through redirects and proxies, to ``sink``, a pipe or a file that stays
        the caller's.

        Raises:
            errors.NotFound: there is no such file, or no such host.
            errors.InvalidParameter: no URL of HTTP, or the file is larger than ``max_bytes``.
            errors.ProaError: the server refuses, or cannot be reached.
        """
        found: Downloaded = await trio_asyncio.aio_as_trio(download_file)(
            self._connections, url, sink, max_bytes, progress
        )
        return found


__all__ = [
    "Downloaded",
    "FetchedManifest",
    "Registries",
    "RegistryHosts",
    "Repository",
    "Retries",
    "Timeouts",
]
