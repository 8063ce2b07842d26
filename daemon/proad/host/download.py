"""asyncio-flavoured. A file from a URL into a descriptor: of imports, of builds."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from proad.host.registryhttp import MAX_ERROR_BYTES, Connections, read_some
from proad.host.sink import Sink
from proad.model import errors
from proad.model.registrywire import RegistryError, Unreachable, reason

DownloadProgress = Callable[[int, int], None]
"""Called with bytes so far and in all, 0 where that is not known; first when the answer is there."""

_MEANINGS: dict[int, type[errors.ProaError]] = {
    400: errors.InvalidParameter,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
}


@dataclass(frozen=True)
class Downloaded:
    """What a server said of a file: where it was in the end, how old it is (as HTTP has it), its type."""

    url: str
    last_modified: str
    content_type: str
    size_bytes: int


async def download_file(
    connections: Connections, url: str, sink: int, max_bytes: int, progress: DownloadProgress | None
) -> Downloaded:
    """Write what ``url`` gives to ``sink``, which stays the caller's.

    Raises:
        errors.NotFound: there is no such file, or no such host.
        errors.InvalidParameter: no URL of HTTP, or the file is larger than ``max_bytes``.
        errors.ProaError: the server refuses, or cannot be reached.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise errors.InvalidParameter(f'Get "{url}": unsupported protocol scheme or no host')
    try:
        async with connections.request("GET", url, is_registry=False) as response:
            if response.status >= 400:
                text = (await read_some(response, MAX_ERROR_BYTES)).decode(errors="replace").strip()
                status = f"{response.status} {response.reason or reason(response.status)}"
                meaning = _MEANINGS.get(response.status, errors.System)
                raise meaning(f"failed to GET {url} with status {status}: {text}")
            total = response.content_length or 0
            target = Sink(sink, (lambda offset: progress(offset, total)) if progress else None)
            if progress:
                progress(0, total)
            async for chunk in response.content.iter_any():
                if target.offset + len(chunk) > max_bytes:
                    raise errors.InvalidParameter(f"{url} is larger than {max_bytes} bytes")
                await target.write(chunk)
                if target.is_closed:
                    break
            return Downloaded(
                url=str(response.url),
                last_modified=response.headers.get("Last-Modified", ""),
                content_type=response.headers.get("Content-Type", ""),
                size_bytes=target.offset,
            )
    except Unreachable as error:
        if error.is_unknown_host:
            raise errors.NotFound(error.message) from error
        raise
    except RegistryError as error:
        raise errors.System(error.message) from error
