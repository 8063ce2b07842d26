"""asyncio-flavoured. The event stream, in the framing that the client's ``Accept`` asks for."""

import asyncio
import time

from aiohttp import web

from proad.api import params
from proad.api.hub import Frame, NumberedLine, Subscriber
from proad.api.server import EVENT_HUB, lingering, roles_of
from proad.model import errors, filters


def _line(event: NumberedLine) -> bytes:
    return event.line


def _json_seq(event: NumberedLine) -> bytes:
    """RFC 7464: each text between a record separator and a line feed."""
    return b"\x1e" + event.line


def _server_sent(event: NumberedLine) -> bytes:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html; the line ends in one line feed."""
    return b"id: %d\ndata: %b\n" % (event.seq, event.line)


FRAMES: dict[str, Frame] = {
    "application/json": _line,
    "application/x-ndjson": _line,
    "application/jsonl": _line,
    "application/json-seq": _json_seq,
    "text/event-stream": _server_sent,
}
DEFAULT_TYPE = "application/json"


def routes() -> list[web.RouteDef]:
    return [web.get("/events", get_events)]


async def get_events(request: web.Request) -> web.StreamResponse:
    """Send events as they happen; the header goes out before the first of them."""
    query, now_ns = request.query, time.time_ns()
    until_ns = params.timestamp_ns(query, "until", now_ns=now_ns)
    media_type = negotiate(request.headers.get("Accept", ""))
    wanted = filters.parse(query.get("filters", ""))
    cursor = roles_of(request).system.events(
        wanted,
        since_ns=params.timestamp_ns(query, "since", now_ns=now_ns),
        until_ns=until_ns,
        after_seq=_last_event_id(request),
    )
    try:
        response = web.StreamResponse(headers={"Content-Type": media_type, "Cache-Control": "no-cache"})
        if request.version >= (1, 1):
            response.enable_chunked_encoding()
        await response.prepare(request)
        kind = (media_type, repr(sorted(wanted.items())))
        subscriber = Subscriber(request, cursor, FRAMES[media_type], kind, chunked=request.version >= (1, 1))
        timer = None
        if until_ns is not None:
            wait_s = max(until_ns - time.time_ns(), 0) / 1e9 + 0.001
            timer = asyncio.get_running_loop().call_later(wait_s, subscriber.expire)
        try:
            async with lingering(request):
                await subscriber.serve(request.app[EVENT_HUB])
        finally:
            if timer is not None:
                timer.cancel()
    finally:
        cursor.close()
    await response.write_eof()
    return response


def negotiate(accept: str) -> str:
    """Return the media type to send for an ``Accept`` header: the one it likes best of those known.

    Whoever asks for none of them gets Docker's own, as from Docker.
    """
    best, best_quality = DEFAULT_TYPE, 0.0
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if media_type in FRAMES and quality > best_quality:
            best, best_quality = media_type, quality
    return best


def _last_event_id(request: web.Request) -> int | None:
    """The number of the last event that a resuming client has seen."""
    text = request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise errors.InvalidParameter(f'invalid Last-Event-ID "{text[:32]}": must be the number of an event')
    return int(text)
