"""asyncio-flavoured. Into a registry: is a blob there, mount it from elsewhere, upload it, put a manifest.

Protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md ("Push"). A blob goes as one
stream (POST, PATCH, PUT); one that breaks off goes again from its beginning, in a session of its own.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlencode, urljoin

import aiohttp

from proad.host.registryclient import RepositoryClient, Way
from proad.host.registryhttp import error_of
from proad.host.sink import PROGRESS_INTERVAL_S, Progress
from proad.model.registrywire import RegistryError, Unreachable

READ_BYTES = 1 << 18


class Uploads:
    """What is sent to one repository."""

    def __init__(self, client: RepositoryClient, stall_s: float) -> None:
        self._client = client
        self._stall_s = stall_s

    async def has_blob(self, digest: str) -> bool:
        async def ask(way: Way) -> bool:
            async with self._client.request(way, "HEAD", self._client.blob_path(digest)) as response:
                if response.status in (200, 404):
                    return response.status == 200
                raise await error_of(response)

        return await self._client.anywhere(ask)

    async def mount(self, digest: str, source_path: str) -> bool:
        """Have a blob that another repository of the registry holds; False where it does not, or may not be
        seen.
        """
        path = f"{self._uploads_path}?{urlencode({'mount': digest, 'from': source_path})}"

        async def ask(way: Way) -> bool:
            scope = f"repository:{source_path}:pull"
            async with self._client.request(way, "POST", path, body=lambda: b"", scopes=[scope]) as response:
                status, place = response.status, response.headers.get("Location", "")
                base = str(response.url)
            if status == 202 and place:  # it would rather be sent the blob
                async with self._client.request(way, "DELETE", urljoin(base, place)):
                    return False
            return status == 201

        return await self._client.anywhere(ask)

    async def upload(self, digest: str, path: Path, progress: Progress | None) -> None:
        """Send the file ``path``, whose digest the caller knows."""

        async def send(way: Way) -> None:
            async with self._client.request(way, "POST", self._uploads_path, body=lambda: b"") as response:
                if response.status != 202:
                    raise await error_of(response)
                place = _place(response)
            place = await self._stream(way, place, path, progress)
            separator = "&" if "?" in place else "?"
            place = f"{place}{separator}{urlencode({'digest': digest})}"
            async with self._client.request(way, "PUT", place, body=lambda: b"") as response:
                if response.status != 201:
                    raise await error_of(response)

        await self._client.anywhere(send)

    async def _stream(self, way: Way, place: str, path: Path, progress: Progress | None) -> str:
        size_bytes = path.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        try:
            async with asyncio.timeout(self._stall_s) as stall:

                def moved() -> None:
                    stall.reschedule(asyncio.get_running_loop().time() + self._stall_s)

                async with self._client.request(
                    way, "PATCH", place, headers=headers, body=lambda: _content(path, moved, progress)
                ) as response:
                    if response.status not in (201, 202, 204):
                        raise await error_of(response)
                    return _place(response)
        except TimeoutError:
            raise Unreachable(f'Patch "{place}": the registry takes no more of blob {path.name}') from None

    async def put_manifest(self, name: str, content: bytes, media_type: str) -> None:
        async def put(way: Way) -> None:
            path = f"/v2/{self._client.path}/manifests/{name}"
            async with self._client.request(
                way, "PUT", path, headers={"Content-Type": media_type}, body=lambda: content
            ) as response:
                if response.status not in (200, 201, 202):
                    raise await error_of(response)

        await self._client.anywhere(put)

    @property
    def _uploads_path(self) -> str:
        return f"/v2/{self._client.path}/blobs/uploads/"


def _place(response: aiohttp.ClientResponse) -> str:
    """Where an upload goes on."""
    place = response.headers.get("Location")
    if not place:
        raise RegistryError(f"{response.url.host}: the registry did not say where to upload to")
    return urljoin(str(response.url), place)


async def _content(path: Path, moved: Callable[[], None], progress: Progress | None) -> AsyncIterator[bytes]:
    """A file in pieces; ``moved`` is called whenever the registry has taken one."""
    told_s = 0.0
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while chunk := file.read(READ_BYTES):
            yield chunk
            moved()
            now_s = time.monotonic()
            if progress and now_s - told_s > PROGRESS_INTERVAL_S:
                told_s = now_s
                progress(file.tell())
