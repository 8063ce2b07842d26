"""asyncio-flavoured. Blobs of a registry: a whole one into a descriptor, resumed where it was cut off.

The bytes go into a pipe that somebody else reads, hashes and judges; here they are only counted. What a cut
connection has brought stays: the next attempt asks for the rest, and skips what it knows where a registry
gives all of it again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import aiohttp

from proad.host.registryclient import RepositoryClient, Way
from proad.host.registryhttp import Connections, error_of
from proad.host.registryretry import Retries
from proad.host.sink import Progress, Sink
from proad.model.registrywire import NotVerified, RegistryError, Unreachable

ENOUGH_BYTES = 64 << 10
"""An attempt that brings as much has not failed in vain: the count of failures begins anew."""
Source = Callable[[Mapping[str, str]], AbstractAsyncContextManager[aiohttp.ClientResponse]]
"""Asks for a blob, with headers."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


async def fetch_blob(
    client: RepositoryClient,
    connections: Connections,
    digest: str,
    size_bytes: int,
    urls: Sequence[str],
    sink: int,
    progress: Progress | None,
) -> None:
    """Write a whole blob to ``sink``, a pipe; it stays the caller's.

    Ends early, and without an error, where nobody reads it any more. ``urls`` are where a layer is that
    registries do not have; they are asked when the registry does not.

    Raises:
        RegistryError: it is not to be had, or not of that size.
    """
    target = Sink(sink, progress)

    def from_way(way: Way) -> Source:
        return lambda headers: client.request(way, "GET", client.blob_path(digest), headers=headers)

    def from_url(url: str) -> Source:
        return lambda headers: connections.request("GET", url, headers=headers)

    sources = [*map(from_way, await client.ways()), *map(from_url, urls)]
    for position, source in enumerate(sources, start=1):
        try:
            await _resumed(client.retries, source, target, digest, size_bytes)
        except RegistryError:
            if position == len(sources):
                raise
        else:
            return


async def _resumed(retries: Retries, source: Source, target: Sink, digest: str, size_bytes: int) -> None:
    """Copy the rest of a blob, going on after each break."""
    failures = 0
    while not target.is_closed and (target.offset < size_bytes or not size_bytes):
        begin = target.offset
        try:
            await _copy(source, target, digest, size_bytes)
        except RegistryError as error:
            failures = 1 if target.offset - begin >= ENOUGH_BYTES else failures + 1
            await retries.pause(failures, error)
        if not size_bytes:
            return


async def _copy(source: Source, target: Sink, digest: str, size_bytes: int) -> None:
    headers = {"Range": f"bytes={target.offset}-"} if target.offset else {}
    async with source(headers) as response:
        if response.status not in (200, 206):
            raise await error_of(response)
        skipped = target.offset - (_begin(response) if response.status == 206 else 0)
        if skipped < 0:
            raise RegistryError(f"blob {digest}: the registry left out what was asked for")
        async for chunk in response.content.iter_any():
            new = chunk[skipped:] if skipped else chunk
            skipped -= len(chunk) - len(new)
            if target.offset + len(new) > size_bytes:
                raise NotVerified(f"filesystem layer verification failed for digest {digest}")
            await target.write(new)
            if target.is_closed:
                return
    if target.offset < size_bytes:
        raise Unreachable(f"blob {digest}: unexpected EOF")


def _begin(response: aiohttp.ClientResponse) -> int:
    """Where a part of a blob begins."""
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if not found:
        raise RegistryError("a part of a blob came without a Content-Range")
    return int(found.group(1))
