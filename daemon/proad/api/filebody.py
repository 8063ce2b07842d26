"""asyncio-flavoured. An answer whose bytes lie in files: the kernel takes them from the disk to the client.

The length is known before the first byte, and what is on its way is never more than what the socket holds. A
worker thread reads each stretch of a file first, so that the loop never waits for the disk: it sends what is
in the page cache by then.
"""

import asyncio
import io
import os
from collections.abc import Iterable

from aiohttp import web

from proad.engine.imagesaving import FilePiece

STRETCH_BYTES = 8 << 20
READ_BYTES = 1 << 20
SMALL_BYTES = 256 << 10
"""Up to here a file is read and written like any other bytes."""


async def send(
    request: web.Request, pieces: Iterable[bytes | FilePiece], size_bytes: int, media_type: str
) -> web.StreamResponse:
    """Answer with the pieces in turn, ``size_bytes`` in all; the first one is plain bytes.

    Raises:
        ConnectionError: the client has gone away.
        OSError: a file cannot be read, or is shorter than it was; the answer breaks off.
    """
    response = web.StreamResponse(headers={"Content-Type": media_type, "Content-Length": str(size_bytes)})
    await response.prepare(request)
    for piece in pieces:
        if isinstance(piece, bytes):
            await response.write(piece)
        elif piece.size_bytes <= SMALL_BYTES:
            await response.write(await asyncio.to_thread(piece.path.read_bytes))
        else:
            with piece.path.open("rb", buffering=0) as file:
                await _send_file(request, file, piece.size_bytes)
    await response.write_eof()
    return response


async def _send_file(request: web.Request, file: io.FileIO, size_bytes: int) -> None:
    loop = asyncio.get_running_loop()
    for offset in range(0, size_bytes, STRETCH_BYTES):
        length = min(STRETCH_BYTES, size_bytes - offset)
        await asyncio.to_thread(_read_ahead, file.fileno(), offset, length)
        if request.transport is None:
            raise ConnectionResetError("the client has gone away")
        if await loop.sendfile(request.transport, file, offset, length, fallback=False) != length:
            raise OSError(f"{file.name} is shorter than it was")


def _read_ahead(descriptor: int, offset: int, length: int) -> None:
    """Sync, blocking: have a stretch of a file in the page cache."""
    buffer = bytearray(READ_BYTES)
    for at in range(offset, offset + length, READ_BYTES):
        os.preadv(descriptor, [buffer], at)
