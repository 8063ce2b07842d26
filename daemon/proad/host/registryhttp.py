"""asyncio-flavoured. HTTP as registries need it: redirects, proxies, certificates, time-outs, Docker's words.

One :class:`Connections` serves the whole daemon. A redirect to another host goes without what was meant for
the first one; bodies come as they are, never decompressed; what is read into memory is bounded.
"""

import asyncio
import errno
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

import proad
from proad.host.registryhosts import RegistryHosts
from proad.model.registrywire import (
    Challenge,
    RegistryError,
    Unreachable,
    Untrusted,
    parse_challenges,
    refusal,
)

MAX_REDIRECTS = 10
MAX_ERROR_BYTES = 64 << 10
MAX_JSON_BYTES = 4 << 20
"""Of manifests, tokens, lists of tags; Docker's bound."""
READ_BUFFER_BYTES = 1 << 18
KEPT_ALIVE_S = 15.0
_REDIRECTS = (301, 302, 303, 307, 308)
_FOR_ONE_HOST = ("authorization", "proxy-authorization", "cookie")


@dataclass(frozen=True)
class Timeouts:
    """Seconds without a connection, and without a byte, after which an attempt is given up."""

    connect_s: float = 30.0
    stall_s: float = 60.0


class Connections:
    """The connections to all registries; they are closed some seconds after their last use."""

    def __init__(self, hosts: RegistryHosts, timeouts: Timeouts) -> None:
        self.hosts = hosts
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=timeouts.connect_s, sock_read=timeouts.stall_s
        )
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        follow: bool = True,
        is_registry: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and follow redirects where the request has no body; any status is an answer.

        What is configured for registries (certificates, and who needs none) counts where ``is_registry``.

        Raises:
            Unreachable: there was no answer, or it broke off while the block was reading it.
            Untrusted: TLS does not come about.
        """
        sent = {"Accept-Encoding": "identity", "User-Agent": f"proa/{proad.__version__}", **(headers or {})}
        asked = url
        for _ in range(MAX_REDIRECTS):
            with _told_as(method, url):
                response = await self._send(method, asked, sent, body, is_registry)
            async with response:
                target = response.headers.get("Location")
                if not (follow and body is None and response.status in _REDIRECTS and target):
                    with _told_as(method, url):
                        yield response
                    return
            target = urljoin(asked, target)
            if _origin(target) != _origin(asked):
                sent = {name: value for name, value in sent.items() if name.lower() not in _FOR_ONE_HOST}
            if urlsplit(target).scheme not in ("http", "https"):
                raise RegistryError(f'{method.capitalize()} "{url}": unsupported protocol scheme in {target}')
            asked = target
        raise RegistryError(f'{method.capitalize()} "{url}": stopped after {MAX_REDIRECTS} redirects')

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Any, is_registry: bool
    ) -> aiohttp.ClientResponse:
        loop = asyncio.get_running_loop()
        tls: ssl.SSLContext | bool = True
        if url.startswith("https://"):
            host = urlsplit(url).netloc.rpartition("@")[2]
            tls = await loop.run_in_executor(None, self.hosts.tls, host if is_registry else "")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_ALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=READ_BUFFER_BYTES,
                timeout=self._timeout,
                skip_auto_headers=("Accept",),
            )
        return await self._session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=body,
            ssl=tls,
            proxy=self.hosts.proxy(url),
            allow_redirects=False,
        )


async def read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        RegistryError: it is longer than ``max_bytes``.
    """
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > max_bytes:
            raise RegistryError(f"{response.url.host}: an answer of more than {max_bytes} bytes is too large")
    return bytes(content)


async def read_some(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The beginning of the body."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) >= max_bytes:
            break
    return bytes(content[:max_bytes])


def challenges_of(response: aiohttp.ClientResponse) -> list[Challenge]:
    return parse_challenges(response.headers.getall("WWW-Authenticate", []))


async def error_of(response: aiohttp.ClientResponse) -> RegistryError:
    """The error that an answer stands for, whose status is not the one hoped for."""
    return refusal(
        response.status,
        await read_some(response, MAX_ERROR_BYTES),
        challenges_of(response),
        _retry_after_s(response.headers.get("Retry-After", "")),
    )


def _retry_after_s(text: str) -> float | None:
    """Seconds of a ``Retry-After``, which may be a date as well."""
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


@contextmanager
def _told_as(method: str, url: str) -> Iterator[None]:
    """Tell the errors of sockets, TLS and HTTP as ours, as Go would say them."""
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:  # time-outs and errors of TLS are OSErrors
        raise _translated(f'{method.capitalize()} "{url}"', error) from error


def _translated(what: str, error: BaseException) -> RegistryError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Untrusted(f"{what}: {_certificate_text(error.certificate_error)}")
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return _tls_error(what, str(error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unreachable(
            f"{what}: {_connect_text(error)}",
            was_connected=False,
            is_unknown_host=isinstance(error, aiohttp.ClientConnectorDNSError),
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Unreachable(f"{what}: proxyconnect tcp: {error.status} {error.message}")
    if isinstance(error, TimeoutError):
        return Unreachable(
            f"{what}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Unreachable(f"{what}: EOF")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Unreachable(f"{what}: unexpected EOF")
    if isinstance(error, aiohttp.InvalidURL):
        return RegistryError(f"{what}: invalid URL")
    return Unreachable(f"{what}: {error}")


def _connect_text(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    number = error.os_error.errno
    reason = {
        errno.ECONNREFUSED: "connection refused",
        errno.EHOSTUNREACH: "no route to host",
        errno.ENETUNREACH: "network is unreachable",
        errno.ETIMEDOUT: "connection timed out",
    }.get(number or 0, str(error.os_error.strerror or error.os_error))
    return f"dial tcp {error.host}:{error.port}: connect: {reason}"


def _certificate_text(error: BaseException) -> str:
    """OpenSSL's verdict on a certificate, in the words of Go's ``crypto/x509``."""
    code = getattr(error, "verify_code", 0)
    text = {
        10: "certificate has expired or is not yet valid",
        9: "certificate has expired or is not yet valid",
        18: "certificate signed by unknown authority",
        19: "certificate signed by unknown authority",
        20: "certificate signed by unknown authority",
        21: "certificate signed by unknown authority",
        62: "certificate is not valid for the name of the host",
        64: "certificate is not valid for the address of the host",
    }.get(code, getattr(error, "verify_message", "") or str(error))
    return f"tls: failed to verify certificate: x509: {text}"


def _tls_error(what: str, text: str) -> RegistryError:
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower() or "HTTP_REQUEST" in text:
        return Untrusted(f"{what}: http: server gave HTTP response to HTTPS client")
    if "CERTIFICATE_REQUIRED" in text or "BAD_CERTIFICATE" in text:
        return Untrusted(f"{what}: remote error: tls: certificate required")
    return Unreachable(f"{what}: {text}")
