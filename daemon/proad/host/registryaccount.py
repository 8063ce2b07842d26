"""asyncio-flavoured. Of a registry as a whole: does it know somebody, which images does it find."""

import asyncio
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from proad.host.registryauth import Authority, basic
from proad.host.registryhttp import MAX_JSON_BYTES, Connections, challenges_of, error_of, read_bounded
from proad.model import errors, gojson
from proad.model.credentials import Credentials
from proad.model.reference import DEFAULT_DOMAIN
from proad.model.registrywire import Refused, RegistryError, Unreachable, Untrusted, reason

INDEX_HOST = "index.docker.io"
_HUB_NAMES = (INDEX_HOST, DEFAULT_DOMAIN, "registry-1.docker.io", "")


async def login(connections: Connections, credentials: Credentials) -> str:
    """The identity token that stands for the password from now on; empty where the registry has none.

    Raises:
        errors.Unauthorized: it does not know that name with that password.
        errors.InvalidParameter: the address is none.
        RegistryError: it cannot be reached, or fails.
    """
    domain = _domain(credentials.server_address)
    loop = asyncio.get_running_loop()
    endpoints = await loop.run_in_executor(None, lambda: connections.hosts.endpoints(domain, mirrors=False))
    failure: RegistryError | None = None
    for endpoint in endpoints:
        try:
            return await _login_at(connections, f"{endpoint.url}/v2/", credentials)
        except Refused as error:
            if error.status == 401:
                raise errors.Unauthorized(error.message) from error
            failure = error
        except (Unreachable, Untrusted) as error:
            failure = error
    assert failure is not None
    raise failure


async def _login_at(connections: Connections, url: str, credentials: Credentials) -> str:
    authority = Authority(connections, credentials, offline=True)
    async with connections.request("GET", url) as response:
        challenges = challenges_of(response) if response.status == 401 else []
    told = await authority.header(challenges, [], f'Get "{url}"')
    async with connections.request("GET", url, headers={"Authorization": told} if told else {}) as response:
        if response.status != 200:
            raise Refused(
                f"login attempt to {url} failed with status: {response.status} {reason(response.status)}",
                response.status,
            )
    return authority.identity_token


def _domain(address: str) -> str:
    """The domain of a reference that a server's address stands for.

    Raises:
        errors.InvalidParameter: it is no address.
    """
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        named = parts.hostname, parts.port
    except ValueError as error:
        raise errors.InvalidParameter(f"unable to parse server address: {error}") from error
    if address and not named[0]:
        raise errors.InvalidParameter(f"unable to parse server address: {address!r} names no host")
    return DEFAULT_DOMAIN if parts.netloc in _HUB_NAMES else parts.netloc


async def search(
    connections: Connections, domain: str, term: str, limit: int, credentials: Credentials
) -> list[dict[str, Any]]:
    """What the index of a registry finds, as it says it.

    Raises:
        errors.InvalidParameter: the registry has no index, or cannot be reached as it is configured.
        RegistryError: it fails.
    """
    hosts = connections.hosts
    schemes = ["https"]
    host = INDEX_HOST if domain == DEFAULT_DOMAIN else domain
    if domain != DEFAULT_DOMAIN and await asyncio.get_running_loop().run_in_executor(
        None, hosts.is_insecure, domain
    ):
        schemes.append("http")
    failure: RegistryError | None = None
    for scheme in schemes:
        url = f"{scheme}://{host}/v1/search?{urlencode({'q': term, 'n': limit})}"
        try:
            return await _search_at(connections, url, credentials)
        except (Unreachable, Untrusted) as error:
            failure = error
    assert failure is not None
    raise failure


async def _search_at(connections: Connections, url: str, credentials: Credentials) -> list[dict[str, Any]]:
    headers = {"X-Docker-Token": "true"}
    if credentials.username and credentials.password:
        headers["Authorization"] = basic(credentials)
    async with connections.request("GET", url, headers=headers) as response:
        if response.status == 401:
            raise errors.Unauthorized((await error_of(response)).message)
        if response.status != 200:
            raise Refused(f"Unexpected status code {response.status}", response.status)
        content = await read_bounded(response, MAX_JSON_BYTES)
    try:
        answer = msgspec.json.decode(content)
    except gojson.UNREADABLE as error:
        raise RegistryError(f"error decoding registry search results: {error}") from error
    found = answer.get("results") if isinstance(answer, dict) else None
    return [item for item in found or () if isinstance(item, dict)]
