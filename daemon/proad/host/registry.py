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

import trio
import trio_asyncio

from proad.host.registryblobs import Progress, fetch_blob
from proad.host.registryclient import PULL, PUSH, FetchedManifest, RepositoryClient
from proad.host.registryhosts import RegistryHosts
from proad.host.registryhttp import MAX_JSON_BYTES, Connections, Timeouts
from proad.host.registryretry import Retries
from proad.model.credentials import Credentials
from proad.model.imagearchive import Descriptor
from proad.model.reference import Reference

_DEFAULT_TIMEOUTS = Timeouts()


class Repository:
    """One repository as somebody sees it. It holds nothing that must be closed."""

    def __init__(self, connections: Connections, client: RepositoryClient) -> None:
        self._connections = connections
        self._client = client

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
        """Write a whole blob to a pipe's end that does not block; whoever reads it must check the digest."""
        await trio_asyncio.aio_as_trio(fetch_blob)(
            self._client, self._connections, digest, size_bytes, urls, sink, progress
        )


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
        return Repository(self._connections, client)


__all__ = ["FetchedManifest", "Registries", "RegistryHosts", "Repository", "Retries", "Timeouts"]
