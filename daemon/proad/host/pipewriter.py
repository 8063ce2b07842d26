"""asyncio-flavoured. Waiting for room in a pipe."""

import asyncio


async def writable(descriptor: int) -> None:
    """Return when ``descriptor``, which does not block, takes more, or nobody reads it any more."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
