"""asyncio-flavoured. One repository of one registry: manifests, tags, and small blobs, through whichever of
its endpoints answers.

    endpoint chosen by the first GET /v2/ that is answered: mirrors, then the registry; TLS, then without
    every request with the authorization that the registry asked for, anew where a token has run out
    what fails for a moment is asked again; what a mirror fails with, the next endpoint is asked
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
import msgspec

from proad.host.registryauth import Authority
from proad.host.registryhosts import Endpoint
from proad.host.registryhttp import (
    MAX_JSON_BYTES,
    Connections,
    challenges_of,
    error_of,
    read_bounded,
)
from proad.host.registryretry import Retries
from proad.model import errors, gojson
from proad.model.credentials import NOBODY, Credentials
from proad.model.imagearchive import Descriptor
from proad.model.reference import Reference
from proad.model.registrywire import (
    ACCEPTED,
    Challenge,
    NotVerified,
    RegistryError,
    Unreachable,
    Untrusted,
)

T = TypeVar("T")

PULL = ("pull",)
PUSH = ("push", "pull")
MAX_TAGS = 100_000
PAGE_OF_TAGS = 1000


@dataclass(frozen=True)
class FetchedManifest:
    """A manifest or an index: its bytes, and what they are."""

    content: bytes
    media_type: str
    digest: str


@dataclass
class Way:
    """An endpoint that answered, and what it wants to be told."""

    endpoint: Endpoint
    authority: Authority
    challenges: Sequence[Challenge] = ()
    scopes: list[str] = field(default_factory=list)


class RepositoryClient:
    """What is asked of one repository on behalf of somebody; several requests may be under way at once."""

    def __init__(
        self,
        connections: Connections,
        retries: Retries,
        reference: Reference,
        credentials: Credentials,
        actions: Sequence[str] = PULL,
    ) -> None:
        self._connections = connections
        self._reference = reference
        self._credentials = credentials
        self._actions = actions
        self._ways: list[Way] | None = None
        self._choosing = asyncio.Lock()
        self.retries = retries

    # --- endpoints and authorization --------------------------------------------------------------------

    async def ways(self) -> list[Way]:
        """The endpoints that answer, in the order in which they are to be asked.

        Raises:
            RegistryError: none does; the error of the last.
        """
        async with self._choosing:
            if self._ways is None:
                self._ways = await self._find_ways()
        return self._ways

    async def _find_ways(self) -> list[Way]:
        loop = asyncio.get_running_loop()
        hosts, domain = self._connections.hosts, self._reference.domain
        listed = await loop.run_in_executor(
            None, lambda: hosts.endpoints(domain, mirrors="push" not in self._actions)
        )
        found: list[Way] = []
        failure: RegistryError | None = None
        for endpoint in listed:
            if endpoint.is_plain and not all(way.endpoint.is_mirror for way in found):
                break  # it has TLS
            try:
                if endpoint is listed[-1] and not found:
                    found.append(await self._greet_patiently(endpoint))
                else:
                    found.append(await self._greet(endpoint))
            except (Unreachable, Untrusted) as error:
                failure = error
        if not found:
            assert failure is not None
            raise failure
        return found

    async def _greet_patiently(self, endpoint: Endpoint) -> Way:
        """Try some times, unless nobody is there at all."""
        failures = 0
        while True:
            try:
                return await self._greet(endpoint)
            except Unreachable as error:
                if not error.was_connected:
                    raise
                failures += 1
                await self.retries.pause(failures, error)

    async def _greet(self, endpoint: Endpoint) -> Way:
        # A mirror is somebody else's: it is not told the password for the registry that it stands for.
        credentials = NOBODY if endpoint.is_mirror else self._credentials
        way = Way(endpoint, Authority(self._connections, credentials))
        way.scopes = [f"repository:{self._reference.path}:{','.join(self._actions)}"]
        async with self._connections.request("GET", f"{endpoint.url}/v2/") as response:
            if response.status == 401:
                way.challenges = challenges_of(response)
            return way

    @asynccontextmanager
    async def request(
        self,
        way: Way,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        scopes: Sequence[str] = (),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask an endpoint; ``path`` may be a whole URL that it gave. ``body`` makes the body, anew each time.

        Raises:
            RegistryError: there is no answer, or nobody is authorized. Any other status is an answer.
        """
        url = urljoin(f"{way.endpoint.url}/", path)
        asking = f'{method.capitalize()} "{url}"'
        mine = urlsplit(url).netloc == urlsplit(way.endpoint.url).netloc
        for is_last in (False, True):
            sent = dict(headers or {})
            if mine:
                wanted = [*way.scopes, *scopes]
                if told := await way.authority.header(way.challenges, wanted, asking):
                    sent["Authorization"] = told
            async with self._connections.request(
                method, url, headers=sent, body=body() if body else None, follow=body is None
            ) as response:
                fresh = challenges_of(response) if response.status == 401 and mine else []
                if not fresh or is_last or _is_final(fresh, way):
                    yield response
                    return
                way.challenges = fresh
                way.authority.forget()

    async def anywhere(self, work: Callable[[Way], Awaitable[T]]) -> T:
        """``work`` with the first endpoint that can do it, some times with each.

        Raises:
            RegistryError: what the last one said.
        """
        ways = await self.ways()
        for way in ways[:-1]:
            try:
                return await self.retries.run(lambda way=way: work(way))  # type: ignore[misc]
            except RegistryError:
                continue
        return await self.retries.run(lambda: work(ways[-1]))

    # --- manifests, tags, small blobs -------------------------------------------------------------------

    async def resolve(self, name: str) -> Descriptor:
        """What a tag, or a digest, stands for: media type, digest, size; without reading it where
        the registry can say so.
        """

        async def ask(way: Way) -> Descriptor:
            async with self.request(way, "HEAD", self._manifest_path(name), headers=_accept()) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                if response.status == 200 and digest:
                    return Descriptor(
                        media_type=_media_type(response), digest=digest, size=response.content_length or 0
                    )
            manifest = await self._manifest(
                way, name
            )  # an error has no body where only the head is asked for
            return Descriptor(
                media_type=manifest.media_type, digest=manifest.digest, size=len(manifest.content)
            )

        return await self.anywhere(ask)

    async def manifest(self, name: str) -> FetchedManifest:
        """The manifest of a tag, or of a digest, which it is checked against."""
        return await self.anywhere(lambda way: self._manifest(way, name))

    async def _manifest(self, way: Way, name: str) -> FetchedManifest:
        async with self.request(way, "GET", self._manifest_path(name), headers=_accept()) as response:
            if response.status != 200:
                raise await error_of(response)
            content = await read_bounded(response, MAX_JSON_BYTES)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if ":" in name and digest != name:
            raise NotVerified(f"manifest verification failed for digest {name}")
        return FetchedManifest(content, _media_type(response), digest)

    async def tags(self) -> list[str]:
        """All tags of the repository."""

        async def ask(way: Way) -> list[str]:
            found: list[str] = []
            path = f"/v2/{self._reference.path}/tags/list?{urlencode({'n': PAGE_OF_TAGS})}"
            while path:
                async with self.request(way, "GET", path) as response:
                    if response.status != 200:
                        raise await error_of(response)
                    found += _tags(await read_bounded(response, MAX_JSON_BYTES))
                    if len(found) > MAX_TAGS:
                        raise RegistryError(f"{self._reference.name} has more than {MAX_TAGS} tags")
                    following = response.links.get("next")
                    path = str(following["url"]) if following else ""
            return found

        return await self.anywhere(ask)

    async def blob(self, digest: str, max_bytes: int) -> bytes:
        """A small blob, checked against its digest."""

        async def ask(way: Way) -> bytes:
            async with self.request(way, "GET", self.blob_path(digest)) as response:
                if response.status != 200:
                    raise await error_of(response)
                content = await read_bounded(response, max_bytes)
            if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
                raise NotVerified(f"image config verification failed for digest {digest}")
            return content

        return await self.anywhere(ask)

    # ----------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return self._reference.path

    def blob_path(self, digest: str) -> str:
        return f"/v2/{self._reference.path}/blobs/{digest}"

    def _manifest_path(self, name: str) -> str:
        return f"/v2/{self._reference.path}/manifests/{name}"


def _is_final(challenges: Sequence[Challenge], way: Way) -> bool:
    """Whether asking again would be told the same: nobody has a name, or a password was refused as it is."""
    if way.authority.credentials.registry_token:
        return True
    return bool(way.challenges) and all(challenge.scheme == "basic" for challenge in challenges)


def _accept() -> dict[str, str]:
    return {"Accept": ", ".join(ACCEPTED)}


def _media_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()


def _tags(content: bytes) -> list[str]:
    try:
        listed = msgspec.json.decode(content)
    except gojson.UNREADABLE as error:
        raise errors.System(f"invalid list of tags: {error}") from error
    tags = listed.get("tags") if isinstance(listed, dict) else None
    return [tag for tag in tags or () if isinstance(tag, str)]


__all__ = ["PULL", "PUSH", "FetchedManifest", "RepositoryClient", "Way"]
